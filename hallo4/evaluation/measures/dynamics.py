"""How much moves, how much flickers, and what drifts over a long video: curves of single videos, without
weights.

Motion is optical flow (iterative Lucas-Kanade, scikit-image) at 96 px, inside and outside the person. The
person is drawn from their keypoints: thick limbs, torso and head. Published anchors use RAFT (VBench's
dynamic degree) or do not say what they use ("subject and background dynamics" of Hallo3), so values compare
within a report only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from hallo4.errors import InputError, MissingExtraError, ShapeError
from hallo4.motion import layout
from hallo4.types import FPS, Skeleton

FLOW_SIDE_PX = 96
_RADIUS_PX, _WARPS = 5, 2


def flow_frame(frame_u8: np.ndarray) -> np.ndarray:
    """Frame [H, W, 3] uint8 -> brightness [h, w] float32 in [0, 1], its longer side 96 px."""
    from PIL import Image

    height, width = frame_u8.shape[:2]
    scale = FLOW_SIDE_PX / max(height, width)
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    grey = Image.fromarray(frame_u8).convert("L")
    small = grey if grey.size == size else grey.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(small, np.float32) / 255


def require_optical_flow() -> Callable[..., Any]:
    """scikit-image's iterative Lucas-Kanade; MissingExtraError without it."""
    try:
        from skimage.registration import optical_flow_ilk
    except ImportError:
        raise MissingExtraError(
            "Dynamics need scikit-image for optical flow: pip install 'hallo4[evaluate]'."
        ) from None
    return optical_flow_ilk


def flow_speed(earlier: np.ndarray, later: np.ndarray) -> np.ndarray:
    """Two `flow_frame`s -> speed of every pixel [h, w], in frame widths per second (at 25 fps).

    Equal frames have none. MissingExtraError without scikit-image.
    """
    if earlier.shape != later.shape:
        raise ShapeError(f"Flow needs frames of one size; found {earlier.shape} and {later.shape}.")
    if np.array_equal(earlier, later):
        return np.zeros_like(earlier)
    down, across = require_optical_flow()(earlier, later, radius=_RADIUS_PX, num_warp=_WARPS)
    return np.hypot(down, across) * (FPS / earlier.shape[1])


def person_mask(skeleton: Skeleton, t: int, height: int, width: int) -> np.ndarray | None:
    """[h, w] bool: where the person of frame t is, by their keypoints; None if head or shoulders are not
    seen.
    """
    from PIL import Image, ImageDraw

    seen = skeleton.confidence[t] >= layout.SEEN
    shoulders = [layout.LEFT_SHOULDER, layout.RIGHT_SHOULDER]
    if not seen[[*shoulders, layout.NOSE]].all():
        return None
    points = skeleton.points_px[t] * np.float32([width / skeleton.width_px, height / skeleton.height_px])
    left, right = points[shoulders[0]], points[shoulders[1]]
    unit = float(np.linalg.norm(left - right))
    neck = (left + right) / 2
    picture = Image.new("1", (width, height))
    draw = ImageDraw.Draw(picture)
    head = points[layout.NOSE]
    radius = max(0.45 * unit, 0.75 * float(np.linalg.norm(head - neck)))
    draw.ellipse([*(head - radius), *(head + radius)], fill=1)
    below = neck + np.float32([0, 2.5 * unit])
    spread = np.float32([0.2 * unit, 0])
    outer, inner = (left, right) if left[0] > right[0] else (right, left)
    torso = [inner - spread, outer + spread, below + [0.7 * unit, 0], below - [0.7 * unit, 0]]
    draw.polygon([tuple(map(float, corner)) for corner in torso], fill=1)
    thick = max(2, round(0.35 * unit))
    for chain in ((5, 7, 9), (6, 8, 10)):
        for a, b in pairwise(chain):
            if seen[a] and seen[b]:
                draw.line([*map(float, points[a]), *map(float, points[b])], fill=1, width=thick)
    for hand in (slice(91, 112), slice(112, 133)):
        shown = points[hand][seen[hand]]
        if len(shown):
            low, high = shown.min(axis=0) - thick / 3, shown.max(axis=0) + thick / 3
            draw.ellipse([*map(float, low), *map(float, high)], fill=1)
    return np.array(picture, bool)


def split_speed(speed: np.ndarray, mask: np.ndarray | None) -> tuple[float, float, float]:
    """Mean speed of the whole frame, of the subject and of the background; NaN where there is no mask or
    area.
    """
    whole = float(speed.mean())
    if mask is None:
        return whole, math.nan, math.nan
    inside = float(speed[mask].mean()) if mask.any() else math.nan
    outside = float(speed[~mask].mean()) if (~mask).any() else math.nan
    return whole, inside, outside


def flicker_levels(before: np.ndarray, frame: np.ndarray, after: np.ndarray) -> float:
    """Half the mean size of x[t-1] - 2 x[t] + x[t+1] of three frames uint8, in levels of 255.

    A pixel that alternates between two levels counts with their distance; one that changes evenly counts
    nothing.
    """
    second = before.astype(np.int16) - 2 * frame.astype(np.int16) + after.astype(np.int16)
    return float(np.abs(second).mean() / 2)


def drift_per_second(curve: np.ndarray, fps: float = FPS) -> float:
    """Slope of the least-squares line through a curve [T] over time, per second; NaN under one second of
    values.

    Frames without a value (NaN) are left out. InputError for infinities.
    """
    curve = np.asarray(curve, np.float64)
    if curve.ndim != 1:
        raise ShapeError(f"Drift is that of a curve [T]; found an array {list(curve.shape)}.")
    if np.isinf(curve).any():
        raise InputError("A curve holds infinities. Measure it again.")
    known = np.flatnonzero(np.isfinite(curve))
    if len(known) < 3 or known[-1] - known[0] < fps:
        return math.nan
    return float(np.polyfit(known / fps, curve[known], 1)[0])


def colour_departure(colours: np.ndarray, fps: float = FPS) -> np.ndarray:
    """Mean colours [T, 3] -> [T]: distance to the mean of the first second, in levels of 255 (RGB)."""
    start = colours[: max(1, round(fps))].mean(axis=0)
    return np.linalg.norm(colours - start, axis=1)
