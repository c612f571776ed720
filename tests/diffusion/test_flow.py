"""Noising, targets, noise levels, guidance and losses against closed forms."""

import math

import numpy as np
import pytest
import torch
from diffusers import UniPCMultistepScheduler

from hallo4.diffusion import (
    add_noise,
    clip_errors,
    flow_sigmas,
    guide,
    sample_sigma,
    sft_loss,
    velocity_target,
)
from hallo4.errors import InputError, ShapeError


def pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def test_noising_is_a_straight_line_whose_slope_is_the_target():
    data, noise = (x.double() for x in pair(3, 2, 4))
    assert torch.equal(add_noise(data, noise, torch.zeros(3)), data)
    assert torch.equal(add_noise(data, noise, torch.ones(3)), noise)
    sigma = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    slope = (add_noise(data, noise, sigma + 1e-6) - add_noise(data, noise, sigma - 1e-6)) / 2e-6
    torch.testing.assert_close(slope, velocity_target(data, noise), rtol=1e-6, atol=1e-6)
    # and so the data can be read off any point
    noisy = add_noise(data, noise, sigma)
    torch.testing.assert_close(noisy - sigma[:, None, None] * velocity_target(data, noise), data)


@pytest.mark.parametrize(("steps", "shift"), [(1, 1.0), (6, 8.0), (25, 8.0), (16, 3.0), (50, 5.0)])
def test_sigmas_are_those_of_the_scheduler(steps, shift):
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )
    scheduler.set_timesteps(sigmas=np.linspace(0.999, 0, steps + 1)[:-1])
    torch.testing.assert_close(flow_sigmas(steps, shift).float(), scheduler.sigmas, rtol=0, atol=1e-7)


def test_released_timesteps():
    timesteps = (1000 * flow_sigmas(25, 8.0)[:-1]).int().tolist()
    assert (timesteps[:3], timesteps[-1], len(timesteps)) == ([999, 994, 989], 249, 25)


@pytest.mark.parametrize("bad", [(0, 8.0), (-1, 8.0), (4, 0.0), (4, -1.0), (4, math.nan)])
def test_impossible_schedules_are_refused(bad):
    with pytest.raises(InputError, match="must be"):
        flow_sigmas(*bad)


def draws(**options) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.stack([sample_sigma(4, generator, **options) for _ in range(2000)])  # [2000, 4]


def test_each_training_sigma_alone_is_logit_normal():
    sigma = draws(mean=0.5, std=1.5)[:, 0].double()
    assert sigma.min() > 0
    assert sigma.max() < 1
    normal = (torch.logit(sigma) - 0.5) / 1.5
    uniform = torch.special.ndtr(normal).sort().values
    distance = (uniform - (torch.arange(2000) + 0.5) / 2000).abs().max()  # Kolmogorov-Smirnov
    assert distance < 1.63 / math.sqrt(2000)


def test_shifted_uniform_sigmas_undo_to_uniform_times():
    sigma = draws(shift=8.0, distribution="uniform")[:, 2].double()
    time = (sigma / (8 - 7 * sigma)).sort().values
    assert (time - (torch.arange(2000) + 0.5) / 2000).abs().max() < 1.63 / math.sqrt(2000)


def test_a_batch_covers_every_quarter_of_the_times():
    time = draws(distribution="uniform")
    assert torch.equal((time * 4).floor().sort(dim=1).values, torch.arange(4.0).expand(2000, 4))
    with pytest.raises(InputError, match="'logit_normal' or 'uniform'"):
        sample_sigma(2, distribution="cosine")


def test_sigmas_depend_on_the_generator_alone():
    first = sample_sigma(5, torch.Generator().manual_seed(3))
    torch.rand(7)
    assert torch.equal(first, sample_sigma(5, torch.Generator().manual_seed(3)))


def test_guidance_goes_along_the_line():
    uncond, cond = pair(2, 3)
    assert torch.equal(guide(uncond, cond, 0.0), uncond)
    torch.testing.assert_close(guide(uncond, cond, 1.0), cond)
    torch.testing.assert_close(guide(uncond, cond, 6.0) - cond, 5 * (cond - uncond))


def test_loss_is_the_mean_over_clips_of_weighted_means():
    prediction, target = pair(3, 2, 4, 5)
    torch.testing.assert_close(sft_loss(prediction, target), (prediction - target).pow(2).mean())
    weights = torch.rand(3, 1, 4, 5) + 0.1
    slow = [
        sum(
            float(weights[b, 0, i, j]) * float(prediction[b, c, i, j] - target[b, c, i, j]) ** 2
            for c in range(2)
            for i in range(4)
            for j in range(5)
        )
        / (2 * float(weights[b].sum()))
        for b in range(3)
    ]
    errors = clip_errors(prediction, target, weights)
    torch.testing.assert_close(errors, torch.tensor(slow))
    torch.testing.assert_close(sft_loss(prediction, target, weights), errors.mean())
    rescaled = weights * torch.tensor([1.0, 10.0, 0.1])[:, None, None, None]
    torch.testing.assert_close(clip_errors(prediction, target, rescaled), errors)


def test_loss_is_computed_in_float32():
    prediction = torch.full((1, 70000), 1.0, dtype=torch.float16)
    loss = sft_loss(prediction, torch.zeros_like(prediction))
    assert loss.dtype == torch.float32
    assert loss == 1.0  # a sum in float16 would be infinite
    with pytest.raises(ShapeError, match=r"\[2, 3\] and \[2, 1\]"):
        sft_loss(torch.zeros(2, 3), torch.zeros(2, 1))
