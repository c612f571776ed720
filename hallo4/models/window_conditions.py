"""From what a window is about (portrait, skeleton, sound, known frame) to `MotionConditions`; the only place.

Training and generation both come through `assemble_conditions`, so a model meets in use what it met in
training::

    portrait --encode_portrait--> reference latents ------------------------------.
    grey frames --encode_grey--> grey latents (reactive) -------------------------|
    known frame --encode_known--> inactive latents -------------------------------+--> assemble_conditions
    skeleton --encode_skeleton--> one latent per frame ---------------------------|
    sound --front end, audio_windows--> five-frame windows -----------------------'

A window whose first frame is known (the last frame of the window before) is told so as in VACE: the inactive
video is [known frame, grey, grey, ...] and the mask says 0 for the known frame (Hallo4 `wan_vace.py:153-217`,
`inf.py:511-516`). Grey is zero in [-1, 1]. Different here: the known frame is given whole, where the released
code blanks 10 % of its 2x2 patches by an unseeded draw; and with the mask rule "group" the model can see the
mask (see `vace_context`).

What the inactive video shows in frames that are not known is the model's `Fill`: grey as released, or the
newest known frame standing still.
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
Fill = Literal["grey", "still"]
"""Of the inactive video where nothing is known. "still": the known first frame, or the portrait in a window
without
one, in every frame, so that each patch is told what it showed last; a small model need not find that out by
attention. "grey": as released."""


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


def encode_known(autoencoder: Autoencoder, known_pm1: Tensor, frames: int, fill: Fill = "grey") -> Tensor:
    """Known first frames [B, 3, H, W] -> inactive latents [B, C, F, h, w] of [known, grey, grey, ...] or of
    [known,
    known, ...]."""
    rest = torch.zeros_like(known_pm1) if fill == "grey" else known_pm1
    rest = rest[:, :, None].expand(-1, -1, frames - 1, -1, -1)
    return autoencoder.encode_video(torch.cat([known_pm1[:, :, None], rest], dim=2))


def filled_latents(first_latents: Tensor, grey_latents: Tensor, fill: Fill) -> Tensor:
    """What `encode_known` gives, from the latent of the first frame [B, C, 1, h, w] and grey latents [1 or
    B, C, F, h,
    w], for an autoencoder whose latents are made one by one."""
    batch, frames = len(first_latents), grey_latents.shape[2]
    if fill == "still":
        return first_latents.expand(-1, -1, frames, -1, -1)
    return torch.cat([first_latents, grey_latents[:, :, 1:].expand(batch, -1, -1, -1, -1)], dim=2)


def assemble_conditions(
    reference_latents: Tensor,  # [B, C, 1, h, w]
    grey_latents: Tensor,  # [1 or B, C, F, h, w]
    audio_windows: Tensor,  # [B, T, 5, blocks, channels]
    text: Tensor,  # [1 or B, L, D]
    skeleton_latents: Tensor | None = None,  # [B, C, T, h, w]
    inactive_latents: Tensor | None = None,  # [B, C, F, h, w]
    first_frame_known: Tensor | bool = False,  # [B] bool, or one for all
    mask_rule: MaskRule = "group",
    fill: Fill = "grey",
) -> MotionConditions:
    """Everything encoded -> what a backbone is conditioned on.

    Where `first_frame_known`, the inactive latents are those of `encode_known` with the same `fill`;
    elsewhere they are replaced by grey or by the portrait, and the mask says that every frame is to be
    generated. ShapeError: a first frame is known and no inactive latents given.
    """
    batch, frames = audio_windows.shape[:2]
    device = reference_latents.device
    known = torch.as_tensor(first_frame_known, dtype=torch.bool, device=device).expand(batch)
    grey = grey_latents.to(reference_latents).expand(batch, -1, -1, -1, -1)
    unknown = grey if fill == "grey" else reference_latents.expand(-1, -1, grey.shape[2], -1, -1)
    if inactive_latents is None:
        if known.any():
            raise ShapeError(
                "the first frame is said to be known, but inactive_latents are None: use encode_known"
            )
        inactive_latents = unknown
    inactive = torch.where(known[:, None, None, None, None], inactive_latents.to(grey), unknown)
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
