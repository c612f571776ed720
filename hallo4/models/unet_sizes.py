"""Sizes of the tiny UNet that two cores can train, and what a UNet of any size costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from hallo4.models.portrait_guides import pyramid_sizes
from hallo4.models.portrait_unet import PortraitUNet
from hallo4.types import FPS, MotionConditions


def tiny_unet_config(latent_channels: int = 4, condition_rho: int = 1) -> dict[str, Any]:
    """`PortraitUNet` arguments for 128x128 pictures (16x16 cells), sound as log-mel, trained from scratch.

    `latent_channels` of the image autoencoder; `condition_rho` 2: sound at 50 Hz and skeletons at 50 fps.
    6.9 million parameters (denoiser 4.0, reference network 2.2, sound 0.4; 14 MB as bf16). With 8 latent
    channels a window of 14 frames after 2 known ones, as Hallo 1 trains, takes 1.6 GFLOP once and 6.6 a step,
    a training example 24 (`unet_cost`): nothing is compressed in time.

    Against the released sizes: three levels of one layer, and no face embedding: portraits of the world
    have none, the reference network carries who it is. Sound lies side by side in the channels, so that the
    model can tell its sub-frames apart. Heads have 32 channels: four of 8 would make a training step on two
    cores 1.5 times as long, most of it in the softmax of 256 cells over 512.
    """
    return {
        "in_channels": latent_channels,
        "block_out_channels": [32, 64, 96],
        "layers_per_block": 1,
        "num_attention_heads": [1, 2, 3],
        "norm_num_groups": 16,
        "cross_attention_dim": 64,
        "face": "optional",
        "face_embedding_dim": 1,
        "face_tokens": 1,
        "audio_attention_dim": 48,
        "audio_rate_hz": condition_rho * FPS,
        "audio_blocks": 4,
        "audio_channels": 40,
        "audio_hidden_dim": 384,
        "audio_tokens": 4,
        "audio_axis": "channel",
        "skeleton": "optional",
        "skeleton_fps": condition_rho * FPS,
        "skeleton_hidden_dim": 64,
        "branch_init_std": 0.02,
    }


@dataclass(frozen=True)
class UNetCost:
    """`parameters` by part; multiplications and additions of one window, forward, in GFLOP: `prepare_gflop`
    once (projections, reference network) and `step_gflop` for each prediction."""

    parameters: Mapping[str, int]
    prepare_gflop: float
    step_gflop: float

    @property
    def training_gflop(self) -> float:
        """One training example, forward and backward: three times a forward of everything."""
        return 3 * (self.prepare_gflop + self.step_gflop)


def unet_cost(config: Mapping[str, Any], frames: int, height: int, width: int) -> UNetCost:
    """What `PortraitUNet(**config)` costs for one window of `frames` frames of `height` x `width` cells.

    Counted on the meta device: no memory is used and nothing is computed.
    """
    with torch.device("meta"):
        model = PortraitUNet(**config).eval()
        conditions = _example(model, frames, height, width)
        noise = torch.empty(1, *model.sample_shape(frames, height, width))
        with torch.no_grad(), FlopCounterMode(display=False) as preparing:
            window = model.embedded(conditions, None)
        # which clips see the portrait is asked of the values, which a meta tensor has not
        given = torch.ones(1, dtype=torch.bool, device="cpu")
        cache = model.new_cache(budget_bytes=0)
        cache.fill(replace(window, portrait_given=given), key_value_bytes=1)
        with torch.no_grad(), FlopCounterMode(display=False) as stepping:
            model(noise, torch.zeros(1), conditions, cache)
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    return UNetCost(parts, preparing.get_total_flops() / 1e9, stepping.get_total_flops() / 1e9)


def _example(model: PortraitUNet, frames: int, height: int, width: int) -> MotionConditions:
    """Conditions of one window on the default device, all kinds that the model takes."""
    config = model.config
    channels, levels = config.in_channels, len(config.block_out_channels)
    sound = (config.audio_window, config.audio_blocks, config.audio_channels)
    skeleton = None
    if config.skeleton != "none":
        skeleton = torch.empty(1, channels, model.windows.skeleton_rho * frames, height, width)
    known, cell = config.motion_frames, model.windows.cell_px
    return MotionConditions(
        reference_latents=torch.empty(1, channels, 1, height, width),
        audio_windows=torch.empty(1, model.windows.audio_rho * frames, *sound),
        skeleton_latents=skeleton,
        motion_latents=torch.empty(1, channels, known, height, width) if known else None,
        face_embedding=torch.empty(1, config.face_embedding_dim),
        locator_01=torch.empty(1, 3, 1, cell * height, cell * width),
        region_masks=torch.empty(1, frames, 3, sum(pyramid_sizes(height, width, levels))),
    )
