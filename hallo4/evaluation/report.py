"""Rows -> the report: means with intervals, wins and paired tests; and a report on disk.

rows, one a clip and system --> `summary` --> JSON, which says its `schema`, and a page
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from hallo4.errors import OutputError
from hallo4.evaluation.metric import Metric, Metrics, axes_of, axis_scores, goodness, outcome, value_range
from hallo4.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    holm,
    rated_wins,
    sign_flip_test,
)
from hallo4.whole import real_path, refuse_irregular, temporary_beside, write_whole

SCHEMA = 2
REFERENCE = "reference"
"""The system that the others are compared with clip by clip, where there is one: true videos, or the rendered
truth."""

INTERVALS = (
    "Intervals: 95 %, percentile bootstrap over clips, wider for few clips; also of shares of clips won, of "
    "which ties count half, and Wilson's where all clips agree. p values: sign flips over clips of how much "
    "nearer to good values a system is, adjusted for all tests of this report (Holm)."
)

_Column: TypeAlias = np.ndarray  # [clips], NaN where there is no value


@dataclass(frozen=True)
class Row:
    """What was measured of one clip of one system.

    `values`: by metric, None where it is not defined. `curves`: what a page draws, over frames. `facts`: of
    the video, the suite's. `notes`, `lost`: one line for everything odd, and for each damaged file or feature
    that was left out. `problem`: why nothing could be measured. `run`: which of several runs of one recipe.
    """

    clip: str
    system: str
    values: dict[str, float | None] = field(default_factory=dict)
    curves: dict[str, list[float | None]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    problem: str | None = None
    run: int = 0

    def as_json(self) -> dict[str, Any]:
        """Without what is empty."""
        row = {key: value for key, value in asdict(self).items() if value or key in ("clip", "system")}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in row.items()}


# ---------------------------------------------------------------------- rows -> figures


class _Side:
    """The rows of one system: a table of values by run and clip."""

    def __init__(self, rows: Sequence[Row], system: str, clips: Sequence[str]):
        own = [row for row in rows if row.system == system]
        runs = sorted({row.run for row in own}) or [0]
        found = {(row.run, row.clip): row for row in own}
        self.rows = [[found.get((run, clip)) for clip in clips] for run in runs]
        self.measured = [
            any(run[i] is not None and run[i].values for run in self.rows) for i in range(len(clips))
        ]

    def table(self, name: str) -> np.ndarray:
        """[runs, clips], NaN where there is no value."""
        values = [[None if row is None else row.values.get(name) for row in run] for run in self.rows]
        return np.array([[math.nan if v is None else v for v in run] for run in values], dtype=np.float64)

    def column(self, name: str, of: Callable[[np.ndarray], np.ndarray] = np.asarray) -> _Column:
        """Of every clip the mean of `of` the values over the runs that have one."""
        table = of(self.table(name))
        known = np.isfinite(table)
        total = np.where(known, table, 0.0).sum(axis=0)
        return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), math.nan)


def summary(
    metrics: Metrics,
    rows: Sequence[Row],
    systems: Sequence[str],
    pairs: Sequence[tuple[str, str]] = (),
    only_measured: bool = False,
) -> dict[str, Any]:
    """The figures of `rows`, ready for JSON.

    `metrics`, `undefined`: system -> metric -> mean with its interval over clips, and in how many measured
    clips it does not exist. `reference_values`: of metrics that the reference itself has. `unmeasured`:
    system, and reference -> clips that are missing or cannot be read. `best`: metric -> system with the best
    mean score, where systems have the same clips and one of them is better. `pairs`: see `_pair`.
    `only_measured` leaves out metrics that no clip has.
    """
    clips = list(dict.fromkeys(row.clip for row in rows))
    sides = {system: _Side(rows, system, clips) for system in systems}
    reference = _Side(rows, REFERENCE, clips)
    given = {name for row in rows if row.system != REFERENCE for name in row.values}
    names = [name for name in metrics if name in given]
    intervals = {s: {n: _interval(metrics, n, side) for n in names} for s, side in sides.items()}
    if only_measured:
        names = [n for n in names if any(of[n].n for of in intervals.values())]
    own = {name for run in reference.rows for row in run if row is not None for name in row.values}
    compared = [_pair(metrics, names, (a, sides[a]), (b, sides[b]), reference) for a, b in pairs]
    adjusted = holm({(i, name): p for i, pair in enumerate(compared) for name, p in pair["p_value"].items()})
    for i, pair in enumerate(compared):
        pair["p_holm"] = {name: adjusted[i, name] for name in pair["p_value"]}
    return {
        "clips": len(clips),
        "metrics": {s: {n: of[n].as_json() for n in names} for s, of in intervals.items()},
        "undefined": {
            s: {n: i.undefined for n, i in of.items() if i.undefined} for s, of in intervals.items()
        },
        "unmeasured": {
            s: len(clips) - sum(side.measured) for s, side in {**sides, REFERENCE: reference}.items()
        },
        "reference_values": {n: _interval(metrics, n, reference).as_json() for n in names if n in own},
        "best": {n: best for n in names if (best := _best(metrics, n, sides, reference)) is not None},
        "pairs": compared,
        "definitions": {name: metrics[name].as_json() for name in names},
    }


def metric_interval(metric: Metric, values: Sequence[float | None] | np.ndarray) -> Interval:
    """`bootstrap_interval` of one value per clip of a metric, its ends where the metric's values can lie."""
    return bootstrap_interval(values).within(*value_range(metric.unit, metric.better))


