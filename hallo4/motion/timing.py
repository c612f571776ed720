"""Bring a skeleton sequence to the frame rate and the length of the video that is to be made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hallo4.errors import InputError
from hallo4.types import FPS, Skeleton


def resample(skeleton: Skeleton, frames: int, fps: float = FPS) -> tuple[Skeleton, str]:
    """`skeleton` at `fps` with exactly `frames` frames, and one line on what was done ("" if nothing).

    Output frame i is the skeleton at i / fps seconds, by linear interpolation between the two frames around
    it. A point that either of them did not see (confidence 0) is not interpolated but taken, seen or not,
    from the nearer one. Too long: the rest is cut. The last frame is held for as long as it lasts. Too short:
    the motion runs back and forth (a mirror at both ends), so that it never jumps; a single frame is held.
    Raises InputError for frames < 1 or fps <= 0.
    """
    whole = resampled_frames(skeleton, np.arange(max(frames, 0)), frames, fps)
    return whole, resampling_note(skeleton, frames, fps)


def resampled_frames(skeleton: Skeleton, indices: np.ndarray, frames: int, fps: float = FPS) -> Skeleton:
    """The frames with these numbers, [n] in any order and below `frames`, of `resample(skeleton, frames,
    fps)`, without making the others; numbers between two are times between them. InputError as there."""
    if frames < 1 or not fps > 0:
        raise InputError(f"{frames} frames at {fps:g} fps asked for; use at least 1 frame and fps above 0.")
    last = len(skeleton) - 1
    position = indices * (skeleton.fps / fps)
    if last == 0:
        position = np.zeros(len(indices))
    mirrored = np.abs((position + last) % (2 * last) - last) if last else position
    mirrored = np.where(position <= last, position, mirrored)
    if _lasts(skeleton, frames, fps):
        mirrored = np.minimum(position, last)

    before = np.minimum(np.floor(mirrored).astype(int), last)
    after = np.minimum(before + 1, last)
    share = (mirrored - before).astype(np.float32)[:, None]
    points, confidence = skeleton.points_px, skeleton.confidence
    both_seen = (confidence[before] > 0) & (confidence[after] > 0)
    share = np.where(both_seen, share, np.rint(share))
    # A chosen frame is taken as it is: NaN at an unseen neighbour must not spread, nor rounding creep in.
    blended_points = points[before] + share[..., None] * (points[after] - points[before])
    blended_points = np.where((share == 0)[..., None], points[before], blended_points)
    blended_points = np.where((share == 1)[..., None], points[after], blended_points)
    blended_confidence = confidence[before] + share * (confidence[after] - confidence[before])
    return replace(
        skeleton,
        points_px=blended_points.astype(np.float32),
        confidence=blended_confidence.astype(np.float32),
        fps=float(fps),
    )


def _lasts(skeleton: Skeleton, frames: int, fps: float) -> bool:
    """Whether every frame that is needed begins while the skeleton's last one is shown."""
    return (frames - 1) / fps < len(skeleton) / skeleton.fps - 1e-9


def resampling_note(skeleton: Skeleton, frames: int, fps: float) -> str:
    """What `resample` did, in one line; the empty text if the sequence was already as asked."""
    notes = []
    if skeleton.fps != fps:
        notes.append(f"resampled from {skeleton.fps:g} to {fps:g} fps")
    # The last frame that the skeleton reaches, against the last one needed.
    reach = int((len(skeleton) - 1) * fps / skeleton.fps + 1e-6) + 1
    if len(skeleton) == 1 and frames > 1:
        notes.append(f"its single frame was held for {frames / fps:.2f} s")
    elif reach < frames and not _lasts(skeleton, frames, fps):
        notes.append(f"{reach / fps:.2f} s is shorter than {frames / fps:.2f} s, so it runs back and forth")
    elif reach > frames:
        notes.append(f"cut from {reach / fps:.2f} s to {frames / fps:.2f} s")
    return f"skeleton: {'; '.join(notes)}" if notes else ""
