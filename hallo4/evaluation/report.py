"""Rows -> the report: one JSON object, a table for the terminal, a picture."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from rich.markup import escape
from rich.table import Table

from hallo4.evaluation.goals import goodness
from hallo4.evaluation.statistics import (
    Interval,
    holm,
    interval_text,
    paired_difference,
    sign_flip_test,
    win_rate,
)
from hallo4.evaluation.world_metrics import METRICS, TIE_MARGIN, axis_scores, metric_interval
from hallo4.version import __version__

GATE_DEFINITIONS = {
    "skeleton_psnr_db": ("PSNR of single skeleton drawings through the autoencoder", "dB", "higher"),
    "skeleton_ssim": ("SSIM of single skeleton drawings through the autoencoder", "-1..1", "higher"),
}
PROTOCOL = (
    "whole clips of unseen people at 25 fps, generated from portrait, sound and skeleton; mouth, eyes and "
    "joints as the embedded instrument sees them, against what the renderer knows; clips without a value "
    "left out"
)
_PICTURED = (
    *("lip_sync_correlation", "lip_sync_lag_frames", "mouth_closed_in_silence", "joint_error_fraction"),
    *("blink_correlation", "brow_correlation", "ssim", "psnr_db"),
)


def build_report(settings: dict[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The report of `rows` (one a clip, see `world.judge_clip`), ready for JSON.

    `metrics` (and with a second model `against_metrics`, `difference` = model - against, `win_rate`) and
    `instrument` hold {"mean", "low", "high", "n"} each: 95 % intervals over clips. `undefined` counts the
    clips in which a metric does not exist; they are in no mean. `p_value`: of how much nearer to good values
    the model is than the second, by sign flips; `p_holm`: adjusted for the number of metrics.
    """
    paired = settings["against"] is not None
    own = _columns(rows, "model")
    other = _columns(rows, "against") if paired else {}
    sections: dict[str, dict[str, Interval]] = {
        "metrics": {name: metric_interval(name, values) for name, values in own.items()},
        "instrument": {
            name: metric_interval(name, values) for name, values in _columns(rows, "instrument").items()
        },
    }
    if paired:
        shared = [name for name in own if name in other]
        sections["against_metrics"] = {name: metric_interval(name, values) for name, values in other.items()}
        sections["difference"] = {name: paired_difference(own[name], other[name]) for name in shared}
        sections["win_rate"] = _win_rates(rows)
    identity = {key: settings[key] for key in ("model", "against", "episodes", "seed")}
    report: dict[str, Any] = dict(identity)
    for section, intervals in sections.items():
        report[section] = {name: interval.as_json() for name, interval in intervals.items()}
    report["undefined"] = {
        section: {name: interval.undefined for name, interval in intervals.items() if interval.undefined}
        for section, intervals in sections.items()
    }
    if paired:
        report["p_value"] = _p_values(own, other)
        report["p_holm"] = holm(report["p_value"])
    report["settings"] = {key: value for key, value in settings.items() if key not in identity}
    report["settings"]["version"] = __version__
    report["definitions"] = _definitions(own)
    report["notes"] = _notes(settings, sections)
    report["rows"] = list(rows)
    return report


def report_table(report: dict[str, Any]) -> Table:
    """The figures of a report for a terminal: mean [95 % interval] of every metric, the instrument's own
    beside it."""
    title = escape(f"{report['model']}: {report['episodes']} unseen episodes, seed {report['seed']}")
    table = Table(title=title, caption="mean [95 % interval]", title_justify="left")
    table.add_column("metric", overflow="fold")
    table.add_column("is", style="dim", overflow="fold")
    table.add_column(escape(report["model"]), justify="right", overflow="fold")
    sections = ["metrics"]
    if report["against"] is not None:
        table.add_column(escape(report["against"]), justify="right", overflow="fold")
        table.add_column("difference", justify="right", overflow="fold")
        sections += ["against_metrics", "difference"]
    table.add_column("instrument on truth", justify="right", style="dim", overflow="fold")
    for name in report["metrics"]:
        unit, better = report["definitions"][name]["unit"], report["definitions"][name]["better"]
        cells = [interval_text(report[section].get(name)) for section in sections]
        table.add_row(name, f"{better}, {unit}", *cells, interval_text(report["instrument"].get(name)))
    for axis, rate in report.get("win_rate", {}).items():
        table.add_row(f"win rate, {axis}", "above 0.5, share of clips", interval_text(rate), "", "", "")
    return table


