"""Pixels or fractions: the unit of the coordinates in a skeleton file, found from the numbers, and whether
what they show can be a person in that picture."""

from __future__ import annotations

from typing import Literal

import numpy as np

from hallo4.errors import InputError
from hallo4.motion import layout

PARTS = {
    "body": slice(layout.BODY.start, layout.FEET.stop),
    "face": layout.FACE,
    "left hand": layout.LEFT_HAND,
    "right hand": layout.RIGHT_HAND,
}
"""Parts of a person that detectors and editors treat by themselves, as slices of the 133 points."""

Unit = Literal["pixels", "0..1", "-1..1"]

LARGEST_FRACTION = 1.5
"""Fractions of a picture reach this far (outside it too); no person fits into as many pixels."""
_OUTLIERS = 0.05
_CENTRED = 0.25
"""Of coordinates that are counted from the middle of the picture at least this share is negative."""

MOST_OUTSIDE, MANY_OUTSIDE = 0.5, 0.25
"""Shares of the seen points outside the picture that are refused, and that are reported."""
SMALLEST_FIGURE = 0.03
"""Longest side of the smallest figure that is accepted, in those of its picture."""


def unit_of_parts(points: np.ndarray, confidence: np.ndarray) -> dict[str, Unit]:
    """The unit of each of `PARTS` that is seen, from points [M, 133, 2] and confidence [M, 133].

    Judged by part, since editors write some in pixels and others in fractions.
    """
    fractions: dict[str, np.ndarray] = {}
    units: dict[str, Unit] = {}
    for name, part in PARTS.items():
        seen = points[:, part][confidence[:, part] >= layout.SEEN]
        if not len(seen):
            continue
        units[name] = "pixels"
        if np.quantile(np.abs(seen), 1 - _OUTLIERS) <= LARGEST_FRACTION:
            fractions[name] = seen
    if fractions:
        together = np.concatenate(list(fractions.values()))
        unit: Unit = "-1..1" if (together < 0).mean() >= _CENTRED else "0..1"
        units |= dict.fromkeys(fractions, unit)
    return units


def to_pixels(points: np.ndarray, units: dict[str, Unit], size_px: tuple[int, int]) -> None:
    """Bring the parts that are in fractions into pixels of the picture, in place."""
    for name, unit in units.items():
        part = PARTS[name]
        if unit == "-1..1":
            points[:, part] = (points[:, part] + 1) / 2
        if unit != "pixels":
            points[:, part] *= np.array(size_px, np.float64)


def share_outside(points: np.ndarray, confidence: np.ndarray, size_px: tuple[int, int]) -> float:
    """The part of the seen points that lies outside the picture, in [0, 1]."""
    seen = points[confidence >= layout.SEEN]
    return float(((seen < 0) | (seen > np.array(size_px))).any(axis=-1).mean())


def extent(points: np.ndarray, confidence: np.ndarray) -> str:
    """From where to where the seen points reach, as words."""
    seen = points[confidence >= layout.SEEN]
    (left, top), (right, bottom) = seen.min(axis=0), seen.max(axis=0)
    return f"x {left:.4g} to {right:.4g}, y {top:.4g} to {bottom:.4g}"


def refuse_implausible(
    points: np.ndarray, confidence: np.ndarray, size_px: tuple[int, int], name: str
) -> str:
    """A note on points [T, 133, 2] of one person outside their picture, "" if they are few.

    InputError: most of them are outside, or the figure is too small for its points to be in this unit.
    """
    width, height = size_px
    outside = share_outside(points, confidence, size_px)
    found = f"{outside:.0%} of its seen points lie outside its picture of {width}x{height} px"
    where = f"they reach {extent(points, confidence)}"
    if outside > MOST_OUTSIDE:
        raise InputError(
            f"{name}: {found} ({where}); give the size of the picture that they were made from with "
            "--motion-size WxH, or correct the file."
        )
    seen = confidence >= layout.SEEN
    frames = seen.any(axis=1)
    least = np.where(seen[..., None], points, np.inf)[frames].min(axis=1)
    most = np.where(seen[..., None], points, -np.inf)[frames].max(axis=1)
    side = float(np.median((most - least).max(axis=1)))
    if side < SMALLEST_FIGURE * max(size_px):
        raise InputError(
            f"{name}: its person is {side:.3g} px large in a picture of {width}x{height} px ({where}); "
            "coordinates must be pixels, or fractions of the picture, 0 to 1 or -1 to 1."
        )
    return f"{found} ({where})" if outside > MANY_OUTSIDE else ""
