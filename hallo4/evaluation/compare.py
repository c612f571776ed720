"""`compare_reports`: systems that were measured one by one, set side by side clip by clip.

    NAME=report.json ... (`hallo4 evaluate world`, the same episodes)
        --rows by clip--> win rates, differences: JSON, a table, a picture

Several reports under one name are runs of one recipe, with other seeds of training, say. A clip then has one
outcome per run; runs of a clip resemble each other, so clips are resampled, never runs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from rich.markup import escape
from rich.table import Table

from hallo4.errors import InputError
from hallo4.evaluation.goals import goodness
from hallo4.evaluation.named_paths import split_name
from hallo4.evaluation.report_files import require_writable, write_with_picture
from hallo4.evaluation.report_rows import WorldReport
from hallo4.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    holm,
    interval_text,
    rated_wins,
    sign_flip_test,
)
from hallo4.evaluation.world_metrics import AXES, METRICS, TIE_MARGIN, axis_scores, metric_interval
from hallo4.json_file import checked, read_json
from hallo4.outputs import refuse_output

SAME = ("episodes", "seed")
SAME_SETTINGS = {"seconds": None, "size_px": None, "observer": None, "tempo": 1.0}
"""With what a report without it means: those of version 0.1 know no tempo."""
OBSERVER = "observer_weights"
"""A hash of the instrument's weights; a report that has none was made by one that is not known."""
SCORED = frozenset(name for parts in AXES.values() for name in parts)
"""Metrics that decide who wins a clip, and that machine scores of the world are made of; no others are."""

Rows = list[Mapping[str, Any]]


@dataclass(frozen=True)
class System:
    """What is compared: a name and the rows of each of its runs, clips in one order."""

    name: str
    runs: list[Rows]

    def values(self, metric: str, of: Callable[[np.ndarray], np.ndarray] = np.asarray) -> np.ndarray:
        """[clips]: of every clip the mean of `of` the values over the runs that have the metric; NaN where
        none has."""
        table = np.array(
            [[math.nan if row["model"].get(metric) is None else row["model"][metric] for row in run]
             for run in self.runs], dtype=np.float64,
        )  # fmt: skip
        table = of(table)
        known = np.isfinite(table)
        total = np.where(known, table, 0.0).sum(axis=0)
        return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), math.nan)


def compare_reports(
    reports: Sequence[str | os.PathLike[str]], against: str | None = None, out: str | Path | None = None
) -> dict[str, Any]:
    """Compare systems with the one called `against` (None: the first); returns the comparison.

    `reports`: NAME=PATH, or a path, whose name is then that of the model in it. For every system: metrics
    with 95 % intervals over clips; for every other than `against` also win rates per axis, each run's own
    overall win rate, paired differences, and how much nearer to good the values are (`standardised`, in
    standard deviations of a clip) with sign-flip p values (adjusted over metrics after Holm).
    `unscored` names the metrics that no win rate and no machine score of the world is made of. With `out`
    it is written as JSON, with a picture beside it.

    InputError: a file that is no such report, or other episodes than the first. OutputError: `out` cannot
    be written.
    """
    if out is not None:
        refuse_output(out, [split_name(report)[1] for report in reports])
        require_writable(Path(out))
    systems = _systems([os.fspath(report) for report in reports])
    names = [system.name for system in systems]
    base_name = names[0] if against is None else against
    if base_name not in names:
        raise InputError(f"--against {base_name}: no report has that name; there are {', '.join(names)}.")
    if len(systems) < 2:
        raise InputError("there is one system only; give at least two, as in SFT=a.json DPO=b.json.")
    base = systems[names.index(base_name)]
    comparison: dict[str, Any] = {
        "against": base_name,
        "clips": len(base.runs[0]),
        "runs": {system.name: len(system.runs) for system in systems},
        "metrics": {system.name: _metrics(system) for system in systems},
        "compared": {system.name: _compared(system, base) for system in systems if system is not base},
        "unscored": [name for name in METRICS if name not in SCORED],
    }
    return comparison if out is None else write_with_picture(comparison, Path(out), draw_comparison)


def comparison_table(comparison: Mapping[str, Any]) -> Table:
    """The figures for a terminal: metrics of every system, then win rates against the base."""
    base = comparison["against"]
    title = escape(f"{comparison['clips']} unseen episodes; win rates against {base}")
    table = Table(
        title=title, caption="mean [95 % interval over clips]; * is part of no score", title_justify="left"
    )
    table.add_column("", overflow="fold")
    for name, runs in comparison["runs"].items():
        table.add_column(
            escape(name if runs == 1 else f"{name} ({runs} runs)"), justify="right", overflow="fold"
        )
    for metric in comparison["metrics"][base]:
        cells = [interval_text(of.get(metric)) for of in comparison["metrics"].values()]
        mark = "" if metric in SCORED else " *"
        table.add_row(metric + mark, *cells)
    for axis in ("overall", *AXES):
        rates = [
            "" if name == base else interval_text(comparison["compared"][name]["win_rate"][axis])
            for name in comparison["runs"]
        ]
        table.add_row(f"win rate, {axis}", *rates)
    return table


