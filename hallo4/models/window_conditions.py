"""From what a window is about (portrait, skeleton, sound, known frame) to `MotionConditions`; the only place.

Training and generation both come through `assemble_conditions`, so a model meets in use what it met in
training::

    portrait --encode_portrait--> reference latents ------------------------------.
    grey frames --encode_grey--> grey latents (reactive; inactive of window 0) ---|
    known frame --encode_known--> inactive latents -------------------------------+--> assemble_conditions
    skeleton --encode_skeleton--> one latent per frame ---------------------------|
    sound --front end, audio_windows--> five-frame windows -----------------------'

A window whose first frame is known (the last frame of the window before) is told so as in VACE: the inactive
video is [known frame, grey, grey, ...] and the mask says 0 for the known frame (Hallo4 `wan_vace.py:153-217`,
`inf.py:511-516`). Grey is zero in [-1, 1]. Different here: the known frame is given whole, where the released
code blanks 10 % of its 2x2 patches by an unseeded draw; and with the mask rule "group" the model can see the
mask (see `vace_context`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from hallo4.errors import ShapeError
from hallo4.models.vace_context import vace_context
from hallo4.types import Autoencoder, MotionConditions

MaskRule = Literal["group", "nearest"]


def encode_portrait(autoencoder: Autoencoder, portrait_pm1: Tensor) -> Tensor:
    """[B, 3, H, W] -> reference latents [B, C, 1, h, w]: the portrait as a video of one frame."""
    return autoencoder.encode_video(portrait_pm1[:, :, None])


def encode_skeleton(autoencoder: Autoencoder, skeleton_pm1: Tensor) -> Tensor:
    """[B, 3, T, H, W] -> [B, C, T, h, w]: every skeleton frame encoded alone, all in one batch."""
    batch, frames = skeleton_pm1.shape[0], skeleton_pm1.shape[2]
    singles = skeleton_pm1.transpose(1, 2).flatten(0, 1)[:, :, None]  # (B T) 3 1 H W
    return autoencoder.encode_video(singles)[:, :, 0].unflatten(0, (batch, frames)).transpose(1, 2)


def encode_grey(autoencoder: Autoencoder, like: Tensor, frames: int) -> Tensor:
    """Latents [1, C, F, h, w] of `frames` grey frames of the size, type and device of `like` [..., H, W]."""
    return autoencoder.encode_video(like.new_zeros(1, 3, frames, *like.shape[-2:]))


def encode_known(autoencoder: Autoencoder, known_pm1: Tensor, frames: int) -> Tensor:
    """Known first frames [B, 3, H, W] -> inactive latents [B, C, F, h, w] of [known, grey, grey, ...]."""
    grey = torch.zeros_like(known_pm1)[:, :, None].expand(-1, -1, frames - 1, -1, -1)
    return autoencoder.encode_video(torch.cat([known_pm1[:, :, None], grey], dim=2))


def assemble_conditions(
    reference_latents: Tensor,  # [B, C, 1, h, w]
    grey_latents: Tensor,  # [1 or B, C, F, h, w]
    audio_windows: Tensor,  # [B, T, 5, blocks, channels]
    text: Tensor,  # [1 or B, L, D]
    skeleton_latents: Tensor | None = None,  # [B, C, T, h, w]
    inactive_latents: Tensor | None = None,  # [B, C, F, h, w]
    first_frame_known: Tensor | bool = False,  # [B] bool, or one for all
    mask_rule: MaskRule = "group",
) -> MotionConditions:
    """Everything encoded -> what a backbone is conditioned on.

    Where `first_frame_known`, the inactive latents are those of `encode_known`; elsewhere they are replaced
    by grey and the mask says that every frame is to be generated. ShapeError: a first frame is known and no
    inactive latents given.
    """
    batch, frames = audio_windows.shape[:2]
    device = reference_latents.device
    known = torch.as_tensor(first_frame_known, dtype=torch.bool, device=device).expand(batch)
    grey = grey_latents.to(reference_latents).expand(batch, -1, -1, -1, -1)
    if inactive_latents is None:
        if known.any():
            raise ShapeError(
                "the first frame is said to be known, but inactive_latents are None: use encode_known"
            )
        inactive_latents = grey
    inactive = torch.where(known[:, None, None, None, None], inactive_latents.to(grey), grey)
    generated = torch.ones(batch, frames, device=device)
    generated[:, 0] = (~known).float()
    return MotionConditions(
        reference_latents=reference_latents,
        audio_windows=audio_windows,
        skeleton_latents=skeleton_latents,
        control_latents=vace_context(inactive, grey, reference_latents, generated, mask_rule),
        text=text.to(reference_latents).expand(batch, -1, -1),
    )


def null_text(text_dim: int) -> Tensor:
    """[1, 1, text_dim] of zeros: the text of a model that was trained without any."""
    return torch.zeros(1, 1, text_dim)


def without_sound(conditions: MotionConditions) -> MotionConditions:
    """The unconditional side of guidance: audio windows of zeros, all else kept (`wan_vace.py:381-518`).

    Zeros go through the audio projection, so the model has tokens of their own for "no sound given". Training
    drops the sound in the same way. (The released model also takes a negative prompt; ours have no text.)
    """
    return replace(conditions, audio_windows=torch.zeros_like(conditions.audio_windows))
