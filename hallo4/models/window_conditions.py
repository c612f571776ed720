"""From what a window is about (portrait, skeleton, sound) to `MotionConditions`: the rules of the DiT.

Training and generation both come through `DiTWindows.conditions`, so a model meets in use what it met in
training::

    portrait --encode_scene--> reference, grey (reactive) and text -------------.
    known frame --encode_known--> inactive latents -----------------------------+--> conditions
    skeleton --encode_frames--> one latent per frame ---------------------------|
    sound --front end, audio_windows--> five-frame windows ---------------------'

A window whose first frame is known (the last frame of the window before) is told so as in VACE: the inactive
video is [known frame, grey, grey, ...] and the mask says 0 for the known frame (Hallo4 `wan_vace.py:153-217`,
`inf.py:511-516`). Grey is zero in [-1, 1]. Different here: the known frame is given whole, where the released
code blanks 10 % of its 2x2 patches by an unseeded draw; and with the mask rule "group" the model can see the
mask (see `vace_context`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hallo4.errors import ShapeError
from hallo4.models.temporal_motion_modulation import latent_frame_count
from hallo4.models.vace_context import vace_context
from hallo4.types import Autoencoder, MotionConditions


def encode_portrait(autoencoder: Autoencoder, portrait_pm1: Tensor) -> Tensor:
    """[B, 3, H, W] -> reference latents [B, C, 1, h, w]: the portrait as a video of one frame."""
    return autoencoder.encode_video(portrait_pm1[:, :, None])


def encode_frames(autoencoder: Autoencoder, frames_pm1: Tensor) -> Tensor:
    """[B, 3, T, H, W] -> [B, C, T, h, w]: every frame encoded alone, all in one batch."""
    batch, frames = frames_pm1.shape[0], frames_pm1.shape[2]
    singles = frames_pm1.transpose(1, 2).flatten(0, 1)[:, :, None]  # (B T) 3 1 H W
    return autoencoder.encode_video(singles)[:, :, 0].unflatten(0, (batch, frames)).transpose(1, 2)


def encode_grey(autoencoder: Autoencoder, like: Tensor, frames: int) -> Tensor:
    """Latents [1, C, F, h, w] of `frames` grey frames of the size, type and device of `like` [..., H, W]."""
    return autoencoder.encode_video(like.new_zeros(1, 3, frames, *like.shape[-2:]))


def null_text(text_dim: int) -> Tensor:
    """[1, 1, text_dim] of zeros: the text of a model that was trained without any."""
    return torch.zeros(1, 1, text_dim)


class DiTWindows:
    """The `hallo4.types.WindowRules` of a `PortraitDiT`, from its config."""

    known_frames = 1
    repeated_frames = 1
    audio_rho = 1
    skeleton_rho = 1

    def __init__(self, config: Any) -> None:
        self.config = config
        self.side_multiple_px = 8 * config.patch_size[1]
        self.frames_per_latent = config.rho

    def check_length(self, frames: int) -> None:
        """ShapeError unless `frames` = rho k + 1, with k at least 1: a window must add to what it repeats."""
        rho = self.config.rho
        if latent_frame_count(frames, rho) < 2:
            raise ShapeError(f"a window has {rho}k+1 frames, {rho + 1} or more; got {frames}.")

    def encode_scene(self, autoencoder: Autoencoder, portrait_pm1: Tensor, frames: int) -> dict[str, Tensor]:
        """`reference` [B, C, 1, h, w], `grey` [1, C, F, h, w] and `text` [1, L, D]."""
        return {
            "reference": encode_portrait(autoencoder, portrait_pm1),
            "grey": encode_grey(autoencoder, portrait_pm1, frames),
            "text": null_text(self.config.text_dim).to(portrait_pm1),
        }

    def encode_known(
        self,
        autoencoder: Autoencoder,
        known_pm1: Tensor,
        frames: int,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Known frame [B, 3, 1, H, W] -> inactive latents [B, C, F, h, w] of [known, grey, grey, ...]."""
        grey = known_pm1.new_zeros(1).expand(*known_pm1.shape[:2], frames - 1, *known_pm1.shape[3:])
        return autoencoder.encode_video(torch.cat([known_pm1, grey], dim=2))

    def known_from_latents(self, known_latents: Tensor, scene: Mapping[str, Tensor]) -> Tensor:
        """[B, C, 1, h, w] and the grey latents of `scene` -> [B, C, F, h, w], as `encode_known`."""
        grey = scene["grey"][:, :, 1:].expand(len(known_latents), -1, -1, -1, -1)
        return torch.cat([known_latents, grey], dim=2)

    def conditions(
        self,
        scene: Mapping[str, Tensor],
        audio_windows: Tensor,  # [B, T, 5, blocks, channels]
        skeleton_latents: Tensor | None = None,  # [B, C, T, h, w]
        known_latents: Tensor | None = None,  # [B, C, F, h, w]
        continues: Tensor | bool = False,  # [B] bool, or one for all
    ) -> MotionConditions:
        """See `WindowRules`. Where a window does not go on, the inactive latents are grey, and the mask says
        that every frame is to be generated."""
        batch, frames = audio_windows.shape[:2]
        reference = scene["reference"]
        known = torch.as_tensor(continues, dtype=torch.bool, device=reference.device).expand(batch)
        grey = scene["grey"].to(reference).expand(batch, -1, -1, -1, -1)
        if known_latents is None:
            if known.any():
                raise ShapeError("the window goes on, but known_latents are None: use encode_known")
            known_latents = grey
        inactive = torch.where(known[:, None, None, None, None], known_latents.to(grey), grey)
        generated = torch.ones(batch, frames, device=reference.device)
        generated[:, 0] = (~known).float()
        return MotionConditions(
            reference_latents=reference,
            audio_windows=audio_windows,
            skeleton_latents=skeleton_latents,
            control_latents=vace_context(
                inactive, grey, reference, generated, self.config.mask_rule, self.config.rho
            ),
            text=scene["text"].to(reference).expand(batch, -1, -1),
        )

    def unconditional(self, conditions: MotionConditions, which: Tensor | None = None) -> MotionConditions:
        """Audio windows of zeros, all else kept (`wan_vace.py:381-518`).

        Zeros go through the audio projection, so the model has tokens of their own for "no sound given".
        Training drops the sound in the same way. (The released model also takes a negative prompt; ours have
        no text.)
        """
        heard = conditions.audio_windows
        silent = torch.zeros_like(heard)
        if which is not None:
            silent = torch.where(which.to(heard.device).view(-1, 1, 1, 1, 1), silent, heard)
        return replace(conditions, audio_windows=silent)
