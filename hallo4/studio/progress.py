"""How far the rating is and how well it goes: what the organiser's page shows, and what it hands out.

::

    tasks + plan ----> how much is done, by whom, how fast          (live)
    store.ratings() -> agreement, known answers, repeats, sides     (sealed answers)

Only flags and problems name clips: an organiser may rate as well, and the page folds these away.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from hallo4.evaluation.statistics import Interval
from hallo4.preference.agreement import RaterReport, alpha_interval, left_share, rater_reports
from hallo4.preference.answers import latest_answers, votes
from hallo4.preference.schema import AXES, Rating
from hallo4.preference.store import PreferenceStore
from hallo4.studio.assign import Plan, Question
from hallo4.studio.state import Task

EXPORTS = {"ratings.jsonl": "application/jsonl"}
"""Files that the organiser's page hands out, with their types."""

PACE_WINDOW_MS = 10 * 60_000
TARGETS = {"alpha": 0.4, "gold": 0.8}
"""Below these (dpo.md 3.3) a set is not fit for training, a rater not for the set."""


def overview(
    plan: Plan,
    tasks: Mapping[str, Sequence[Task]],
    problems: Sequence[str],
    store: PreferenceStore,
    now_ms: int,
) -> dict[str, Any]:
    """Everything on the organiser's page, as plain values; unknown ones are None."""
    ratings = store.ratings()
    reports = {report.rater_id: report for report in rater_reports(ratings, store.gold())}
    return {
        "questions": coverage(plan, tasks),
        "axes": {axis: _axis(axis, ratings) for axis in AXES},
        "left": _plain(left_share(ratings)),
        "raters": [_rater(name, own, reports.get(name), now_ms) for name, own in sorted(tasks.items())],
        "flags": _flags(tasks),
        "targets": TARGETS,
        "problems": list(problems),
        "sealed": len(ratings),
    }


def coverage(plan: Plan, tasks: Mapping[str, Sequence[Task]]) -> dict[str, int]:
    """Of all answers wanted, and of the questions wanted from several raters, how many are there."""
    answered: dict[Question, int] = {}
    for task in (task for own in tasks.values() for task in own if task.answered):
        if task.given.role == "plain":
            answered[task.draw.question] = answered.get(task.draw.question, 0) + 1
    several = [question for question, wanted in plan.wanted.items() if wanted > 1]
    return {
        "all": len(plan.wanted),
        "begun": sum(question in answered for question in plan.wanted),
        "answers_wanted": sum(plan.wanted.values()),
        "answers": sum(min(answered.get(question, 0), wanted) for question, wanted in plan.wanted.items()),
        "overlapping": len(several),
        "overlap_full": sum(answered.get(question, 0) >= plan.wanted[question] for question in several),
        "gold": len(plan.gold),
    }


def _axis(axis: str, ratings: Sequence[Rating]) -> dict[str, Any]:
    """Agreement and how the answers are spread on one axis."""
    kinds = {"score", "comparison"}
    units = {kind: votes(ratings, kind, axis) for kind in kinds}
    kind = max(kinds, key=lambda kind: (len(units[kind]), kind))
    questions = list(units[kind])
    alpha = alpha_interval(
        [list(units[kind][question].values()) for question in questions],
        groups=[question.clips for question in questions],
    )
    own = [rating for rating in latest_answers(ratings) if rating.axis == axis]
    return {
        "alpha": _plain(alpha),
        "answers": len(own),
        "tie": _share([rating.value == "tie" for rating in own if rating.kind == "comparison"]),
        "cannot_judge": _share([not rating.judged for rating in own]),
    }


def _rater(name: str, tasks: Sequence[Task], report: RaterReport | None, now_ms: int) -> dict[str, Any]:
    done = [task.answered for task in tasks if task.answered]
    last_ms = max((answer.at_unix_ms for answer in done), default=None)
    return {
        "rater": name,
        "answered": len(done),
        "median_s": statistics.median(answer.shown_ms for answer in done) / 1000 if done else None,
        "last_10_min": sum(answer.at_unix_ms > now_ms - PACE_WINDOW_MS for answer in done),
        "idle_s": None if last_ms is None else max(0, now_ms - last_ms) / 1000,
        "gold": _plain(report.gold) if report else None,
        "consistency": _plain(report.consistency) if report else None,
        "left": _plain(report.left) if report else None,
        "kappa": report.kappa if report else None,
        "cannot_judge": report.cannot_judge if report else None,
    }


def _flags(tasks: Mapping[str, Sequence[Task]]) -> list[dict[str, Any]]:
    """Clips that somebody flagged, and how many did."""
    raters: dict[tuple[str, str], set[str]] = {}
    for task in (task for own in tasks.values() for task in own if task.answered):
        for clip, flags in zip(
            task.shown, (task.answered.flags_left, task.answered.flags_right), strict=False
        ):
            for flag in flags:
                raters.setdefault((clip, flag), set()).add(task.given.rater_id)
    return [{"clip": clip, "flag": flag, "raters": len(who)} for (clip, flag), who in sorted(raters.items())]


def _plain(interval: Interval) -> dict[str, Any]:
    return interval.as_json()


def _share(outcomes: Sequence[bool]) -> float | None:
    return sum(outcomes) / len(outcomes) if outcomes else None


def export(store: PreferenceStore, name: str) -> bytes:
    """The content of one of `EXPORTS`. InputError: it cannot be read."""
    return "".join(rating.to_json() + "\n" for rating in store.ratings()).encode()
