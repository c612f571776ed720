"""How sure we are: intervals from resampled clips, paired differences and win rates. Clips are the unit,
never frames.

Frames of one clip resemble each other; only clips are independent, so every function takes one number per
clip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hallo4.errors import ShapeError

RESAMPLES = 10_000
CONFIDENCE = 0.95
_Z = 1.959963984540054  # of the standard normal at 0.975


@dataclass(frozen=True)
class Interval:
    """A mean over `n` clips with its 95 % interval, and how many further clips had no value (`undefined`).

    `mean` is None for n = 0; `low` and `high` are None for n < 2: one clip says nothing about its spread.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int
    undefined: int = 0

    def as_json(self) -> dict[str, float | int | None]:
        """The four keys of the evaluation report."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "n": self.n}


def bootstrap_interval(values: Sequence[float] | np.ndarray, seed: int = 0) -> Interval:
    """Mean of one value per clip, with the percentile interval of 10,000 resamples of the clips.

    NaN and None are counted as undefined and left out of the mean. The same values and seed give the same
    interval.
    """
    given = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    if given.ndim != 1:
        raise ShapeError(f"An interval takes one value per clip, [n]; found an array {list(given.shape)}.")
    kept = given[np.isfinite(given)]
    undefined = len(given) - len(kept)
    if len(kept) == 0:
        return Interval(None, None, None, 0, undefined)
    mean = float(kept.mean())
    if len(kept) == 1:
        return Interval(mean, None, None, 1, undefined)
    drawn = np.random.default_rng(seed).integers(0, len(kept), (RESAMPLES, len(kept)))
    means = kept[drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(mean, float(low), float(high), len(kept), undefined)


def paired_difference(a: Sequence[float], b: Sequence[float], seed: int = 0) -> Interval:
    """`bootstrap_interval` of a - b, clip by clip; a clip counts only where both have a value."""
    a, b = _paired(a, b)
    return bootstrap_interval(a - b, seed)


def win_rate(a: Sequence[float], b: Sequence[float], tie_margin: float = 0.0) -> Interval:
    """Share of clips in which `a` scores higher than `b`; a difference within `tie_margin` is a tie and
    counts half.

    Wilson's score interval, not the bootstrap, which calls ten wins of ten certain. A tie varies less than
    the coin that Wilson assumes, so with ties the interval is somewhat too wide.
    """
    a, b = _paired(a, b)
    difference = a - b
    defined = np.isfinite(difference)
    difference = difference[defined]
    n, undefined = len(difference), int((~defined).sum())
    if n == 0:
        return Interval(None, None, None, 0, undefined)
    outcome = np.where(np.abs(difference) <= tie_margin, 0.5, difference > 0)
    rate = float(outcome.mean())
    if n == 1:
        return Interval(rate, None, None, 1, undefined)
    centre = (rate + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * math.sqrt(rate * (1 - rate) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return Interval(rate, max(0.0, centre - half), min(1.0, centre + half), n, undefined)


def _paired(a: Sequence[float], b: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    if len(a) != len(b):
        raise ShapeError(f"Paired values come from the same clips; found {len(a)} and {len(b)}.")
    as_array = [np.array([math.nan if v is None else v for v in side], dtype=np.float64) for side in (a, b)]
    return as_array[0], as_array[1]
