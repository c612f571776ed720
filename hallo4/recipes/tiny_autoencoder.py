"""Training of the tiny autoencoders, causal and of pictures, on portraits and skeleton drawings of the world.

Batches are 64x64 crops of groups of four frames, half of them around mouth, eyes or hands, where the loss
weighs more: what the diffusion model must move is what the code must keep.
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
from hallo4.motion import layout
from hallo4.pipelines.model_folder import saved_autoencoder
from hallo4.pipelines.portrait_pose import load_observer
from hallo4.ranges import BatchSize, NotNegative, Share, SidePx, Width
from hallo4.recipes.recipe import Recipe, counted
from hallo4.training import OptimizerConfig, ScheduleConfig, TrainConfig, to_device_of, train
from hallo4.training.local_sharpness import sharpness_difference
from hallo4.types import AutoencoderSpec
from hallo4.whole import whole_folder

REGIONS = (layout.MOUTH, layout.RIGHT_EYE_LIDS, layout.LEFT_EYE_LIDS, layout.LEFT_HAND, layout.RIGHT_HAND)


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


@dataclass(frozen=True)
class TinyAutoencoderConfig:
    """`skeleton_share` of the crops are skeleton drawings, `still_share` of the portraits one frame four
    times.

    `latent_noise` (in latent standard deviations) is added before decoding, so that nearby codes mean nearby
    pictures. `latent_emphasis`: how much larger the latents of channels are that show more, from 0, all have
    unit variance, to 1, in proportion (see `emphasize`). `difference_weight` is that of the error of frame
    differences, `perceptual_weight` that of the distance of a frame of every group in the features of an
    observer: the one in the folder `observer`, or the embedded one; `sharpness_weight` that of
    `sharpness_difference`. `start_from`: a folder with an autoencoder to train further, as it is or with new
    channels, `widen_to` in all (see `widened`); `freeze_encoder` leaves its latents as they are, so that
    diffusion models trained on them stay valid.
    """

    start_from: str | None = None
    widen_to: Width | None = None
    freeze_encoder: bool = False
    sizes: AutoencoderSizes = field(default_factory=AutoencoderSizes)
    clips: ClipStoreConfig = field(default_factory=lambda: ClipStoreConfig(episodes=2000))
    clips_folder: str = "runs/clips_train"
    held_out: ClipStoreConfig = field(
        default_factory=lambda: ClipStoreConfig(episodes=25, first_seed=900_000)
    )
    batch_size: BatchSize = 24
    crop_px: SidePx = 64
    skeleton_share: Share = 0.3
    still_share: Share = 0.25
    region_weight: NotNegative = 4.0
    mouth_weight: NotNegative = 8.0
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


class AutoencoderData:
    """Batches of (`groups_pm1` [n, 3, rho, c, c], `weights` [n, 1, 1, c, c])."""

    def __init__(self, store: ClipStore, config: TinyAutoencoderConfig, spec: AutoencoderSpec) -> None:
        """`spec`: of the autoencoder that is trained."""
        self.store, self.config = store, config
        self.rho, self.cell_px = spec.frames_per_latent, spec.cell_px

    def __call__(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        """The batch of this generator."""
        rng = np.random.default_rng(int(torch.randint(1 << 62, (1,), generator=generator)))
        crops, weights = zip(*(self._crop(rng) for _ in range(self.config.batch_size)))
        groups = frames_to_pm1(np.stack(crops)).transpose(1, 2)
        return {"groups_pm1": groups, "weights": torch.as_tensor(np.stack(weights))[:, None, None]}

    def _crop(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        config, clip = self.config, int(rng.integers(len(self.store)))
        skeleton = rng.random() < config.skeleton_share
        frames = self.store.get("skeleton_u8" if skeleton else "frames_u8", clip)
        points = self.store.get("points_px", clip)
        length, height, width = frames.shape[:3]
        rho = self.rho
        start = int(rng.integers(0, length - rho + 1))
        still = skeleton or rng.random() < config.still_share
        span = [start] * rho if still else list(range(start, start + rho))
        weights = np.ones((height, width), np.float32)
        for region in REGIONS:
            if skeleton and region is layout.MOUTH:
                continue
            weight = config.mouth_weight if region is layout.MOUTH else config.region_weight
            low, high = points[span, region].min((0, 1)) - 3, points[span, region].max((0, 1)) + 4
            x0, y0, x1, y1 = np.clip(np.concatenate([low, high]), 0, [width, height] * 2).astype(int)
            weights[y0:y1, x0:x1] = np.maximum(weights[y0:y1, x0:x1], weight)
        x, y = self._corner(rng, points[start], np.array([width, height]))
        window = np.s_[y : y + config.crop_px, x : x + config.crop_px]
        return np.stack([frames[t][window] for t in span]), weights[window]

    def _corner(self, rng: np.random.Generator, points: np.ndarray, size: np.ndarray) -> tuple[int, int]:
        """Top left (x, y) of a crop of a picture of `size` (width, height), on the grid of latent cells; half
        of the time near mouth, eyes or a hand."""
        room = size - self.config.crop_px
        corner = rng.uniform(-8, room + 8, 2)
        if rng.random() < 0.5:
            region = REGIONS[int(rng.integers(len(REGIONS)))]
            corner = points[region].mean(0) - self.config.crop_px / 2 + rng.normal(0, 12, 2)
        x, y = (np.clip(np.round(corner / self.cell_px), 0, room // self.cell_px) * self.cell_px).astype(int)
        return int(x), int(y)


def autoencoder_method(config: TinyAutoencoderConfig, observer: PortraitObserver | None = None):
    """Weighted squared error of the reconstruction from noisy latents and of its changes from frame to frame,
    the perceptual distance by `observer` (needed if that has a weight), the difference in local sharpness,
    and a pull of latents towards unit size.

    Without the second term motion inside a group of four frames is lost: it is small beside appearance.
    `motion_kept` in the log is the share of the squared changes that is explained.
    """

    def method(
        model: TinyVideoAutoencoder, batch: dict[str, Tensor], step: int
    ) -> tuple[Tensor, dict[str, float]]:
        groups, weights = batch["groups_pm1"], batch["weights"]
        latents = model.encode_groups(groups)
        reconstruction = model.decode_groups(latents + config.latent_noise * torch.randn_like(latents))
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
        changes, made = groups.diff(dim=2), reconstruction.diff(dim=2)  # [n, 3, 3, H, W]
        motion_error = (made - changes).square()
        loss = loss + config.difference_weight * (motion_error * weights).sum() / (per_pixel * made.shape[2])
        kept = 1 - motion_error.detach().sum() / changes.square().sum().clamp_min(1e-9)
        return loss, values | {"motion_kept": float(kept)}

    return method


@torch.no_grad()
def held_out_psnr(model: TinyVideoAutoencoder, store: ClipStore, clips: int = 24) -> dict[str, float]:
    """PSNR (mean over clips, of each size as many) of whole 17-frame portraits and of single skeleton
    drawings, values clipped to [-1, 1]."""
    portrait, skeleton = [], []
    for i in itertools.chain(*(of_size[: clips // len(store.shapes)] for of_size in store.shapes.values())):
        video = frames_to_pm1(np.array(store.get("frames_u8", i))).transpose(0, 1)[None]
        drawing = frames_to_pm1(np.array(store.get("skeleton_u8", i)[:3]))[:, :, None]
        for source, scores in zip(to_device_of(model, (video, drawing)), (portrait, skeleton), strict=True):
            decoded = model.decode_video(model.encode_video(source)).clamp(-1, 1)
            scores.append(float(-10 * torch.log10((decoded - source).square().mean() / 4)))
    return {"portrait_psnr_db": float(np.mean(portrait)), "skeleton_psnr_db": float(np.mean(skeleton))}


def run(config: TinyAutoencoderConfig, folder: Path) -> Path:
    """Render what is missing, train, normalise the latents, save `folder/autoencoder`; returns that
    folder.

    InputError: `widen_to` without a code to widen, or with an encoder that is to stay as it is.
    """
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
    data = AutoencoderData(store, config, model.spec)

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


def _scale_latents(model: TinyVideoAutoencoder, store: ClipStore, emphasis: float) -> None:
    """Latents of portraits of the store get mean zero and the variance that `emphasis` gives them."""
    codes = [code.flatten(2) for code in _codes(model, store, 80)]
    model.fit_latent_statistics(torch.cat(codes, dim=2))
    if emphasis:
        emphasize(model, [code[0, :, 1:3].transpose(0, 1) for code in _codes(model, store, 8)], emphasis)


def _codes(model: TinyVideoAutoencoder, store: ClipStore, count: int) -> Iterator[Tensor]:
    """Latents [1, C, F, h, w] of about `count` clips, of every size as many."""
    for clips in store.shapes.values():
        for i in clips[: 5 * max(1, count // len(store.shapes)) : 5]:
            frames = frames_to_pm1(np.array(store.get("frames_u8", i)))
            yield model.encode_video(to_device_of(model, frames.transpose(0, 1)[None]))


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
