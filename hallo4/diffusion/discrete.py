"""Discrete noise levels of Stable Diffusion: schedule, sigma of a step, and the DDIM loop for UNets.

step         0 (nearly data) ........... 999 (noise)
signal^2     alphas_cumprod[step]; with zero terminal SNR exactly 0 at 999
sigma        sqrt(1 - alphas_cumprod[step]), as `noising` counts it for v and epsilon models
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hallo4.errors import InputError
from hallo4.tables import cached_table
from hallo4.types import StepSchedule

if TYPE_CHECKING:
    from diffusers import DDIMScheduler

TRAIN_STEPS = 1000


def ddim_scheduler(schedule: StepSchedule) -> DDIMScheduler:
    """diffusers' scheduler for a v model: trailing steps, no clipping (Hallo 1's settings)."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=TRAIN_STEPS,
        beta_schedule=schedule.beta_schedule,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        rescale_betas_zero_snr=schedule.zero_terminal_snr,
        timestep_spacing="trailing",
        prediction_type="v_prediction",
        steps_offset=1,
        clip_sample=False,
    )


@cached_table
def _squared_sigmas(schedule: StepSchedule) -> Tensor:
    return 1.0 - ddim_scheduler(schedule).alphas_cumprod.double()


def step_sigma(timestep: Tensor, schedule: StepSchedule) -> Tensor:
    """Sigma [B] in [0, 1], float32, of training steps `timestep` [B] 0..999, as `add_noise` takes it."""
    return _squared_sigmas(schedule)[timestep.long().cpu()].sqrt().float().to(timestep.device)


def sigma_step(sigma: Tensor, schedule: StepSchedule) -> Tensor:
    """The training step [B] (int64) whose sigma is nearest to `sigma` [B] in [0, 1]."""
    sigmas = _squared_sigmas(schedule).sqrt()
    above = torch.searchsorted(sigmas, sigma.double().cpu()).clamp(1, TRAIN_STEPS - 1)
    nearer_below = sigma.double().cpu() - sigmas[above - 1] < sigmas[above] - sigma.double().cpu()
    return torch.where(nearer_below, above - 1, above).to(sigma.device)


def model_timestep(sigma: Tensor, schedule: StepSchedule | None) -> Tensor:
    """The timesteps [B], float32, that a backbone with this `schedule` is given for noise levels `sigma` [B]:
    1000 sigma in a flow model (None), else the nearest step."""
    return 1000.0 * sigma if schedule is None else sigma_step(sigma, schedule).float()


@torch.no_grad()
def denoise_ddim(
    predict: Callable[[Tensor, Tensor], Tensor],
    latents: Tensor,
    steps: int,
    schedule: StepSchedule,
    *,
    pin: Callable[[Tensor], Tensor] | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Follow v predictions from noise `latents` [B, ...] at step 999 to data; same shape and type.

    `predict(latents, timestep)`: v = alpha noise - sigma data, guided if need be; `timestep` [B] float32, a
    whole number. `pin` and `on_step` as in `sampling.denoise`. DDIM (arXiv 2010.02502) with eta 0: nothing is
    drawn. diffusers goes 1000 // steps back from each step, so counts that do not divide 1000 may end at step
    0 (sigma 0.03) instead of at the data: prefer 8, 10, 20, 25 or 40. InputError unless 1 <= steps <= 1000.
    """
    if not 1 <= steps <= TRAIN_STEPS:
        raise InputError(
            f"The number of sampling steps must be 1 to {TRAIN_STEPS}; found {steps}. Use for example 40."
        )
    scheduler = ddim_scheduler(schedule)
    scheduler.set_timesteps(steps)
    for done, timestep in enumerate(scheduler.timesteps, start=1):
        if pin is not None:
            latents = pin(latents)
        predicted = predict(latents, timestep.float().to(latents.device).expand(len(latents)))
        latents = scheduler.step(predicted, timestep, latents, eta=0.0, return_dict=False)[0]
        if on_step is not None:
            on_step(done)
    return latents