def draw_comparison(comparison: Mapping[str, Any], picture: BinaryIO) -> None:
    """Win rates with intervals and the runs' own as dots, and differences in units of their spread.

    ImportError without matplotlib.
    """
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(13, 6.5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
    axes, compared = ("overall", *AXES), comparison["compared"]
    metrics = [name for name in METRICS if any(name in found["standardised"] for found in compared.values())]
    shift = 0.8 / max(len(compared), 1)
    for place, (name, found) in enumerate(compared.items()):
        rows = np.arange(len(axes)) + place * shift
        for row, axis in zip(rows, axes, strict=True):
            rate = found["win_rate"][axis]
            if rate["mean"] is None:
                continue
            low, high = (rate["mean"] if rate[end] is None else rate[end] for end in ("low", "high"))
            left.plot([low, high], [row, row], color=f"C{place}", linewidth=5, alpha=0.35)
            left.plot(rate["mean"], row, "o", color=f"C{place}", label=name if axis == "overall" else None)
        for own in found["overall_of_runs"]:
            left.plot(own["mean"], rows[0] + 0.28 * shift, "|", color=f"C{place}", markersize=9)
        for row, metric in enumerate(metrics):
            effect = found["standardised"].get(metric)
            if effect is None:
                continue
            right.plot(effect["mean"], row + place * shift, "o", color=f"C{place}")
            if effect["low"] is not None:
                right.plot([effect["low"], effect["high"]], [row + place * shift] * 2, color=f"C{place}")
    left.axvline(0.5, color="grey", linewidth=1)
    left.set(title=f"share of clips won against {comparison['against']}", xlim=(0, 1))
    left.set_yticks(np.arange(len(axes)) + 0.4 - shift / 2, axes)
    left.invert_yaxis()
    left.legend(loc="upper left")
    labels = [metric if metric in SCORED else f"{metric} *" for metric in metrics]
    right.axvline(0.0, color="grey", linewidth=1)
    right.set(title="gain, in standard deviations of a clip (* never part of a score)")
    right.set_yticks(np.arange(len(metrics)) + 0.4 - shift / 2, labels, fontsize=8)
    right.invert_yaxis()
    for panel in (left, right):
        panel.grid(alpha=0.3, axis="x")
    figure.savefig(picture, format="png", dpi=80)


# ---------------------------------------------------------------------- reading


def _systems(reports: Sequence[str]) -> list[System]:
    """Systems in the order of their first report."""
    found: dict[str, list[dict[str, Any]]] = {}
    first: dict[str, Any] | None = None
    for text in reports:
        name, path = split_name(text)
        report = _read(Path(path))
        first = first or report
        _check_alike(first, report, text)
        found.setdefault(name or str(report["model"]), []).append(report)
    return [
        System(name, [sorted(report["rows"], key=lambda row: row["clip"]) for report in runs])
        for name, runs in found.items()
    ]


def _read(path: Path) -> dict[str, Any]:
    """A report as it was written; InputError where it lacks what is compared."""
    advice = "Give the JSON file that `hallo4 evaluate world` wrote."
    report = read_json(path, dict[str, Any], advice=advice)
    checked(report, WorldReport, str(path), advice=advice)
    return report


def _check_alike(first: Mapping[str, Any], report: Mapping[str, Any], text: str) -> None:
    pairs = [(name, first[name], report[name]) for name in SAME]
    for name, default in SAME_SETTINGS.items():
        pairs.append((name, *(one["settings"].get(name, default) for one in (first, report))))
    observers = [one["settings"].get(OBSERVER) for one in (first, report)]
    if None not in observers:
        pairs.append((OBSERVER, *observers))
    clips = [sorted(row["episode_seed"] for row in one["rows"]) for one in (first, report)]
    pairs.append(("the episodes", "those", "others" if clips[0] != clips[1] else "those"))
    for name, wanted, found in pairs:
        if wanted != found:
            raise InputError(
                f"{text}: {name} is {found!r}, of the first report {wanted!r}; clips and instrument must be "
                "the same. Measure both with the same --episodes, --seed, --seconds and --observer."
            )


# ---------------------------------------------------------------------- comparing


def _metrics(system: System) -> dict[str, Any]:
    names = [name for name in METRICS if any(name in row["model"] for run in system.runs for row in run)]
    return {name: metric_interval(name, system.values(name)).as_json() for name in names}


def _compared(system: System, base: System) -> dict[str, Any]:
    """`system` against `base`, clip by clip, over all pairs of their runs."""
    axes = ("overall", *AXES)
    clips = range(len(base.runs[0]))
    by_run = [
        [[axis_scores(run[clip]["model"], other[clip]["model"]) for other in base.runs] for clip in clips]
        for run in system.runs
    ]
    together = [[score for run in by_run for score in run[clip]] for clip in clips]
    differences, p_values, standardised = {}, {}, {}
    for name in METRICS:
        change = system.values(name) - base.values(name)
        if not np.isfinite(change).any():
            continue
        differences[name] = bootstrap_interval(change).as_json()
        good, before = (side.values(name, partial(goodness, METRICS[name].better)) for side in (system, base))
        p = sign_flip_test(good - before)
        if p is not None:
            p_values[name] = p
        spread = float(np.nanstd(before)) or 1.0
        standardised[name] = bootstrap_interval((good - before) / spread).as_json()
    return {
        "win_rate": {axis: _win_rate(together, axis).as_json() for axis in axes},
        "overall_of_runs": [_win_rate(run, "overall").as_json() for run in by_run],
        "difference": differences,
        "p_value_holm": holm(p_values),
        "standardised": standardised,
    }


def _win_rate(scores: list[list[dict[str, tuple[float, float]]]], axis: str) -> Interval:
    """Of the scores of both sides, several of each clip; where an axis is not known it does not count."""
    outcomes = [[_outcome(*score[axis]) for score in of_clip if _known(score[axis])] for of_clip in scores]
    return rated_wins(outcomes).win_rate


def _outcome(a: float, b: float) -> float:
    return 0.5 if abs(a - b) <= TIE_MARGIN else float(a > b)


def _known(pair: tuple[float, float]) -> bool:
    return all(math.isfinite(value) for value in pair)
