"""Temporal motion modulation in a UNet: skeletons at twice the frame rate, against one for every frame.

    tiny-unet-sft --with_skeleton_rho--> the same network, given rho skeletons a frame, of which it keeps e
    trained further on people of whom some move two and four times as fast, as long for every variant
    --hallo4 evaluate motion--> how fast a motion it follows, and how late

rho 1 is the paper's UNet; rho 2 with an expansion of 1 keeps the second of two skeletons alone, half a frame
late: the ablation.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import torch

from hallo4.data.clips import ClipStoreConfig
from hallo4.models.portrait_unet import PortraitUNet
from hallo4.ranges import Range
from hallo4.recipes.recipe import Recipe
from hallo4.recipes.tiny_models import fine_tune_tiny
from hallo4.recipes.tiny_unet import TinyUNetConfig, build_unet, describe_unet, tiny_unet_training
from hallo4.recipes.tmm_expansion import fast_clips
from hallo4.training import ScheduleConfig, TrainConfig

SkeletonRho = Annotated[int, Range(1, 16)]
"""Skeletons of a frame."""


@dataclass(frozen=True, kw_only=True)
class RateConfig(TinyUNetConfig):
    """`TinyUNetConfig` of one variant: `skeleton_rho` skeletons a frame, of which `skeleton_expansion` are
    kept (None: all). Stop all variants after the same `train.steps`."""

    model_name: str = "unet-rate"
    skeleton_rho: SkeletonRho = 2
    skeleton_expansion: SkeletonRho | None = None
    model: str | None = "tiny-unet-sft"
    clips: ClipStoreConfig = field(default_factory=fast_clips)
    clips_folder: str = "runs/clips_fast"
    latents_folder: str = "runs/image_latents_fast"
    train: TrainConfig = field(
        default_factory=lambda: replace(
            tiny_unet_training("unet-rate", steps=100, max_minutes=None),
            schedule=ScheduleConfig(warmup_steps=20, anneal_fraction=0.7, final_fraction=0.02),
        )
    )


def with_skeleton_rho(model: PortraitUNet, rho: int, expansion: int | None = None) -> PortraitUNet:
    """`model`, built for one skeleton a frame, now given `rho`; other weights shared.

    Where all are kept, its guider reads the first, which belongs to the frame, as before, and the others with
    weights of zero, so that nothing changes yet. Where only some are kept, the last reads as the first did.
    """
    changes = {"skeleton_fps": rho * model.config.fps, "skeleton_expansion": expansion}
    changed = PortraitUNet.from_config(dict(model.config) | changes)
    state = dict(model.state_dict())
    kernel, wide = "skeleton_guider.conv_in.weight", changed.skeleton_guider.conv_in.weight
    own = state[kernel]
    state[kernel] = torch.zeros_like(wide)
    place = 0 if expansion in (None, rho) else wide.shape[1] - own.shape[1]
    state[kernel][:, place : place + own.shape[1]] = own
    changed.load_state_dict(state)
    return changed


def run(config: RateConfig, folder: Path) -> Path:
    """See `fine_tune_tiny`."""
    return fine_tune_tiny(
        *(config, folder, lambda code: build_unet(config.sizes, code), describe_unet),
        adapt=lambda model: with_skeleton_rho(model, config.skeleton_rho, config.skeleton_expansion),
    )


def recipe() -> Recipe:
    """One variant of the comparison of rates."""
    summary = "ablation: a tiny UNet given one or two skeletons a frame"
    return Recipe("unet-rate", summary, RateConfig(), run)
