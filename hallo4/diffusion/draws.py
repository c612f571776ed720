"""What is random about one visit of a preference pair, drawn by key.

    (seed, pair, visit) -> sigma, noise, dropped

Both clips of the pair share the draw: without that the margin is 2.7 times noisier (dpo.md section 1). It is
made on the CPU and depends on the key alone, so order of data, number of workers, device and resume change
nothing, and what the reference model says about it may be computed beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated

import torch
from torch import Tensor

from hallo4.diffusion.flow import Distribution, sigma_at
from hallo4.diffusion.keyed import keyed_generator
from hallo4.ranges import FlowShift, Positive, Range, Seed, Share, check_ranges, check_rising


@dataclass(frozen=True)
class PairDrawConfig:
    """The distribution of draws. Take shift, distribution, mean and std of the fine-tuning before.

    `sigma_range`: sigmas outside are moved to its ends; near 1 both clips look alike. `strata`: of so many
    visits in a row, each draws from another one of as many equally likely slices of sigma. `drop_rate`:
    fraction of draws in which the caller leaves the conditions out, of both clips. For models with discrete
    timesteps take distribution "uniform", shift 1 and timestep floor(T sigma).
    InputError for a value out of range.
    """

    seed: Seed = 0
    shift: FlowShift = 1.0
    distribution: Distribution = "logit_normal"
    mean: Annotated[float, Range(-100, 100)] = 0.0
    std: Positive = 1.0
    sigma_range: tuple[Share, Share] = (0.02, 0.98)
    strata: Annotated[int, Range(1, 10_000)] = 8
    drop_rate: Share = 0.0

    def __post_init__(self) -> None:
        """See the class."""
        check_ranges(self, "{} of a pair's draw".format)
        check_rising(self, "sigma_range", named="{} of a pair's draw".format)


@dataclass(frozen=True)
class PairDraw:
    """One draw, on the CPU: `sigma` [] float32, `noise` like a clip's latents, float32, `dropped` [] bool.

    Of several pairs: the same with B in front.
    """

    sigma: Tensor
    noise: Tensor
    dropped: Tensor


def pair_draw(config: PairDrawConfig, pair_id: str | int, visit: int, shape: Sequence[int]) -> PairDraw:
    """The draw of visit `visit` (from 0) of the pair `pair_id`, whose latents have `shape` [C, F, h, w]."""
    key = (config.seed, pair_id)
    block, slot = divmod(visit, config.strata)
    slices = torch.randperm(config.strata, generator=keyed_generator("pair slices", *key, block))
    generator = keyed_generator("pair draw", *key, visit)
    offset = torch.rand((), generator=generator, dtype=torch.float64)
    dropped = torch.rand((), generator=generator) < config.drop_rate
    time = (slices[slot] + offset) / config.strata
    sigma = sigma_at(time, config.shift, config.distribution, config.mean, config.std)
    noise = torch.randn(tuple(shape), generator=keyed_generator("pair noise", *key, visit))
    return PairDraw(sigma.clamp(*config.sigma_range), noise, dropped)


def pair_draws(
    config: PairDrawConfig, pair_ids: Sequence[str | int], visits: Sequence[int], shape: Sequence[int]
) -> PairDraw:
    """`pair_draw` of B pairs at their own visits, stacked."""
    names = [field.name for field in fields(PairDraw)]
    draws = [pair_draw(config, pair, int(visit), shape) for pair, visit in zip(pair_ids, visits, strict=True)]
    return PairDraw(*(torch.stack([getattr(d, name) for d in draws]) for name in names))
