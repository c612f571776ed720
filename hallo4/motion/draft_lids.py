"""Lids of a draft: skin over an eye, with the lashes at its edge.

The eye itself stays where the head has it. A lid is taken for an arc over the line between the corners of its
eye: two points of each lid, as skeletons have them, decide its height and no more.
"""

from __future__ import annotations

import numpy as np

from hallo4.motion.draft_sampling import pixel_centres, sampled

FULLNESS = 0.75
"""The arc of a lid is a parabola to this power: fuller toward the corners."""
LASHES = 0.05
"""Half the height of the edge of an upper lid, which keeps its shape, in widths of the eye. Half of that is
dark at least; there is no white in it below a lid that is shut."""
SHADE = 0.13
"""How far beside that a lid of the portrait may be dark still."""
LEAST_OPENING = 0.1
"""An eye of a portrait that is not so far open, in widths of the eye, has nothing to show or to cover."""
AROUND = 0.3
"""How far from the lids their skin is looked at, in widths of the eye."""
ALIKE = 0.6
"""The share of what is there that is taken for skin: what is nearest to the middle colour."""


class DraftEye:
    """An eye of a portrait [H, W, 3] in [0, 255] whose lids can be moved.

    `points` [6, 2]: in pixels as (x, y), a corner, two points of the upper lid, the other corner, two of the
    lower lid. `opens`: whether it is open in the portrait, and all of it in the picture.
    """

    def __init__(self, portrait: np.ndarray, points: np.ndarray) -> None:
        self._portrait, self._corner = portrait, points[0]
        self._across = points[3] - points[0]
        self._width_px = max(float(np.hypot(*self._across)), 1e-3)
        self._upper, self._lower = self._heights(points)
        height, width = portrait.shape[:2]
        inside = ((points >= 0) & (points <= (width, height))).all()
        self.opens = bool(inside) and self._width_px >= 1 and self._lower - self._upper > LEAST_OPENING
        if self.opens:
            self._skin = self._plane_of_skin()

    def move_lids(self, frame: np.ndarray, rows: np.ndarray, columns: np.ndarray, now: np.ndarray) -> None:
        """Paint the lids of `now` [6, 2] in a frame [H, W, 3], in place; `rows` and `columns` [H, W]: where
        in the portrait its pixels come from."""
        upper, lower = self._heights(sampled(np.stack([columns, rows], -1), *now.T[::-1, None])[0])
        x0, y0 = np.maximum(now.min(0) - self._width_px, 0).astype(int)
        x1, y1 = np.maximum(now.max(0) + self._width_px, 0).astype(int)
        place = np.s_[y0:y1, x0:x1]
        x, y = columns[place], rows[place]
        along, height = self._in_eye(x, y)
        arc = _arc(along)
        top, top_then = arc * upper + LASHES, arc * self._upper + LASHES
        bottom = arc * max(lower, upper) + LASHES / 2
        bottom_then = arc * self._lower + LASHES / 2
        source = np.where(height < top, height + top_then - top, np.clip(height, top_then, bottom_then))
        lashes = (arc > 0) & (height >= top - 2 * LASHES) & (height < bottom)
        moved = np.where(lashes, source - height, 0)
        eye = sampled(self._portrait, y + moved * self._across[0], x - moved * self._across[1])
        shade = np.minimum(SHADE, np.abs(top - top_then)), np.minimum(SHADE, np.abs(bottom - bottom_then))
        lid = (height > top_then - 2 * LASHES - shade[0]) & (height < top - 2 * LASHES)
        lid |= (height >= bottom) & (height < bottom_then + shade[1])
        lid &= arc > 0
        frame[place] = np.where(np.abs(moved)[..., None] > 1e-3, eye, frame[place])
        where = np.stack([np.ones(lid.sum()), along[lid], height[lid]], 1)
        frame[place][lid] = where @ self._skin

    def _in_eye(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How far places of the portrait lie along the line between the corners, and below it, in widths of
        the eye."""
        right, down = x - self._corner[0], y - self._corner[1]
        square = self._width_px**2
        along = (right * self._across[0] + down * self._across[1]) / square
        return along, (down * self._across[0] - right * self._across[1]) / square

    def _heights(self, points: np.ndarray) -> tuple[float, float]:
        """How far the middles of the upper and the lower lid lie below the line between the corners."""
        along, height = self._in_eye(*points.T)
        arc = _arc(np.clip(along, 0.1, 0.9))
        upper, lower = ((height[lid] @ arc[lid]) / (arc[lid] @ arc[lid]) for lid in ([1, 2], [4, 5]))
        return float(upper), float(lower)

    def _plane_of_skin(self) -> np.ndarray:
        """Colours around the eye, [3, 3]: a constant, what is added along the eye, and down."""
        height_px, width_px = self._portrait.shape[:2]
        y, x = pixel_centres(height_px, width_px, height_px, width_px)
        along, height = self._in_eye(x, y)
        arc = _arc(along)
        above, below = arc * self._upper - LASHES - SHADE, arc * self._lower + SHADE
        near = (height < above) & (height > above - AROUND) | (height > below) & (height < below + AROUND)
        near &= arc > 0
        colours = self._portrait[near]
        if len(colours) < 8:
            return np.stack([colours.sum(0) / max(len(colours), 1), *np.zeros((2, 3))])
        off = np.abs(colours - np.median(colours, 0)).sum(1)
        alike = off <= np.quantile(off, ALIKE)
        where = np.stack([np.ones(alike.sum()), along[near][alike], height[near][alike]], 1)
        return np.linalg.lstsq(where, colours[alike], rcond=None)[0].astype(np.float32)


def _arc(along: np.ndarray) -> np.ndarray:
    """Height of a lid at a share of the way between the corners, 1 in the middle, 0 outside."""
    return np.maximum(4 * along * (1 - along), 0) ** FULLNESS
