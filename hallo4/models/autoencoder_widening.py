"""A tiny autoencoder with more latent channels than one that has been trained, which it continues."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hallo4.errors import ShapeError
from hallo4.models.autoencoder import TinyVideoAutoencoder

CHUNK = 8
"""Groups of frames that are coded at once."""
RIDGE = 1e-4
"""Of the mean variance of the patches; their smallest components are not to be divided by."""


@torch.no_grad()
def widened(
    model: TinyVideoAutoencoder, channels: int, groups_pm1: Tensor
) -> tuple[TinyVideoAutoencoder, Tensor]:
    """A model of `channels` latent channels that continues `model`, and how much of the error of that one on
    `groups_pm1` [n, 3, 4, H, W] the new channels explain, a scalar tensor in [0, 1].

    The first channels are those of `model`. The others, on the linear path alone, are the best linear code of
    what `model` leaves of these groups (reduced-rank regression of its error on the folded patches), with
    unit variance. ShapeError unless `channels` is more than `model` has.
    """
    had = model.config.latent_channels
    if channels <= had:
        raise ShapeError(
            f"TinyVideoAutoencoder: a code of {had} channels is widened to more; found {channels}."
        )
    made = torch.cat([model.decode_groups(model.encode_groups(chunk)) for chunk in groups_pm1.split(CHUNK)])
    patches, missed = (model.folded_cells(seen.double()) for seen in (groups_pm1, groups_pm1 - made))
    mean, centred = patches.mean(0), missed - missed.mean(0)
    patches = patches - mean
    within = patches.T @ patches
    ridge = RIDGE * within.diagonal().mean() * torch.eye(len(within), dtype=within.dtype)
    regression = torch.linalg.solve(within + ridge, patches.T @ centred)
    fitted = patches @ regression
    directions = torch.linalg.eigh(fitted.T @ fitted).eigenvectors[:, had - channels :].flip(1)
    codes = fitted @ directions
    scale = codes.std(0).clamp_min(1e-9)
    encoding = ((regression @ directions) / scale).T

    wide = TinyVideoAutoencoder.from_config({**model.config, "latent_channels": channels})
    nn.init.zeros_(wide.decoder[0].weight)
    state = wide.state_dict()  # its tensors are those of the model
    for name, value in model.state_dict().items():
        state[name][tuple(map(slice, value.shape))] = value
    state["linear_encoder.weight"][had:, :, 0, 0] = encoding
    state["linear_encoder.bias"][had:] = -encoding @ mean
    state["linear_decoder.weight"][:, had:, 0, 0] = directions * scale
    state["linear_decoder.bias"] += missed.mean(0)
    left = (centred - codes @ directions.T).square().sum() / centred.square().sum().clamp_min(1e-12)
    return wide, 1 - left.float()
