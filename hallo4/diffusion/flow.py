"""Noise levels of flow matching, for sampling and for training; sigma 1 is noise, 0 is data."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hallo4.errors import InputError

Distribution = Literal["logit_normal", "uniform"]

FIRST_TIME = 0.999
"""Where sampling starts, before the shift, as in the released code (1 - 1/1000)."""


def shift_time(time: Tensor, shift: float) -> Tensor:
    """Sigma for an unshifted `time` in [0, 1]: shift t / (1 + (shift - 1) t); more noise for a shift above 1.

    Stable Diffusion 3 (arXiv 2403.03206, eq. 23).
    """
    return shift * time / (1.0 + (shift - 1.0) * time)


def flow_sigmas(steps: int, shift: float) -> Tensor:
    """[steps + 1] float64: the noise levels of sampling, from about 1 down to 0.

    The released schedule: linspace(0.999, 0, steps + 1), shifted. InputError unless steps >= 1 and shift > 0.
    """
    if steps < 1:
        raise InputError(
            f"The number of sampling steps must be at least 1; found {steps}. Use for example 25."
        )
    if not shift > 0:
        raise InputError(f"The shift of the noise levels must be above 0; found {shift}. 1 means no shift.")
    times = torch.from_numpy(np.linspace(FIRST_TIME, 0.0, steps + 1))
    return shift_time(times, shift)


def sample_sigma(
    batch: int,
    generator: torch.Generator | None = None,
    shift: float = 1.0,
    distribution: Distribution = "logit_normal",
    mean: float = 0.0,
    std: float = 1.0,
) -> Tensor:
    """[batch] float32 on the CPU, in (0, 1): noise levels for training.

    `logit_normal`: the logistic function of a normal number with `mean` and `std` (arXiv 2403.03206, eq. 19);
    `uniform`: times in (0, 1). Either is then shifted as in sampling. Differs from both papers: a batch
    takes one sample from each of `batch` equally likely slices, in random order. Each sigma alone has the
    distribution stated, but the mean over a batch varies less. `generator` None: torch's global one.
    """
    slices = torch.randperm(batch, generator=generator).double()
    offsets = torch.rand(batch, generator=generator, dtype=torch.float64)
    return sigma_at((slices + offsets) / batch, shift, distribution, mean, std)


def sigma_at(
    time: Tensor, shift: float, distribution: Distribution, mean: float = 0.0, std: float = 1.0
) -> Tensor:
    """Float32 of `time`'s shape: the sigma below which a fraction `time` of all training sigmas lies
    (`sample_sigma` has the distributions). InputError for an unknown one."""
    time = time.clamp(1e-7, 1.0 - 1e-7)
    if distribution == "logit_normal":
        time = torch.sigmoid(mean + std * torch.special.ndtri(time))
    elif distribution != "uniform":
        raise InputError(
            f"The distribution of sigma must be 'logit_normal' or 'uniform'; found {distribution!r}."
        )
    return shift_time(time, shift).float()
