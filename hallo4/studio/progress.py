"""How far the rating is and how well it goes: what the organiser's page shows.

::

    state + plan ----> how much is done, by whom, how fast          (live)
    store.ratings() -> agreement, known answers, repeats, sides     (sealed answers)

Only flags and problems name clips: an organiser may rate as well, and the page folds these away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hallo4.evaluation.statistics import Interval
from hallo4.preference.agreement import alpha_interval, left_share
from hallo4.preference.answers import counted, latest_answers, votes
from hallo4.preference.schema import Rating
from hallo4.preference.store import PreferenceStore
from hallo4.studio.assign import Plan, Question
from hallo4.studio.sheets import RaterRow, rater_rows
from hallo4.studio.state import State
from hallo4.studio.study import Study, in_language

PACE_WINDOW_MS = 10 * 60_000
TARGETS = {"alpha": 0.4, "gold": 0.8}
"""Below these (dpo.md 3.3) a set is not fit for training, a rater not for the set."""


def overview(
    plan: Plan, state: State, problems: Sequence[str], study: Study, store: PreferenceStore, now_ms: int
) -> dict[str, Any]:
    """Everything on the organiser's page, as plain values; unknown ones are None."""
    ratings = counted(store)
    titles = {q.name: in_language(q.title, study.languages[0]) for q in study.questions}
    rows = rater_rows(store, state)
    return {
        "questions": coverage(plan, state),
        "axes": {name: {"title": title, **_asked(name, ratings)} for name, title in titles.items()},
        "left": _plain(left_share(ratings)),
        "raters": [_rater(row, state, study, now_ms) for row in rows],
        "people": {
            "joined": len(state.joined),
            "allowed": study.quotas.raters,
            "ended": dict(Counter(ended.reason for ended in state.ended.values())),
            "languages": dict(Counter(joined.language for joined in state.joined.values())),
        },
        "flags": _flags(state),
        "unsafe": sorted(state.unsafe_clips),
        "targets": TARGETS,
        "problems": list(problems),
        "sealed": len(ratings),
    }


def coverage(plan: Plan, state: State) -> dict[str, int]:
    """Of all answers wanted, and of the questions wanted from several raters, how many are there."""
    answered: dict[Question, int] = {}
    for task in state.tasks.values():
        if task.answered and task.given.role == "plain":
            answered[task.question] = answered.get(task.question, 0) + 1
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


def _asked(name: str, ratings: Sequence[Rating]) -> dict[str, Any]:
    """Agreement and how the answers to one question are spread."""
    kinds = {"score", "comparison"}
    units = {kind: votes(ratings, kind, name) for kind in kinds}
    kind = max(kinds, key=lambda kind: (len(units[kind]), kind))
    questions = list(units[kind])
    alpha = alpha_interval(
        [list(units[kind][question].values()) for question in questions],
        groups=[question.clips for question in questions],
    )
    own = [rating for rating in latest_answers(ratings) if rating.asked == name]
    return {
        "alpha": _plain(alpha),
        "answers": len(own),
        "tie": _share([rating.value == "tie" for rating in own if rating.kind == "comparison"]),
        "cannot_judge": _share([not rating.judged for rating in own]),
    }


def _rater(row: RaterRow, state: State, study: Study, now_ms: int) -> dict[str, Any]:
    done = [task.answered for task in state.history(row.rater) if task.answered]
    last_ms = max((answer.at_unix_ms for answer in done), default=None)
    report = row.report
    return {
        "rater": row.rater,
        "answered": row.answered,
        "wanted": study.quotas.per_rater,
        "median_s": row.median_s,
        "last_10_min": sum(answer.at_unix_ms > now_ms - PACE_WINDOW_MS for answer in done),
        "idle_s": None if last_ms is None else max(0, now_ms - last_ms) / 1000,
        "gold": _plain(report.gold) if report else None,
        "consistency": _plain(report.consistency) if report else None,
        "left": _plain(report.left) if report else None,
        "kappa": report.kappa if report else None,
        "cannot_judge": report.cannot_judge if report else None,
        "ended": row.ended or None,
        "excluded": row.excluded,
    }


def _flags(state: State) -> list[dict[str, Any]]:
    """Clips that were flagged, and by how many raters."""
    raters: dict[tuple[str, str], set[str]] = {}
    for task in state.tasks.values():
        for clip, flags in task.flags.items():
            for flag in flags:
                raters.setdefault((clip, flag), set()).add(task.given.rater_id)
    return [{"clip": clip, "flag": flag, "raters": len(who)} for (clip, flag), who in sorted(raters.items())]


def _plain(interval: Interval) -> dict[str, Any]:
    return interval.as_json()


def _share(outcomes: Sequence[bool]) -> float | None:
    return sum(outcomes) / len(outcomes) if outcomes else None
