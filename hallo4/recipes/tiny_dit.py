"""Supervised fine-tuning of the tiny DiT on the portrait world: from autoencoder and ear to a model
folder."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from hallo4.data.clips import ClipStoreConfig, build_clips
from hallo4.data.latents import LatentCache, RegionWeights, build_cache
from hallo4.diffusion import add_noise, sample_sigma, sft_loss, velocity_target
from hallo4.errors import InputError
from hallo4.models.audio_features import LogMelFrontEnd
from hallo4.models.autoencoder import TinyVideoAutoencoder
from hallo4.models.dit import PortraitDiT
from hallo4.models.vace_context import MASK_CHANNELS
from hallo4.models.window_conditions import Fill, assemble_conditions, filled_latents, null_text
from hallo4.pipelines.model_folder import ModelInfo, load_model, save_model_folder
from hallo4.recipes.cards import sft_card
from hallo4.recipes.recipe import Recipe
from hallo4.training import (
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
    batch_indices,
    predict_velocity,
    train,
)
from hallo4.version import __version__

TEXT_DIM = 16


@dataclass(frozen=True)
class DiTSizes:
    """Width = heads * head_dim. `audio_tokens` and `audio_hidden_dim` are the pre-trained projector's."""

    heads: int = 4
    head_dim: int = 48
    layers: int = 5
    ffn_dim: int = 576
    audio_tokens: int = 4
    audio_hidden_dim: int = 384


@dataclass(frozen=True)
class TinyDiTConfig:
    """One SFT run. Weights multiply the loss in latent cells that show mouth, eyes or hands.

    `start_from`: a model folder or name that is trained further, with its own sizes, fill and autoencoder,
    such as `tiny-dit-sft`; None: from scratch, with `sizes`, `fill`, `autoencoder` and `audio_proj`.

    `shift` concentrates training on noisy latents, `known_share` of the windows know their first frame
    (slightly wrong, by up to
    `known_noise`, as generated frames are), `silent_share` lose their sound for guidance. `compile_blocks`
    saves a fifth of the time after a minute of compilation; it needs a C++ compiler.
    """

    start_from: str | None = None
    autoencoder: str = "runs/tiny-autoencoder/autoencoder"
    audio_proj: str = "runs/tiny-audio/audio_proj.safetensors"
    clips: ClipStoreConfig = field(default_factory=lambda: ClipStoreConfig(episodes=2000))
    clips_folder: str = "runs/clips_train"
    latents_folder: str = "runs/latents_train"
    sizes: DiTSizes = field(default_factory=DiTSizes)
    batch_size: int = 16
    shift: float = 2.0
    regions: RegionWeights = field(default_factory=RegionWeights)
    known_share: float = 0.6
    known_noise: float = 0.25
    silent_share: float = 0.1
    fill: Fill = "grey"
    compile_blocks: bool = False
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            name="tiny-dit-sft",
            steps=12000,
            max_minutes=62,
            ema_decay=0.997,
            log_every=20,
            save_minutes=4,
            optimizer=OptimizerConfig(
                kind="muon",
                learning_rate=1e-3,
                muon_learning_rate=2.5e-3,
                weight_decay=0.02,
                adamw_names=("patch_embedding", "condition_embedder", "scale_shift_table", "proj_out.weight"),
            ),
            schedule=ScheduleConfig(warmup_steps=60, anneal_fraction=0.7, final_fraction=0.02),
        )
    )


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


