"""Frames in which a detector lost the person, or a part: short gaps are bridged, long ones are named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hallo4.motion.layout import SEEN
from hallo4.motion.units import PARTS
from hallo4.types import Skeleton

LONGEST_GAP_S = 0.4
"""Points that are out of sight for at most this long are interpolated linearly."""
BRIDGED_CONFIDENCE = 0.5
"""The most that the confidence of such a point can be."""
_RANGES_NAMED = 5


def bridged(
    points_px: np.ndarray, confidence: np.ndarray, fps: float, shot: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points [T, 133, 2] and confidence [T, 133] with short gaps filled, and where [T, 133] bool.

    Between two frames in which a point is seen (`layout.SEEN`), with at most `LONGEST_GAP_S` between them and
    in one shot (`shot` [T], the number of each frame's; None: all are), it moves on a straight line at
    constant speed; its confidence is then that of the less certain end, at most `BRIDGED_CONFIDENCE`. Longer
    gaps stay as they are.
    """
    seen = confidence >= SEEN
    frames, columns = len(seen), np.flatnonzero(seen.any(axis=0) & ~seen.all(axis=0))
    number = np.arange(frames, dtype=np.int32)[:, None]
    before = np.maximum.accumulate(np.where(seen[:, columns], number, -1), axis=0)
    after = np.minimum.accumulate(np.where(seen[:, columns], number, frames)[::-1], axis=0)[::-1]
    inside = (before >= 0) & (after < frames) & ~seen[:, columns] & (after - before - 1 <= _longest(fps))
    if shot is not None and frames:
        inside &= shot[np.maximum(before, 0)] == shot[np.minimum(after, frames - 1)]
    times, which = np.nonzero(inside)
    start, end, places = before[times, which], after[times, which], columns[which]
    share = ((times - start) / np.maximum(end - start, 1))[:, None]
    points, sure = points_px.astype(np.float64), confidence.astype(np.float64)
    points[times, places] = (1 - share) * points[start, places] + share * points[end, places]
    ends = np.minimum(sure[start, places], sure[end, places])
    sure[times, places] = np.minimum(ends, BRIDGED_CONFIDENCE)
    filled = np.zeros_like(seen)
    filled[times, places] = True
    return points, sure, filled


def bridge_gaps(skeleton: Skeleton) -> tuple[Skeleton, list[str]]:
    """`skeleton` with its short gaps closed, see `bridged`, and a line each on what was closed and what was
    not.

    Where no person is seen for as short a time at the beginning or the end, the nearest pose is held. The
    same object is returned if nothing is closed.
    """
    seen = skeleton.confidence >= SEEN
    if not seen.any():
        return skeleton, []
    points, confidence, filled = bridged(skeleton.points_px, skeleton.confidence, skeleton.fps)
    first, last = np.flatnonzero(seen.any(axis=1))[[0, -1]]
    for ends, nearest in ((slice(0, first), first), (slice(last + 1, None), last)):
        there = seen[nearest]
        if len(filled[ends]) <= _longest(skeleton.fps):
            points[ends, there] = points[nearest, there]
            confidence[ends, there] = np.minimum(confidence[nearest, there], BRIDGED_CONFIDENCE)
            filled[ends, there] = True
    notes = _notes(seen, filled)
    if not filled.any():
        return skeleton, notes
    values = {"points_px": points.astype(np.float32), "confidence": confidence.astype(np.float32)}
    return replace(skeleton, **values), notes


def _longest(fps: float) -> int:
    """Frames of the longest gap that is closed."""
    return int(LONGEST_GAP_S * fps + 1e-6)


def frame_ranges(frames: np.ndarray) -> str:
    """Rising frame numbers as words: 3, 7-9, 12; the sixth range and those behind it are only counted."""
    runs = np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1)
    words = [f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    more = len(words) - _RANGES_NAMED
    return ", ".join(words[:_RANGES_NAMED]) + (f" and {more} more ranges" if more > 0 else "")


def _notes(seen: np.ndarray, filled: np.ndarray) -> list[str]:
    frames, empty = len(seen), ~seen.any(axis=1)
    closed = empty & filled.any(axis=1)
    notes = []
    if closed.any():
        notes.append(
            f"no person was seen in {closed.sum()} of {frames} frames "
            f"({frame_ranges(np.flatnonzero(closed))}); bridged from the frames around them"
        )
    lost = np.flatnonzero(empty & ~closed)
    if len(lost):
        notes.append(
            f"no person was seen in {len(lost)} of {frames} frames ({frame_ranges(lost)}), longer than the "
            f"{LONGEST_GAP_S:g} s that are bridged; nothing is drawn there, and the person may fall apart"
        )
    parts = []
    for name, part in PARTS.items():
        here = np.flatnonzero(filled[:, part].any(axis=1) & ~empty)
        if len(here):
            parts.append(f"{name} in {len(here)} ({frame_ranges(here)})")
    if parts:
        notes.append(
            f"points lost for at most {LONGEST_GAP_S:g} s were bridged, of {frames} frames: "
            + "; ".join(parts)
        )
    face = PARTS["face"]
    faceless = np.flatnonzero(~(seen | filled)[:, face].any(axis=1) & ~empty)
    if len(faceless) and len(faceless) < frames:
        notes.append(f"no face was seen in {len(faceless)} of {frames} frames ({frame_ranges(faceless)})")
    return notes
