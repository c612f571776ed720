"""Ratings -> pairs worth training on, and a reason for every pair that is not.

::

    clips of a condition -> every two -> known on both axes? -> enough raters? -> gap? -> no axis worse?
        -> motion alike? -> the widest (or all) of the condition -> split -> weights -> Pair

dpo.md 3.2: raters times margin is what makes pairs true (three raters and a gap of 1.5 leave 5 % that are
really worse on one axis). People also prefer still clips, so pairs whose clips move unlike teach stillness.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hallo4.errors import InputError
from hallo4.evaluation.statistics import Interval
from hallo4.evaluation.suites.generators import TRUTH
from hallo4.preference import evidence
from hallo4.preference.answers import flagged
from hallo4.preference.evidence import Evidence, Match
from hallo4.preference.gold import GOLD_SYSTEM
from hallo4.preference.schema import AXES, Axis, Clip, Condition, Pair
from hallo4.preference.split import hold_out
from hallo4.preference.store import PreferenceStore, check_alike
from hallo4.preference.trust import ENOUGH_GOLD, agreement, trusted

LOWEST_WEIGHT, HIGHEST_WEIGHT = 0.5, 2.0
NO_CANDIDATES = (TRUTH, GOLD_SYSTEM)
"""Source systems that are never trained on: rendered truth, and clips that were spoilt to check raters."""

Reason = Literal[
    "flagged", "not rated", "few raters", "small gap", "worse on an axis", "motion", "not widest"
]


@dataclass(frozen=True)
class Curation:
    """What makes a pair. Defaults: dpo.md section 6.

    `evidence`: see `evidence.py`; `scorer`: whose machine scores, where there are several. `min_raters` per
    axis and clip or comparison (machine scores need none). `axes`: what counts; ratings of another axis are
    not looked at. `min_gap`: winner minus loser, mean of the axes that count, of 4. `pareto`: the winner is
    worse on no axis. `max_motion_difference`: of the larger motion amplitude; None: any; clips of unknown
    motion pass. `choose` "widest": of each condition the one pair with the largest gap that passes
    everything; "all": every one. `weights` "gap": in proportion to the gap, within [0.5, 2], with mean 1.
    `min_gold`, `exclude`: whose ratings do not count (`trust.trusted`).
    """

    evidence: Evidence = "comparisons"
    scorer: str | None = None
    min_raters: int = 3
    axes: tuple[Axis, ...] = AXES
    min_gap: float = 1.5
    pareto: bool = True
    max_motion_difference: float | None = 0.2
    choose: Literal["widest", "all"] = "widest"
    weights: Literal["none", "gap"] = "none"
    held_out_fraction: float = 0.1
    seed: int = 0
    min_gold: float | None = ENOUGH_GOLD
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """InputError for numbers out of range."""
        for name, value, low, high in (
            ("min_raters", self.min_raters, 1, 1000),
            ("min_gap", self.min_gap, 0, 4),
            ("max_motion_difference", self.max_motion_difference or 0, 0, 1),
            ("held_out_fraction", self.held_out_fraction, 0, 0.9),
            ("min_gold", self.min_gold or 0, 0, 1),
        ):
            if not low <= value <= high:
                raise InputError(f"{name} is {value}; allowed is {low} to {high}.")


@dataclass(frozen=True)
class Curated:
    """The pairs, and how many two-clip combinations were dropped for which reason, the first that applied.

    `of_unknown_motion`: pairs kept although the motion of a clip is not known. `left_out`: raters that do not
    count, and why; `agreement`: alpha of each question that does.
    """

    pairs: tuple[Pair, ...]
    dropped: Mapping[Reason, int]
    of_unknown_motion: int
    left_out: Mapping[str, str]
    agreement: Mapping[str, Interval]


def curate(store: PreferenceStore, curation: Curation | None = None) -> Curated:
    """Make the pairs of a store; nothing is written.

    InputError: no evidence of that kind, or nothing can be held out without a leak.
    """
    curation = curation or Curation()
    counting = trusted(store, curation.min_gold, curation.exclude)
    match = evidence.matcher(store, curation.evidence, counting.ratings, curation.scorer)
    clips, conditions = store.clips(), store.conditions()
    bad = flagged(store.ratings(), set(counting.left_out))
    by_condition: dict[str, list[str]] = {}
    for clip in clips.values():
        if clip.source_system not in NO_CANDIDATES:
            by_condition.setdefault(clip.condition_id, []).append(clip.clip_id)
    dropped: Counter[Reason] = Counter()
    found: list[_Candidate] = []
    for names in by_condition.values():
        passed = []
        for one, other in evidence.clip_pairs(names):
            candidate = _judge(clips[one], clips[other], match, bad, curation)
            if isinstance(candidate, str):
                dropped[candidate] += 1
            else:
                passed.append(candidate)
        if passed and curation.choose == "widest":
            dropped["not widest"] += len(passed) - 1
            passed = [max(passed, key=lambda c: (c.gap, c.winner.clip_id, c.loser.clip_id))]
        found += passed
    pairs = _finished(found, conditions, curation)
    unknown = sum(None in (c.winner.motion_amplitude, c.loser.motion_amplitude) for c in found)
    kind = "score" if curation.evidence == "scores" else "comparison"
    alphas = agreement(counting.ratings, kind, curation.axes, clips) if curation.evidence != "machine" else {}
    return Curated(
        pairs,
        {reason: count for reason, count in dropped.items() if count},
        unknown,
        counting.left_out,
        alphas,
    )


@dataclass(frozen=True)
class _Candidate:
    winner: Clip
    loser: Clip
    axes: dict[str, Match]  # first: of the winner
    gap: float


def _judge(
    one: Clip, other: Clip, match: evidence.Matcher, bad: set[str], curation: Curation
) -> _Candidate | Reason:
    """Two clips as winner and loser, or why they are no pair."""
    check_alike(one, other)
    if bad & {one.clip_id, other.clip_id}:
        return "flagged"
    axes = evidence.compare(match, one.clip_id, other.clip_id, curation.axes)
    if axes is None:
        return "not rated"
    if evidence.gap(axes) < 0:
        one, other = other, one
        axes = {axis: Match(m.second, m.first) for axis, m in axes.items()}
    gap = evidence.gap(axes)
    raters = min(min(m.first.n, m.second.n) for m in axes.values())
    if curation.evidence != "machine" and raters < curation.min_raters:
        return "few raters"
    if gap == 0 or gap < curation.min_gap:
        return "small gap"
    if curation.pareto and any(m.first.mean < m.second.mean for m in axes.values()):
        return "worse on an axis"
    if (
        curation.max_motion_difference is not None
        and (motion_difference(one, other) or 0) > curation.max_motion_difference
    ):
        return "motion"
    return _Candidate(one, other, axes, gap)


def motion_difference(one: Clip, other: Clip) -> float | None:
    """|a - b| / max(a, b) of the motion amplitudes, in [0, 1]; None where one is not known."""
    a, b = one.motion_amplitude, other.motion_amplitude
    if a is None or b is None:
        return None
    return abs(a - b) / max(a, b) if max(a, b) > 0 else 0.0


def gap_weights(gaps: Sequence[float]) -> list[float]:
    """Weights in proportion to the gaps, cut to [0.5, 2], with mean 1: the factor is found by bisection, as
    the mean grows with it."""
    if not gaps:
        return []

    def weights(factor: float) -> list[float]:
        return [min(max(factor * gap, LOWEST_WEIGHT), HIGHEST_WEIGHT) for gap in gaps]

    low, high = 0.0, HIGHEST_WEIGHT / min(gaps)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(weights(middle)) < len(gaps) else (low, middle)
    return weights(high)


def pair_id(winner: str, loser: str) -> str:
    """The same two clips in the same order have the same id."""
    return "p" + hashlib.sha256(f"{winner} > {loser}".encode()).hexdigest()[:20]


def _finished(
    found: Sequence[_Candidate], conditions: Mapping[str, Condition], curation: Curation
) -> tuple[Pair, ...]:
    counts = Counter(candidate.winner.condition_id for candidate in found)
    held = hold_out(counts, conditions, curation.held_out_fraction, curation.seed) if counts else set()
    gaps = [candidate.gap for candidate in found]
    weights = gap_weights(gaps) if curation.weights == "gap" else [1.0] * len(found)
    return tuple(
        Pair(
            pair_id=pair_id(c.winner.clip_id, c.loser.clip_id),
            condition_id=c.winner.condition_id,
            winner=c.winner.clip_id,
            loser=c.loser.clip_id,
            axes={axis: _axis_record(m) for axis, m in c.axes.items()},  # type: ignore[misc]
            gap=c.gap,
            weight=weight,
            split="held_out" if c.winner.condition_id in held else "train",
            segment_labels=None,
        )
        for c, weight in zip(found, weights, strict=True)
    )


def _axis_record(match: Match) -> dict[str, float]:
    return {
        "winner": round(match.first.mean, 6),
        "loser": round(match.second.mean, 6),
        "n": min(match.first.n, match.second.n),
        "spread": round(max(match.first.spread, match.second.spread), 6),
    }
