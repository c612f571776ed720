"""From what a window is about to the UNet's `MotionConditions`: as `window_conditions` does for the DiT.

    portrait -----------------------------------> reference latents --.
    frames before the window --drop_patches-----> motion latents -----+--> assemble_unet_conditions
    (window 0: the portrait, as often)                                |
    skeleton, sound at their rates; regions, locator, face -----------'

An image autoencoder codes each frame alone; a video autoencoder does too, given a video of one frame.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hallo4.errors import ShapeError
from hallo4.types import Autoencoder, MotionConditions

HALLO2_DROPPED = 0.25
"""Share of the known frames' pixels that Hallo 2 blanks, in training and in use."""


def encode_frames(autoencoder: Autoencoder, frames_pm1: Tensor) -> Tensor:
    """[B, 3, T, H, W] -> [B, C, T, h, w]: every frame encoded alone, all in one batch."""
    batch = frames_pm1.shape[0]
    singles = frames_pm1.transpose(1, 2).flatten(0, 1)[:, :, None]  # (B T) 3 1 H W
    return autoencoder.encode_video(singles)[:, :, 0].unflatten(0, (batch, -1)).transpose(1, 2)


def drop_patches(
    known_pm1: Tensor,
    generator: torch.Generator,
    share: float = HALLO2_DROPPED,
    patch_px: int = 1,
    kept: Tensor | None = None,
) -> Tensor:
    """Known frames [B, 3, M, H, W] with a `share` of their patches set to grey (0), a new tensor.

    So that errors in what was made before are not copied on and on, while its motion is still seen (Hallo
    2's patch-drop, `inference_long.py:404-418`). There, single pixels are blanked (`patch_px` 1) outside the
    box of the face; `kept` [B or 1, H, W] is 1 where nothing is dropped. Each frame has its own draw from
    `generator` (there: the global one, unseeded).
    """
    batch, _, frames, height, width = known_pm1.shape
    if not 0.0 <= share < 1.0 or patch_px < 1:
        raise ShapeError(
            f"share is {share} and patch_px {patch_px}: use a share from 0 to below 1, patches of 1 or more"
        )
    rows, columns = -(-height // patch_px), -(-width // patch_px)
    draw = torch.rand(batch, frames, rows, columns, generator=generator)
    dropped = (draw < share).float()
    if patch_px > 1:
        dropped = F.interpolate(dropped, scale_factor=patch_px, mode="nearest")[..., :height, :width]
    dropped = dropped.bool().to(known_pm1.device)
    if kept is not None:
        dropped = dropped & (kept[:, None] < 0.5).to(dropped.device)
    return torch.where(dropped[:, None], 0.0, known_pm1)


def assemble_unet_conditions(
    reference_latents: Tensor,  # [B, C, 1, h, w]
    audio_windows: Tensor,  # [B, rho*T, 5, blocks, channels]
    motion_frames: int,
    skeleton_latents: Tensor | None = None,  # [B, C, rho*T, h, w]
    motion_latents: Tensor | None = None,  # [B, C, M, h, w]
    first: Tensor | bool = False,  # [B] bool, or one for all
    face_embedding: Tensor | None = None,  # [B, E]
    locator_01: Tensor | None = None,  # [B, 3, 1 or T, H, W]
    region_masks: Tensor | None = None,  # [B, T, 3, n]
) -> MotionConditions:
    """Everything encoded -> what a UNet is conditioned on.

    A `first` window has no frames before it: the portrait stands for all M of them (Hallo 1
    `inference.py:294-301`; its training gives zeros to one window in twenty instead, 799-805). ShapeError: a
    later window without `motion_latents`.
    """
    batch = reference_latents.shape[0]
    portrait = reference_latents.expand(-1, -1, motion_frames, -1, -1)
    is_first = torch.as_tensor(first, dtype=torch.bool, device=reference_latents.device).expand(batch)
    if motion_latents is None:
        if not is_first.all():
            raise ShapeError(
                f"motion_latents are None, but only a first window has none: encode the {motion_frames} "
                "frames before the window"
            )
        motion_latents = portrait
    motion = torch.where(is_first[:, None, None, None, None], portrait, motion_latents.to(portrait))
    return MotionConditions(
        reference_latents=reference_latents,
        audio_windows=audio_windows,
        skeleton_latents=skeleton_latents,
        motion_latents=motion if motion_frames else None,
        face_embedding=face_embedding,
        locator_01=locator_01,
        region_masks=region_masks,
    )
