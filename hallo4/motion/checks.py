"""Checks shared by all readers of skeleton files: numbers, shapes and ranges, each refusal in one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hallo4.errors import InputError
from hallo4.types import FPS, KEYPOINTS, Skeleton

MAX_FRAMES = 100_000
MAX_FPS = 240.0
MIN_SIDE_PX, MAX_SIDE_PX = 8, 16384
MAX_COORDINATE_PX = 1e5


@dataclass(frozen=True)
class Context:
    """What the reader of a file knows beside its content: its name, and what the caller says it lacks."""

    name: str
    fps: float | None
    size_px: tuple[int, int] | None


def frame_array(values: Any, field: str, shapes: tuple[tuple[int, ...], ...], context: Context) -> np.ndarray:
    """`values` as float64 [T, *shape], all frames of the same one of `shapes`; InputError names the frame."""
    if not isinstance(values, list) and not (isinstance(values, np.ndarray) and values.ndim):
        raise InputError(f'{context.name}: "{field}" is not frames; write [T]{_brackets(shapes[0])} numbers.')
    if not 0 < len(values) <= MAX_FRAMES:
        raise InputError(f'{context.name}: {len(values)} frames of "{field}"; allowed are 1 to {MAX_FRAMES}.')
    frames: list[np.ndarray] = []
    allowed = shapes
    for number, frame in enumerate(values):
        array = _numbers(frame)
        if array is None or array.shape not in allowed:
            found = "something else" if array is None else _brackets(array.shape) or "a number"
            raise InputError(
                f'{context.name}: "{field}" of frame {number} is {found}; '
                f"each frame must be {' or '.join(map(_brackets, allowed))} numbers."
            )
        if not np.isfinite(array).all():
            raise InputError(
                f'{context.name}: "{field}" of frame {number} holds NaN or infinity; '
                "give an unseen point as 0, 0 with confidence 0."
            )
        allowed = (array.shape,)
        frames.append(array.astype(np.float64))
    return np.stack(frames)


def checked_skeleton(
    points_px: np.ndarray,
    confidence: np.ndarray,
    fps: Any,
    size_px: tuple[Any, Any],
    context: Context,
) -> Skeleton:
    """A Skeleton from finite arrays [T, 133, 2] and [T, 133], after every range has been checked.

    `fps` and `size_px` are what the file says; where that is None the caller's word counts, and then 25 fps.
    """
    if len(points_px) != len(confidence):
        raise InputError(
            f"{context.name}: {len(points_px)} frames of points but {len(confidence)} of confidence; "
            "both must have the same length."
        )
    assert points_px.shape[1:] == (KEYPOINTS, 2)
    assert confidence.shape[1:] == (KEYPOINTS,)
    _refuse_outside(confidence, 0.0, 1.0, "confidence", context)
    _refuse_outside(points_px, -MAX_COORDINATE_PX, MAX_COORDINATE_PX, "coordinate", context)
    if size_px[0] is None or size_px[1] is None:
        size_px = context.size_px or (None, None)
    width, height = size_px
    if width is None:
        raise InputError(
            f'{context.name}: does not say how large its picture is; add "width_px" and "height_px" '
            '(OpenPose: "canvas_width" and "canvas_height").'
        )
    if fps is None:
        fps = FPS if context.fps is None else context.fps
    rate = _one_number(fps, "fps", 1e-3, MAX_FPS, context)
    sides = [
        _one_number(side, field, MIN_SIDE_PX, MAX_SIDE_PX, context)
        for side, field in ((width, "width_px"), (height, "height_px"))
    ]
    if any(side != int(side) for side in sides):
        raise InputError(f"{context.name}: a picture of {sides[0]} x {sides[1]} px; use whole pixels.")
    return Skeleton(
        points_px.astype(np.float32), confidence.astype(np.float32), rate, int(sides[0]), int(sides[1])
    )


def _numbers(value: Any) -> np.ndarray | None:
    """`value` as an array of numbers; None for texts, objects, ragged lists and endless integers."""
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError):
        return None
    return array if array.dtype.kind in "iuf" else None


def _one_number(value: Any, field: str, least: float, most: float, context: Context) -> float:
    array = _numbers(value)
    if array is None or array.size != 1 or not least <= float(array.reshape(())) <= most:
        raise InputError(
            f'{context.name}: "{field}" is {ascii(value)[:40]}; allowed is a number {least:g} to {most:g}.'
        )
    return float(array.reshape(()))


def _refuse_outside(values: np.ndarray, least: float, most: float, what: str, context: Context) -> None:
    bad = np.argwhere((values < least) | (values > most))
    if len(bad):
        frame, point = bad[0][:2]
        raise InputError(
            f"{context.name}: {what} {values[tuple(bad[0])]:g} of point {point} in frame {frame}; "
            f"allowed is {least:g} to {most:g}."
        )


def _brackets(shape: tuple[int, ...]) -> str:
    return "".join(f"[{size}]" for size in shape)
