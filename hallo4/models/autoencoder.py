"""A small causal video autoencoder, 8x8x4 or 16x16x4, of plain convolutions: it trains on two cores; or of
pictures.

    video [B, 3, T, H, W]                                    T = 4k+1
      | groups of four frames (the frame rule of temporal_motion_modulation.py)
      | as mean and changes (`fold`: Haar wavelet in time, changes enlarged), in channels
    folded [B F, 12, H, W]
      |-- pixel-unshuffle 8, 1x1 convolution (the linear path, 768 -> C) ------------.
      '-- pixel-unshuffle 4, convolution, blocks, down to H/8, blocks, convolution --+
                                                                                     v
    latents [B F, C, h, w], and the mirror image of both paths on the way back.

A 16x16x4 code has one level more: its linear path unshuffles by 16 (3072 -> C), its blocks go down to H/16.

Every group is coded on its own, so the code is causal, and all groups of all clips are one batch. Nearly all
variance of a group is its mean picture: a code that is free to choose keeps that alone, and mouths stand
still for four frames. So the networks see, and make, changes `motion_gain` times larger than they are.

The linear path can start as the principal components of the folded data (`initialize_linear_path`), so that
some channels begin as motion; the convolutions then learn the rest. The shortcuts around the change of
resolution (average of channels down, copies of channels up) have no parameters, as in DC-AE (arXiv
2410.10733); unlike there, there is no attention.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from hallo4.errors import ShapeError
from hallo4.models.temporal_motion_modulation import group_frames, ungroup_frames
from hallo4.types import AutoencoderSpec

FINEST_CELL_PX = 4
"""Pixels per cell, each way, at the level whose convolutions see the most of a picture."""

MAX_GROUPS = 32
"""Groups that `encode_video` and `decode_video` code at once: bounds the memory, not the values."""
MAX_STILLS = 4
"""Frames that `encode_frames` encodes at once: what they need stays in the caches of a processor."""


class ResidualBlock(nn.Module):
    """[B, D, h, w] -> same; the identity at initialisation."""

    def __init__(self, width: int):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, width, 3, padding=1)
        _zero(self.last)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve the input twice, at unit size over the channels, and add it."""
        unit = x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-4)
        return x + self.last(F.silu(self.first(F.silu(unit))))


