"""`compare_reports`: one report of several, clip by clip.

    NAME=report.json ... (`hallo4 evaluate world` or `videos`, the same clips)
        --rows by clip--> means, wins, differences: JSON and a page

Several reports under one name are runs of one recipe, with other seeds of training, say. A clip then has one
outcome per run; runs of a clip resemble each other, so clips are resampled, never runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hallo4.errors import InputError
from hallo4.evaluation.metric import Metrics
from hallo4.evaluation.report import (
    INTERVALS,
    REFERENCE,
    SCHEMA,
    Row,
    require_writable,
    summary,
    write_report,
)
from hallo4.evaluation.run import split_name
from hallo4.evaluation.show.page import page
from hallo4.evaluation.stored import Measured, as_run, read_report
from hallo4.evaluation.suites.video_metrics import VIDEO_METRICS
from hallo4.evaluation.suites.world_metrics import METRICS
from hallo4.outputs import refuse_output
from hallo4.version import __version__
from hallo4.world.look import named_world

_TABLES: dict[str, Metrics] = {"world": METRICS, "videos": VIDEO_METRICS}
_SAME_SETTINGS = {"world": None, "seconds": None, "size_px": None, "framing": None, "tempo": 1.0}
"""With what a report without it means: those of version 0.1 know no tempo."""
_OBSERVER = "observer_weights"
"""A hash of the instrument's weights; a report that has none was made by one that is not known."""


def compare_reports(
    reports: Sequence[str | os.PathLike[str]], against: str | None = None, out: str | Path | None = None
) -> dict[str, Any]:
    """Compare systems with the one called `against` (None: the first); returns the comparison.

    `reports`: NAME=PATH, or a path, whose systems then keep their names. Besides what a `summary` has:
    `compared`, name -> its pair with `against`; `runs`, how many reports a name has; `unscored`, the metrics
    that count towards no win and, of the world, no machine score. With `out` it is written as JSON, with a
    page beside it.

    InputError: a file that is no such report, or other clips than the first. OutputError: `out` cannot be
    written.
    """
    if out is not None:
        refuse_output(out, [split_name(report)[1] for report in reports])
        require_writable(Path(out))
    kind, rows, runs = _together([os.fspath(report) for report in reports])
    if against is not None and against not in runs:
        raise InputError(f"--against {against}: no report has that name; there are {', '.join(runs)}.")
    if len(runs) < 2:
        raise InputError("there is one system only; give at least two, as in SFT=a.json DPO=b.json.")
    metrics, base = _TABLES[kind], against or next(iter(runs))
    pairs = [(name, base) for name in runs if name != base]
    found = summary(metrics, rows, list(runs), pairs, only_measured=kind == "videos")
    comparison = {
        "schema": SCHEMA,
        "kind": "comparison",
        "against": base,
        "runs": runs,
        **{key: value for key, value in found.items() if key != "pairs"},
        "compared": {pair["a"]: pair for pair in found["pairs"]},
        "unscored": [name for name in found["definitions"] if metrics[name].axis is None],
        "notes": [INTERVALS, *(f"{name}: {count} runs" for name, count in runs.items() if count > 1)],
        "settings": {"version": __version__},
    }
    if out is not None:
        said = {"notes": comparison["notes"], "version": __version__}
        lead = f"{found['clips']} clips; each system against {base}."
        write_report(comparison, Path(out), page("Comparison of reports", lead, {**found, **said}, rows))
    return comparison


def _together(reports: Sequence[str]) -> tuple[str, list[Row], dict[str, int]]:
    """The kind of all reports, their rows under the names of systems, and how many runs each has."""
    first: Measured | None = None
    rows: list[Row] = []
    runs: dict[str, int] = {}
    for text in reports:
        given, path = split_name(text)
        report = read_report(Path(path))
        if first is None:
            first = report
            rows += [row for row in report.rows if row.system == REFERENCE]
        _check_alike(first, report, text)
        for system in dict.fromkeys(row.system for row in report.rows if row.system != REFERENCE):
            name = given or system
            if given is not None and len({row.system for row in report.rows} - {REFERENCE}) > 1:
                name = f"{given} {system}"
            rows += as_run(report.rows, name, system, runs.get(name, 0))
            runs[name] = runs.get(name, 0) + 1
    assert first is not None
    return first.kind, rows, runs


def _check_alike(first: Measured, report: Measured, text: str) -> None:
    pairs: list[tuple[str, Any, Any]] = [("the kind of report", first.kind, report.kind)]
    if first.kind == report.kind == "world":
        pairs += [(name, first.said[name], report.said[name]) for name in ("episodes", "seed")]
        settings = [named_world(one.said["settings"]) for one in (first, report)]
        for name, default in _SAME_SETTINGS.items():
            pairs.append((name, *(one.get(name, default) for one in settings)))
        # What an observer is called says less than a hash of its weights.
        hashed = all(_OBSERVER in one for one in settings)
        observer = _OBSERVER if hashed else "observer"
        pairs.append((observer, *(one.get(observer) for one in settings)))
    same = _clips(first) == _clips(report)
    pairs.append(
        ("the episodes" if first.kind == "world" else "the clips", "those", "those" if same else "others")
    )
    for name, wanted, found in pairs:
        if wanted != found:
            raise InputError(
                f"{text}: {name} is {found!r}, of the first report {wanted!r}; clips and instrument must be "
                "the same. Measure both by one version of hallo4 with the same --episodes, --seed, "
                "--seconds and --observer, or on the same files."
            )


def _clips(report: Measured) -> set[Any]:
    own: Mapping[str, Row] = {row.clip: row for row in report.rows if row.system != REFERENCE}
    return {(clip, row.facts.get("episode_seed")) for clip, row in own.items()}
