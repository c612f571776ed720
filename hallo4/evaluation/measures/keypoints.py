"""Keypoint metrics: landmark distance, keypoint distance and missed keypoints, hand confidence and variance.

All take `Skeleton`s (133 points with confidence) of detected or given keypoints, and so any detector's. A
point counts as seen with a confidence of 0.3 or more. Two skeletons are compared as fractions of their
frame's width, so that sizes may differ; aspect ratios may not. A value that does not exist is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hallo4.errors import ShapeError
from hallo4.motion import layout
from hallo4.types import Skeleton

_HANDS = {
    "left": (layout.LEFT_WRIST, layout.LEFT_HAND),
    "right": (layout.RIGHT_WRIST, layout.RIGHT_HAND),
}
HAND_POINTS = (*range(layout.LEFT_HAND.start, layout.LEFT_HAND.stop), *range(layout.RIGHT_HAND.start, 133))
BODY_POINTS = tuple(range(layout.BODY.start, layout.BODY.stop))
MOUTH_POINTS = tuple(range(layout.MOUTH.start, layout.MOUTH.stop))
FACE_POINTS = tuple(range(layout.FACE.start, layout.FACE.stop))


def keypoint_distance(measured: Skeleton, true: Skeleton, points: Sequence[int] | None = None) -> float:
    """AKD: mean distance of the points seen in both, as a fraction of the frame's width; lower is better.

    Siarohin et al. 2019 (Monkey-Net) give pixels at 256 px: 256 times this. Always read with
    `missed_keypoint_rate`, since a lost point costs nothing here. `points`: which of the 133, all where None.
    """
    distance, seen, true_seen = _compared(measured, true, points)
    both = seen & true_seen
    return float(distance[both].mean()) if both.any() else math.nan


def missed_keypoint_rate(measured: Skeleton, true: Skeleton, points: Sequence[int] | None = None) -> float:
    """MKR: share of the points seen in the truth that are not seen in the measured video, 0..1; lower is
    better.
    """
    _, seen, true_seen = _compared(measured, true, points)
    return float((~seen[true_seen]).mean()) if true_seen.any() else math.nan


def landmark_distance(measured: Skeleton, true: Skeleton, points: Sequence[int] = FACE_POINTS) -> float:
    """LMD: mean distance of face landmarks after each set's own mean is taken away; in interocular distances.

    Chen et al. 2018 (LMD over the mouth: `MOUTH_POINTS`; F-LMD over the face). They give pixels; divided by
    the distance of the true eyes, resolutions can be compared. Needs three points seen in both in a frame,
    and both eyes in the truth; frames without are left out. Lower is better.
    """
    _compared(measured, true, points)
    a, b = _scaled(measured)[:, points], _scaled(true)
    eyes = np.linalg.norm(b[:, layout.LEFT_EYE] - b[:, layout.RIGHT_EYE], axis=-1)
    eyes_seen = _seen(true)[:, [layout.LEFT_EYE, layout.RIGHT_EYE]].all(axis=1) & (eyes > 0)
    both = _seen(measured)[:, points] & _seen(true)[:, points]
    values = []
    for t in np.flatnonzero(eyes_seen & (both.sum(axis=1) >= 3)):
        one, other = a[t, both[t]], b[t][list(points)][both[t]]
        apart = (one - one.mean(axis=0)) - (other - other.mean(axis=0))
        values.append(np.linalg.norm(apart, axis=-1).mean() / eyes[t])
    return float(np.mean(values)) if values else math.nan


def hand_confidence(skeleton: Skeleton) -> float:
    """HKC: mean confidence of the hand points over frames and hands whose wrist is seen, 0..1; higher is
    better.

    CyberHost and EchoMimicV2 say this in prose and published no code; this is our reading of it. Points
    that the detector never gives (always 0) do not count, so a detector of fewer points can be used. NaN:
    no wrist is seen.
    """
    values = [skeleton.confidence[shown][:, known] for known, shown in _hands(skeleton)]
    values = [part.ravel() for part in values if part.size]
    return float(np.concatenate(values).mean()) if values else math.nan


def hand_visible_rate(skeleton: Skeleton) -> float:
    """Share of frames and hands (two a frame) whose wrist is seen, 0..1: to be read beside HKC and HKV."""
    wrists = [wrist for wrist, _ in _HANDS.values()]
    return float(_seen(skeleton)[:, wrists].mean()) if len(skeleton) else math.nan


def hand_variance(skeleton: Skeleton) -> float:
    """HKV: variance over time of each hand point's position in shoulder widths, x plus y, mean over points,
    times 1e3.

    Richness of gesture, not quality: higher is livelier, and the reference's value is the one to meet. Our
    reading of CyberHost's prose, as `hand_confidence`. A point counts over the frames in which it, its wrist
    and both shoulders are seen, if these are at least two; NaN without any such point.
    """
    shoulders = [layout.LEFT_SHOULDER, layout.RIGHT_SHOULDER]
    width = np.linalg.norm(
        np.diff(skeleton.points_px[:, shoulders].astype(np.float64), axis=1)[:, 0], axis=-1
    )
    measurable = _seen(skeleton)[:, shoulders].all(axis=1) & (width > 0)
    point_seen = _seen(skeleton)
    values = []
    for known, shown in _hands(skeleton):
        frames = shown & measurable
        for point in known:
            # Where a point is not seen, its position is no position: often 0, 0, or NaN.
            seen = frames & point_seen[:, point]
            if seen.sum() >= 2:
                places = skeleton.points_px[seen, point].astype(np.float64) / np.median(width[frames])
                values.append(places.var(axis=0).sum())
    return float(np.mean(values) * 1e3) if values else math.nan


def mouth_opening(skeleton: Skeleton) -> np.ndarray:
    """[T]: distance of the inner lips (face points 62 and 66) in interocular distances; NaN where not
    seen.
    """
    upper, lower = layout.FACE.start + 62, layout.FACE.start + 66
    needed = [upper, lower, layout.LEFT_EYE, layout.RIGHT_EYE]
    points = skeleton.points_px.astype(np.float64)
    eyes = np.linalg.norm(points[:, layout.LEFT_EYE] - points[:, layout.RIGHT_EYE], axis=-1)
    seen = _seen(skeleton)[:, needed].all(axis=1) & (eyes > 0)
    opening = np.linalg.norm(points[:, upper] - points[:, lower], axis=-1)
    return np.where(seen, opening / np.where(eyes > 0, eyes, 1), math.nan)


def _hands(skeleton: Skeleton) -> list[tuple[list[int], np.ndarray]]:
    """For each hand: its points that are ever given, and the frames [T] in which its wrist is seen."""
    seen = _seen(skeleton)
    given = skeleton.confidence.max(axis=0) > 0 if len(skeleton) else np.zeros(133, bool)
    return [
        ([i for i in range(points.start, points.stop) if given[i]], seen[:, wrist])
        for wrist, points in _HANDS.values()
    ]


def _seen(skeleton: Skeleton) -> np.ndarray:
    return skeleton.confidence >= layout.SEEN


def _scaled(skeleton: Skeleton) -> np.ndarray:
    return skeleton.points_px.astype(np.float64) / skeleton.width_px


def _compared(
    measured: Skeleton, true: Skeleton, points: Sequence[int] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distance, seen, seen in the truth, each [T, P]; ShapeError for other lengths, rates or aspect
    ratios.
    """
    if len(measured) != len(true) or measured.fps != true.fps:
        raise ShapeError(
            f"Skeletons of one length and rate are compared; found {len(measured)} frames at {measured.fps} "
            f"fps and {len(true)} at {true.fps} fps. Cut and resample them first."
        )
    aspects = [skeleton.width_px / skeleton.height_px for skeleton in (measured, true)]
    if abs(aspects[0] / aspects[1] - 1) > 0.02:
        raise ShapeError(
            f"Skeletons in frames of one aspect ratio are compared; found "
            f"{measured.width_px}x{measured.height_px} and {true.width_px}x{true.height_px} pixels."
        )
    places = list(range(133)) if points is None else list(points)
    distance = np.linalg.norm(_scaled(measured)[:, places] - _scaled(true)[:, places], axis=-1)
    return distance, _seen(measured)[:, places], _seen(true)[:, places]
