"""Rows of videos -> the report: one JSON object, a table for the terminal, and the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from hallo4.evaluation.goals import value_range
from hallo4.evaluation.report_files import write_json, write_text
from hallo4.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    holm,
    interval_text,
    paired_difference,
    sign_flip_test,
    win_rate,
)
from hallo4.evaluation.video_files import REFERENCE, ClipFiles, System
from hallo4.evaluation.video_metrics import VIDEO_METRICS, axis_outcomes
from hallo4.evaluation.video_scores import Rows, clip_scores, has_goal, values_of
from hallo4.evaluation.video_sets import SET_METRICS, set_value
from hallo4.version import __version__

FeatureTree = Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]
"""clip -> side -> feature -> [n, D]."""


def build_report(
    systems: Sequence[System],
    references: Path,
    rows: Rows,
    features: FeatureTree,
    problems: Sequence[dict[str, str]],
    not_measured: Sequence[str],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """The report, ready for JSON.

    `metrics`, `sets`, `undefined`: system -> name -> value; `reference_values`: what metrics that judge one
    video alone say of the references. `unmeasured`: system, and reference -> clips whose video is missing or
    cannot be read, which are not among the undefined. `keypoints_from`, `identity_against`: system, and
    reference -> where its keypoints come from, and what its faces are compared with -> in how many clips.
    `pairs`: of every two systems, differences a - b over
    the clips both have, how much nearer to its goal `a` is where a metric has one (`goal_difference`), p
    values by sign flips (`p_holm`: adjusted for the number of metrics), and win rates. Intervals are null
    where clips do not allow any.
    """
    names = [system.name for system in systems]
    columns = {name: _columns(rows, name) for name in names}
    own = _columns(rows, REFERENCE)
    intervals = {n: {m: _interval(m, v) for m, v in columns[n].items()} for n in names}
    measured = {metric for name in names for metric, i in intervals[name].items() if i.n}
    sets = {name: _sets(features, name) for name in names}
    report: dict[str, Any] = {
        "kind": "videos",
        "references": str(references),
        "systems": {system.name: str(system.folder) for system in systems},
        "clips": len(rows),
        "metrics": {n: {m: i.as_json() for m, i in intervals[n].items() if m in measured} for n in names},
        "undefined": {n: {m: i.undefined for m, i in intervals[n].items() if i.undefined} for n in names},
        "unmeasured": {side: sum(not values_of(row, side) for row in rows) for side in (*names, REFERENCE)},
        "reference_values": {m: _interval(m, own[m]).as_json() for m in own if m in measured},
        "keypoints_from": {side: _counted(rows, side, "keypoints") for side in (*names, REFERENCE)},
        "identity_against": {side: _counted(rows, side, "identity_against") for side in (*names, REFERENCE)},
        "sets": sets,
        "pairs": [_pair(rows, a, b, measured) for a, b in combinations(names, 2)],
        "problems": [*problems, *_problems(rows), *_set_problems(sets)],
        "not_measured": list(not_measured),
        "settings": {**settings, "version": __version__},
        "definitions": _definitions(measured),
        "rows": [_without_features(row) for row in rows],
    }
    report["notes"] = _notes(report, rows)
    return report


def write_report(
    report: dict[str, Any], out: Path, clips: Sequence[ClipFiles], players: int
) -> dict[str, Any]:
    """Write `out` (JSON) and `out` with the suffix .html in one stroke each; returns the report.

    OutputError: one cannot be written.
    """
    from hallo4.evaluation.report_page import report_page

    write_json(report, out)
    write_text(out.with_suffix(".html"), report_page(report, clips, players))
    return report


def videos_table(report: Mapping[str, Any]) -> Table:
    """The figures for a terminal: mean [95 % interval] of every metric and system, with the number of clips
    where these are not all; the reference's own beside them.
    """
    clips = report["clips"]
    table = Table(
        title=escape(f"{clips} clips against {report['references']}"),
        caption="mean [95 % interval over clips], (n=clips with a value) where these are not all",
        title_justify="left",
    )
    table.add_column("metric", overflow="fold")
    table.add_column("good is", style="dim", overflow="fold")
    for system in report["systems"]:
        table.add_column(escape(_heading(system, report)), justify="right", overflow="fold")
    table.add_column(_heading(REFERENCE, report), justify="right", style="dim", overflow="fold")
    for name in report["definitions"]:
        definition = report["definitions"][name]
        values = [report["metrics"][s].get(name) or report["sets"][s].get(name) for s in report["systems"]]
        own = report["reference_values"].get(name)
        cells = [_text(value, clips) for value in values]
        table.add_row(escape(name), definition["better"], *cells, _text(own, clips) if own else "")
    for pair in report["pairs"]:
        for axis, rate in pair["win_rate"].items():
            label = f"{pair['a']} wins against {pair['b']}, {axis}"
            table.add_row(escape(label), "above 0.5", _text(rate, clips), *[""] * len(report["systems"]))
    return table


def _heading(side: str, report: Mapping[str, Any]) -> str:
    missing = report["unmeasured"][side]
    return f"{side} ({report['clips'] - missing} of {report['clips']} clips)" if missing else side


def _text(interval: Mapping[str, Any] | None, clips: int) -> str:
    """`interval_text`, with the number of clips where these are not all; `failed` for a set without value."""
    if interval is not None and interval.get("problem"):
        return "failed"
    text = interval_text(interval)
    if interval is None or interval["low"] is None or interval["n"] >= clips:
        return text
    return f"{text} (n={interval['n']})"


# ---------------------------------------------------------------------- parts of the report


def _interval(name: str, values: Sequence[float | None]) -> Interval:
    metric = VIDEO_METRICS[name]
    return bootstrap_interval(values).within(*value_range(metric.unit, metric.better))


def _columns(rows: Rows, side: str) -> dict[str, list[float | None]]:
    """Metric -> one value per clip that was measured; None where the metric is not defined for it."""
    names = [name for name, metric in VIDEO_METRICS.items() if side != REFERENCE or metric.alone]
    measured = [row for row in rows if values_of(row, side)]
    return {name: [values_of(row, side).get(name) for row in measured] for name in names}


def _sets(features: FeatureTree, system: str) -> dict[str, Any]:
    found = {}
    for name, metric in SET_METRICS.items():
        video, reference = (
            {
                c: sides[side][metric.feature]
                for c, sides in features.items()
                if metric.feature in sides.get(side, {})
            }
            for side in (system, REFERENCE)
        )
        value = set_value(metric, video, reference)
        if value is not None:
            found[name] = value.as_json()
    return found


def _pair(rows: Rows, a: str, b: str, measured: set[str]) -> dict[str, Any]:
    """Two systems over the clips that both have.

    p values test differences of scores. Where a metric has a goal, a score is the distance to it, not the
    value, so these differences are given too.
    """
    both = [row for row in rows if values_of(row, a) and values_of(row, b)]
    difference, goal_difference, p_value = {}, {}, {}
    for name in VIDEO_METRICS:
        if name not in measured:
            continue
        sides = [[values_of(row, side).get(name) for row in both] for side in (a, b)]
        interval = paired_difference(*sides)
        if interval.n == 0:
            continue
        difference[name] = interval.as_json()
        scores = _score_differences(name, both, a, b)
        if has_goal(name) and scores:
            goal_difference[name] = bootstrap_interval(scores).as_json()
        p = sign_flip_test(scores)
        if p is not None and VIDEO_METRICS[name].axis is not None:
            p_value[name] = p
    outcomes = [axis_outcomes(values_of(r, a), values_of(r, b), values_of(r, REFERENCE)) for r in both]
    axes = sorted(
        {axis for outcome in outcomes for axis in outcome}, key=lambda axis: (axis != "overall", axis)
    )
    rates = {
        axis: win_rate([o.get(axis, math.nan) for o in outcomes], [0.5] * len(outcomes)) for axis in axes
    }
    return {
        "a": a,
        "b": b,
        "clips": len(both),
        "difference": difference,
        "goal_difference": goal_difference,
        "p_value": p_value,
        "p_holm": holm(p_value),
        "win_rate": {axis: rate.as_json() for axis, rate in rates.items()},
    }


def _score_differences(name: str, rows: Rows, a: str, b: str) -> list[float]:
    ours, theirs = (clip_scores(rows, side, name) for side in (a, b))
    differences = [score - theirs[clip] for clip, score in ours.items() if clip in theirs]
    return [value for value in differences if math.isfinite(value)]


def _problems(rows: Rows) -> list[dict[str, str]]:
    found = []
    for row in rows:
        for side, entry in ((REFERENCE, row[REFERENCE]), *row["systems"].items()):
            if "problem" in entry:
                found.append({"clip": row["clip"], "system": side, "what": entry["problem"]})
    return found


def _set_problems(sets: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    return [
        {"clip": name, "system": system, "what": f"no value of the whole set: {value['problem']}"}
        for system, values in sets.items()
        for name, value in values.items()
        if value["problem"]
    ]


def _definitions(measured: set[str]) -> dict[str, dict[str, str]]:
    keys = ("definition", "unit", "better", "source", "protocol")
    clips = {n: {k: getattr(m, k) for k in keys} for n, m in VIDEO_METRICS.items() if n in measured}
    return clips | {n: {k: getattr(m, k) for k in keys} for n, m in SET_METRICS.items()}


def _notes(report: dict[str, Any], rows: Rows) -> list[str]:
    used = {name for sets in report["sets"].values() for name in sets}
    report["definitions"] = {
        n: d for n, d in report["definitions"].items() if n not in SET_METRICS or n in used
    }
    notes = [
        "Intervals: 95 %, percentile bootstrap over clips, wider for few; of sets: jackknife over clips; win "
        "rates: Wilson, ties count half. p values: sign flips over clips, adjusted for the number of metrics "
        "(Holm).",
    ]
    for side in (*report["systems"], REFERENCE):
        notes += [
            f"{side}: {what}: " + ", ".join(f"{name} ({count} clips)" for name, count in counts.items())
            for what, counts in (
                ("keypoints from", report["keypoints_from"][side]),
                ("identity against", report["identity_against"][side]),
            )
            if counts
        ]
    counts = [i["n"] for metrics in report["metrics"].values() for i in metrics.values()]
    if counts and max(counts) == 1:
        notes.append("One clip: there are no intervals and no tests (null), whatever the values.")
    elif counts and max(counts) < 6 and report["pairs"]:
        notes.append("Fewer than six clips: no paired test can reach p = 0.05.")
    for row in rows:
        for system, entry in row["systems"].items():
            notes += [f"{system}, {row['clip']}: {note}" for note in entry.get("notes", [])]
        notes += [f"reference, {row['clip']}: {note}" for note in row[REFERENCE].get("notes", [])]
    return notes


def _counted(rows: Rows, side: str, fact: str) -> dict[str, int]:
    """Where the keypoints of a side come from, or what its faces are compared with -> in how many clips."""
    entries = [row[REFERENCE] if side == REFERENCE else row["systems"].get(side, {}) for row in rows]
    found = [entry[fact] for entry in entries if entry.get(fact)]
    kinds = ["portrait" if word.startswith("portrait ") else word for word in found]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def _without_features(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "stamp"}