class Downsample(nn.Module):
    """[B, D, 2h, 2w] -> [B, D', h, w]; 4D must be a multiple of D', and D' of 4."""

    def __init__(self, width: int, width_out: int):
        super().__init__()
        self.convolution = nn.Conv2d(width, width_out // 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Space to channels of the convolved input, plus the same of the input, averaged in groups."""
        learned = F.pixel_unshuffle(self.convolution(x), 2)
        averaged = F.pixel_unshuffle(x, 2).unflatten(1, (learned.shape[1], -1)).mean(2)
        return learned + averaged


class Upsample(nn.Module):
    """[B, D', h, w] -> [B, D, 2h, 2w]; 4D must be a multiple of D', and D' of 4."""

    def __init__(self, width: int, width_out: int):
        super().__init__()
        self.copies = 4 * width_out // width
        self.convolution = nn.Conv2d(width // 4, width_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Channels to space, convolved, plus channels to space of the repeated channels."""
        learned = self.convolution(F.pixel_shuffle(x, 2))
        return learned + F.pixel_shuffle(x.repeat_interleave(self.copies, dim=1), 2)


def _levels(
    widths: Sequence[int], blocks: Sequence[int], change: type[Downsample] | type[Upsample]
) -> Iterator[nn.Module]:
    """The residual blocks of every level, and between levels what changes the resolution."""
    for level, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        if level:
            yield change(widths[level - 1], width)
        yield from (ResidualBlock(width) for _ in range(count))


class TinyVideoAutoencoder(ModelMixin, ConfigMixin):
    """Causal video autoencoder, 8x8x4 (a `hallo4.types.Autoencoder`), every group of four frames on its own.

    `fine_width`, `coarse_width`: channels at a quarter and at an eighth of the frame size; `encoder_blocks`,
    `decoder_blocks`: residual blocks at each level, the finest first; `motion_gain`: how much changes inside
    a group are enlarged for the networks. `frames_per_latent` 1 makes it an autoencoder of pictures, 8x8:
    every frame is a group, and nothing is folded. With `finest_width` it is 16x16x4: that many channels at a
    quarter of the frame size, `fine_width` at an eighth and `coarse_width` at a sixteenth.

    ShapeError: widths that cannot be averaged into each other, or blocks for another number of levels.

    Latents are normalised by the buffers `latent_mean` and `latent_std` [C], saved with the weights
    (zero and one until `fit_latent_statistics`).
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 24,
        fine_width: int = 128,
        coarse_width: int = 256,
        encoder_blocks: tuple[int, ...] = (2, 1),
        decoder_blocks: tuple[int, ...] = (3, 3),
        motion_gain: float = 3.0,
        frames_per_latent: Literal[1, 4] = 4,
        finest_width: int | None = None,
    ):
        super().__init__()
        if frames_per_latent not in (1, 4):
            raise ShapeError(
                "TinyVideoAutoencoder: frames_per_latent must be 1 (pictures) or 4; found "
                f"{frames_per_latent}."
            )
        widths = [width for width in (finest_width, fine_width, coarse_width) if width is not None]
        for finer, coarser in itertools.pairwise(widths):
            if coarser % 4 or (4 * finer) % coarser:
                raise ShapeError(
                    "TinyVideoAutoencoder: the width of a level must be a multiple of 4 that divides "
                    f"{4 * finer}, 4 times the width of the finer level; found {coarser}. Use for example "
                    "fine_width=128, coarse_width=256."
                )
        for name, blocks in (("encoder_blocks", encoder_blocks), ("decoder_blocks", decoder_blocks)):
            if len(blocks) != len(widths):
                raise ShapeError(
                    f"TinyVideoAutoencoder: {name} must have a number for each of the {len(widths)} levels; "
                    f"found {list(blocks)}."
                )
        folded = 3 * frames_per_latent  # channels of a group of RGB frames
        self.cell_px = FINEST_CELL_PX * 2 ** (len(widths) - 1)
        patch_channels = folded * self.cell_px**2
        self.linear_encoder = nn.Conv2d(patch_channels, latent_channels, 1)
        self.linear_decoder = nn.Conv2d(latent_channels, patch_channels, 1)
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(FINEST_CELL_PX),
            nn.Conv2d(folded * FINEST_CELL_PX**2, widths[0], 3, padding=1),
            *_levels(widths, encoder_blocks, Downsample),
            nn.ReLU(),
            nn.Conv2d(coarse_width, latent_channels, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, coarse_width, 3, padding=1),
            *_levels(widths[::-1], decoder_blocks[::-1], Upsample),
            nn.ReLU(),
            nn.Conv2d(widths[0], folded * FINEST_CELL_PX**2, 3, padding=1),
            nn.PixelShuffle(FINEST_CELL_PX),
        )
        self._silence_convolutions()
        self.register_buffer("latent_mean", torch.zeros(latent_channels))
        self.register_buffer("latent_std", torch.ones(latent_channels))

    # ------------------------------------------------------------------ videos

    @property
    def spec(self) -> AutoencoderSpec:
        """Its sizes; every latent is made of its own group alone."""
        return AutoencoderSpec(self.config.latent_channels, self.config.frames_per_latent, self.cell_px, True)

    def encode_video(self, video_pm1: Tensor) -> Tensor:
        """[B, 3, T, H, W] in [-1, 1] -> normalised latents [B, C, F, h, w].

        Latent 0 sees frame 0 (four copies of it), latent k frames 4k-3..4k; of pictures, latent k frame k.
        ShapeError unless T = 4k+1 (any, of pictures) and H, W are multiples of `cell_px`.
        """
        check_video(video_pm1, self.cell_px)
        groups = group_frames(video_pm1, self.config.frames_per_latent, dim=2)  # [B, 3, F, 4, H, W]
        batch, frames = groups.shape[0], groups.shape[2]
        groups = groups.movedim(2, 1).flatten(0, 1)
        latents = torch.cat([self.encode_groups(chunk) for chunk in groups.split(MAX_GROUPS)])
        return latents.unflatten(0, (batch, frames)).movedim(1, 2)

    def encode_frames(self, frames_pm1: Tensor) -> Tensor:
        """[B, 3, T, H, W] -> [B, C, T, h, w]: every frame encoded as a video of one frame."""
        batch, frames = frames_pm1.shape[0], frames_pm1.shape[2]
        singles = frames_pm1.transpose(1, 2).flatten(0, 1)  # (B T) 3 H W
        check_video(singles[:, :, None], self.cell_px)
        latents = torch.cat([self.encode_stills(chunk) for chunk in singles.split(MAX_STILLS)])
        return latents.unflatten(0, (batch, frames)).transpose(1, 2)

    def decode_video(self, latents: Tensor) -> Tensor:
        """Normalised latents [B, C, F, h, w] -> [B, 3, T, H, W] with T = 4F-3 (F, of pictures), not clamped.

        Group 0 decodes four frames too, of which the last is frame 0.
        ShapeError unless C is this model's and F at least 1.
        """
        check_latents(latents, self.config.latent_channels)
        batch, frames = latents.shape[0], latents.shape[2]
        groups = latents.movedim(2, 1).flatten(0, 1)
        video = torch.cat([self.decode_groups(chunk) for chunk in groups.split(MAX_GROUPS)])
        return ungroup_frames(video.unflatten(0, (batch, frames)).movedim(1, 2), dim=2)

    # ------------------------------------------------------------------ groups of four frames

    def encode_groups(self, groups_pm1: Tensor) -> Tensor:
        """[n, 3, 4, H, W] in [-1, 1] -> normalised latents [n, C, h, w]."""
        folded = fold(groups_pm1.to(self.linear_encoder.weight.dtype), self.config.motion_gain)
        folded = folded.contiguous(memory_format=torch.channels_last)
        linear = self.linear_encoder(F.pixel_unshuffle(folded, self.cell_px))
        return (linear + self.encoder(folded) - _column(self.latent_mean)) / _column(self.latent_std)

    def encode_stills(self, frames_pm1: Tensor) -> Tensor:
        """[n, 3, H, W] -> [n, C, h, w]: as `encode_groups` of so many copies of each frame as a group has.

        Nothing changes in such a group, so all channels of the folded frames but the mean are zero, and their
        weights are left out.
        """
        frames = frames_pm1.to(self.linear_encoder.weight.dtype).contiguous(memory_format=torch.channels_last)
        linear, first = self.linear_encoder, self.encoder[1]
        cells = F.pixel_unshuffle(frames, self.cell_px)
        coded = F.conv2d(cells, self._of_mean(linear, self.cell_px), linear.bias)
        x = F.conv2d(
            self.encoder[0](frames), self._of_mean(first, FINEST_CELL_PX), first.bias, padding=first.padding
        )
        coded = coded + self.encoder[2:](x)
        return (coded - _column(self.latent_mean)) / _column(self.latent_std)

    def _of_mean(self, convolution: nn.Conv2d, cell: int) -> Tensor:
        """The weights for the mean of a group that was folded, and unshuffled by `cell`."""
        of_channels = convolution.weight.unflatten(1, (3, self.config.frames_per_latent, cell**2))
        return of_channels[:, :, 0].flatten(1, 2)

    def decode_groups(self, latents: Tensor) -> Tensor:
        """Normalised latents [n, C, h, w] -> [n, 3, 4, H, W], not clamped."""
        latents = latents.to(self.linear_decoder.weight.dtype)
        latents = latents * _column(self.latent_std) + _column(self.latent_mean)
        latents = latents.contiguous(memory_format=torch.channels_last)
        linear = F.pixel_shuffle(self.linear_decoder(latents), self.cell_px)
        return unfold(linear + self.decoder(latents), self.config.frames_per_latent, self.config.motion_gain)

    def forward(self, groups_pm1: Tensor) -> tuple[Tensor, Tensor]:
        """[n, 3, 4, H, W] -> (reconstruction of that shape, latents [n, C, h, w]): what training needs."""
        latents = self.encode_groups(groups_pm1)
        return self.decode_groups(latents), latents

    # ------------------------------------------------------------------ fitting without gradients

    def folded_cells(self, groups_pm1: Tensor) -> Tensor:
        """What the linear path sees of [n, 3, 4, H, W]: one row for each cell, [n h w, 12 cell_px^2]."""
        folded = fold(groups_pm1, self.config.motion_gain)
        return F.pixel_unshuffle(folded, self.cell_px).movedim(1, -1).flatten(0, -2)

    @torch.no_grad()
    def initialize_linear_path(self, groups_pm1: Tensor) -> Tensor:
        """Make the model the best linear code of `groups_pm1` [n, 3, 4, H, W], with latents of unit variance.

        Best for changes inside a group enlarged by `motion_gain`. Both linear maps become principal
        components, the last convolutions of the other paths zero, so that training starts from exactly this
        code. Needs more than C patches of the size of a latent cell (else ShapeError). Returns the fraction
        of the (enlarged) variance that is explained, a scalar tensor.
        """
        channels = self.config.latent_channels
        patches = self.folded_cells(groups_pm1.float())
        if len(patches) <= channels:
            raise ShapeError(
                f"initialize_linear_path needs more than {channels} patches of {self.cell_px}x{self.cell_px} "
                f"pixels; found {len(patches)}. "
                "Pass more groups of frames."
            )
        mean = patches.mean(0)
        covariance = torch.cov(patches.T.double())
        variances, directions = torch.linalg.eigh(covariance)  # ascending
        kept = directions[:, -channels:].flip(1).to(mean)  # [patch, C], largest first
        scale = variances[-channels:].flip(0).clamp_min(1e-12).sqrt().to(mean)
        to_latent = kept.T / scale[:, None]
        self.linear_encoder.weight.copy_(to_latent[:, :, None, None])
        self.linear_encoder.bias.copy_(-to_latent @ mean)
        self.linear_decoder.weight.copy_((kept * scale)[:, :, None, None])
        self.linear_decoder.bias.copy_(mean)
        self.latent_mean.zero_()
        self.latent_std.fill_(1.0)
        self._silence_convolutions()
        return (variances[-channels:].sum() / variances.sum().clamp_min(1e-12)).to(mean)

    @torch.no_grad()
    def fit_latent_statistics(self, latents: Tensor) -> None:
        """Make latents like these zero mean and unit variance per channel from now on.

        `latents` [B, C, F, h, w] or [n, C, h, w] as this model encodes them now. Decoding follows, so that
        reconstructions stay the same.
        """
        values = latents.float().transpose(0, 1).flatten(1)
        std, mean = torch.std_mean(values, dim=1)
        self.latent_mean.add_(self.latent_std * mean.to(self.latent_mean))
        self.latent_std.mul_(std.clamp_min(1e-6).to(self.latent_std))

    def _silence_convolutions(self) -> None:
        _zero(self.encoder[-1])
        _zero(self.decoder[-2])


def fold(groups: Tensor, motion_gain: float) -> Tensor:
    """Four frames as mean and changes: [n, D, 4, H, W] -> [n, D * 4, H, W]; a single frame as it is.

    The orthonormal Haar wavelet in time: the mean as it is, the change between the halves and the changes
    inside each half times `motion_gain`.
    """
    if groups.shape[2] == 1:
        return groups.flatten(1, 2)
    a, b, c, d = groups.unbind(2)
    first, second = a + b, c + d
    halves = (second - first) * (motion_gain / 2)
    inside = motion_gain / math.sqrt(2)
    return torch.stack([(first + second) / 4, halves, (b - a) * inside, (d - c) * inside], 2).flatten(1, 2)


def unfold(folded: Tensor, frames: int, motion_gain: float) -> Tensor:
    """The inverse of `fold`: [n, D * frames, H, W] -> [n, D, frames, H, W]."""
    groups = folded.unflatten(1, (-1, frames))
    if frames == 1:
        return groups
    mean, halves, early, late = groups.unbind(2)
    halves = halves / (2 * motion_gain)
    early, late = (change / (motion_gain * math.sqrt(2)) for change in (early, late))
    first, second = mean - halves, mean + halves
    return torch.stack([first - early, first + early, second - late, second + late], 2)


def _zero(convolution: nn.Conv2d) -> None:
    nn.init.zeros_(convolution.weight)
    nn.init.zeros_(convolution.bias)


def _column(per_channel: Tensor) -> Tensor:
    return per_channel[:, None, None]


def check_video(video_pm1: Tensor, cell_px: int) -> None:
    """ShapeError unless this is [B, 3, T, H, W] with H and W positive multiples of `cell_px`."""
    if video_pm1.ndim != 5 or video_pm1.shape[1] != 3:
        raise ShapeError(f"A video must be [B, 3, T, H, W]; found {list(video_pm1.shape)}.")
    height, width = video_pm1.shape[3:]
    if height % cell_px or width % cell_px or not height or not width:
        raise ShapeError(
            f"Height and width must be positive multiples of {cell_px}; found {height}x{width}. "
            "Pad or resize the video first."
        )


def check_latents(latents: Tensor, channels: int) -> None:
    """ShapeError unless these are [B, `channels`, F, h, w] with F, h and w at least 1."""
    if latents.ndim != 5 or latents.shape[1] != channels or 0 in latents.shape[2:]:
        raise ShapeError(
            f"Latents must be [B, {channels}, F, h, w] with F at least 1 and a picture that is not empty; "
            f"found {list(latents.shape)}. Pass what encode_video of the same autoencoder returns."
        )
