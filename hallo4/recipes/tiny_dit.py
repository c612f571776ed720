"""Supervised fine-tuning of the tiny DiT on the portrait world."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hallo4.models.dit import PortraitDiT
from hallo4.models.vace_context import MASK_CHANNELS
from hallo4.pipelines.model_info import ModelInfo
from hallo4.recipes.fine_tuning import TEXT_DIM, FineTuneConfig, fine_tune, muon_training
from hallo4.recipes.recipe import Recipe
from hallo4.training import TrainConfig
from hallo4.version import __version__


@dataclass(frozen=True)
class DiTSizes:
    """Width = heads * head_dim. `audio_tokens` and `audio_hidden_dim` are the pre-trained projector's."""

    heads: int = 4
    head_dim: int = 48
    layers: int = 5
    ffn_dim: int = 576
    audio_tokens: int = 4
    audio_hidden_dim: int = 384


def tiny_dit_training(name: str, steps: int = 12000, max_minutes: float | None = 62) -> TrainConfig:
    """How the tiny DiT is trained; see `muon_training`."""
    plain = ("patch_embedding", "condition_embedder", "scale_shift_table", "proj_out.weight")
    return muon_training(name, steps, max_minutes, 0.997, plain)


@dataclass(frozen=True)
class TinyDiTConfig(FineTuneConfig):
    """`FineTuneConfig` with the `sizes` of a new model."""

    sizes: DiTSizes = field(default_factory=DiTSizes)
    train: TrainConfig = field(default_factory=lambda: tiny_dit_training("tiny-dit-sft"))


def build_dit(sizes: DiTSizes, latent_channels: int) -> PortraitDiT:
    """The tiny member of the released model's class; see the card for what differs.

    The VACE context has the latents twice, inactive and reactive, and the mask.
    """
    return PortraitDiT(
        in_channels=latent_channels,
        vace_in_channels=2 * latent_channels + MASK_CHANNELS,
        num_attention_heads=sizes.heads,
        attention_head_dim=sizes.head_dim,
        text_dim=TEXT_DIM,
        text_len=None,
        freq_dim=128,
        ffn_dim=sizes.ffn_dim,
        num_layers=sizes.layers,
        vace_layers=(0,),
        audio_blocks=4,
        audio_channels=40,
        audio_hidden_dim=sizes.audio_hidden_dim,
        audio_tokens=sizes.audio_tokens,
        audio_axis="channel",
        skeleton_attention="video_queries",
        skeleton_rope=True,
        branch_init_std=0.02,
    )


def describe_dit(config: Any) -> str:
    """For the card."""
    width = config.num_attention_heads * config.attention_head_dim
    return (
        f"the package's `PortraitDiT` (Wan2.1-VACE family), width {width}, {config.num_layers} layers and\n"
        "  one VACE block. It differs from the released configuration in that video tokens query the\n"
        "  skeleton (the paper's formula) with rotary positions, audio frames of a group lie side by side\n"
        "  in the channels, and there is no text."
    )


def run(config: TinyDiTConfig, folder: Path) -> Path:
    """See `fine_tune`."""
    info = ModelInfo(config.train.name, __version__, steps=4, flow_shift=3.0)
    return fine_tune(config, folder, info, lambda channels: build_dit(config.sizes, channels), describe_dit)


def recipe() -> Recipe:
    """The supervised stage of `tiny-dit`."""
    return Recipe(
        "tiny-dit-sft", "supervised fine-tuning of the tiny DiT on the portrait world", TinyDiTConfig(), run
    )
