"""Models of both kinds, and copies of them elsewhere."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest


@pytest.fixture(scope="session")
def tiny_unet():
    """A UNet of pictures with random weights for 32x32 pixels, that drops patches of what it knows."""
    import torch

    from hallo4.models.autoencoder import TinyVideoAutoencoder
    from hallo4.models.log_mel import LogMelFrontEnd
    from hallo4.models.portrait_unet import PortraitUNet
    from hallo4.pipelines import ModelInfo
    from hallo4.pipelines.model_folder import LoadedModel

    torch.manual_seed(0)
    front_end = LogMelFrontEnd()
    unet = PortraitUNet(
        in_channels=4, block_out_channels=[8, 8, 16], layers_per_block=1, num_attention_heads=2,
        norm_num_groups=4, cross_attention_dim=8, face="optional", face_embedding_dim=1, face_tokens=1,
        audio_attention_dim=8, audio_blocks=front_end.blocks, audio_channels=40, audio_hidden_dim=8,
        audio_tokens=2, skeleton="optional", skeleton_hidden_dim=8, motion_positions=12,
        branch_init_std=0.3, motion_dropped=0.25,
    )  # fmt: skip
    autoencoder = TinyVideoAutoencoder(latent_channels=4, fine_width=8, coarse_width=16, frames_per_latent=1)
    info = ModelInfo("stairs", "1", family="unet", size_px=32, window_frames=5, steps=2)
    return LoadedModel(info, unet.eval(), autoencoder.eval(), front_end)


@pytest.fixture
def there() -> Callable:
    """there(model, device): a copy of a loaded model on that device, in plain fp32."""
    import torch

    def moved(model, device):
        device = torch.device(device)
        parts = {part: copy.deepcopy(getattr(model, part)).to(device) for part in ("backbone", "autoencoder")}
        return replace(model, **parts, device=device, autocast=False)

    return moved
