"""How good each clip is on each axis, 1 to 5, from whatever was collected: scores, comparisons, machines.

::

    scores         --mean of the raters-------------------------------+
    machine        --as it is-----------------------------------------+--> Match: two Standings on 1..5
    comparisons    --votes of the two clips, 1 + 4 (W + T/2) / N------+
    bradley_terry  --Davidson on all votes of a condition, 1 + 4 E----+

So a gap means the same in all of them: 4 is "everybody preferred it", 1.5 about seven votes of ten.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from hallo4.errors import InputError
from hallo4.preference.answers import Votes, votes
from hallo4.preference.ranking import Comparison, fit_davidson
from hallo4.preference.schema import AXES, HIGHEST, LOWEST, Rating
from hallo4.preference.store import PreferenceStore

Evidence = Literal["scores", "comparisons", "bradley_terry", "machine"]


@dataclass(frozen=True)
class Standing:
    """A clip on one axis: `mean` 1..5 from `n` ratings, whose standard deviation is `spread`."""

    mean: float
    n: int
    spread: float


@dataclass(frozen=True)
class Match:
    """Two clips on one axis."""

    first: Standing
    second: Standing


Matcher = Callable[[str, str, str], Match | None]
"""(axis, clip, other clip) -> how they stand; None where nothing is known."""


def matcher(
    store: PreferenceStore, evidence: Evidence, ratings: Sequence[Rating], scorer: str | None = None
) -> Matcher:
    """How any two clips of a condition stand, by one kind of evidence; `ratings`: those that count.

    InputError: there is no such evidence.
    """
    if evidence == "machine":
        return _by_standing(_machine(store, scorer))
    kind = "score" if evidence == "scores" else "comparison"
    found = votes(ratings, kind)
    if not found:
        there = sorted({rating.kind for rating in ratings}) or ["no ratings at all"]
        raise InputError(
            f"{store.folder}: has no ratings of kind {kind} that count; there are {', '.join(there)}. "
            "Collect some with `hallo4 prefer annotate`, or take other --evidence: comparisons, scores or "
            "machine."
        )
    if evidence == "scores":
        return _by_standing(_mean_scores(found))
    if evidence == "bradley_terry":
        conditions = {clip.clip_id: clip.condition_id for clip in store.clips().values()}
        return _by_standing(_strengths(found, conditions))
    pooled = _pooled(found)
    return lambda axis, one, other: _directly(pooled, axis, one, other)


def _by_standing(standings: Mapping[tuple[str, str], Standing]) -> Matcher:
    def match(axis: str, one: str, other: str) -> Match | None:
        first, second = standings.get((axis, one)), standings.get((axis, other))
        return None if first is None or second is None else Match(first, second)

    return match


def _pooled(found: Votes) -> dict[tuple[str, tuple[str, ...]], list[float]]:
    """(axis, clips) -> a value of each rater: the mean of their answers to the questions about that axis."""
    said: dict[tuple[str, tuple[str, ...]], dict[str, list[float]]] = {}
    for question, answers in found.items():
        raters = said.setdefault((question.axis, question.clips), {})
        for rater, vote in answers.items():
            raters.setdefault(rater, []).append(vote)
    return {place: [statistics.fmean(own) for own in raters.values()] for place, raters in said.items()}


def _mean_scores(found: Votes) -> dict[tuple[str, str], Standing]:
    return {(axis, clips[0]): _standing(values) for (axis, clips), values in _pooled(found).items()}


def _machine(store: PreferenceStore, scorer: str | None) -> dict[tuple[str, str], Standing]:
    scores = [s for s in store.scores().values() if scorer in (None, s.scorer)]
    scorers = sorted({s.scorer for s in scores})
    if not scorers:
        by = "" if scorer is None else f" by {scorer}"
        raise InputError(f"{store.folder}: has no machine scores{by}. Make them with `hallo4 prefer score`.")
    if len(scorers) > 1:
        raise InputError(f"{store.folder}: has scores by {', '.join(scorers)}. Choose one scorer.")
    return {(s.axis, s.clip_id): Standing(s.score, 1, 0.0) for s in scores}


def _directly(
    pooled: Mapping[tuple[str, tuple[str, ...]], list[float]], axis: str, one: str, other: str
) -> Match | None:
    """The share of votes of two clips that were compared with each other."""
    votes_of_two = pooled.get((axis, tuple(sorted((one, other)))))
    if not votes_of_two:
        return None
    own = [on_scale(vote if one < other else 1 - vote) for vote in votes_of_two]
    first = _standing(own)
    return Match(first, Standing(LOWEST + HIGHEST - first.mean, first.n, first.spread))


def _strengths(found: Votes, conditions: Mapping[str, str]) -> dict[tuple[str, str], Standing]:
    """Per axis and condition: the expected outcome of each clip against all the others, on the scale."""
    played: dict[tuple[str, str], list[Comparison]] = {}
    for question, answers in found.items():
        a, b = question.clips
        place = (question.axis, conditions[a])
        if conditions[b] == conditions[a]:
            played.setdefault(place, []).extend(Comparison(rater, a, b, v) for rater, v in answers.items())
    standings = {}
    for (axis, _), comparisons in played.items():
        model = fit_davidson(comparisons)
        for clip in model.names:
            own = [c for c in comparisons if clip in (c.a, c.b)]
            values = [on_scale(c.outcome if c.a == clip else 1 - c.outcome) for c in own]
            mean = on_scale(model.expected_against_all(clip))
            standings[axis, clip] = Standing(mean, len({c.clip for c in own}), _spread(values))
    return standings


def on_scale(share: float) -> float:
    """A share 0..1 of votes -> 1..5."""
    return LOWEST + (HIGHEST - LOWEST) * share


def _standing(values: list[float]) -> Standing:
    return Standing(statistics.fmean(values), len(values), _spread(values))


def _spread(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def compare(match: Matcher, one: str, other: str, axes: Sequence[str] = AXES) -> dict[str, Match] | None:
    """The `axes` of two clips; None unless all of them are known."""
    found = {axis: match(axis, one, other) for axis in axes}
    return found if all(found.values()) else None  # type: ignore[return-value]


def gap(axes: Mapping[str, Match]) -> float:
    """First minus second, mean over the axes; rounded so that equal sums are equal."""
    return round(math.fsum(m.first.mean - m.second.mean for m in axes.values()) / len(axes), 9)


def clip_pairs(clips: list[str]) -> list[tuple[str, str]]:
    """Every two clips of a condition, once."""
    return list(combinations(sorted(clips), 2))
