"""What a metric is: in words, where good values lie, how good one is by that, and who of two wins a clip.

One rule for all suites. A metric that belongs to an axis gives either side points from 0 to 1; an axis's
score is the mean of them, `overall` that of the axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

Better: TypeAlias = Literal[
    "higher", "higher, to the reference", "lower", "near 0", "near 1", "near the reference"
]
"""Where good values lie. "higher, to the reference": what exceeds the reference's own value counts no more
than it; a frozen face is the best likeness of itself, and no better a video for that."""

Values: TypeAlias = Mapping[str, float | None]
"""Metric -> its value of one clip; None, or not there: not defined."""

SMALLEST_RATIO = 1e-6
"""Of a metric that should be near 1: a picture without any detail is far from it, by a number."""

SIGNED_UNITS = ("frames of 40 ms", "seconds", "per second", "levels of 255 per second")
"""Of shifts and slopes, which go both ways; all else that is compared with the reference is an amount."""

TIE_MARGIN = 0.002
"""Axis scores that differ by less than this (of 1) are a tie."""


@dataclass(frozen=True)
class Metric:
    """What is measured: in words, its unit, where good values lie, and `of`, which takes what the suite has
    seen of a clip and gives the value, NaN or None where it is not defined.

    `source`, `protocol`: who defined it and how it is taken here. `axis`: what its points count towards, None
    for metrics that describe more than they judge. `points`: value -> points from 0 to 1; without it the
    better side has the point, and both have half within `tie`. `alone`: it judges a video by itself, so the
    reference has a value of its own. `tested`: differences get a p value. `feature`: of metrics of whole
    sets, the vectors that `of` takes twice, [N, D] and [M, D].
    """

    definition: str
    unit: str
    better: Better
    of: Callable[..., float | None]
    axis: str | None = None
    source: str = "this package"
    protocol: str = ""
    points: Callable[[float], float] | None = None
    alone: bool = False
    tie: float = 1e-9
    tested: bool = True
    feature: str | None = None

    def score(self, value: float | None, reference: float | None = None) -> float:
        """`goodness` of one value: more is better; NaN where that needs a reference's value and there is
        none.
        """
        score = math.nan if value is None else float(goodness(self.better, value, reference))
        return score if math.isfinite(score) else math.nan

    def points_of(self, a: float | None, b: float | None, reference: float | None) -> tuple[float, float]:
        """What both sides get, NaN where one has no value: an undefined value wins nothing."""
        scores = self.score(a, reference), self.score(b, reference)
        if not all(map(math.isfinite, scores)):
            return math.nan, math.nan
        if self.points is not None:
            return self.points(a), self.points(b)
        ahead = scores[0] - scores[1]
        return (0.5, 0.5) if abs(ahead) <= self.tie else (float(ahead > 0), float(ahead < 0))

    def as_json(self) -> dict[str, str | None]:
        """The words of the report."""
        return {k: getattr(self, k) for k in ("definition", "unit", "better", "axis", "source", "protocol")}


Metrics: TypeAlias = Mapping[str, Metric]


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


def values_of(metrics: Metrics, seen: Any, names: Any = None) -> dict[str, float | None]:
    """The `names` (None: all) of the metrics of what was `seen` of a clip; None where one is not defined."""
    found = {name: metrics[name].of(seen) for name in (metrics if names is None else names)}
    finite = {name: value is not None and math.isfinite(value) for name, value in found.items()}
    return {name: float(value) if finite[name] else None for name, value in found.items()}


def axes_of(metrics: Metrics) -> list[str]:
    """The axes that metrics count towards, in the order of the table."""
    return list(dict.fromkeys(metric.axis for metric in metrics.values() if metric.axis is not None))


def axis_scores(
    metrics: Metrics, a: Values, b: Values, reference: Values | None = None
) -> dict[str, tuple[float, float]]:
    """Scores in [0, 1] of two sides on one clip: {"overall" | an axis: (of a, of b)}; NaN for an axis of
    which no metric has a value on both sides, which `overall` leaves out.
    """
    found: dict[str, list[tuple[float, float]]] = {axis: [] for axis in axes_of(metrics)}
    for name, metric in metrics.items():
        if metric.axis is not None:
            points = metric.points_of(a.get(name), b.get(name), (reference or {}).get(name))
            if all(map(math.isfinite, points)):
                found[metric.axis].append(points)
    scores = {axis: _means(points) for axis, points in found.items()}
    return {"overall": _means([pair for pair in scores.values() if math.isfinite(pair[0])]), **scores}


def outcome(scores: tuple[float, float]) -> float | None:
    """Who wins: 1 for the first side, 0 for the second, 0.5 for a tie; None where it is not known."""
    a, b = scores
    if not (math.isfinite(a) and math.isfinite(b)):
        return None
    return 0.5 if abs(a - b) <= TIE_MARGIN else float(a > b)


def _means(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    return tuple(float(np.mean(side)) for side in zip(*pairs, strict=True)) if pairs else (math.nan, math.nan)
