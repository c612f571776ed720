"""A video that begins as a still picture: a network says how its data differ from it, not what they are."""

from __future__ import annotations

from torch import Tensor

LEAST_SIGMA = 0.1
"""The velocity divides by sigma, but by no less than this."""


def velocity_from_change(noisy: Tensor, still: Tensor, change: Tensor, sigma: Tensor, std: Tensor) -> Tensor:
    """Velocity (noisy - data) / sigma with data = still + std * change, all [B, C, F, h, w].

    `sigma` [B] in [0, 1]; `std` [C]: the usual size of changes. A network whose last layer starts at zero
    starts as the still picture; where nothing moves it has nothing to do, and it never has to hand the noise
    through. That it gives data, not velocity, is as in arXiv 2511.13720. Below `LEAST_SIGMA` the velocity is
    too small: a sampler with steps there would lag behind.
    """
    data = still + std.view(1, -1, 1, 1, 1) * change
    return (noisy - data) / sigma.clamp_min(LEAST_SIGMA).view(-1, 1, 1, 1, 1)
