"""What raters said, put into a common form: which answers count, to which question, on which side.

::

    ratings --latest_answers--> one per rater and question --votes--> {question: {rater: vote}}

A question is asked about one clip (how good, 1..5) or about two clips in the order of their ids (which is
better); a study may ask several about one axis. Gold questions and repeats check raters; they are never
evidence about clips.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass

from hallo4.preference.schema import AXES, Rating, Role
from hallo4.preference.store import PreferenceStore

BROKEN_SHARE = 0.5
"""A clip that so many of its raters flagged is set aside; a single "unsafe" is enough."""


@dataclass(frozen=True, order=True)
class Question:
    """`clips`: one, or two in the order of their ids. `asked`: the question's name; None: the axis'."""

    axis: str
    clips: tuple[str, ...]
    asked: str | None = None


Votes = dict[Question, dict[str, float]]
"""Per question and rater: a score 1..5, or for two clips 1 (the first is better), 0.5 (tie) or 0."""


def question_of(rating: Rating) -> Question:
    """What was asked, whatever side the clips were shown on."""
    return Question(rating.axis, tuple(sorted(rating.clips)), rating.question)


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


def votes(ratings: Iterable[Rating], kind: str, asked: str | None = None) -> Votes:
    """Every judged plain answer of one kind ("score" or "comparison"), to the question `asked` or to all."""
    found: Votes = {}
    for rating in latest_answers(ratings):
        if rating.kind == kind and rating.judged and asked in (None, rating.asked):
            found.setdefault(question_of(rating), {})[rating.rater_id] = vote_of(rating)
    return found


def all_asked(ratings: Iterable[Rating]) -> list[str]:
    """The names of all questions that were answered: the two axes first, then the others by name."""
    names = {rating.asked for rating in ratings}
    return [axis for axis in AXES if axis in names] + sorted(names - set(AXES))


def flagged(ratings: Iterable[Rating], excluded: Set[str] = frozenset()) -> set[str]:
    """Clips that one rater called unsafe, or that at least half of their raters flagged.

    Raters in `excluded` count for "unsafe" alone.
    """
    raters: dict[str, dict[str, set[str]]] = {}
    for rating in latest_answers(ratings, role=None):
        for clip in rating.clips:
            raters.setdefault(clip, {}).setdefault(rating.rater_id, set()).update(rating.flags.get(clip, ()))
    bad = set()
    for clip, flags in raters.items():
        counted = [of for rater, of in flags.items() if rater not in excluded]
        unsafe = any("unsafe" in of for of in flags.values())
        if unsafe or (counted and sum(bool(of) for of in counted) >= BROKEN_SHARE * len(counted)):
            bad.add(clip)
    return bad


def counted(store: PreferenceStore) -> list[Rating]:
    """The ratings of a store but for those of excluded raters."""
    excluded = {exclusion.rater_id for exclusion in store.excluded()}
    return [rating for rating in store.ratings() if rating.rater_id not in excluded]
