"""A small painter of smooth shapes: coordinates in parts of the person's square (`View`), antialiased by
drawing four times larger."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from hallo4.world.framing import View
from hallo4.world.lamp import Lamp, Light

Color = tuple[int, int, int]
Points = np.ndarray  # [n, 2], x right and y down, in parts of the person's square


class Painter:
    """Draws filled shapes, later ones on top. `picture()` gives [H, W, 3] uint8.

    With a `lamp`, what is filled after `lay` is lit as said there; without one, colours are as given.
    """

    def __init__(
        self, view: View, background: Image.Image, supersampling: int = 4, lamp: Lamp | None = None
    ) -> None:
        self.view = view
        self._lamp = lamp
        self._supersampling = supersampling
        self._scale = view.unit_px * supersampling
        self._origin = np.asarray(view.origin_px) * supersampling
        self._image = background.copy()
        self._draw = ImageDraw.Draw(self._image, "RGBA")

    def lay(self, light: Light | None) -> None:
        """What is filled from here on is lit so; None where there is no lamp."""
        if self._lamp is not None and light is not None:
            self._lamp.lay(light)

    def fill(self, points: Points, color: Color, opacity: float = 1.0, inside: bool = False) -> None:
        """Fill a closed polygon. `inside`: it lies within what was filled before."""
        if self._lamp is not None and opacity >= 1 and not inside:
            self._lamp.cover(points)
        ink = color if opacity >= 1 else (*color, round(255 * opacity))
        self._draw.polygon((points * self._scale + self._origin).ravel().tolist(), fill=ink)

    def ellipse(self, center: Points, rx: float, ry: float, color: Color, opacity: float = 1.0) -> None:
        """Fill an upright ellipse."""
        ink = color if opacity >= 1 else (*color, round(255 * opacity))
        self._draw.ellipse(self._box(*center, rx, ry), fill=ink)

    def stroke(self, points: Points, width: float, color: Color) -> None:
        """Draw a line with round ends through `points`."""
        line = (points * self._scale + self._origin).ravel().tolist()
        self._draw.line(line, fill=color, width=max(1, round(width * self._scale)), joint="curve")
        for x, y in (points[0], points[-1]):
            self._draw.ellipse(self._box(x, y, width / 2, width / 2), fill=color)

    def picture(self) -> np.ndarray:
        """The finished picture [H, W, 3] uint8."""
        picture = np.asarray(self._image.reduce(self._supersampling))
        return picture if self._lamp is None else self._lamp.shine(picture)

    def _box(self, x: float, y: float, rx: float, ry: float) -> tuple[float, float, float, float]:
        s, (left, top) = self._scale, self._origin
        return (x - rx) * s + left, (y - ry) * s + top, (x + rx) * s + left, (y + ry) * s + top


def circle(center: Points, rx: float, ry: float | None = None, n: int = 28) -> Points:
    """Outline of an upright ellipse."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.asarray(center) + np.stack([rx * np.cos(angle), (rx if ry is None else ry) * np.sin(angle)], 1)


def capsule(start: Points, end: Points, start_radius: float, end_radius: float, n: int = 8) -> Points:
    """Outline of a limb: two discs and their hull."""
    dx, dy = np.asarray(end) - np.asarray(start)
    along = np.arctan2(dy, dx)
    far = along + np.linspace(-np.pi / 2, np.pi / 2, n)
    near = along + np.linspace(np.pi / 2, 3 * np.pi / 2, n)
    return np.concatenate(
        [
            end + end_radius * np.stack([np.cos(far), np.sin(far)], 1),
            start + start_radius * np.stack([np.cos(near), np.sin(near)], 1),
        ]
    )


def smooth_loop(corners: Points, n: int = 6) -> Points:
    """A closed Catmull-Rom curve through `corners`, `n` points a side."""
    p0, p1, p2, p3 = (np.roll(corners, k, axis=0)[:, None] for k in (1, 0, -1, -2))
    s = (np.arange(n) / n)[None, :, None]
    curve = 0.5 * (
        2 * p1 + (p2 - p0) * s + (2 * p0 - 5 * p1 + 4 * p2 - p3) * s**2 + (3 * p1 - p0 - 3 * p2 + p3) * s**3
    )
    return curve.reshape(-1, 2)
