"""Latents as large as what they show: which channels a diffusion model has to get right first.

Channels of unit variance count the same in a loss on latents, and drown in noise at the same level. Those of
a code that began as principal components do not show the same: the first one is the brightness of a cell, the
last a detail that hardly changes a pixel. With larger latents for channels that show more, an error weighs
more the more it shows, in fine-tuning and in preference optimization alike, and coarse things come out of the
noise first, as they do from pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hallo4.models.autoencoder import TinyVideoAutoencoder

NUDGE = 0.1
"""Standard deviation of the noise by which a channel is changed, in those of the latents."""
LEAST_SHOWN = 1e-6
"""Of a channel that shows nothing."""


@torch.no_grad()
def shown_by_channel(model: TinyVideoAutoencoder, latents: Tensor) -> Tensor:
    """[C], sum 1: mean squared change of the decoded pixels when one channel of `latents` [n, C, h, w] (of
    unit variance) is changed a little by noise, as a share of that of all channels."""
    still, shown = model.decode_groups(latents), []
    generator = torch.Generator().manual_seed(0)
    noise = NUDGE * torch.randn(latents[:, 0].shape, generator=generator).to(latents)
    for channel in range(latents.shape[1]):
        changed = latents.clone()
        changed[:, channel] += noise
        shown.append((model.decode_groups(changed) - still).float().square().mean())
    return torch.stack(shown) / torch.stack(shown).sum()


@torch.no_grad()
def emphasize(model: TinyVideoAutoencoder, latents: Sequence[Tensor], emphasis: float) -> None:
    """Make the variance of channel c of the latents of `model` w_c from now on, with mean 1 over the channels
    and w_c proportional to `shown_by_channel` ** `emphasis`, its mean over `latents`.

    `latents`: any number of [n, C, h, w] as the model encodes them now, with unit variance
    (`fit_latent_statistics`). `emphasis` 0 changes nothing, with 1 a squared error of latents is one of
    pixels, as far as decoding is linear. Decoding follows.
    """
    shown = torch.stack([shown_by_channel(model, some) for some in latents]).mean(0)
    weights = shown.clamp_min(LEAST_SHOWN) ** emphasis
    model.latent_std.mul_((weights / weights.mean()).rsqrt().to(model.latent_std))
