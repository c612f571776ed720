"""Tiny random models: enough network to run every path, small enough to run it in a blink."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hallo4.models.audio_features import LogMelFrontEnd
from hallo4.models.autoencoder import TinyVideoAutoencoder
from hallo4.models.dit import PortraitDiT
from hallo4.pipelines import LoadedModel, ModelInfo, PortraitAnimator, load_model, save_model_folder
from hallo4.types import Audio

FRONT_END = LogMelFrontEnd()


def make_parts(seed: int = 0) -> tuple[PortraitDiT, TinyVideoAutoencoder]:
    torch.manual_seed(seed)
    dit = PortraitDiT(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, text_dim=8, text_len=None, freq_dim=16,
        ffn_dim=32, num_layers=1, vace_layers=(0,), vace_in_channels=2 * 4 + 64, audio_blocks=FRONT_END.blocks,
        audio_channels=FRONT_END.channels, audio_hidden_dim=16, audio_tokens=2, audio_axis="channel",
        branch_init_std=0.02,
    )  # fmt: skip
    torch.nn.init.normal_(dit.proj_out.weight, std=0.1)
    autoencoder = TinyVideoAutoencoder(latent_channels=4, fine_width=8, coarse_width=16)
    return dit, autoencoder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    info = ModelInfo("testling", "1.2", size_px=32, window_frames=5, steps=2, guidance_scale=2.0)
    folder = tmp_path_factory.mktemp("models") / "testling"
    return save_model_folder(folder, info, *make_parts(), FRONT_END.to_config(), "# a card\n")


@pytest.fixture(scope="session")
def model(model_folder: Path) -> LoadedModel:
    return load_model(model_folder)


@pytest.fixture(scope="session")
def animator(model: LoadedModel) -> PortraitAnimator:
    return PortraitAnimator(model)


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """[40, 40, 3] uint8."""
    return np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)


def speech(seconds: float, sample_rate_hz: int = 16_000) -> Audio:
    time_s = np.arange(round(seconds * sample_rate_hz)) / sample_rate_hz
    return Audio((0.3 * np.sin(2 * np.pi * 220 * time_s)).astype(np.float32), sample_rate_hz)
