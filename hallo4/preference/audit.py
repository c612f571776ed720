"""What a model could learn from the pairs instead of quality: who made the clip, how still it is.

::

    pairs --P(win | source)--> cross-validated guess from the sources alone --above 0.75--> refused
          --motion of winner and loser, faces and speeches on both sides of the split--> said

Five systems differ in codec, crop and sharpness; a model that can tell the winner by such signs learns the
signs (DenseDPO App. A.2, dpo.md 3.2). With half of the pairs from one source no guess exceeds 0.75.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hallo4.errors import InputError
from hallo4.evaluation.statistics import Interval, bootstrap_interval, wilson_interval
from hallo4.preference.schema import Clip, Condition, Pair
from hallo4.preference.split import check_no_leak

MAX_SOURCE_ACCURACY = 0.75
FOLDS = 10


@dataclass(frozen=True)
class SourceAudit:
    """Whether the source betrays the winner.

    `win_rate`: of each source, over its pairs with other sources. `accuracy`: share of pairs whose winner is
    guessed from the two sources alone, cross-validated by condition; pairs of one source count half.
    `mixed`: share of pairs whose clips come from different sources.
    """

    win_rate: Mapping[str, Interval]
    accuracy: float | None
    mixed: float | None

    @property
    def shortcut(self) -> bool:
        """Whether the pairs must be refused."""
        return self.accuracy is not None and self.accuracy > MAX_SOURCE_ACCURACY


@dataclass(frozen=True)
class MotionAudit:
    """Whether winners are the stiller clips.

    `stiller_wins`: share of pairs whose winner moves less; 0.5 is unbiased. `log_ratio`: mean of
    ln(winner's / loser's amplitude); below 0, winners move less. Intervals over conditions.
    """

    stiller_wins: Interval
    log_ratio: Interval

    @property
    def biased(self) -> bool:
        """Whether the pairs teach stillness, beyond chance."""
        return self.log_ratio.high is not None and self.log_ratio.high < 0


@dataclass(frozen=True)
class Audit:
    """Everything that was looked at. `leak`: what stands on both sides of the split, or None."""

    source: SourceAudit
    motion: MotionAudit
    leak: str | None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        plain = asdict(self)
        plain["source"]["shortcut"], plain["motion"]["biased"] = self.source.shortcut, self.motion.biased
        return plain


def audit_pairs(
    pairs: Sequence[Pair], clips: Mapping[str, Clip], conditions: Mapping[str, Condition]
) -> Audit:
    """Look at all of it; nothing is refused here."""
    try:
        check_no_leak(pairs, conditions)
        leak = None
    except InputError as error:
        leak = str(error)
    return Audit(audit_sources(pairs, clips), audit_motion(pairs, clips), leak)


def require_sound(audit: Audit) -> None:
    """InputError if the pairs leak across the split or if their sources betray the winner."""
    if audit.leak:
        raise InputError(audit.leak)
    if audit.source.shortcut:
        best = max(audit.source.win_rate, key=lambda source: audit.source.win_rate[source].mean or 0)
        raise InputError(
            f"who made a clip predicts the winner in {audit.source.accuracy:.0%} of pairs (at most "
            f"{MAX_SOURCE_ACCURACY:.0%}; {best} wins {audit.source.win_rate[best].mean:.0%}): a model would "
            "learn the system, not quality. Mix in pairs of one system, or leave that system out."
        )


def source_of(clip: Clip) -> str:
    """Who made a clip: the system, and the checkpoint where it says more."""
    same = clip.checkpoint == clip.source_system
    return clip.source_system if same else f"{clip.source_system}:{clip.checkpoint}"


def audit_sources(pairs: Sequence[Pair], clips: Mapping[str, Clip]) -> SourceAudit:
    """P(win | source), and how well sources alone predict the winner.

    The guess is a vote by counts: each source has the share (wins + 1) / (met + 2) of its pairs with other
    sources in the other folds, the higher one is guessed, and equal ones count half. Folds keep conditions
    together.
    """
    met = [(source_of(clips[p.winner]), source_of(clips[p.loser])) for p in pairs]
    fold = np.array([_fold(p.condition_id) for p in pairs], dtype=int)
    names = sorted({source for two in met for source in two})
    at = {name: i for i, name in enumerate(names)}
    ends = np.array([(at[winner], at[loser]) for winner, loser in met], dtype=int).reshape(-1, 2)
    wins, games = np.zeros((FOLDS, len(names))), np.zeros((FOLDS, len(names)))
    unlike = ends[:, 0] != ends[:, 1]
    np.add.at(wins, (fold[unlike], ends[unlike, 0]), 1)
    for side in (0, 1):
        np.add.at(games, (fold[unlike], ends[unlike, side]), 1)
    elsewhere = (wins.sum(axis=0) - wins + 1) / (games.sum(axis=0) - games + 2)
    right = [
        0.5 + 0.5 * float(np.sign(elsewhere[f, winner] - elsewhere[f, loser]))
        for f, (winner, loser) in zip(fold, ends, strict=True)
    ]
    rates = {
        name: wilson_interval(float(wins[:, i].sum()), int(games[:, i].sum())) for i, name in enumerate(names)
    }
    return SourceAudit(
        rates, float(np.mean(right)) if right else None, float(unlike.mean()) if len(unlike) else None
    )


def audit_motion(pairs: Sequence[Pair], clips: Mapping[str, Clip]) -> MotionAudit:
    """Compare the motion amplitudes of winners and losers, where both are known."""
    stiller: dict[str, list[float]] = {}
    ratios: dict[str, list[float]] = {}
    for pair in pairs:
        won, lost = clips[pair.winner].motion_amplitude, clips[pair.loser].motion_amplitude
        if won and lost:
            stiller.setdefault(pair.condition_id, []).append(0.5 + 0.5 * float(np.sign(lost - won)))
            ratios.setdefault(pair.condition_id, []).append(float(np.log(won / lost)))
    shares, logarithms = ([np.mean(values) for values in of.values()] for of in (stiller, ratios))
    return MotionAudit(bootstrap_interval(shares).within(0, 1), bootstrap_interval(logarithms))


def _fold(condition_id: str) -> int:
    return int.from_bytes(hashlib.sha256(condition_id.encode()).digest()[:4], "big") % FOLDS