def draw_report(report: dict[str, Any], picture: BinaryIO) -> None:
    """A picture: the clips' values of eight metrics, and true and measured mouth opening of the median clip.

    ImportError without matplotlib.
    """
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(14, 8), layout="constrained")
    grid = figure.add_gridspec(3, 4, height_ratios=(1, 1, 1.1))
    sides = ["model"] + (["against"] if report["against"] is not None else [])
    for place, name in enumerate(_PICTURED):
        axes = figure.add_subplot(grid[place // 4, place % 4])
        for x, side in enumerate(sides):
            values = [row[side][name] for row in report["rows"] if row[side].get(name) is not None]
            spread = [x + 0.25 * (((7 * i) % 11) / 10 - 0.5) for i in range(len(values))]
            axes.plot(spread, values, "o", markersize=4, alpha=0.6)
            if values:
                axes.hlines(statistics.fmean(values), x - 0.3, x + 0.3, colors="black")
        axes.set_xticks(range(len(sides)), [str(report[side]) for side in sides])
        axes.set(title=name, xlim=(-0.5, len(sides) - 0.5))
        axes.title.set_fontsize(10)
        axes.grid(alpha=0.3, axis="y")
    _draw_example(figure.add_subplot(grid[2, :]), report, sides)
    figure.savefig(picture, format="png", dpi=80)


def _draw_example(axes: Any, report: dict[str, Any], sides: list[str]) -> None:
    row = _median_row(report["rows"])
    seconds = [t / 25 for t in range(row["frames"])]
    axes.plot(seconds, row["curves"]["true"], color="black", linewidth=2, label="true")
    axes.plot(seconds, row["curves"]["instrument"], ":", color="grey", label="instrument on the truth")
    for side in sides:
        axes.plot(seconds, row["curves"][side], label=f"measured, {report[side]}")
    axes.set(
        title=f"mouth opening in the clip of median lip sync (episode {row['episode_seed']})",
        xlabel="seconds",
        ylim=(-0.02, 1.02),
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right", fontsize=8)


def _median_row(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    ranked = [row for row in rows if row["model"]["lip_sync_correlation"] is not None]
    ranked.sort(key=lambda row: row["model"]["lip_sync_correlation"])
    return ranked[len(ranked) // 2] if ranked else rows[0]


def _columns(rows: Sequence[dict[str, Any]], side: str) -> dict[str, list[float | None]]:
    return {name: [row[side][name] for row in rows] for name in rows[0][side]}


def _win_rates(rows: Sequence[dict[str, Any]]) -> dict[str, Interval]:
    scores = [axis_scores(row["model"], row["against"]) for row in rows]
    return {
        axis: win_rate([s[axis][0] for s in scores], [s[axis][1] for s in scores], TIE_MARGIN)
        for axis in scores[0]
    }


def _p_values(own: dict[str, list[float | None]], other: dict[str, list[float | None]]) -> dict[str, float]:
    found = {}
    for name, metric in METRICS.items():
        if name in own and name in other:
            ours, theirs = (goodness(metric.better, np.array(side[name], float)) for side in (own, other))
            p = sign_flip_test(ours - theirs)
            if p is not None:
                found[name] = p
    return found


def _definitions(names: Sequence[str] | dict[str, Any]) -> dict[str, dict[str, str]]:
    known = {name: (m.definition, m.unit, m.better) for name, m in METRICS.items()} | GATE_DEFINITIONS
    return {
        name: dict(zip(("definition", "unit", "better"), known[name], strict=True))
        | {"source": "hallo4, of the portrait world", "protocol": PROTOCOL}
        for name in names
    }


def _notes(settings: dict[str, Any], sections: dict[str, dict[str, Interval]]) -> list[str]:
    notes = [
        "Intervals: 95 %, percentile bootstrap over clips, wider for few clips; win rates: Wilson, ties "
        "count half.",
        "Mouth, eyes and joints are measured by a trained instrument; `instrument` is what it says of the "
        "rendered truth of the same episodes.",
    ]
    if settings["episodes"] == 1:
        notes.append("One episode: there is no interval (low and high are null).")
    for name, interval in sections["metrics"].items():
        if interval.undefined:
            notes.append(
                f"{name} is not defined in {interval.undefined} of {interval.undefined + interval.n} clips."
            )
    return notes
