"""What a preference loss has seen of each pair, kept apart until someone asks for means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

SATURATED = 0.05
"""A pair whose gradient is below this fraction of the largest possible one has nothing left to teach."""


@dataclass(frozen=True)
class PairStats:
    """B pairs, every field [B] float32 without gradient.

    `loss` before weighting and the `weight` it entered with; `logit` u; `winner_reward`, `loser_reward`: the
    implicit rewards -(beta/2)(E - R); errors E of the model and R of the reference, the loser's share
    `loser_gradient` in [0, 1] that SDPO left, and the noise level `sigma`.
    """

    loss: Tensor
    weight: Tensor
    logit: Tensor
    winner_reward: Tensor
    loser_reward: Tensor
    winner_error: Tensor
    loser_error: Tensor
    winner_reference: Tensor
    loser_reference: Tensor
    loser_gradient: Tensor
    sigma: Tensor

    def __len__(self) -> int:
        return len(self.loss)

    def of(self, chosen: Tensor) -> PairStats:
        """The pairs that `chosen` (bool [B], or indices) names: those of one axis, source or noise level."""
        return PairStats(*(getattr(self, f.name)[chosen] for f in fields(self)))

    @staticmethod
    def joined(parts: Sequence[PairStats]) -> PairStats:
        """All pairs of `parts`, in order."""
        return PairStats(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(PairStats)))

    def summary(self) -> dict[str, float]:
        """Means over the pairs, for a log.

        `accuracy`: implicit reward higher for the winner, ties one half. `margin`: difference of the implicit
        rewards. `winner_diff`, `loser_diff`: E - R; both above 0 means that the margin grows by harm.
        Fractions: `saturated` (sigmoid(-u) < 0.05), `hinge_active` (winner worse than in the reference),
        `loser_dominant` (margin above 0 although the winner got worse).
        """
        margin = self.winner_reward - self.loser_reward
        winner_diff = self.winner_error - self.winner_reference
        worse = winner_diff > 0
        per_pair = {
            "accuracy": (margin.sign() + 1) / 2,
            "logit": self.logit,
            "margin": margin,
            "winner_error": self.winner_error,
            "loser_error": self.loser_error,
            "winner_reference": self.winner_reference,
            "winner_diff": winner_diff,
            "loser_diff": self.loser_error - self.loser_reference,
            "saturated": torch.sigmoid(-self.logit) < SATURATED,
            "hinge_active": worse,
            "loser_dominant": worse & (margin > 0),
            "loser_gradient": self.loser_gradient,
        }
        means = torch.stack([value.float().mean() for value in per_pair.values()]).tolist()
        return dict(zip(per_pair, means, strict=True))
