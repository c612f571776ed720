"""Supervised fine-tuning of the tiny UNet on the portrait world."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from hallo4.diffusion.flow import Distribution
from hallo4.models.portrait_unet import PortraitUNet
from hallo4.models.unet_sizes import tiny_unet_config
from hallo4.ranges import BatchSize, Width
from hallo4.recipes.recipe import Recipe
from hallo4.recipes.tiny_models import TinyModelConfig, fine_tune_tiny, muon_training
from hallo4.training import TrainConfig
from hallo4.types import AutoencoderSpec


@dataclass(frozen=True)
class UNetSizes:
    """Channels and heads of each level. Sizes of the audio projector are those of `tiny-audio`, whose tokens
    of a frame are a quarter of the DiT's width."""

    widths: tuple[Width, ...] = (32, 64, 96)
    heads: tuple[Width, ...] = (1, 2, 3)
    audio_dim: Width = 48
    audio_tokens: Width = 4
    audio_hidden_dim: Width = 384


def tiny_unet_training(name: str, steps: int = 20000, max_minutes: float | None = 62) -> TrainConfig:
    """How the tiny UNet is trained; see `muon_training`."""
    plain = ("conv_in", "conv_out", "time_embedding", "face_proj")
    return muon_training(name, steps, max_minutes, 0.998, plain)


@dataclass(frozen=True, kw_only=True)
class TinyUNetConfig(TinyModelConfig):
    """`TinyModelConfig` of a v model, with the `sizes` of a new one.

    Noise levels are uniform and shifted, not logit-normal, because sampling starts at pure noise, of which
    the latter shows too little.
    """

    family: ClassVar[str] = "unet"
    autoencoder_recipe: ClassVar[str] = "tiny-image-autoencoder"
    model_name: str = "tiny-unet-sft"
    sizes: UNetSizes = field(default_factory=UNetSizes)
    autoencoder: str = "runs/tiny-image-autoencoder/autoencoder"
    latents_folder: str = "runs/image_latents_train"
    batch_size: BatchSize = 8
    distribution: Distribution = "uniform"
    train: TrainConfig = field(default_factory=lambda: tiny_unet_training("tiny-unet-sft"))


def describe_unet(config: Any) -> str:
    """For the card."""
    widths = "-".join(map(str, config.block_out_channels))
    return (
        "the package's `PortraitUNet` (SD1.5 with Hallo's reference network, audio and motion modules),\n"
        f"  widths {widths}, {config.layers_per_block} layer a level, v-prediction with zero terminal SNR,\n"
        "  two motion frames. It differs from Hallo 1 in its skeleton guider and in that there is no face\n"
        "  embedding."
    )


def build_unet(sizes: UNetSizes, code: AutoencoderSpec) -> PortraitUNet:
    """`tiny_unet_config` in these sizes, for latents of `code`."""
    changes = {
        "block_out_channels": list(sizes.widths),
        "num_attention_heads": list(sizes.heads),
        "audio_attention_dim": sizes.audio_dim,
        "audio_tokens": sizes.audio_tokens,
        "audio_hidden_dim": sizes.audio_hidden_dim,
    }
    return PortraitUNet(**(tiny_unet_config(code.latent_channels) | changes))


def run(config: TinyUNetConfig, folder: Path) -> Path:
    """See `fine_tune_tiny`."""
    return fine_tune_tiny(config, folder, lambda code: build_unet(config.sizes, code), describe_unet)


def recipe() -> Recipe:
    """The supervised stage of `tiny-unet`."""
    summary = "supervised fine-tuning of the tiny UNet on the portrait world"
    return Recipe("tiny-unet-sft", summary, TinyUNetConfig(), run)
