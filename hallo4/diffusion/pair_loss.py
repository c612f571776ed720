"""Direct preference optimization of a diffusion model, from four errors per pair to a loss.

    E_w, R_w, E_l, R_l  [B]      model's and reference's error on winner and loser, one number per clip
        -> rewards  -(beta/2) (E - R)
        -> logit u  = -(beta/2) [(E_w - R_w) - a (E_l - R_l) + lambda relu(E_w - R_w)]
        -> loss     = weight * [(1 - e) f(u) + e f(-u)]       f: -log sigmoid(u), (u - 1/2)^2, relu(1 - u)

Diffusion-DPO (arXiv 2311.12908, eq. 14) and Flow-DPO (arXiv 2501.13918, eq. 6) with constant beta. Differs
from the printed Flow-DPO: errors are means over a clip, not sums over the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from hallo4.diffusion.noising import Prediction, check_prediction, epsilon_error_factor
from hallo4.diffusion.pair_stats import PairStats
from hallo4.errors import InputError, ShapeError
from hallo4.ranges import NotNegative, PartBelowHalf, Positive, Share, check_ranges, check_rising

Objective = Literal["sigmoid", "ipo", "hinge"]
TimestepWeight = Literal["constant", "epsilon"]
AXES = ("alignment", "fidelity")
"""What clips are rated on: motion-video alignment, portrait fidelity."""
INITIAL_LOSS: dict[str, float] = {"sigmoid": math.log(2.0), "ipo": 0.25, "hinge": 1.0}
"""f(0), the loss of every pair while model and reference are the same."""


OF_THE_LOSS = "{} of the preference loss".format


@dataclass(frozen=True)
class PreferenceLossConfig:
    """How pairs become a loss. InputError for a value out of range.

    * `beta`: the logit has beta / 2, as in the code of Diffusion-DPO and Flow-DPO. Where a formula has no
      one half (diffusers), use `from_unhalved_beta`. Larger: stays closer to the reference.
    * `objective`: "sigmoid" (DPO), "ipo" (arXiv 2310.12036) or "hinge" (SLiC, arXiv 2305.10425). IPO
      differs from the paper by the constant factor beta^2, so that its gradients have the size of the
      others'.
    * `prediction`: what the model predicts; errors are those of this native target.
    * `dpop_lambda`: DPO-Positive (arXiv 2402.13228), the hinge that keeps the winner from getting worse;
      0: bare DPO.
    * `label_smoothing` in [0, 0.5): fraction of labels taken to be wrong (conservative DPO).
    * `loser_scale` in [0, 1]: the factor a of the loser's term.
    * `sdpo_mu` in [0, 1]: Diffusion-SDPO (arXiv 2511.03317) scales the loser's gradient, see
      `loser_gradient_scale`. None: off.
    * `timestep_weight`: "constant" beta (better on every axis in Flow-DPO's table 3) or "epsilon", beta
      times `epsilon_error_factor`, as the derivation gives.
    * `alignment_window`, `fidelity_window`: sigmas at which the axis counts; outside, the axis' share of the
      pair is left out. Early steps make the motion, late ones the detail (AlignHuman, arXiv 2506.11144).
    """

    beta: Positive = 2000.0
    objective: Objective = "sigmoid"
    prediction: Prediction = "flow"
    dpop_lambda: NotNegative = 1.0
    label_smoothing: PartBelowHalf = 0.0
    loser_scale: Share = 1.0
    sdpo_mu: Share | None = None
    timestep_weight: TimestepWeight = "constant"
    alignment_window: tuple[Share, Share] = (0.0, 1.0)
    fidelity_window: tuple[Share, Share] = (0.0, 1.0)

    def __post_init__(self) -> None:
        """See the class."""
        check_prediction(self.prediction)
        for name, kind in (("objective", Objective), ("timestep_weight", TimestepWeight)):
            found, allowed = getattr(self, name), get_args(kind)
            if found not in allowed:
                named = OF_THE_LOSS(name)
                raise InputError(f"{named} is {found!r}; it must be one of {', '.join(allowed)}.")
        check_ranges(self, OF_THE_LOSS)
        check_rising(self, *(f"{axis}_window" for axis in AXES), named=OF_THE_LOSS)

    @classmethod
    def from_unhalved_beta(cls, beta: float, **settings: Any) -> PreferenceLossConfig:
        """For a `beta` of a formula without the one half, u = -beta [...]: diffusers' 2500 is 5000 here."""
        return cls(beta=2.0 * beta, **settings)

    @property
    def initial_loss(self) -> float:
        """The loss of every pair at the start."""
        return INITIAL_LOSS[self.objective]


PRESETS: dict[str, PreferenceLossConfig] = {
    "default": PreferenceLossConfig(),
    "paper": PreferenceLossConfig(beta=2500.0, dpop_lambda=0.0),
}
"""`paper`: Hallo4 (arXiv 2505.23525): bare DPO with its beta of 2500. Whether that is with the one half is
not known to us; it is taken so. The training around it: all weights, in fp32, AdamW at a rate of 1e-8 after
a warm-up of 2500 of 12000 steps, 8 pairs a step."""


@dataclass(frozen=True)
class PairErrors:
    """Errors of B pairs: `clip_errors` [B] float32 each, or `frame_errors` [B, F] with labels per frame.

    Only `winner` and `loser`, the model's, have gradients. `loser_gradient` [B]: factor of the loser's
    gradient (`loser_gradient_scale`), None: 1.
    """

    winner: Tensor
    loser: Tensor
    winner_reference: Tensor
    loser_reference: Tensor
    loser_gradient: Tensor | None = None

    def all(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four errors."""
        return self.winner, self.loser, self.winner_reference, self.loser_reference


def dpo_loss(
    errors: PairErrors,
    config: PreferenceLossConfig,
    sigma: Tensor,
    *,
    weights: Tensor | None = None,
    axis_shares: Tensor | None = None,
    frame_labels: Tensor | None = None,
) -> tuple[Tensor, PairStats]:
    """(loss, a float32 scalar: the mean of weight times loss over the pairs; what was seen of each pair).

    `sigma` [B]: the noise level of both clips. `weights` [B]: of pairs; their mean over the data set should
    be 1. `axis_shares` [B, 2], rows with sum 1: how much of the preference is of each of `AXES`.
    `frame_labels` [B, F] in -1, 0, 1: in that latent frame the loser is better, neither, the winner; errors
    are then [B, F], and a pair's error is the mean over the frames that have a better side (DenseDPO, arXiv
    2506.03517, eq. 7). ShapeError for any other shape; InputError where `config` needs what is not given.
    """
    _check_shapes(errors, sigma, frame_labels)
    weight = _weights(config, sigma, weights, axis_shares)
    if frame_labels is not None:
        if config.sdpo_mu is not None:
            raise InputError("sdpo_mu scales whole clips and cannot be used with labels per frame: use none.")
        errors, decided = _better_side_first(errors, frame_labels)
        weight = weight * decided
    winner_diff = errors.winner - errors.winner_reference.detach()
    loser_diff = _scaled_gradient(errors, config) - errors.loser_reference.detach()
    half_beta: Tensor | float = config.beta / 2
    if config.timestep_weight == "epsilon":
        half_beta = half_beta * epsilon_error_factor(sigma, config.prediction)
    hinge = config.dpop_lambda * F.relu(winner_diff)
    logit = -half_beta * (winner_diff - config.loser_scale * loser_diff + hinge)
    smoothing = config.label_smoothing
    losses = (1 - smoothing) * _objective(logit, config.objective)
    if smoothing:
        losses = losses + smoothing * _objective(-logit, config.objective)
    rewards = (-half_beta * winner_diff, -half_beta * loser_diff)
    share = errors.loser_gradient if errors.loser_gradient is not None else torch.ones_like(logit)
    of_pairs = (losses, weight, logit, *rewards, *errors.all(), share, sigma.to(logit))
    return (weight * losses).mean(), PairStats(*(value.detach() for value in of_pairs))


def loser_gradient_scale(
    winner_residual: Tensor, loser_residual: Tensor, mu: float, weights: Tensor | None = None
) -> Tensor:
    """[B] in [0, 1]: the factor of the loser's gradient at which, to first order, the winner's error falls
    by at least `mu` of what its own gradient alone would do.

    clip((1 - mu) |g_w|^2 / <g_w, g_l>, 0, 1), and 1 where the inner product is not positive, with gradients
    g = weights * residual in the model's output, residual = prediction - target [B, ...]. As Diffusion-SDPO
    does, the output stands in for the parameters: exact only if both clips move the output alike. Differs
    from it: one factor for each pair, not for the batch.
    """
    with torch.no_grad():
        winner, loser = winner_residual.float(), loser_residual.float()
        if weights is not None:
            winner, loser = weights * winner, weights * loser
        own = winner.square().flatten(1).sum(1)
        inner = (winner * loser).flatten(1).sum(1)
        allowed = (1.0 - mu) * own / inner.clamp_min(torch.finfo(torch.float32).tiny)
        return torch.where(inner > 0, allowed.clamp(0.0, 1.0), torch.ones_like(inner))


def _objective(logit: Tensor, objective: Objective) -> Tensor:
    if objective == "sigmoid":
        return F.softplus(-logit)
    if objective == "ipo":
        return (logit - 0.5).square()
    return F.relu(1.0 - logit)


def _scaled_gradient(errors: PairErrors, config: PreferenceLossConfig) -> Tensor:
    if config.sdpo_mu is None:
        return errors.loser
    if errors.loser_gradient is None:
        raise InputError("sdpo_mu is set, but the errors have no loser_gradient: use loser_gradient_scale.")
    factor = errors.loser_gradient.detach()
    return factor * errors.loser + (1.0 - factor) * errors.loser.detach()


def _better_side_first(errors: PairErrors, labels: Tensor) -> tuple[PairErrors, Tensor]:
    """[B, F] -> [B]: in each frame the better side becomes the winner; frames without one do not count.

    Also [B] float32: 1 for pairs with a frame that counts.
    """
    swap, counted = labels < 0, labels != 0
    frames = counted.sum(1)

    def mean(upper: Tensor, lower: Tensor) -> Tensor:
        better = torch.where(swap, lower, upper)
        return torch.where(counted, better, 0.0).sum(1) / frames.clamp_min(1)

    winner, loser, winner_reference, loser_reference = errors.all()
    folded = replace(
        errors,
        winner=mean(winner, loser),
        loser=mean(loser, winner),
        winner_reference=mean(winner_reference, loser_reference),
        loser_reference=mean(loser_reference, winner_reference),
    )
    return folded, (frames > 0).float()


def _weights(
    config: PreferenceLossConfig, sigma: Tensor, weights: Tensor | None, axis_shares: Tensor | None
) -> Tensor:
    """[B] float32: what each pair counts at its noise level."""
    weight = torch.ones_like(sigma, dtype=torch.float32)
    if weights is not None:
        weight = weights.to(weight)
    if weight.shape != sigma.shape:
        raise ShapeError(f"Pair weights must be [{len(sigma)}], one a pair; found {list(weight.shape)}.")
    windows = (config.alignment_window, config.fidelity_window)
    if axis_shares is None:
        if any(window != (0.0, 1.0) for window in windows):
            raise InputError("A noise window per axis needs axis_shares [B, 2]; give them, or drop it.")
        return weight
    if axis_shares.shape != (len(sigma), len(AXES)):
        raise ShapeError(f"axis_shares must be [{len(sigma)}, 2]; found {list(axis_shares.shape)}.")
    inside = torch.stack([(low <= sigma) & (sigma <= high) for low, high in windows], dim=1)
    return weight * (inside * axis_shares.to(weight)).sum(1)


def _check_shapes(errors: PairErrors, sigma: Tensor, frame_labels: Tensor | None) -> None:
    batch = len(sigma)
    if sigma.ndim != 1:
        raise ShapeError(f"sigma must be [B], one noise level a pair; found {list(sigma.shape)}.")
    if frame_labels is not None and frame_labels.ndim != 2:
        raise ShapeError(f"frame_labels must be [B, F], B = {batch}; found {list(frame_labels.shape)}.")
    wanted = (batch,) if frame_labels is None else (batch, frame_labels.shape[1])
    for error in errors.all():
        if error.shape != wanted:
            raise ShapeError(
                f"Errors of {batch} pairs must be {list(wanted)}, means over all that a clip (or latent "
                f"frame) has; found {list(error.shape)}. Use clip_errors, or frame_errors with frame_labels."
            )
