"""`compare_reports`: systems that were measured one by one, set side by side clip by clip.

    NAME=report.json ... (`hallo4 evaluate world`, the same episodes)
        --rows by clip--> win rates, differences: JSON, a table, a picture

Several reports under one name are runs of one recipe, with other seeds of training, say. A clip then has one
outcome per run; runs of a clip resemble each other, so clips are resampled, never runs.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from hallo4.errors import InputError, OutputError
from hallo4.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    holm,
    interval_text,
    rated_wins,
    sign_flip_test,
    win_rate,
)
from hallo4.evaluation.world_metrics import AXES, METRICS, TIE_MARGIN, axis_scores

SAME = ("episodes", "seed")
SAME_SETTINGS = ("seconds", "size_px", "observer")
SCORED = frozenset(name for parts in AXES.values() for name in parts)
"""Metrics that decide who wins a clip, and that machine scores are made of; all others never saw training."""

Rows = list[Mapping[str, Any]]


@dataclass(frozen=True)
class System:
    """What is compared: a name and the rows of each of its runs, clips in one order."""

    name: str
    runs: list[Rows]

    def values(self, metric: str) -> list[float]:
        """Of every clip, the mean over the runs that have the metric; NaN where none has."""
        table = np.array(
            [[math.nan if row["model"].get(metric) is None else row["model"][metric] for row in run]
             for run in self.runs], dtype=np.float64,
        )  # fmt: skip
        known = np.isfinite(table)
        total = np.where(known, table, 0.0).sum(axis=0)
        return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), math.nan).tolist()


def compare_reports(
    reports: Sequence[str | os.PathLike[str]], against: str | None = None, out: str | Path | None = None
) -> dict[str, Any]:
    """Compare systems with the one called `against` (None: the first); returns the comparison.

    `reports`: NAME=PATH, or a path, whose name is then that of the model in it. For every system: metrics
    with 95 % intervals over clips; for every other than `against` also win rates per axis, each run's own
    overall win rate, paired differences and their sign-flip p values (adjusted over metrics after Holm).
    `unscored` names the metrics that no win rate and no machine score is made of. With `out` it is written as
    JSON, with a picture beside it.

    InputError: a file that is no such report, or other episodes than the first. OutputError: `out` cannot
    be written.
    """
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
    return comparison if out is None else _write(comparison, Path(out))


def comparison_table(comparison: Mapping[str, Any]) -> Table:
    """The figures for a terminal: metrics of every system, then win rates against the base."""
    base = comparison["against"]
    title = f"{comparison['clips']} unseen episodes; win rates against {base}"
    table = Table(title=title, caption="mean [95 % interval over clips]", title_justify="left")
    table.add_column("")
    for name, runs in comparison["runs"].items():
        table.add_column(name if runs == 1 else f"{name} ({runs} runs)", justify="right")
    for metric in comparison["metrics"][base]:
        cells = [interval_text(of[metric]) for of in comparison["metrics"].values()]
        mark = "" if metric in SCORED else " (unscored)"
        table.add_row(metric + mark, *cells)
    for axis in ("overall", *AXES):
        rates = [
            "" if name == base else interval_text(comparison["compared"][name]["win_rate"][axis])
            for name in comparison["runs"]
        ]
        table.add_row(f"win rate, {axis}", *rates)
    return table


def draw_comparison(comparison: Mapping[str, Any], path: Path) -> None:
    """Win rates with intervals and the runs' own as dots, and differences in units of their spread.

    ImportError without matplotlib.
    """
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(13, 6.5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
    axes, compared = ("overall", *AXES), comparison["compared"]
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
        standard = [(metric, found["standardised"][metric]) for metric in found["standardised"]]
        for row, (_, effect) in enumerate(standard):
            right.plot(effect["mean"], row + place * shift, "o", color=f"C{place}")
            if effect["low"] is not None:
                right.plot([effect["low"], effect["high"]], [row + place * shift] * 2, color=f"C{place}")
    left.axvline(0.5, color="grey", linewidth=1)
    left.set(title=f"share of clips won against {comparison['against']}", xlim=(0, 1))
    left.set_yticks(np.arange(len(axes)) + 0.4 - shift / 2, axes)
    left.invert_yaxis()
    left.legend(loc="lower right")
    metrics = list(next(iter(compared.values()))["standardised"])
    labels = [metric if metric in SCORED else f"{metric} *" for metric in metrics]
    right.axvline(0.0, color="grey", linewidth=1)
    right.set(title="gain, in standard deviations of a clip (* never part of a score)")
    right.set_yticks(np.arange(len(metrics)) + 0.4 - shift / 2, labels, fontsize=8)
    right.invert_yaxis()
    for panel in (left, right):
        panel.grid(alpha=0.3, axis="x")
    figure.savefig(path, dpi=80)


# ---------------------------------------------------------------------- reading


def _systems(reports: Sequence[str]) -> list[System]:
    """Systems in the order of their first report."""
    found: dict[str, list[dict[str, Any]]] = {}
    first: dict[str, Any] | None = None
    for text in reports:
        name, separator, path = text.rpartition("=")
        report = _read(Path(path if separator else text))
        first = first or report
        _check_alike(first, report, text)
        found.setdefault(name or str(report["model"]), []).append(report)
    return [
        System(name, [sorted(report["rows"], key=lambda row: row["clip"]) for report in runs])
        for name, runs in found.items()
    ]


def _read(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        wanted = {*SAME, "model", "settings", "rows", "metrics"}
        if not isinstance(report, dict) or not wanted <= report.keys() or not report["rows"]:
            raise ValueError("it has no rows of episodes")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: is no report of `hallo4 evaluate world` ({error}). Give the JSON file that it wrote."
        ) from error
    return report


def _check_alike(first: Mapping[str, Any], report: Mapping[str, Any], text: str) -> None:
    pairs = [(name, first[name], report[name]) for name in SAME]
    pairs += [(n, first["settings"].get(n), report["settings"].get(n)) for n in SAME_SETTINGS]
    clips = [sorted(row["episode_seed"] for row in one["rows"]) for one in (first, report)]
    pairs.append(("the episodes", "those", "others" if clips[0] != clips[1] else "those"))
    for name, wanted, found in pairs:
        if wanted != found:
            raise InputError(
                f"{text}: {name} is {found!r}, of the first report {wanted!r}; clips must be the same. "
                "Measure both with the same --episodes, --seed and --seconds."
            )


# ---------------------------------------------------------------------- comparing


def _metrics(system: System) -> dict[str, Any]:
    names = [name for name in METRICS if any(name in row["model"] for run in system.runs for row in run)]
    return {name: bootstrap_interval(system.values(name)).as_json() for name in names}


def _compared(system: System, base: System) -> dict[str, Any]:
    """`system` against `base`, clip by clip, over all pairs of their runs."""
    axes = ("overall", *AXES)
    outcomes: dict[str, list[list[float]]] = {axis: [] for axis in axes}
    clips = range(len(base.runs[0]))
    for clip in clips:
        scores = [axis_scores(a[clip]["model"], b[clip]["model"]) for a in system.runs for b in base.runs]
        for axis in axes:
            outcomes[axis].append([_outcome(*score[axis]) for score in scores if _known(score[axis])])
    own = []
    for run in system.runs:
        scores = [axis_scores(run[clip]["model"], base.runs[0][clip]["model"])["overall"] for clip in clips]
        own.append(win_rate([a for a, _ in scores], [b for _, b in scores], TIE_MARGIN).as_json())
    differences, p_values, standardised = {}, {}, {}
    for name in METRICS:
        values, before = np.array(system.values(name)), np.array(base.values(name))
        change = values - before
        if not np.isfinite(change).any():
            continue
        differences[name] = bootstrap_interval(change).as_json()
        p = sign_flip_test(change)
        if p is not None:
            p_values[name] = p
        standardised[name] = _gain(name, values, before)
    return {
        "win_rate": {axis: _rate(outcomes[axis]).as_json() for axis in axes},
        "overall_of_runs": own,
        "difference": differences,
        "p_value_holm": holm(p_values),
        "standardised": standardised,
    }


def _rate(outcomes: list[list[float]]) -> Interval:
    return rated_wins(outcomes).win_rate


def _outcome(a: float, b: float) -> float:
    return 0.5 if abs(a - b) <= TIE_MARGIN else float(a > b)


def _known(pair: tuple[float, float]) -> bool:
    return all(math.isfinite(value) for value in pair)


def _gain(name: str, values: np.ndarray, before: np.ndarray) -> dict[str, float | int | None]:
    """How much better, in standard deviations of the base over clips; above 0 is better for every metric."""
    better = METRICS[name].better
    badness = {
        "higher": lambda x: -x,
        "lower": lambda x: x,
        "near 0": np.abs,
        "near 1": lambda x: np.abs(np.log(np.maximum(x, 1e-6))),
    }[better]
    spread = float(np.nanstd(badness(before))) or 1.0
    return bootstrap_interval((badness(before) - badness(values)) / spread).as_json()


def _write(comparison: dict[str, Any], out: Path) -> dict[str, Any]:
    try:
        try:
            draw_comparison(comparison, out.with_suffix(".png"))
        except ImportError:
            comparison["notes"] = ["No picture: matplotlib is missing (pip install 'hallo4[evaluate]')."]
        part = out.with_name(out.name + ".part")
        part.write_text(json.dumps(comparison, indent=1, allow_nan=False) + "\n")
        os.replace(part, out)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}). Choose another path.") from error
    return comparison
