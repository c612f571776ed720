"""Squares of a frame, turned and scaled, as networks want to see them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Region:
    """A square of a frame: centre and side in pixels, and how far it is turned, clockwise in radians."""

    x_px: float
    y_px: float
    side_px: float
    roll: float = 0.0

    @property
    def axes(self) -> np.ndarray:
        """[2, 2]: the square's own right and down, in pixels of the frame, each a side long."""
        cosine, sine = math.cos(self.roll), math.sin(self.roll)
        return self.side_px * np.array([[cosine, sine], [-sine, cosine]])

    def to_frame(self, points_01: np.ndarray) -> np.ndarray:
        """Points [..., 2] in sides of the square, from its corner, -> pixels of the frame."""
        return (self.x_px, self.y_px) + (np.asarray(points_01, np.float64) - 0.5) @ self.axes

    def turned(self, points_px: np.ndarray) -> np.ndarray:
        """Offsets [..., 2] from the centre along the square's own axes, in pixels."""
        return (np.asarray(points_px, np.float64) - (self.x_px, self.y_px)) @ self.axes.T / self.side_px


def whole_frame(frame_u8: np.ndarray) -> Region:
    """The upright square around a frame [H, W, 3], in the middle of which the frame lies."""
    height, width = frame_u8.shape[:2]
    return Region(width / 2, height / 2, float(max(height, width)))


def square_around(points_px: np.ndarray, roll: float, scale: float, shift_down: float = 0.0) -> Region:
    """The turned square around points [n, 2], its side `scale` times the longer one of their own extent,
    moved along its own down by `shift_down` sides of that extent's height.
    """
    middle = Region(*points_px.mean(axis=0), 1.0, roll)
    offsets = middle.turned(points_px)
    low, high = offsets.min(axis=0), offsets.max(axis=0)
    centre = (low + high) / 2
    centre[1] += shift_down * (high - low)[1]
    x, y = (middle.x_px, middle.y_px) + centre @ middle.axes
    return Region(float(x), float(y), float(scale * (high - low).max()), roll)


def cut(
    frame_u8: np.ndarray, region: Region, size_px: int, beyond: Literal["rim", "black"]
) -> np.ndarray | None:
    """The region of a frame [H, W, 3] as [size, size, 3] uint8; outside, the border is repeated, or black.

    Bilinear; where it shrinks the picture more than twice, pixels are averaged before, so that 4K does not
    turn into noise. None: the region has no size, or nothing of the frame in it.
    """
    if not (math.isfinite(region.x_px + region.y_px) and 1.0 <= region.side_px <= 1e6):
        return None
    height, width = frame_u8.shape[:2]
    corners = region.to_frame(np.array([[0, 0], [1, 0], [0, 1], [1, 1]]))
    low = np.floor(corners.min(axis=0)).astype(int) - 2
    high = np.ceil(corners.max(axis=0)).astype(int) + 2
    left, top = np.clip(low, 0, (width, height))
    right, bottom = np.clip(high, 0, (width, height))
    if right <= left or bottom <= top:
        return None
    shrink = max(1, int(region.side_px / size_px))
    picture = Image.fromarray(frame_u8[top:bottom, left:right])
    if shrink > 1:
        picture = picture.reduce(shrink)
    origin = np.array([left, top]) / shrink
    if beyond == "rim":
        before = -((low - (left, top)) // shrink)
        after = -(((right, bottom) - high) // shrink)
        if before.any() or after.any():
            room = ((before[1], after[1]), (before[0], after[0]), (0, 0))
            picture = Image.fromarray(np.pad(np.asarray(picture), room, mode="edge"))
            origin = origin - before
    axes = region.axes / (size_px * shrink)
    start = region.to_frame(np.zeros(2)) / shrink - origin
    affine = (axes[0, 0], axes[1, 0], start[0], axes[0, 1], axes[1, 1], start[1])
    return np.asarray(
        picture.transform((size_px, size_px), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
    )
