"""What rows of videos say of a system: its values, and the scores by which systems compare."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hallo4.evaluation.video_files import REFERENCE
from hallo4.evaluation.video_metrics import VIDEO_METRICS

Rows = Sequence[Mapping[str, Any]]


def values_of(row: Mapping[str, Any], side: str) -> Mapping[str, float | None]:
    """Metric -> value of a system or the reference in a row; none where its video was not measured."""
    entry = row[REFERENCE] if side == REFERENCE else row["systems"].get(side, {})
    return entry.get("values", {})


def clip_scores(rows: Rows, system: str, name: str) -> dict[str, float]:
    """Clip -> score of a metric, in which more is better; clips without a value are left out, and those
    whose reference has none where the metric compares with it.
    """
    found = {}
    for row in rows:
        value, own = (values_of(row, side).get(name) for side in (system, REFERENCE))
        score = math.nan if value is None else VIDEO_METRICS[name].score(value, own)
        if not math.isnan(score):
            found[row["clip"]] = score
    return found


def has_goal(name: str) -> bool:
    """Whether good values of a metric lie near a number or the reference's, so that the sign of a difference
    does not tell which side is better.
    """
    return VIDEO_METRICS[name].better not in ("higher", "lower")
