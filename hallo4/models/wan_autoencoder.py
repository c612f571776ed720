"""The released video autoencoder, Wan2.1's, as a `hallo4.types.Autoencoder`: causal, 8x8x4, 16 channels.

    video [B, 3, T, H, W]                                          T = 4k+1
      | encoder, frame 0, then four frames at a time, with what its convolutions keep of the frames before
      | mean of the posterior, less `latents_mean`, over `latents_std`
    latents [B, C, F, h, w]
      | decoder, one latent frame at a time: one video frame, then four each
    video [B, 3, T, H, W], not clamped

Weights, configuration and arithmetic are those of diffusers' `AutoencoderKLWan`, whose folders this class
reads and writes; `wan_layers.py` says what its layers do differently. The state of a video is local to a
call: calls do not disturb each other, and nothing but the latents of grey is kept after one.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor

from hallo4.errors import ShapeError
from hallo4.json_file import parse_json
from hallo4.models.autoencoder import check_latents, check_video
from hallo4.models.precision import autocast_off
from hallo4.models.temporal_motion_modulation import latent_frame_count
from hallo4.models.wan_layers import StageState, adopt, empty_cache, frames_at_once
from hallo4.types import AutoencoderSpec

FRAMES_PER_LATENT = 4

CELL_PX = 8
"""Pixels per latent cell, each way."""

GREY_SIZES = 4
"""Of how many picture sizes the latents of grey are kept."""


class WanAutoencoder(AutoencoderKLWan):
    """Wan2.1's autoencoder; latents of unit variance, nothing sampled, float32 out whatever the weights are.

    The configuration is diffusers'. ShapeError for one that is not of Wan2.1's kind (8x8x4, plain blocks).
    Encoder and decoder may differ in type (each with its `quant_conv`); inputs are cast to it. All of it is
    named as what stays in fp32, and autocast does not reach it: so the released program runs it, and it takes
    a small share of the time. Where memory is short, the decoder may be halved (`HALF_IF_SCARCE`). No
    gradients are kept.

    Matches `wan/modules/vae.py` of Wan2.1 (9737cba), but for the clamp to [-1, 1] after decoding, which is
    left to the caller, and for rounding.
    """

    _keep_in_fp32_modules = ("encoder", "quant_conv", "post_quant_conv", "decoder")
    HALF_IF_SCARCE = ("post_quant_conv", "decoder")
    """Parts that may also be used in bf16: only pixels come from them, no condition but the known frame."""

    @functools.wraps(AutoencoderKLWan.__init__)
    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._check_config()
        adopt(self)
        self._grey: dict[tuple, Tensor] = {}
        self._grey_weights: list[tuple[Tensor, int, torch.dtype]] = []

    @property
    def spec(self) -> AutoencoderSpec:
        """Its sizes; a latent depends on all video frames before it too."""
        return AutoencoderSpec(self.config.z_dim, FRAMES_PER_LATENT, CELL_PX, independent_latents=False)

    def to_json_string(self) -> str:
        """`config.json`, with the name of diffusers' class, which reads the same folder."""
        config = parse_json(super().to_json_string(), "config.json", dict[str, Any]) | {
            "_class_name": AutoencoderKLWan.__name__
        }
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    # ------------------------------------------------------------------ pixels to latents

    @apply_forward_hook
    @torch.no_grad()
    def encode_video(self, video_pm1: Tensor) -> Tensor:
        """[B, 3, T, H, W] in [-1, 1] -> normalised latents [B, C, F, h, w]; latent 0 sees frame 0 alone.

        Memory does not grow with T beyond input and output. Where the video stops changing, the layers that
        have seen nothing else for as long as they look back give their last output again, and a grey (all
        zero) video is encoded once for its size: a known frame before grey costs a third, later grey
        nothing. ShapeError unless T = 4k+1 and H, W are multiples of 8.
        """
        check_video(video_pm1, CELL_PX)
        latent_frame_count(video_pm1.shape[2], FRAMES_PER_LATENT)
        equal_to_last = still_frames(video_pm1)
        if all(equal_to_last[1:]) and is_grey(video_pm1):
            return self._encode_grey(video_pm1, equal_to_last)
        return self._encode_steps(video_pm1, equal_to_last)

    @apply_forward_hook
    @torch.no_grad()
    def encode_frames(self, frames_pm1: Tensor) -> Tensor:
        """[B, 3, T, H, W] in [-1, 1] -> [B, C, T, h, w]: every frame encoded as a video of one frame.

        As many frames at a time as `wan_layers.PIXELS_AT_ONCE` allows, through 2-D convolutions (the frame
        has no past); frames that repeat the one before them are encoded once. ShapeError unless H, W are
        multiples of 8 and T is at least 1.
        """
        check_video(frames_pm1, CELL_PX)
        batch, frames = frames_pm1.shape[0], frames_pm1.shape[2]
        if not frames:
            raise ShapeError(f"{list(frames_pm1.shape)}: there is no frame to encode; pass at least one.")
        repeats = still_frames(frames_pm1)
        distinct = [frame for frame in range(frames) if not repeats[frame]]
        singles = [(clip, frame) for clip in range(batch) for frame in distinct]
        at_once = frames_at_once(*frames_pm1.shape[3:])
        encoded = []
        for start in range(0, len(singles), at_once):
            chosen = singles[start : start + at_once]
            pictures = torch.stack([frames_pm1[clip, :, frame] for clip, frame in chosen])
            with autocast_off(pictures.device.type):
                encoded.append(self._normalise(self.encoder(self._to_encoder(pictures[:, :, None]))))
        latents = torch.cat(encoded)[:, :, 0].unflatten(0, (batch, len(distinct))).transpose(1, 2)
        if len(distinct) == frames:
            return latents
        source = torch.tensor(repeats, device=latents.device).logical_not().cumsum(0) - 1
        return latents.index_select(2, source)

    def _encode_steps(self, video_pm1: Tensor, equal_to_last: list[bool]) -> Tensor:
        """Frame 0, then four frames at a time; `equal_to_last` [T] as `still_frames` says."""
        cache = empty_cache(self.encoder)
        states = [StageState() for _ in range(self.encoder.stage_count())]
        latents, equal_frames, start = [], 0, 0
        for stop in range(1, video_pm1.shape[2] + 1, FRAMES_PER_LATENT):
            for same in equal_to_last[start:stop]:
                equal_frames = equal_frames + 1 if same else 1
            step = self._to_encoder(video_pm1[:, :, start:stop])
            with autocast_off(step.device.type):
                encoded = self.encoder(
                    step, feat_cache=cache, feat_idx=[0], states=states, equal_frames=equal_frames
                )
                latents.append(self._normalise(encoded))
            start = stop
        return torch.cat(latents, dim=2)

    def _encode_grey(self, video_pm1: Tensor, equal_to_last: list[bool]) -> Tensor:
        """Latents of a grey video; those of a shorter one are the first of a longer one."""
        weights = [
            (parameter, 0 if parameter.is_inference() else parameter._version, parameter.dtype)
            for part in (self.encoder, self.quant_conv)
            for parameter in part.parameters()
        ]
        known = len(weights) == len(self._grey_weights) and all(
            mine[0] is theirs[0] and mine[1:] == theirs[1:]
            for mine, theirs in zip(weights, self._grey_weights)
        )
        if not known:
            self._grey.clear()
            self._grey_weights = weights
        batch, _, frames, *size = video_pm1.shape
        wanted = latent_frame_count(frames, FRAMES_PER_LATENT)
        key = (*size, video_pm1.device)
        if key not in self._grey or self._grey[key].shape[2] < wanted:
            latents = self._encode_steps(video_pm1[:1], equal_to_last)
            self._grey.pop(key, None)
            while len(self._grey) >= GREY_SIZES:
                self._grey.pop(next(iter(self._grey)))
            self._grey[key] = latents
        return self._grey[key][:, :, :wanted].repeat(batch, 1, 1, 1, 1)

    def _to_encoder(self, pixels: Tensor) -> Tensor:
        return pixels.to(self.encoder.conv_in.weight.dtype)

    def _normalise(self, encoded: Tensor) -> Tensor:
        """What the encoder gives, [B, 2C, F, h, w] -> mean of the posterior, normalised, [B, C, F, h, w]."""
        moments = self.quant_conv(encoded)
        mean, std = self._statistics(encoded.device)
        return (moments[:, : self.config.z_dim].float() - mean) / std

    # ------------------------------------------------------------------ latents to pixels

    def decode_video(self, latents: Tensor, tile_px: int | None = None) -> Tensor:
        """Normalised latents [B, C, F, h, w] -> video [B, 3, T, H, W], not clamped.

        `tile_px`: decode squares of that side, a multiple of 32 from 128 on, with a quarter of overlap that
        is blended, by diffusers, which clamps to [-1, 1]. It needs the memory of a tile and of the video,
        and is another result: attention and borders see the tile only.
        ShapeError for latents of another model and for an impossible tile.
        """
        if tile_px is not None:
            return self._decode_tiles(latents, tile_px)
        return torch.cat(list(self.decode_chunks(latents)), dim=2)

    def decode_chunks(self, latents: Tensor) -> Iterator[Tensor]:
        """Normalised latents [B, C, F, h, w] -> the video in F pieces [B, 3, 1 or 4, H, W], not clamped.

        A piece is there as soon as its latent frame is decoded and depends on no later one, so latents whose
        frames are not wanted may be left out at the end. Errors as `decode_video`, before the first piece.
        """
        check_latents(latents, self.config.z_dim)
        return self._decode_steps(latents)

    @apply_forward_hook
    @torch.no_grad()
    def _decode_steps(self, latents: Tensor) -> Iterator[Tensor]:
        cache = empty_cache(self.decoder)
        for step in latents.split(1, dim=2):
            with autocast_off(step.device.type):
                values = self.post_quant_conv(self._denormalise(step))
                frames = self.decoder(values, feat_cache=cache, feat_idx=[0]).float()
            yield frames

    @apply_forward_hook
    @torch.no_grad()
    def _decode_tiles(self, latents: Tensor, tile_px: int) -> Tensor:
        check_latents(latents, self.config.z_dim)
        if tile_px < 128 or tile_px % 32:
            raise ShapeError(f"tile_px is {tile_px}; it must be a multiple of 32, 128 or more, such as 256.")
        self.tile_sample_min_height = self.tile_sample_min_width = tile_px
        self.tile_sample_stride_height = self.tile_sample_stride_width = tile_px * 3 // 4
        try:
            with autocast_off(latents.device.type):
                return self.tiled_decode(self._denormalise(latents)).sample.float()
        finally:
            self.clear_cache()

    def _denormalise(self, latents: Tensor) -> Tensor:
        """Normalised latents -> those of the posterior, same shape, in the decoder's type."""
        mean, std = self._statistics(latents.device)
        return (latents.float() * std + mean).to(self.post_quant_conv.weight.dtype)

    # ------------------------------------------------------------------ configuration

    def _statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents per channel, [C, 1, 1, 1] each."""
        values = torch.tensor([self.config.latents_mean, self.config.latents_std], device=device)
        mean, std = values.float()[:, :, None, None, None].unbind(0)
        return mean, std

    def _check_config(self) -> None:
        config = self.config
        compression = 2 ** (len(config.dim_mult) - 1), 2 ** sum(config.temperal_downsample)
        if compression != (CELL_PX, FRAMES_PER_LATENT) or (config.in_channels, config.out_channels) != (3, 3):
            raise ShapeError(
                f"an autoencoder that makes {config.in_channels} channels of {compression[0]}x"
                f"{compression[0]} pixels and {compression[1]} frames one latent; RGB, 8x8 and 4 are needed: "
                "use Wan2.1's"
            )
        if config.is_residual or config.patch_size is not None or config.attn_scales:
            raise ShapeError(
                "is_residual, patch_size or attn_scales is set, as for Wan2.2's autoencoder; only Wan2.1's "
                "is known here"
            )
        lengths = len(config.latents_mean), len(config.latents_std)
        if lengths != (config.z_dim, config.z_dim) or min(config.latents_std) <= 0:
            raise ShapeError(
                f"latents_mean has {lengths[0]} values and latents_std {lengths[1]}; {config.z_dim} each are "
                "needed, deviations above 0"
            )


def still_frames(video_pm1: Tensor) -> list[bool]:
    """[T]: whether a frame of [B, 3, T, H, W] equals the one before it, in all clips."""
    equal = [(later == earlier).all() for earlier, later in pairwise(video_pm1.unbind(2))]
    return [False, *(torch.stack(equal).tolist() if equal else [])]


def is_grey(video_pm1: Tensor) -> bool:
    """Whether the first frame of all clips is zero throughout."""
    return not video_pm1[:, :, 0].any().item()
