"""What raters said, put into a common form: which answers count, to which question, on which side.

::

    ratings --latest_answers--> one per rater and question --votes--> {question: {rater: vote}}

A question is an axis with one clip (how good, 1..5) or with two clips in the order of their ids (which is
better). Gold questions and repeats check raters; they are never evidence about clips.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hallo4.preference.schema import Rating, Role

BROKEN_SHARE = 0.5
"""A clip that so many of its raters flagged is set aside; a single "unsafe" is enough."""


@dataclass(frozen=True, order=True)
class Question:
    """`clips`: one, or two in the order of their ids."""

    axis: str
    clips: tuple[str, ...]


Votes = dict[Question, dict[str, float]]
"""Per question and rater: a score 1..5, or for two clips 1 (the first is better), 0.5 (tie) or 0."""


def question_of(rating: Rating) -> Question:
    """What was asked, whatever side the clips were shown on."""
    return Question(rating.axis, tuple(sorted(rating.clips)))


def vote_of(rating: Rating) -> float:
    """The answer in terms of `question_of`: 1..5, or 1, 0.5, 0 for two clips. Only for judged ones."""
    if isinstance(rating.value, float | int):
        return float(rating.value)
    first_is_a = rating.clips[0] < rating.clips[1]
    return {"a": 1.0, "tie": 0.5, "b": 0.0}[rating.value] if first_is_a else (
        {"a": 0.0, "tie": 0.5, "b": 1.0}[rating.value]
    )  # fmt: skip


def latest_answers(ratings: Iterable[Rating], role: Role | None = "plain") -> list[Rating]:
    """The last answer of each rater to each question of that role; whoever answers again, changes their mind.

    `role` None: of all roles, where a repeat is a question of its own.
    """
    last: dict[tuple, Rating] = {}
    for rating in ratings:
        if role in (None, rating.role):
            key = (rating.rater_id, question_of(rating), rating.role, rating.repeat_of)
            last.pop(key, None)  # so that the order is that of the last answers
            last[key] = rating
    return list(last.values())


def votes(ratings: Iterable[Rating], kind: str, axis: str | None = None) -> Votes:
    """Every judged plain answer of one kind ("score" or "comparison"), on one axis or on all."""
    found: Votes = {}
    for rating in latest_answers(ratings):
        if rating.kind == kind and rating.judged and axis in (None, rating.axis):
            found.setdefault(question_of(rating), {})[rating.rater_id] = vote_of(rating)
    return found


def flagged(ratings: Iterable[Rating]) -> set[tuple[str, ...]]:
    """Clips, or pairs of clips, that one rater called unsafe or at least half of their raters flagged."""
    raters: dict[tuple[str, ...], dict[str, set[str]]] = {}
    for rating in latest_answers(ratings):
        clips = tuple(sorted(rating.clips))
        raters.setdefault(clips, {}).setdefault(rating.rater_id, set()).update(rating.flags)
    bad = set()
    for clips, flags in raters.items():
        unsafe = any("unsafe" in of for of in flags.values())
        if unsafe or sum(bool(of) for of in flags.values()) >= BROKEN_SHARE * len(flags):
            bad.add(clips)
    return bad