class DiTData:
    """Batches of cached latents."""

    def __init__(self, cache: LatentCache, batch_size: int, seed: int) -> None:
        self.cache, self.batch_size, self.seed = cache, batch_size, seed

    def __call__(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Micro-batch `index`."""
        return self.cache.batch(batch_indices(len(self.cache), self.batch_size, self.seed, index))


def sft_method(config: TinyDiTConfig):
    """Flow matching on the video slots; the reference slot is clean and has no loss."""

    def method(model: PortraitDiT, batch: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, float]]:
        video, size = batch["video"], len(batch["video"])
        known = torch.rand(size) < config.known_share
        blur = config.known_noise * torch.rand(size, 1, 1, 1, 1)
        first = video[:, :, :1] + blur * torch.randn_like(video[:, :, :1])
        heard = (torch.rand(size) >= config.silent_share).float()
        conditions = assemble_conditions(
            batch["reference"],
            batch["grey"],
            batch["audio_windows"] * heard.view(-1, 1, 1, 1, 1),
            null_text(TEXT_DIM),
            skeleton_latents=batch["skeleton"],
            inactive_latents=filled_latents(first, batch["grey"], config.fill),
            first_frame_known=known,
            fill=config.fill,
        )
        noise = torch.randn_like(video)
        sigma = sample_sigma(size, shift=config.shift)
        noisy = add_noise(video, noise, sigma)
        velocity = predict_velocity(model, noisy, sigma, vars(conditions))
        target = velocity_target(video, noise)
        loss = sft_loss(velocity, target, config.regions.of(batch["regions"]))
        mouth = batch["regions"][:, :1].float()
        error = (velocity.detach() - target).square()
        mouth_error = (error * mouth).sum() / (mouth.sum() * video.shape[1] + 1e-6)
        return loss, {"error": float(error.mean()), "mouth_error": float(mouth_error)}

    return method


def run(config: TinyDiTConfig, folder: Path) -> Path:
    """Encode what is missing, train, save the model folder `folder/model` (mean weights); returns it.

    InputError if the autoencoder or the audio projector has not been trained yet.
    """
    torch.manual_seed(config.train.seed)
    start = None if config.start_from is None else load_model(config.start_from)
    autoencoder = _autoencoder(config) if start is None else start.autoencoder
    config = config if start is None else replace(config, fill=start.info.fill)
    cache = build_cache(build_clips(config.clips_folder, config.clips), autoencoder, config.latents_folder)
    model = _new_dit(config, cache) if start is None else start.backbone.requires_grad_(True)
    model.audio_proj.requires_grad_(False)  # its hearing of real recordings must not be forgotten
    if config.compile_blocks:
        model.compile_repeated_blocks(dynamic=False)
    data = DiTData(cache, config.batch_size, config.train.seed)
    result = train(config.train, sft_method(config), model, data, folder=folder)
    info = ModelInfo(config.train.name, __version__, steps=4, flow_shift=3.0, fill=config.fill)
    made = model.config
    width, layers = made.num_attention_heads * made.attention_head_dim, made.num_layers
    made_of = (config.train.seed, len(cache), result.progress.step, config.batch_size)
    card = sft_card(config.train.name, width, layers, autoencoder.config.latent_channels, *made_of)
    with result.ema.applied(model):
        audio = LogMelFrontEnd().to_config()
        return save_model_folder(folder / "model", info, model, autoencoder, audio, card)


def _autoencoder(config: TinyDiTConfig) -> TinyVideoAutoencoder:
    """The autoencoder of a new model; InputError if it or the ear has not been trained yet."""
    for maker, path in (("tiny-autoencoder", config.autoencoder), ("tiny-audio", config.audio_proj)):
        if not Path(path).exists():
            raise InputError(f"{path} is missing; make it first: hallo4 train {maker}")
    return TinyVideoAutoencoder.from_pretrained(config.autoencoder).eval()


def _new_dit(config: TinyDiTConfig, cache: LatentCache) -> PortraitDiT:
    model = build_dit(config.sizes, cache.tensors["video"].shape[1])
    model.audio_proj.load_state_dict(load_file(config.audio_proj))
    return model


def recipe() -> Recipe:
    """The supervised stage of `tiny-dit`."""
    return Recipe(
        "tiny-dit-sft", "supervised fine-tuning of the tiny DiT on the portrait world", TinyDiTConfig(), run
    )