def _interval(metrics: Metrics, name: str, side: _Side) -> Interval:
    return metric_interval(metrics[name], side.column(name)[side.measured])


def _scores(metrics: Metrics, name: str, side: _Side, reference: _Side) -> _Column:
    return side.column(name, lambda values: goodness(metrics[name].better, values, reference.column(name)))


def _pair(
    metrics: Metrics,
    names: Sequence[str],
    first: tuple[str, _Side],
    second: tuple[str, _Side],
    reference: _Side,
) -> dict[str, Any]:
    """Two systems over the clips that both have.

    `difference` a - b of values; `goal_difference`: how much nearer to its goal `a` is, where a metric has
    one; `standardised`: how much nearer to good, in standard deviations of a clip of `b`. p values test the
    scores. `win_rate` by axis, with each clip counted once; `overall_of_runs`: of each run of `a` alone.
    """
    (a, ours), (b, theirs) = first, second
    both = np.array(ours.measured) & np.array(theirs.measured)
    difference, goal_difference, standardised, p_value = {}, {}, {}, {}
    for name in names:
        change = (ours.column(name) - theirs.column(name))[both]
        if not np.isfinite(change).any():
            continue
        difference[name] = bootstrap_interval(change).as_json()
        before = _scores(metrics, name, theirs, reference)[both]
        ahead = _scores(metrics, name, ours, reference)[both] - before
        if not np.isfinite(ahead).any():
            continue
        if metrics[name].better not in ("higher", "lower"):
            goal_difference[name] = bootstrap_interval(ahead).as_json()
        standardised[name] = bootstrap_interval(ahead / (float(np.nanstd(before)) or 1.0)).as_json()
        p = sign_flip_test(ahead)
        if p is not None and metrics[name].tested:
            p_value[name] = p
    scores = _axis_scores(metrics, ours, theirs, reference)
    rates = {axis: _wins(scores, range(len(ours.rows)), axis) for axis in ("overall", *axes_of(metrics))}
    return {
        "a": a,
        "b": b,
        "clips": int(both.sum()),
        "difference": difference,
        "goal_difference": goal_difference,
        "standardised": standardised,
        "p_value": p_value,
        "win_rate": {axis: rate.as_json() for axis, rate in rates.items() if rate.n},
        "overall_of_runs": [_wins(scores, [run], "overall").as_json() for run in range(len(ours.rows))],
    }


def _axis_scores(metrics: Metrics, ours: _Side, theirs: _Side, reference: _Side) -> list[list[Any]]:
    """[runs of ours][clips] -> the `axis_scores` against every run of theirs."""
    true = [row.values if row is not None else {} for row in reference.rows[0]]
    return [
        [
            [axis_scores(metrics, mine.values, row[i].values, true[i]) for row in theirs.rows if row[i]]
            if (mine := run[i]) is not None
            else []
            for i in range(len(true))
        ]
        for run in ours.rows
    ]


def _wins(scores: list[list[Any]], runs: Sequence[int], axis: str) -> Interval:
    """Share of clips won; what is not known does not count."""
    outcomes = [[outcome(s[axis]) for run in runs for s in scores[run][i]] for i in range(len(scores[0]))]
    return rated_wins([[won for won in clip if won is not None] for clip in outcomes]).win_rate


def _best(metrics: Metrics, name: str, sides: Mapping[str, _Side], reference: _Side) -> str | None:
    """The system with the best mean score over clips: where a metric has a goal, the score is the distance to
    it. None where systems have values of other clips, since such means do not compare.
    """
    if not metrics[name].tested:
        return None
    columns = {system: _scores(metrics, name, side, reference) for system, side in sides.items()}
    columns = {system: column for system, column in columns.items() if np.isfinite(column).any()}
    if len({tuple(np.isfinite(column)) for column in columns.values()}) != 1:
        return None
    means = {system: float(np.nanmean(column)) for system, column in columns.items()}
    return the_best(means, metrics[name].tie)


def the_best(scores: Mapping[str, float], tie: float = 0.0) -> str | None:
    """Who has the highest score, if another has less by more than `tie`."""
    if len(scores) < 2:
        return None
    first, second = sorted(scores, key=lambda system: -scores[system])[:2]
    return first if scores[first] - scores[second] > tie else None


# ---------------------------------------------------------------------- on disk


def require_writable(out: Path) -> None:
    """OutputError, before any work, unless a report can be written to `out`; its folder is made.

    The page of a report lies beside it under the same name, so it may not end as that does.
    """
    if out.suffix.lower() in (".html", ".png"):
        raise OutputError(
            f"{out}: a page or picture takes that name; the report is JSON. Choose one that ends in .json."
        )
    if out.is_dir():
        raise OutputError(f"{out}: is a folder; the report is a file. Choose a name that ends in .json.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        refuse_irregular(real_path(out))
        trial = temporary_beside(out)
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror}); nothing was measured. Choose another path."
        ) from error


def write_report(report: Mapping[str, Any], out: Path, page: str | None = None) -> None:
    """Write a report, and its page beside it, each atomically. OutputError: one cannot be written."""
    _write(out, json.dumps(report, indent=1, allow_nan=False) + "\n")
    if page is not None:
        _write(out.with_suffix(".html"), page)


def _write(path: Path, content: str | bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}). Choose another path.") from error
