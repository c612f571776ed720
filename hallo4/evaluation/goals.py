"""Where good values of a metric lie, and how good a value is by that: one rule for all comparisons."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np

Better: TypeAlias = Literal[
    "higher", "higher, to the reference", "lower", "near 0", "near 1", "near the reference"
]
"""Where good values lie. "higher, to the reference": what exceeds the reference's own value counts no more
than it; a frozen face is the best likeness of itself, and no better a video for that."""

SMALLEST_RATIO = 1e-6
"""Of a metric that should be near 1: a picture without any detail is far from it, by a number."""


def goodness(
    better: str, values: np.ndarray | float, reference: np.ndarray | float | None = None
) -> np.ndarray:
    """`values`, of any shape, turned so that more is better; NaN where there is no value, or no `reference`
    of a goal that needs one.

    Near a goal it is minus the distance to it, of ratios in natural logarithms: half and double are as far
    from 1. ValueError: no such goal.
    """
    values = np.asarray(values, np.float64)
    if better == "higher":
        return values
    if better == "lower":
        return -values
    if better == "near 0":
        return -np.abs(values)
    if better == "near 1":
        return -np.abs(np.log(np.maximum(values, SMALLEST_RATIO)))
    own = np.asarray(np.nan if reference is None else reference, np.float64)
    if better == "higher, to the reference":
        return np.minimum(values, own)  # NaN if either is
    if better == "near the reference":
        return -np.abs(values - own)
    raise ValueError(f"no goal is called {better!r}")


SIGNED_UNITS = ("frames of 40 ms", "seconds", "per second", "levels of 255 per second")
"""Of shifts and slopes, which go both ways; all else that is compared with the reference is an amount."""


def value_range(unit: str, better: str) -> tuple[float, float]:
    """Between what ends values of a metric lie at all, by its unit and goal: shares 0 to 1, correlations
    -1 to 1; distances, ratios and amounts from 0 on.
    """
    if unit == "0..1":
        return 0.0, 1.0
    if unit == "-1..1":
        return -1.0, 1.0
    amount = better in ("lower", "near 1") or (better == "near the reference" and unit not in SIGNED_UNITS)
    return (0.0 if amount else -math.inf), math.inf
