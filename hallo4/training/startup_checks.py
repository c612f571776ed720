"""What must hold before preference training is worth its time."""

from __future__ import annotations

import math

import torch
from torch import nn

from hallo4.diffusion.pair_loss import PreferenceLossConfig
from hallo4.diffusion.pair_stats import PairStats
from hallo4.errors import InputError

START_TOLERANCE = 1e-3
"""Largest deviation of a pair's first loss from its value for equal models."""
MOVED_FRACTION = 0.5
"""Least fraction of weights that one step at the learning rate must change."""


def check_start(stats: PairStats, config: PreferenceLossConfig) -> None:
    """InputError unless every pair's loss is what it is when model and reference agree (log 2 for DPO).

    It is not when they run in different number formats, with dropout, or are not the same weights.
    """
    off = float((stats.loss - config.initial_loss).abs().max())
    if math.isnan(off):
        raise InputError(
            "The first loss of a pair is not a number: its latents or weights are broken, or its loss "
            "weights are zero everywhere. Look at the pairs of the first batch."
        )
    if off >= START_TOLERANCE:
        raise InputError(
            f"Before the first step every pair must have a loss of {config.initial_loss:.4f}, but one is "
            f"{off:.2g} away (logit {float(stats.logit.abs().max()):.2g}): model and reference differ. "
            "Use the same weights, number format (autocast) and no dropout for both."
        )


def check_learning_rate(model: nn.Module, learning_rate: float) -> None:
    """InputError when a step of `learning_rate`, which is what Adam makes, would be lost to rounding.

    Counts how many nonzero trainable weights change when so much is added; at least half must.
    """
    total = moved = 0
    coarsest = None
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16):
            weights = parameter.detach()[parameter.detach() != 0]
            total += weights.numel()
            moved += int((weights + learning_rate != weights).sum())
            coarsest = parameter.dtype
    if total and moved < MOVED_FRACTION * total:
        kind = str(coarsest).removeprefix("torch.")
        raise InputError(
            f"A step of {learning_rate:g} changes {100 * moved / total:.1f} % of the trained {kind} weights: "
            "it is below their resolution. Keep trained weights in float32, or raise the learning rate."
        )
