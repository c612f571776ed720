"""Can these raters be trusted: agreement beyond chance, known answers, repeats, sides, pace.

::

    votes {question: {rater: vote}} --coincidences [units, V, V]--> alpha = 1 - observed / expected
                                    --tables rater x others-----> kappa of each rater

Krippendorff's alpha takes any number of raters, gaps and ties: Krippendorff, "Computing Krippendorff's
Alpha-Reliability" (2011). Targets of dpo.md 3.3: alpha of at least 0.4 to train on, gold accuracy of at least
0.8 of each rater.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from hallo4.evaluation.statistics import CONFIDENCE, Interval, bootstrap_interval, wilson_interval
from hallo4.preference.answers import Votes, latest_answers, question_of, vote_of
from hallo4.preference.schema import GoldAnswer, Rating

Level = Literal["nominal", "ordinal"]
RESAMPLES = 1000


# ---------------------------------------------------------------------- Krippendorff's alpha


def krippendorff_alpha(units: Sequence[Sequence[float]], level: Level = "ordinal") -> float:
    """Agreement of the values that each unit was given: 1 perfect, 0 as by chance, below 0 worse.

    A unit is one question; how many gave a value, and who, may differ. NaN with fewer than two values in
    every unit, or when all values are the same (nothing varies, so nothing can be said).
    """
    coincidences, _ = _coincidences(units)
    return float(_alpha(coincidences.sum(axis=0)[None], level)[0])


def alpha_interval(
    units: Sequence[Sequence[float]],
    level: Level = "ordinal",
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Interval:
    """Alpha with the 95 % interval of 1,000 resamples of whole `groups` of units (None: of single units).

    Units about the same clip are not independent, so give their clip or condition as the group.
    """
    coincidences, used = _coincidences(units)
    if not len(used):
        return Interval(None, None, None, 0, len(units))
    names = list(range(len(units))) if groups is None else list(groups)
    order = {name: place for place, name in enumerate(dict.fromkeys(names[i] for i in used))}
    grouped = np.zeros((len(order), *coincidences.shape[1:]))
    np.add.at(grouped, [order[names[i]] for i in used], coincidences)
    alpha = float(_alpha(grouped.sum(axis=0)[None], level)[0])
    n, undefined = len(used), len(units) - len(used)
    if math.isnan(alpha) or len(grouped) < 2:
        return Interval(None if math.isnan(alpha) else alpha, None, None, n, undefined)
    draws = np.random.default_rng(seed).multinomial(
        len(grouped), [1 / len(grouped)] * len(grouped), RESAMPLES
    )
    resampled = _alpha(np.tensordot(draws, grouped, axes=1), level)
    low, high = np.nanquantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(alpha, float(low), float(high), n, undefined)


def _coincidences(units: Sequence[Sequence[float]]) -> tuple[np.ndarray, list[int]]:
    """Pairs of values within each unit that has two or more, [U, V, V], and the places of those units."""
    used = [place for place, unit in enumerate(units) if len(unit) >= 2]
    values = sorted({value for place in used for value in units[place]})
    column = {value: i for i, value in enumerate(values)}
    counts = np.zeros((len(used), len(values)))
    for row, place in enumerate(used):
        for value in units[place]:
            counts[row, column[value]] += 1
    pairs = counts[:, :, None] * counts[:, None, :]
    own = np.arange(len(values))
    pairs[:, own, own] -= counts  # a value is not paired with itself
    return pairs / np.maximum(counts.sum(axis=1) - 1, 1)[:, None, None], used


def _alpha(coincidences: np.ndarray, level: Level) -> np.ndarray:
    """[R, V, V] -> [R]."""
    counts = coincidences.sum(axis=2)
    total = counts.sum(axis=1)
    if level == "nominal":
        apart = np.broadcast_to(1.0 - np.eye(counts.shape[1]), coincidences.shape)
    else:  # ranks: how many values lie between two, ends counted half
        upto = np.cumsum(counts, axis=1) - counts / 2
        apart = (upto[:, :, None] - upto[:, None, :]) ** 2
    observed = (coincidences * apart).sum(axis=(1, 2))
    expected = (counts[:, :, None] * counts[:, None, :] * apart).sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 0, 1 - (total - 1) * observed / expected, np.nan)


# ---------------------------------------------------------------------- Cohen's kappa


def cohen_kappa(table: np.ndarray) -> float:
    """Agreement beyond chance of two raters; `table` [V, V] counts how often they said (row, column).

    NaN for an empty table, or if both said one and the same thing throughout.
    """
    table = np.asarray(table, np.float64)
    total = table.sum()
    if total == 0:
        return math.nan
    agreed = np.trace(table) / total
    by_chance = float(table.sum(axis=1) @ table.sum(axis=0)) / total**2
    return float((agreed - by_chance) / (1 - by_chance)) if by_chance < 1 else math.nan


def kappa_against_rest(found: Votes) -> dict[str, float]:
    """Per rater: Cohen's kappa with all others who answered the same questions, each question weighing one.

    The others' answers share the weight of their question, as if one of them, drawn at random, had answered.
    """
    values = sorted({vote for answers in found.values() for vote in answers.values()})
    column = {value: i for i, value in enumerate(values)}
    tables: dict[str, np.ndarray] = {}
    for answers in found.values():
        for rater, own in answers.items():
            table = tables.setdefault(rater, np.zeros((len(values), len(values))))
            others = [vote for name, vote in answers.items() if name != rater]
            for other in others:
                table[column[own], column[other]] += 1 / len(others)
    return {rater: cohen_kappa(table) for rater, table in sorted(tables.items())}


# ---------------------------------------------------------------------- one rater at a time


@dataclass(frozen=True)
class RaterReport:
    """What is known about one rater.

    `kappa`: with the rest, NaN-free (None where unknown). `gold`: share of known answers given rightly.
    `consistency`: share of repeats, sides swapped, answered as before. `left`: share of decisive answers for
    the clip on the left; 0.5 is unbiased. `cannot_judge`: share of questions passed on. `simulated`: no
    person.
    """

    rater_id: str
    simulated: bool
    answers: int
    kappa: float | None
    gold: Interval
    consistency: Interval
    left: Interval
    cannot_judge: float
    median_shown_s: float

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def rater_reports(ratings: Sequence[Rating], gold: Iterable[GoldAnswer] = ()) -> list[RaterReport]:
    """A report per rater, in the order of their names."""
    gold = list(gold)
    known = {answer_key(answer): answer for answer in gold}
    events = {rating.event_id: rating for rating in ratings}
    answers = latest_answers(ratings, role=None)
    votes_of_all: Votes = {}
    for rating in answers:
        if rating.judged and rating.role == "plain":
            votes_of_all.setdefault(question_of(rating), {})[rating.rater_id] = vote_of(rating)
    kappas = kappa_against_rest(votes_of_all)
    reports = []
    for rater in sorted({rating.rater_id for rating in answers}):
        own = [rating for rating in answers if rating.rater_id == rater]
        kappa = kappas.get(rater, math.nan)
        reports.append(
            RaterReport(
                rater_id=rater,
                simulated=any(rating.simulated for rating in own),
                answers=len(own),
                kappa=None if math.isnan(kappa) else kappa,
                gold=_share([*(_gold_right(r, known) for r in own), *_scores_right(own, gold)]),
                consistency=_share(_as_before(rating, events) for rating in own),
                left=_share(left_chosen(rating) for rating in own),
                cannot_judge=sum(not rating.judged for rating in own) / len(own),
                median_shown_s=statistics.median(rating.shown_ms for rating in own) / 1000,
            )
        )
    return reports


def left_share(ratings: Sequence[Rating], seed: int = 0) -> Interval:
    """Share of decisive comparisons won by the left side, over all raters; the interval resamples pairs of
    clips, since both axes and all raters of a pair are tied together."""
    by_pair: dict[tuple[str, ...], list[bool]] = {}
    for rating in latest_answers(ratings, role=None):
        chosen = left_chosen(rating)
        if chosen is not None:
            by_pair.setdefault(question_of(rating).clips, []).append(chosen)
    return bootstrap_interval([statistics.fmean(chosen) for chosen in by_pair.values()], seed).within(0, 1)


def left_chosen(rating: Rating) -> bool | None:
    """Whether the clip on the left won; None for ties, scores and where sides are not known."""
    if rating.value not in ("a", "b") or rating.left_clip_id is None:
        return None
    return (rating.clip_a if rating.value == "a" else rating.clip_b) == rating.left_clip_id


def answer_key(gold: GoldAnswer) -> tuple[str, ...]:
    """What a known answer answers: (axis, first clip, second clip) in the order of ids."""
    return (gold.axis, *sorted(gold.clips))


def _gold_right(rating: Rating, known: Mapping[tuple[str, ...], GoldAnswer]) -> bool | None:
    """Whether a gold question was answered rightly; passing on a question with a known answer is wrong."""
    question = question_of(rating)
    answer = known.get((question.axis, *question.clips))
    if rating.role != "gold" or rating.kind == "score" or answer is None:
        return None
    right = {"a": 1.0, "tie": 0.5, "b": 0.0}[answer.answer]
    right = right if answer.clip_a < answer.clip_b else 1.0 - right
    return rating.judged and vote_of(rating) == right


def _scores_right(own: Sequence[Rating], gold: Iterable[GoldAnswer]) -> list[bool]:
    """Whether a rater who scored both clips of a known answer, in gold questions, put them in its order."""
    said: dict[tuple[str, str], list[float | None]] = {}
    for rating in own:
        if rating.role == "gold" and rating.kind == "score":
            value = vote_of(rating) if rating.judged else None
            said.setdefault((rating.axis, rating.clips[0]), []).append(value)
    right = []
    for answer in gold:
        a, b = (said.get((answer.axis, clip), []) for clip in answer.clips)
        for one, other in zip(a, b):
            order = (
                None
                if one is None or other is None
                else "a"
                if one > other
                else "b"
                if one < other
                else "tie"
            )
            right.append(order == answer.answer)
    return right


def _as_before(rating: Rating, events: Mapping[str, Rating]) -> bool | None:
    """Whether a repeat got the answer of the first time; None where either was passed on."""
    first = events.get(rating.repeat_of or "")
    if first is None or not (rating.judged and first.judged):
        return None
    return vote_of(rating) == vote_of(first)


def _share(outcomes: Iterable[bool | None]) -> Interval:
    known = [outcome for outcome in outcomes if outcome is not None]
    return wilson_interval(sum(known), len(known))
