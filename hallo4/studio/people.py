"""Raters: how they come in, whether they look, and what they get at the end. Pure functions of the state."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import replace

from hallo4.preference.schema import GoldAnswer
from hallo4.preference.store import PreferenceStore
from hallo4.studio.record import Joined
from hallo4.studio.refused import Refused
from hallo4.studio.state import State, Task
from hallo4.studio.study import Checks, Study

_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


def key_digest(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def same_key(joined: Joined | None, key: str) -> bool:
    """Whether `key` is that of a rater who joined, in constant time."""
    known = joined.key_sha256 if joined else "0" * 64
    return hmac.compare_digest(key_digest(key), known) and joined is not None


def new_rater(asked: Joined, state: State, study: Study, store: PreferenceStore) -> tuple[Joined, bool]:
    """(the rater as they come in, whether they were here before).

    Refused: the name belongs to another person, here or among the ratings of the store, whatever its case;
    the person of the platform's link takes part already; the study has all its raters.
    """
    drawn = study.platform.participant is not None
    for known in state.joined.values():
        mine = hmac.compare_digest(known.key_sha256, asked.key_sha256)
        if mine and (drawn or known.rater_id == asked.rater_id):
            return known, True
    if drawn:
        person = asked.participant.get(study.platform.participant or "")
        if not person:
            raise Refused(422, "The link is not complete. Open the one that the platform gave you.")
        if any(j.participant.get(study.platform.participant or "") == person for j in state.joined.values()):
            raise Refused(409, "You take part already. Go on in the browser in which you began.")
        asked = replace(asked, rater_id=_drawn_name(state, store))
    else:
        taken = {name.casefold() for name in state.joined}
        if asked.rater_id.casefold() in taken or store.has_answers_of(asked.rater_id):
            raise Refused(409, "This name is taken. Choose another, or open your own resume link.")
    if len(state.joined) >= study.quotas.raters:
        raise Refused(403, "This study has all the raters that it needs. Thank you!")
    return asked, False


def _drawn_name(state: State, store: PreferenceStore) -> str:
    while True:
        name = "rater-" + "".join(secrets.choice(_LETTERS) for _ in range(8))
        if name not in state.joined and not store.has_answers_of(name):
            return name


def code_of(study: Study, reason: str) -> str:
    """The completion code of a rater who ends."""
    if reason in ("stopped", "excluded"):
        return study.end.stopped_code or ""
    return study.end.code or "".join(secrets.choice(_LETTERS) for _ in range(10)).upper()


def passes_gold(history: Sequence[Task], gold: Sequence[GoldAnswer], checks: Checks) -> bool:
    """Whether a rater's answers to gold questions are good enough to go on."""
    if checks.stop_below is None:
        return True
    right = [of for task in history if task.given.role == "gold" for of in _right(task, gold)]
    return len(right) < checks.stop_after or sum(right) / len(right) >= checks.stop_below


def lesson(task: Task, gold: Sequence[GoldAnswer]) -> dict | None:
    """What a rater is shown after a practice question: the better side by question; whether they said it."""
    better = {}
    for answer in gold:
        for name, axis in task.answered.axes.items() if task.answered else ():
            if axis == answer.axis and set(answer.clips) == set(task.given.clips):
                better[name] = _side(task, answer)
    if not better or task.answered is None:
        return None
    return {
        "right": all(task.answered.answers[name] == side for name, side in better.items()),
        "better": better,
    }


def _right(task: Task, gold: Sequence[GoldAnswer]) -> list[bool]:
    """Whether a known answer was given, for every question about an axis whose answer is known."""
    if task.answered is None or len(task.given.clips) == 1:
        return []  # both clips of the pair must have been scored: the report tells
    return [
        said == _side(task, answer)
        for answer in gold
        if set(answer.clips) == set(task.given.clips)
        for name, said in task.answered.answers.items()
        if task.answered.axes[name] == answer.axis
    ]


def _side(task: Task, answer: GoldAnswer) -> str:
    if answer.answer == "tie":
        return "tie"
    better = answer.clip_a if answer.answer == "a" else answer.clip_b
    return "left" if better == task.given.left else "right"
