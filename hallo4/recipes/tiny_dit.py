"""Supervised fine-tuning of the tiny DiT on the portrait world."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hallo4.models.dit import PortraitDiT
from hallo4.models.vace_context import MASK_CHANNELS
from hallo4.ranges import Width
from hallo4.recipes.recipe import Recipe
from hallo4.recipes.tiny_models import TEXT_DIM, TinyModelConfig, fine_tune_tiny, muon_training
from hallo4.training import TrainConfig
from hallo4.training.sft import Batch
from hallo4.types import AutoencoderSpec


@dataclass(frozen=True)
class DiTSizes:
    """Width = heads * head_dim. `patch`: latent cells of a token, each way. `audio_tokens` and
    `audio_hidden_dim` are the pre-trained projector's; `detail_width` and `draft`: see `PortraitDiT`."""

    heads: Width = 4
    head_dim: Width = 48
    layers: Width = 5
    ffn_dim: Width = 576
    audio_tokens: Width = 4
    audio_hidden_dim: Width = 384
    patch: Literal[1, 2, 4] = 2
    detail_width: Width | None = None
    draft: bool = False


def tiny_dit_training(name: str, steps: int = 12000, max_minutes: float | None = 62) -> TrainConfig:
    """How the tiny DiT is trained; see `muon_training`."""
    plain = ("patch_embedding", "condition_embedder", "scale_shift_table", "proj_out.weight")
    return muon_training(name, steps, max_minutes, 0.997, plain)


@dataclass(frozen=True, kw_only=True)
class TinyDiTConfig(TinyModelConfig):
    """`TinyModelConfig` with the `sizes` of a new model."""

    model_name: str = "tiny-dit-sft"
    sizes: DiTSizes = field(default_factory=DiTSizes)
    train: TrainConfig = field(default_factory=lambda: tiny_dit_training("tiny-dit-sft"))


def build_dit(sizes: DiTSizes, code: AutoencoderSpec) -> PortraitDiT:
    """The tiny member of the released model's class, for latents of `code`; see the card for what differs.

    The VACE context has the latents twice, inactive and reactive, and the mask.
    """
    return PortraitDiT(
        patch_size=(1, sizes.patch, sizes.patch),
        in_channels=code.latent_channels,
        vace_in_channels=2 * code.latent_channels + MASK_CHANNELS,
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
        cell_px=code.cell_px,
        detail_width=sizes.detail_width,
        draft=sizes.draft,
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


def outer_layers(config: Any) -> tuple[str, ...]:
    """Of the detail head of a DiT of this config, if it has one: what AdamW trains, being no hidden layer."""
    if config.detail_width is None:
        return ()
    layers = ("offsets", "from_noisy", "out", "copied", *(("from_draft",) if config.draft else ()))
    return tuple(f"detail_head.{layer}." for layer in layers)


def measure_guess(model: PortraitDiT, clips: Batch) -> None:
    """How well the reference, or the draft, guesses these clips; see `DetailHead.fit_guess`."""
    if model.config.detail_width is not None:
        model.detail_head.fit_guess(clips["video"], clips["draft" if model.config.draft else "reference"])


def run(config: TinyDiTConfig, folder: Path) -> Path:
    """See `fine_tune_tiny`."""
    new = (lambda code: build_dit(config.sizes, code), describe_dit)
    return fine_tune_tiny(config, folder, *new, outer_layers=outer_layers, measure=measure_guess)


def recipe() -> Recipe:
    """The supervised stage of `tiny-dit`."""
    return Recipe(
        "tiny-dit-sft", "supervised fine-tuning of the tiny DiT on the portrait world", TinyDiTConfig(), run
    )
