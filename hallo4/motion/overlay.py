"""A skeleton drawn over the picture that it was found in, for people to look at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from hallo4.motion import layout
from hallo4.motion.draw import draw_skeleton
from hallo4.types import Skeleton

_EXTRA = [*range(layout.FEET.start, layout.FEET.stop), *range(layout.MOUTH.start, layout.MOUTH.stop)]
_EXTRA_COLOUR = (255, 105, 180)
_LARGER = 4.0
_SHADE = 0.7
"""How bright the picture stays, so that the lines can be seen."""


def overlay(frame_u8: np.ndarray, skeleton: Skeleton, frame: int, long_side_px: int = 640) -> np.ndarray:
    """A frame [H, W, 3] uint8 with `skeleton`'s `frame` over it, its longer side `long_side_px`; a small
    picture is enlarged no more than `_LARGER` times.

    Lines and points are those of `draw_skeleton`; mouth and feet, which a model does not see, are added as
    pink dots. Sides come out even.
    """
    height, width = frame_u8.shape[:2]
    scale = min(_LARGER, long_side_px / max(height, width))
    small = tuple(max(2, 2 * round(scale * side / 2)) for side in (width, height))
    picture = Image.fromarray(frame_u8).resize(small, Image.Resampling.BILINEAR, reducing_gap=2.0)
    one = replace(
        skeleton,
        points_px=skeleton.points_px[frame : frame + 1],
        confidence=skeleton.confidence[frame : frame + 1],
    )
    lines = draw_skeleton(one, *small)[0]
    strength = lines.max(axis=-1, keepdims=True) / 255.0
    mixed = Image.fromarray(
        np.rint(np.asarray(picture) * _SHADE * (1 - strength) + lines).clip(0, 255).astype(np.uint8)
    )
    pen = ImageDraw.Draw(mixed)
    points = one.points_px[0] * np.array([small[0] / skeleton.width_px, small[1] / skeleton.height_px])
    for point in _EXTRA:
        if one.confidence[0, point] >= layout.SEEN:
            x, y = (points[point] - 0.5).tolist()
            pen.ellipse((x - 1, y - 1, x + 1, y + 1), fill=_EXTRA_COLOUR)
    return np.asarray(mixed)
