"""Frames in which a detector lost the person, or a part: short gaps are bridged, long ones are named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hallo4.motion.layout import SEEN
from hallo4.motion.units import PARTS
from hallo4.types import Skeleton

LONGEST_GAP_S = 0.5
_RANGES_TOLD = 5


def bridge_gaps(skeleton: Skeleton, longest_s: float = LONGEST_GAP_S) -> tuple[Skeleton, list[str]]:
    """`skeleton` with gaps of up to `longest_s` closed, and a line each on what was closed and what was not.

    A point that is not seen (confidence below `layout.SEEN`) moves on a straight line, at constant speed,
    from where it was last seen to where it is seen next. Where nobody is seen at the beginning or the end,
    the nearest pose is held. Longer gaps stay as they are. The same object comes back if nothing is closed.
    """
    seen = skeleton.confidence >= SEEN
    anybody = seen.any(axis=1)
    flickering = np.flatnonzero(seen.any(axis=0) & ~seen.all(axis=0))
    if not len(flickering):
        return skeleton, []
    frames, longest = len(skeleton), int(longest_s * skeleton.fps + 1e-6)
    number = np.arange(frames, dtype=np.int32)[:, None]
    before = np.maximum.accumulate(np.where(seen[:, flickering], number, -1), axis=0)
    after = np.minimum.accumulate(np.where(seen[:, flickering], number, frames)[::-1], axis=0)[::-1]
    inner = (before >= 0) & (after < frames) & ~seen[:, flickering] & (after - before - 1 <= longest)
    first, last = np.flatnonzero(anybody)[[0, -1]]
    held = np.zeros_like(inner)
    if first <= longest:
        held[:first] = seen[first, flickering]
    if frames - 1 - last <= longest:
        held[last + 1 :] = seen[last, flickering]
    before, after = (
        np.where(held & (before < 0), after, before),
        np.where(held & (after >= frames), before, after),
    )
    times, columns = np.nonzero(inner | held)
    bridged = np.zeros_like(seen)
    bridged[times, flickering[columns]] = True
    notes = _notes(seen, bridged, longest_s)
    if not len(times):
        return skeleton, notes
    start, end = before[times, columns], after[times, columns]
    share = ((times - start) / np.maximum(end - start, 1)).astype(np.float32)
    points, confidence = skeleton.points_px.copy(), skeleton.confidence.copy()
    places = flickering[columns]
    for values, weight in ((points, share[:, None]), (confidence, share)):
        values[times, places] = (1 - weight) * values[start, places] + weight * values[end, places]
    return replace(skeleton, points_px=points, confidence=confidence), notes


def frame_ranges(frames: np.ndarray) -> str:
    """Rising frame numbers as words: 3, 7-9, 12; the sixth range and those behind it are only counted."""
    runs = np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1)
    words = [f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    more = len(words) - _RANGES_TOLD
    return ", ".join(words[:_RANGES_TOLD]) + (f" and {more} more ranges" if more > 0 else "")


def _notes(seen: np.ndarray, bridged: np.ndarray, longest_s: float) -> list[str]:
    frames, nobody = len(seen), ~seen.any(axis=1)
    mended = nobody & bridged.any(axis=1)
    notes = []
    if mended.any():
        notes.append(
            f"nobody was seen in {mended.sum()} of {frames} frames ({frame_ranges(np.flatnonzero(mended))}); "
            "bridged from the frames around them"
        )
    lost = np.flatnonzero(nobody & ~mended)
    if len(lost):
        notes.append(
            f"nobody was seen in {len(lost)} of {frames} frames ({frame_ranges(lost)}), longer than the "
            f"{longest_s:g} s that are bridged; nothing is drawn there, and the person may fall apart"
        )
    parts = []
    for name, part in PARTS.items():
        here = np.flatnonzero(bridged[:, part].any(axis=1) & ~nobody)
        if len(here):
            parts.append(f"{name} in {len(here)} ({frame_ranges(here)})")
    if parts:
        notes.append(
            f"points lost for at most {longest_s:g} s were bridged, of {frames} frames: {'; '.join(parts)}"
        )
    face = PARTS["face"]
    faceless = np.flatnonzero(~(seen | bridged)[:, face].any(axis=1) & ~nobody)
    if len(faceless) and len(faceless) < frames:
        notes.append(f"no face was seen in {len(faceless)} of {frames} frames ({frame_ranges(faceless)})")
    return notes
