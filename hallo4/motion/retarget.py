"""Fit a driving skeleton to the proportions of a portrait: its shoulders, the length of its neck, its face.

    body, arms, hands   one scale (shoulder width) about the neck, so hands stay at their wrists
    nose                starts where the portrait's is, and moves against the neck by the ratio of the two
                        necks' lengths: how a person holds their head in the first frame is theirs
    face, eyes, ears    about the nose, width and height each by its own ratio, in the axes of the tilted head

Every ratio compares the reference with the first frame in which the driving skeleton shows the measured
points; that frame should face the camera as the portrait does. The pose, all angles, stays the driving one.
Points are complex numbers here (x + iy): turning and scaling are products.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hallo4.errors import InputError
from hallo4.motion import layout
from hallo4.types import Skeleton

_SHOULDERS = [layout.LEFT_SHOULDER, layout.RIGHT_SHOULDER]
_JAW_RIGHT, _CHIN, _JAW_LEFT = layout.JAW.start, layout.JAW.start + 8, layout.JAW.stop - 1
_NOSE_TIP = layout.NOSE_BRIDGE.stop - 1
_RIGHT_LIDS = [*range(layout.RIGHT_EYE_LIDS.start, layout.RIGHT_EYE_LIDS.stop)]
_LEFT_LIDS = [*range(layout.LEFT_EYE_LIDS.start, layout.LEFT_EYE_LIDS.stop)]
_HEAD = [layout.NOSE, layout.LEFT_EYE, layout.RIGHT_EYE, layout.LEFT_EAR, layout.RIGHT_EAR]
_HEAD += [*range(layout.FACE.start, layout.FACE.stop)]

# Lengths below this part of the picture say nothing about proportions.
_LEAST_LENGTH = 0.002


def retarget(skeleton: Skeleton, reference: Skeleton, mode: Literal["parts", "whole"] = "parts") -> Skeleton:
    """`skeleton` in the place and proportions of `reference` (its first frame), in the reference's picture.

    "parts" fits body, neck and face each to the portrait; "whole" moves and scales the figure as it is, by
    the shoulders. What either side does not show borrows: the face from the body, the body from the face.
    The same skeleton comes back if `reference` is its first frame, and the place and size of the driving
    skeleton do not matter. Confidence and fps stay those of `skeleton`. Raises InputError if the two share
    neither shoulders nor a face.
    """
    if mode not in ("parts", "whole"):
        raise InputError(f'retarget mode is "{mode}"; choose "parts" or "whole".')
    neck = _anchor(skeleton, reference, _SHOULDERS)
    nose_point = _NOSE_TIP if _anchor(skeleton, reference, [_NOSE_TIP]) else layout.NOSE
    nose = _anchor(skeleton, reference, [nose_point])
    body_scale = _ratio(skeleton, reference, _SHOULDERS[:1], _SHOULDERS[1:])
    face_scale = _face_scale(skeleton, reference)
    if body_scale is None and face_scale is not None:
        neck, body_scale = None, np.sqrt(face_scale[0] * face_scale[1])
    anchor = neck or nose
    if anchor is None or body_scale is None:
        raise InputError(
            "the driving skeleton and the portrait share neither both shoulders nor a face; "
            "use a sequence that shows what the portrait shows."
        )

    points = _complex(skeleton.points_px)
    moved = anchor.goal + body_scale * (points - anchor.start)
    if mode == "parts" and nose is not None:
        nose_path = nose.goal + body_scale * (nose.path - nose.start)
        if neck is not None:
            neck_ratio = _ratio(skeleton, reference, _SHOULDERS, [nose_point]) or body_scale
            leaning = nose.path - neck.path
            nose_path = (
                nose.goal + body_scale * (neck.path - neck.start) + neck_ratio * (leaning - leaning[0])
            )
        scale_x, scale_y = face_scale or (body_scale, body_scale)
        tilt = _tilt(skeleton)
        upright = (points[:, _HEAD] - nose.path[:, None]) / tilt
        fitted = scale_x * upright.real + 1j * scale_y * upright.imag
        moved[:, _HEAD] = nose_path[:, None] + fitted * tilt
    return replace(
        skeleton,
        points_px=np.stack([moved.real, moved.imag], axis=-1).astype(np.float32),
        width_px=reference.width_px,
        height_px=reference.height_px,
    )


@dataclass(frozen=True)
class _Anchor:
    """The mean of some points: its `path` [T] when driving, where that starts, and where it should start."""

    path: np.ndarray
    start: complex
    goal: complex


def _anchor(skeleton: Skeleton, reference: Skeleton, points: list[int]) -> _Anchor | None:
    """None if the driving skeleton never, or the reference does not, show all of `points`."""
    path, goal = _path(skeleton, points), _path(_first(reference), points)
    if path is None or goal is None:
        return None
    return _Anchor(path, path[0], goal[0])


def _path(skeleton: Skeleton, points: list[int]) -> np.ndarray | None:
    """Mean of `points` over time [T], complex, bridged where not all of them are seen; None if never."""
    seen = np.flatnonzero((skeleton.confidence[:, points] >= layout.SEEN).all(axis=1))
    if not len(seen):
        return None
    mean = _complex(skeleton.points_px[seen][:, points]).mean(axis=1)
    return np.interp(np.arange(len(skeleton)), seen, mean)


def _ratio(skeleton: Skeleton, reference: Skeleton, start: list[int], end: list[int]) -> float | None:
    """Length from the mean of `start` to that of `end`, reference over first driving frame with both."""
    lengths = []
    for side in (reference, skeleton):
        seen = np.flatnonzero((side.confidence[:, start + end] >= layout.SEEN).all(axis=1))
        if not len(seen) or (side is reference and seen[0] > 0):
            return None
        points = _complex(side.points_px[seen[0]])
        length = abs(points[start].mean() - points[end].mean())
        if length < _LEAST_LENGTH * max(side.width_px, side.height_px):
            return None
        lengths.append(float(length))
    return lengths[0] / lengths[1]


def _face_scale(skeleton: Skeleton, reference: Skeleton) -> tuple[float, float] | None:
    """Ratios of the face's width (jaw) and height (eyes to chin); else one of ears or eyes for both."""
    width = _ratio(skeleton, reference, [_JAW_RIGHT], [_JAW_LEFT])
    height = _ratio(skeleton, reference, _RIGHT_LIDS + _LEFT_LIDS, [_CHIN])
    if width is not None and height is not None:
        return width, height
    for left, right in ((layout.LEFT_EAR, layout.RIGHT_EAR), (layout.LEFT_EYE, layout.RIGHT_EYE)):
        ratio = _ratio(skeleton, reference, [left], [right])
        if ratio is not None:
            return ratio, ratio
    return None


def _tilt(skeleton: Skeleton) -> np.ndarray:
    """Direction from the right eye to the left, [T, 1] unit complex; 1 (upright) where nothing shows it."""
    for right, left in ((_RIGHT_LIDS, _LEFT_LIDS), ([layout.RIGHT_EYE], [layout.LEFT_EYE])):
        right_path, left_path = _path(skeleton, right), _path(skeleton, left)
        if right_path is not None and left_path is not None:
            across = left_path - right_path
            length = np.abs(across)
            return np.where(length > 0, across / np.maximum(length, 1e-9), 1.0)[:, None]
    return np.ones((len(skeleton), 1), complex)


def _first(skeleton: Skeleton) -> Skeleton:
    return replace(skeleton, points_px=skeleton.points_px[:1], confidence=skeleton.confidence[:1])


def _complex(points_px: np.ndarray) -> np.ndarray:
    points = points_px.astype(np.float64)
    return points[..., 0] + 1j * points[..., 1]
