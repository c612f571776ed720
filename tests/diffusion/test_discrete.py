"""Discrete noise levels and DDIM for UNets."""

import pytest
import torch

from hallo4.diffusion.discrete import (
    StepSchedule,
    ddim_scheduler,
    denoise_ddim,
    model_timestep,
    sigma_step,
    step_sigma,
)
from hallo4.diffusion.noising import add_noise, target
from hallo4.errors import InputError

SCHEDULES = [StepSchedule(), StepSchedule(beta_schedule="linear")]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_last_step_is_pure_noise_and_sigma_rises(schedule):
    sigma = step_sigma(torch.arange(1000), schedule)
    assert sigma[-1] == 1.0
    assert (sigma.diff() > 0).all()
    assert sigma[0] == pytest.approx(0.00085**0.5, rel=1e-3)  # the first step is left as it was
    not_rescaled = step_sigma(torch.tensor([999]), StepSchedule(zero_terminal_snr=False))
    assert not_rescaled.item() == pytest.approx(0.99766, abs=1e-4)  # Stable Diffusion's famous remainder


def test_released_inference_is_not_the_schedule_of_training():
    training, inference = (step_sigma(torch.tensor([500]), schedule) for schedule in SCHEDULES)
    assert (inference - training).item() > 0.05


def test_a_model_is_told_a_thousand_sigma_or_the_nearest_step():
    sigma = torch.tensor([0.25, 1.0])
    assert model_timestep(sigma, None).tolist() == [250.0, 1000.0]
    steps = torch.tensor([17, 999])
    told = model_timestep(step_sigma(steps, StepSchedule()), StepSchedule())
    assert told.tolist() == [17.0, 999.0]
    assert told.dtype == torch.float32


def test_sigma_and_step_are_inverse():
    steps = torch.arange(1000)
    assert torch.equal(sigma_step(step_sigma(steps, StepSchedule()), StepSchedule()), steps)
    between = step_sigma(torch.tensor([500, 501]), StepSchedule())
    assert sigma_step(between[:1] * 0.9 + between[1:] * 0.1, StepSchedule()).item() == 500


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_noising_agrees_with_diffusers(schedule):
    data, noise = torch.randn(3, 4, 2, 2, 2), torch.randn(3, 4, 2, 2, 2)
    steps = torch.tensor([0, 400, 999])
    scheduler = ddim_scheduler(schedule)
    sigma = step_sigma(steps, schedule)
    assert torch.allclose(
        add_noise(data, noise, sigma, "v"), scheduler.add_noise(data, noise, steps), atol=1e-6
    )
    assert torch.allclose(
        target(data, noise, sigma, "v"), scheduler.get_velocity(data, noise, steps), atol=1e-6
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 8, 40])
def test_a_perfect_model_of_one_clip_is_led_to_it(schedule, steps):
    """Knowing the data, v follows from the noisy sample, and DDIM ends at the data from any noise."""
    data = torch.randn(2, 4, 2, 3, 3)
    seen = []

    def predict(latents, timestep):
        seen.append(timestep)
        sigma = step_sigma(timestep, schedule).view(-1, 1, 1, 1, 1)
        alpha = (1 - sigma**2).clamp_min(0).sqrt()
        return alpha * (latents - alpha * data) / sigma - sigma * data

    done = []
    found = denoise_ddim(predict, torch.randn_like(data), steps, schedule, on_step=done.append)
    assert torch.allclose(found, data, atol=2e-3)
    assert done == list(range(1, steps + 1))
    assert seen[0].tolist() == [999.0, 999.0]  # trailing: sampling starts from pure noise


def test_the_sample_is_pinned_before_every_step():
    pinned = []

    def pin(latents):
        pinned.append(1)
        return torch.zeros_like(latents)

    denoise_ddim(lambda latents, _: latents, torch.randn(1, 2), 5, StepSchedule(), pin=pin)
    assert len(pinned) == 5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"beta_schedule": "cosine"}, "beta_schedule is 'cosine'"),
        ({"beta_start": 0.5}, "betas go from 0.5 to 0.012"),
    ],
)
def test_impossible_schedules_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        StepSchedule(**wrong)


@pytest.mark.parametrize("steps", [0, 1001])
def test_impossible_step_counts_are_refused(steps):
    with pytest.raises(InputError, match=f"must be 1 to 1000; found {steps}"):
        denoise_ddim(lambda latents, _: latents, torch.randn(1, 2), steps, StepSchedule())
