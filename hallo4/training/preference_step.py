"""One step of preference training: a batch of pairs -> loss and statistics.

    clean winner, loser --add_noise(same noise, sigma)--> predict --clip_errors--> E_w, E_l    with gradient
                                                  reference.errors --------------> R_w, R_l    without
                                                                  E, R --dpo_loss--> loss, PairStats

Two modes, equal in result. "batched": one pass with 2B clips. "split": the loser's error is computed first,
inside a checkpoint, then the winner's; backward works through the winner, frees it and only then recomputes
the loser, so that the activations of one side live at a time, for one forward pass more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hallo4.diffusion.objective import clip_errors, frame_errors
from hallo4.diffusion.pair_loss import PairErrors, PreferenceLossConfig, dpo_loss, loser_gradient_scale
from hallo4.diffusion.pair_stats import PairStats
from hallo4.training.denoising import Predict, found_and_wanted
from hallo4.training.pair_batch import PairBatch, joined
from hallo4.training.reference import Reference, unwrapped
from hallo4.training.startup_checks import check_start

Mode = Literal["batched", "split"]


def pair_step(
    model: nn.Module,
    batch: PairBatch,
    predict: Predict,
    reference: Reference,
    config: PreferenceLossConfig,
    mode: Mode = "batched",
) -> tuple[Tensor, PairStats]:
    """(loss with gradient, statistics of the pairs); see `dpo_loss`."""
    measure = partial(_measured, unwrapped(model), batch, predict, config, mode)
    with torch.no_grad():
        of_reference = reference.errors(measure, batch)
    winner, loser = _both_sides(model, batch, predict, config, mode)
    scale = None
    if config.sdpo_mu is not None:
        residuals = (winner.residual, loser.residual)
        scale = loser_gradient_scale(*residuals, config.sdpo_mu, batch.loss_weights)
    errors = PairErrors(winner.error, loser.error, *of_reference.to(winner.error), loser_gradient=scale)
    shares = {"axis_shares": batch.axis_shares, "frame_labels": batch.frame_labels}
    return dpo_loss(errors, config, batch.sigma, weights=batch.pair_weights, **shares)


def reference_errors(
    model: nn.Module,
    batch: PairBatch,
    predict: Predict,
    reference: Reference,
    config: PreferenceLossConfig,
    mode: Mode = "batched",
) -> Tensor:
    """[2, B] (or [2, B, F]): what `reference` says about `batch`, for a Table."""
    measure = partial(_measured, unwrapped(model), batch, predict, config, mode)
    with torch.no_grad():
        return reference.errors(measure, batch)


@torch.no_grad()
def evaluate_pairs(
    model: nn.Module,
    batches: Iterable[PairBatch],
    predict: Predict,
    reference: Reference,
    config: PreferenceLossConfig,
    mode: Mode = "batched",
) -> PairStats:
    """Statistics of all `batches`, a fixed held-out set of pairs and draws, on the model as it is."""
    return PairStats.joined([pair_step(model, b, predict, reference, config, mode)[1] for b in batches])


def dpo_objective(
    predict: Predict, reference: Reference, config: PreferenceLossConfig, mode: Mode = "batched"
) -> Callable[[nn.Module, Mapping[str, Any], int], tuple[Tensor, dict[str, float]]]:
    """A `Method` for `hallo4.training.train`, whose batches are mappings with the fields of `PairBatch`.

    At step 0 model and reference must agree (`check_start`).
    """

    def method(model: nn.Module, batch: Mapping[str, Any], step: int) -> tuple[Tensor, dict[str, float]]:
        loss, stats = pair_step(model, PairBatch(**batch), predict, reference, config, mode)
        if step == 0:
            check_start(stats, config)
        return loss, stats.summary()

    return method


# ---------------------------------------------------------------- sides


@dataclass(frozen=True)
class _Side:
    """Errors [B] or [B, F] of one side's clips, and prediction - target without gradient."""

    error: Tensor
    residual: Tensor


def _measured(
    model: nn.Module, batch: PairBatch, predict: Predict, config: PreferenceLossConfig, mode: Mode
) -> Tensor:
    winner, loser = _both_sides(model, batch, predict, config, mode)
    return torch.stack([winner.error, loser.error])


def _both_sides(
    model: nn.Module, batch: PairBatch, predict: Predict, config: PreferenceLossConfig, mode: Mode
) -> tuple[_Side, _Side]:
    """(winners, losers). In split mode the order counts: autograd goes back through what came last first."""
    of_loser = batch.conditions if batch.loser_conditions is None else batch.loser_conditions
    winners = (batch.winner, batch.noise, batch.sigma, batch.conditions, batch.loss_weights)
    losers = (batch.loser, batch.noise, batch.sigma, of_loser, batch.loss_weights)
    one_side = partial(_clip_error, predict, config, batch.frame_labels is not None)
    if mode == "batched":
        error, residual = one_side(model, *joined(winners, losers))
        winner, loser = (_Side(*halves) for halves in zip(error.chunk(2), residual.chunk(2), strict=True))
        return winner, loser
    # the checkpoint runs the model again during backward, which its wrapper for several processes forbids
    last = (unwrapped(model), *losers)
    if torch.is_grad_enabled():
        loser = _Side(*checkpoint(one_side, *last, use_reentrant=False))
    else:
        loser = _Side(*one_side(*last))
    winner = _Side(*one_side(model, *winners))
    return winner, loser


def _clip_error(
    predict: Predict,
    config: PreferenceLossConfig,
    dense: bool,
    model: nn.Module,
    clean: Tensor,
    noise: Tensor,
    sigma: Tensor,
    conditions: Any,
    weights: Tensor | None,
) -> tuple[Tensor, Tensor]:
    found, wanted = found_and_wanted(predict, config.prediction, model, clean, noise, sigma, conditions)
    error = (frame_errors if dense else clip_errors)(found, wanted, weights)
    return error, (found.detach().float() - wanted.float())
