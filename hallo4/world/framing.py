"""How much of a person the picture shows: its shape, the size of the head in it and where the head is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from hallo4.errors import InputError
from hallo4.ranges import Range, Share, check_ranges

HEAD_CENTER = (0.5, 0.43)
"""Between the eyes of a person at rest, in the person's own square."""
HEAD_HEIGHT = 0.52
"""From chin to crown, hair not counted, of an average person, in sides of the person's own square."""
HEAD_WIDTH = 0.47
"""From ear to ear, likewise."""
KNEES = 1.62
"""The world draws no knees: a picture ends above them. Likewise."""
MULTIPLE_PX = 16
ASPECTS = (3 / 4, 1.0, 4 / 3, 9 / 16)
"""Width over height of the pictures that `sample_framing` chooses from."""


@dataclass(frozen=True)
class View:
    """Where the person's own square lies in a picture of `width_px` x `height_px`.

    The square has a side of `unit_px` pixels, and its upper left corner is at `origin_px` (x, y) of the
    picture. Whatever is drawn of a person is given in parts of this square, and goes on outside of it.
    """

    width_px: int
    height_px: int
    unit_px: float
    origin_px: tuple[float, float] = (0.0, 0.0)

    @property
    def bottom(self) -> float:
        """The lower edge of the picture in parts of the person's square."""
        return (self.height_px - self.origin_px[1]) / self.unit_px

    def place(self, points: np.ndarray) -> np.ndarray:
        """Pixels [..., 2] of points [..., 2] in parts of the person's square."""
        return points * self.unit_px + np.asarray(self.origin_px)


@dataclass(frozen=True)
class Framing:
    """A camera's choice. `aspect`: width over height of the picture. `head_share`: height of the head, chin
    to crown without hair, in parts of the picture's height. `head_at`: where the middle between the eyes is
    at rest, in parts of the picture's width and height.

    The default is the square half figure of the embedded models.
    """

    aspect: Annotated[float, Range(0.4, 2.5)] = 1.0
    head_share: Annotated[float, Range(0.15, 1)] = HEAD_HEIGHT
    head_at: tuple[Share, Share] = HEAD_CENTER

    def view(self, size_px: int) -> View:
        """The picture with about the area of a square of `size_px`: square exactly so, otherwise with sides
        that are multiples of 16.

        InputError where the face would leave the picture, or where the picture would end below the hips.
        """
        check_ranges(self)
        width_px, height_px = size_px, size_px
        if self.aspect != 1.0:
            width_px, height_px = (
                max(1, round(size_px * root / MULTIPLE_PX)) * MULTIPLE_PX
                for root in (self.aspect**0.5, self.aspect**-0.5)
            )
        unit_px = self.head_share / HEAD_HEIGHT * height_px
        x, y = self.head_at
        view = View(
            width_px,
            height_px,
            unit_px,
            (x * width_px - HEAD_CENTER[0] * unit_px, y * height_px - HEAD_CENTER[1] * unit_px),
        )
        _check_in_sight(self, view)
        return view


HALF_FIGURE = Framing()


def square(size_px: int) -> View:
    """The half figure of the embedded models in a square picture."""
    return HALF_FIGURE.view(size_px)


def sample_framing(rng: np.random.Generator, aspects: Sequence[float] = ASPECTS) -> Framing:
    """One of `aspects`, a head of 0.3 to 0.75 of the height (less where the picture is too narrow for it),
    off centre by up to a fifth of what the picture leaves free."""
    aspect = aspects[int(rng.integers(len(aspects)))]
    widest = min(0.75, 0.9 * aspect * HEAD_HEIGHT / HEAD_WIDTH)
    share = float(rng.uniform(0.3, widest))
    half_width = share / HEAD_HEIGHT * HEAD_WIDTH / 2 / aspect
    free_x = max(0.0, 0.5 - half_width) * 0.5
    x = 0.5 + float(rng.uniform(-free_x, free_x))
    # Small heads are in the upper part, as people frame each other; large ones fill the picture.
    highest, lowest = 0.5 * share + 0.03, min(0.62 * share + 0.12, 0.98 - 0.52 * share)
    y = float(rng.uniform(highest, max(highest, lowest)))
    least = 1 - (KNEES - HEAD_CENTER[1]) * share / HEAD_HEIGHT
    return Framing(aspect, share, (x, max(y, least)))


def _check_in_sight(framing: Framing, view: View) -> None:
    half_width_px = HEAD_WIDTH / 2 * view.unit_px
    x_px, y_px = framing.head_at[0] * view.width_px, framing.head_at[1] * view.height_px
    chin_px, crown_px = y_px + 0.6 * HEAD_HEIGHT * view.unit_px, y_px - 0.5 * HEAD_HEIGHT * view.unit_px
    seen = (
        x_px - half_width_px >= -0.1 * view.width_px
        and x_px + half_width_px <= 1.1 * view.width_px
        and crown_px >= -0.12 * view.height_px
        and chin_px <= 1.1 * view.height_px
    )
    if not seen:
        raise InputError(
            f"a head of {framing.head_share:g} of the height at {framing.head_at[0]:g}, "
            f"{framing.head_at[1]:g} of a picture of {view.width_px}x{view.height_px} leaves the picture; "
            "take a smaller head or a place nearer the middle"
        )
    if view.bottom > KNEES + 1e-9:
        raise InputError(
            f"a head of {framing.head_share:g} of the height at {framing.head_at[1]:g} from the top shows "
            "the person down to the knees, which the world does not draw; take a larger head or a lower place"
        )
