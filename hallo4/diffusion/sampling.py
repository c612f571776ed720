"""Noise -> latents: the sampling loop, around the UniPC solver of diffusers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hallo4.diffusion.flow import flow_sigmas


@torch.no_grad()
def denoise(
    velocity: Callable[[Tensor, Tensor], Tensor],
    latents: Tensor,
    steps: int,
    shift: float,
    *,
    pin: Callable[[Tensor], Tensor] | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Follow `velocity` from noise `latents` [B, ...] at sigma 1 to data at sigma 0; same shape and type.

    `velocity(latents, timestep)`: noise - data, guided if need be; `timestep` [B] float32 on the latents'
    device, 1000 sigma cut to a whole number as in the released code. `pin(latents)` puts what is known
    into the sample before every step. `on_step(steps done)` is called after every step; what it raises
    ends the loop (cancel).
    UniPC of order 2 (arXiv 2302.04867) on `flow_sigmas(steps, shift)`; nothing is kept between calls.
    InputError unless steps >= 1 and shift > 0.
    """
    from diffusers import UniPCMultistepScheduler

    sigmas = flow_sigmas(steps, shift)
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    scheduler.set_timesteps(sigmas=sigmas[:-1].numpy())  # it adds the 0 at the end; a list would be refused
    for done, timestep in enumerate(scheduler.timesteps, start=1):
        if pin is not None:
            latents = pin(latents)
        batch_timestep = timestep.float().to(latents.device).expand(len(latents))
        toward = velocity(latents, batch_timestep)
        latents = scheduler.step(toward, timestep, latents, return_dict=False)[0]
        if on_step is not None:
            on_step(done)
    return latents
