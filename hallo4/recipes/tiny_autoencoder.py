"""Training of the tiny autoencoders, causal and of pictures, on portraits and skeleton drawings of the world.

Batches are crops of groups of four frames (`autoencoder_crops`). Where they show mouth, eyes or hands the
loss weighs more: what the diffusion model must move is what the code must keep.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hallo4.data.clips import ClipStore, ClipStoreConfig, build_clips
from hallo4.errors import InputError
from hallo4.media.pixels import frames_to_pm1
from hallo4.models.autoencoder import TinyVideoAutoencoder
from hallo4.models.autoencoder_emphasis import emphasize
from hallo4.models.autoencoder_widening import widened
from hallo4.models.observer import PortraitObserver, perceptual_distance
from hallo4.pipelines.model_folder import load_model, saved_autoencoder
from hallo4.pipelines.portrait_pose import load_observer
from hallo4.ranges import NotNegative, Share, Width
from hallo4.recipes.autoencoder_crops import AutoencoderData, CropConfig
from hallo4.recipes.made_latents import MadeLatents, MadeLatentsConfig, made_latents
from hallo4.recipes.recipe import Recipe, counted
from hallo4.training import (
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
    to_device_of,
    train,
    training_device,
)
from hallo4.training.local_sharpness import sharpness_difference
from hallo4.training.ranks import main_first
from hallo4.whole import whole_folder

SAME_CODE = 0.01
"""Mean squared difference of latents below which two encoders are one, in two precisions."""


STATISTICS_CLIPS, EMPHASIS_CLIPS = 80, 8
"""Clips on which the scale of the latents is measured; the second takes a decoding for each channel."""


@dataclass(frozen=True)
class AutoencoderSizes:
    """Of a new one; see `TinyVideoAutoencoder`. `frames_per_latent` 1: of pictures. `finest_width`: of a
    16x16x4 code, which has three levels of blocks."""

    latent_channels: Width = 24
    fine_width: Width = 128
    coarse_width: Width = 256
    frames_per_latent: Literal[1, 4] = 4
    finest_width: Width | None = None
    encoder_blocks: tuple[int, ...] = (2, 1)
    decoder_blocks: tuple[int, ...] = (3, 3)


@dataclass(frozen=True, kw_only=True)
class TinyAutoencoderConfig(CropConfig):
    """`CropConfig` says what is looked at.

    `latent_noise` (in units of the latents) is added before decoding, so that nearby codes mean nearby
    pictures. `latent_emphasis`: how much larger the latents of channels are that show more, from 0, all have
    unit variance, to 1, in proportion (see `emphasize`); every training of an encoder sets this again.
    `difference_weight` is that of the error of frame differences, `perceptual_weight` that of the distance of
    a frame of every group in the features of an observer: the one in the folder `observer`, or the embedded
    one; `sharpness_weight` that of `sharpness_difference`. `start_from`: a folder with an autoencoder to
    train further, as it is or with new channels, `widen_to` in all (see `widened`); `freeze_encoder` leaves
    its latents as they are, so that diffusion models trained on them stay valid. `made`: latents as such a
    model makes them, which the decoder then learns to show too.
    """

    start_from: str | None = None
    widen_to: Width | None = None
    freeze_encoder: bool = False
    made: MadeLatentsConfig = field(default_factory=MadeLatentsConfig)
    sizes: AutoencoderSizes = field(default_factory=AutoencoderSizes)
    clips: ClipStoreConfig = field(default_factory=lambda: ClipStoreConfig(episodes=2000))
    clips_folder: str = "runs/clips_train"
    held_out: ClipStoreConfig = field(
        default_factory=lambda: ClipStoreConfig(episodes=25, first_seed=900_000)
    )
    difference_weight: NotNegative = 3.0
    perceptual_weight: NotNegative = 0.0
    sharpness_weight: NotNegative = 0.0
    observer: str | None = None
    latent_noise: NotNegative = 0.06
    latent_penalty: NotNegative = 1e-4
    latent_emphasis: Share = 0.0
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            name="tiny-autoencoder",
            steps=30_000,
            max_minutes=35,
            ema_decay=0.998,
            log_every=20,
            optimizer=OptimizerConfig(learning_rate=8e-4, weight_decay=0.0, betas=(0.9, 0.99)),
            schedule=ScheduleConfig(warmup_steps=100, anneal_fraction=0.8, final_fraction=0.02),
        )
    )


def autoencoder_method(config: TinyAutoencoderConfig, observer: PortraitObserver | None = None):
    """Weighted squared error of the reconstruction, from noisy latents and from those that a backbone made,
    and of its changes from frame to frame, the perceptual distance by `observer` (needed if that has a
    weight), the difference in local sharpness, and a pull of latents towards unit size.

    Without the second term motion inside a group of four frames is lost: it is small beside appearance.
    `motion_kept` in the log is the share of the squared changes that is explained.
    """

    def method(
        model: TinyVideoAutoencoder, batch: dict[str, Tensor], step: int
    ) -> tuple[Tensor, dict[str, float]]:
        groups, weights = batch["groups_pm1"], batch["weights"]
        made = batch.get("made")
        latents = model.encode_groups(groups if made is None else groups[len(made) :])
        noisy = latents + config.latent_noise * torch.randn_like(latents)
        reconstruction = model.decode_groups(noisy if made is None else torch.cat([made, noisy]))
        error = (reconstruction - groups).square()
        per_pixel = weights.sum() * groups.shape[1]
        loss = (error * weights).sum() / (per_pixel * groups.shape[2])
        loss = loss + config.latent_penalty * latents.square().mean()
        values = {
            "psnr_db": float(-10 * torch.log10(error.mean((1, 2, 3, 4)).detach() / 4).mean()),
            "latent_rms": float(latents.detach().square().mean().sqrt()),
        }
        if config.perceptual_weight:
            assert observer is not None
            looking = observer.to(groups.device)
            frame = step % groups.shape[2]
            apart = perceptual_distance(looking, reconstruction[:, :, frame], groups[:, :, frame]).mean()
            loss = loss + config.perceptual_weight * apart
            values["perceptual_distance"] = float(apart.detach())
        if config.sharpness_weight:
            blur = sharpness_difference(reconstruction, groups)
            loss = loss + config.sharpness_weight * blur
            values["sharpness_difference"] = float(blur.detach())
        if groups.shape[2] == 1:
            return loss, values
        changes, moved = groups.diff(dim=2), reconstruction.diff(dim=2)  # [n, 3, 3, H, W]
        motion_error = (moved - changes).square()
        loss = loss + config.difference_weight * (motion_error * weights).sum() / (per_pixel * moved.shape[2])
        kept = 1 - motion_error.detach().sum() / changes.square().sum().clamp_min(1e-9)
        return loss, values | {"motion_kept": float(kept)}

    return method


def _video(store: ClipStore, clip: int) -> Tensor:
    """The frames of a clip, [1, 3, T, H, W] in [-1, 1]."""
    return frames_to_pm1(np.array(store.get("frames_u8", clip))).transpose(0, 1)[None]


@torch.no_grad()
def held_out_psnr(model: TinyVideoAutoencoder, store: ClipStore, clips: int = 24) -> dict[str, float]:
    """PSNR (mean over clips, of each size as many) of whole 17-frame portraits and of single skeleton
    drawings, values clipped to [-1, 1]."""
    portrait, skeleton = [], []
    for i in itertools.chain(*(of_size[: clips // len(store.shapes)] for of_size in store.shapes.values())):
        video = _video(store, i)
        drawing = frames_to_pm1(np.array(store.get("skeleton_u8", i)[:3]))[:, :, None]
        for source, scores in zip(to_device_of(model, (video, drawing)), (portrait, skeleton), strict=True):
            decoded = model.decode_video(model.encode_video(source)).clamp(-1, 1)
            scores.append(float(-10 * torch.log10((decoded - source).square().mean() / 4)))
    return {"portrait_psnr_db": float(np.mean(portrait)), "skeleton_psnr_db": float(np.mean(skeleton))}


def run(config: TinyAutoencoderConfig, folder: Path) -> Path:
    """Render what is missing, train, normalise the latents, save `folder/autoencoder`; returns that
    folder.

    InputError: `widen_to` without a code to widen, or with an encoder that is to stay as it is;
    `latent_emphasis` with such a one; `made` without one.
    """
    if config.made.model is not None and not config.freeze_encoder:
        raise InputError(
            "made.model makes latents of an encoder that has to stay as it is: set freeze_encoder=True, and "
            "start_from to the autoencoder of that model."
        )
    if config.latent_emphasis and config.freeze_encoder:
        raise InputError(
            "latent_emphasis scales latents, and freeze_encoder leaves them as they are: leave one out."
        )
    if config.widen_to is not None and (config.start_from is None or config.freeze_encoder):
        raise InputError(
            "widen_to gives an autoencoder new channels: name it by start_from, and leave freeze_encoder "
            f"False; found start_from={config.start_from} and freeze_encoder={config.freeze_encoder}."
        )
    start = None if config.start_from is None else saved_autoencoder(config.start_from)
    store = build_clips(config.clips_folder, config.clips, on_progress=counted("shards of clips rendered"))
    held_out = build_clips(f"{config.clips_folder}_heldout", config.held_out)
    torch.manual_seed(config.train.seed)
    model = _start(config, store, start)
    made = None if config.made.model is None else _of_maker(config, store, model)
    data = AutoencoderData(store, config, model.spec, made)

    def preview(step: int, averaged: TinyVideoAutoencoder) -> dict[str, float]:
        return held_out_psnr(averaged, held_out)

    observer = load_observer(config.observer) if config.perceptual_weight else None
    method = autoencoder_method(config, observer)
    result = train(config.train, method, model, data, folder=folder, on_preview=preview)
    with result.ema.applied(model), torch.no_grad():
        if not config.freeze_encoder:
            _scale_latents(model, store, config.latent_emphasis)
        with whole_folder(folder / "autoencoder") as building:
            model.save_pretrained(building)
    return folder / "autoencoder"


def _of_maker(config: TinyAutoencoderConfig, store: ClipStore, model: TinyVideoAutoencoder) -> MadeLatents:
    """What the model of `config.made` makes of clips of the store. InputError: its latents are of another
    encoder."""
    maker = load_model(config.made.model, training_device())
    frame = _video(store, 0)[:, :, :1]
    codes = [code.encode_video(to_device_of(code, frame)).cpu() for code in (maker.autoencoder, model)]
    if codes[0].shape != codes[1].shape or (codes[0] - codes[1]).square().mean() > SAME_CODE:
        raise InputError(
            f"{config.made.model} makes latents of another encoder than that of {config.start_from}: start "
            "from its own autoencoder."
        )
    with main_first("the latents that a model makes"):
        return made_latents(maker, store, config.made, config.train.seed, counted("clips made"))


def _scale_latents(model: TinyVideoAutoencoder, store: ClipStore, emphasis: float) -> None:
    """Latents of portraits of the store get mean zero and the variance that `emphasis` gives them."""
    codes = [code.flatten(2) for code in _codes(model, store, STATISTICS_CLIPS)]
    model.fit_latent_statistics(torch.cat(codes, dim=2))
    if emphasis:
        codes = [code[0].transpose(0, 1)[-2:] for code in _codes(model, store, EMPHASIS_CLIPS)]
        emphasize(model, codes, emphasis)


def _codes(model: TinyVideoAutoencoder, store: ClipStore, count: int) -> Iterator[Tensor]:
    """Latents [1, C, F, h, w] of about `count` clips, of every size as many."""
    for clips in store.shapes.values():
        few = max(1, count // len(store.shapes))
        for i in clips[:: max(1, len(clips) // few)][:few]:
            yield model.encode_video(to_device_of(model, _video(store, i)))


def _start(
    config: TinyAutoencoderConfig, store: ClipStore, start: TinyVideoAutoencoder | None
) -> TinyVideoAutoencoder:
    """A model to train further, or a new one that begins as principal components."""
    model = TinyVideoAutoencoder(**asdict(config.sizes)) if start is None else start
    if start is None or config.widen_to is not None:
        data = AutoencoderData(store, config, model.spec)
        groups = torch.cat([data(-k, torch.Generator().manual_seed(k))["groups_pm1"] for k in range(1, 25)])
        if start is None:
            model.initialize_linear_path(groups)
        else:
            model, _ = widened(start, config.widen_to, groups)
    model.train().requires_grad_(True)
    if config.freeze_encoder:
        model.encoder.requires_grad_(False)
        model.linear_encoder.requires_grad_(False)
    return model.to(memory_format=torch.channels_last)


def image_recipe() -> Recipe:
    """The autoencoder of `tiny-unet`: of pictures."""
    config = TinyAutoencoderConfig()
    sizes = AutoencoderSizes(latent_channels=8, fine_width=64, coarse_width=128, frames_per_latent=1)
    named = replace(config.train, name="tiny-image-autoencoder", max_minutes=15)
    return Recipe(
        "tiny-image-autoencoder",
        "the 8x8 picture autoencoder of the tiny UNet",
        replace(config, sizes=sizes, batch_size=48, train=named),
        run,
    )


def recipe() -> Recipe:
    """The autoencoder of the embedded models."""
    return Recipe(
        "tiny-autoencoder", "the 8x8x4 autoencoder of the tiny models", TinyAutoencoderConfig(), run
    )
