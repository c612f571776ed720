"""The figures of any report of the suites as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hallo4.evaluation.show.table import Grid, metrics_grid
from hallo4.evaluation.suites.drift import drift_grids
from hallo4.evaluation.suites.motion import motion_grids


def _world(report: Mapping[str, Any]) -> list[Grid]:
    model, second = report["model"], report["against"]
    names = [model] if second is None else [model, second if second != model else f"{second} (again)"]
    metrics = [report[key] for key in ("metrics", "against_metrics") if key in report]
    found = {
        "clips": report["episodes"],
        "metrics": dict(zip(names, metrics, strict=True)),
        "reference_values": report["instrument"],
        "definitions": report["definitions"],
        "unmeasured": {},
        "pairs": [{"a": names[0], "b": names[1], "win_rate": report["win_rate"]}]
        if second is not None
        else [],
    }
    return [metrics_grid(found, f"{model}: {report['episodes']} unseen episodes, seed {report['seed']}")]


def _videos(report: Mapping[str, Any]) -> list[Grid]:
    against = report["references"] or report["unpaired"]
    title = f"{report['clips']} clips" + (f" against {against}" if against else "")
    return [metrics_grid(report, title)]


def _comparison(report: Mapping[str, Any]) -> list[Grid]:
    found = {**report, "pairs": list(report["compared"].values())}
    return [metrics_grid(found, f"{report['clips']} clips; wins against {report['against']}")]


_TABLES: dict[str, Callable[[Mapping[str, Any]], list[Grid]]] = {
    "world": _world,
    "videos": _videos,
    "comparison": _comparison,
    "drift": drift_grids,
    "motion": motion_grids,
}


def tables_of(report: Mapping[str, Any]) -> list[Grid]:
    """The tables of a report of `hallo4 evaluate`."""
    return _TABLES[report["kind"]](report)
