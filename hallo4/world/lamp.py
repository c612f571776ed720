"""Light on what is painted: beside the colours, how bright every pixel is lit, laid part by part.

    lamp.lay(light)          what is painted from here on is lit so
    lamp.cover(points)       (by the painter) these pixels belong to it
    lamp.shine(picture)      colours times light

A field is a function of x [w] and y [h, 1] in parts of the person's square; it gives the brightness [h, w]:
0 is turned away from the key light, 1 faces it, and what is above 1 shines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from hallo4.world.framing import View
from hallo4.world.look import Look

Field = Callable[[np.ndarray, np.ndarray], np.ndarray]
OVERSAMPLING = 2
SHADOW_CELL_PX = 4


@dataclass(frozen=True)
class Shadow:
    """A soft shadow on what was laid before: moved by `offset` and blurred by `blur`, in parts of the
    person's square; `strength` 1 takes all of the key light."""

    offset: tuple[float, float]
    blur: float
    strength: float


@dataclass(frozen=True)
class Light:
    """How a part is lit, and the shadow that it casts."""

    field: Field
    shadow: Shadow | None = None


class Lamp:
    """The light of one frame."""

    def __init__(self, look: Look, view: View, vignette: np.ndarray) -> None:
        self.look, self.view, self._vignette = look, view, vignette
        height, width = view.height_px, view.width_px
        self._level = np.zeros((height, width), np.float32)
        self._covered = np.zeros((height, width), np.float32)
        self._mask = Image.new("L", (width * OVERSAMPLING, height * OVERSAMPLING))
        self._draw = ImageDraw.Draw(self._mask)
        self._scale = view.unit_px * OVERSAMPLING
        self._origin = np.asarray(view.origin_px) * OVERSAMPLING
        self._light: Light | None = None
        x0, y0 = view.origin_px
        self._x = ((np.arange(width) + 0.5 - x0) / view.unit_px).astype(np.float32)
        self._y = ((np.arange(height) + 0.5 - y0) / view.unit_px).astype(np.float32)[:, None]

    def lay(self, light: Light) -> None:
        """What is covered from here on is lit by `light`."""
        self._finish()
        self._light = light

    def cover(self, points: np.ndarray) -> None:
        """The polygon [n, 2] belongs to what is laid."""
        self._draw.polygon((points * self._scale + self._origin).ravel().tolist(), fill=255)

    def shine(self, picture_u8: np.ndarray) -> np.ndarray:
        """The lit picture [H, W, 3] uint8 of colours [H, W, 3]."""
        self._finish()
        level = self._level
        gloss = np.maximum(level - 1.0, 0.0) * self._covered * 90
        lit_u8 = np.empty_like(picture_u8)
        for channel, (lit, shaded) in enumerate(zip(self.look.lit, self.look.shaded)):
            light = level * np.float32(lit - shaded)
            light += np.float32(shaded - 1)
            light *= self._covered
            light += 1
            light *= picture_u8[..., channel]
            light += gloss  # what shines is paler than its colour
            light *= self._vignette
            np.minimum(light, 255, out=light)
            lit_u8[..., channel] = light
        return lit_u8

    def _finish(self) -> None:
        light, self._light = self._light, None
        box = self._mask.getbbox()
        if light is not None and box is not None:
            n = OVERSAMPLING
            x0, y0, x1, y1 = box[0] // n, box[1] // n, -(-box[2] // n), -(-box[3] // n)
            drawn = (x0 * n, y0 * n, x1 * n, y1 * n)
            mask = self._mask.crop(drawn).reduce(n)
            if light.shadow is not None:
                self._cast(mask, (x0, y0), light.shadow)
            here = np.s_[y0:y1, x0:x1]
            share = np.asarray(mask, np.float32) * np.float32(1 / 255)
            level = self._level[here]
            level += share * (light.field(self._x[x0:x1], self._y[y0:y1]) - level)
            np.maximum(self._covered[here], share, out=self._covered[here])
            self._mask.paste(0, drawn)

    def _cast(self, mask: Image.Image, corner: tuple[int, int], shadow: Shadow) -> None:
        """The shadow is worked out on cells of some pixels, because it is soft."""
        cell, unit = SHADOW_CELL_PX, self.view.unit_px
        blur, margin = shadow.blur * unit / cell, int(2.5 * shadow.blur * unit / cell) + 1
        small = mask.reduce(cell)
        wide = Image.new("L", (small.width + 2 * margin, small.height + 2 * margin))
        wide.paste(small, (margin, margin))
        wide = wide.filter(ImageFilter.GaussianBlur(blur))
        # Placed between the cells, so that it moves as smoothly as what casts it.
        left = corner[0] + shadow.offset[0] * unit - margin * cell
        top = corner[1] + shadow.offset[1] * unit - margin * cell
        height, width = self._level.shape
        x0, y0 = max(0, int(np.floor(left))), max(0, int(np.floor(top)))
        x1, y1 = min(width, int(left) + wide.width * cell), min(height, int(top) + wide.height * cell)
        if x1 <= x0 or y1 <= y0:
            return
        place = (1 / cell, 0, (x0 - left) / cell, 0, 1 / cell, (y0 - top) / cell)
        cast = wide.transform((x1 - x0, y1 - y0), Image.Transform.AFFINE, place, Image.Resampling.BILINEAR)
        self._level[y0:y1, x0:x1] *= 1 - np.asarray(cast, np.float32) * np.float32(shadow.strength / 255)


def vignette(view: View) -> np.ndarray:
    """[H, W]: the corners are a little darker."""
    x = np.linspace(-1, 1, view.width_px, dtype=np.float32)
    y = np.linspace(-1, 1, view.height_px, dtype=np.float32)[:, None]
    return 1 - np.float32(0.13) * np.clip(x**2 + y**2 - np.float32(0.35), 0, None)
