"""The VACE context: what the control branch is given: known frames, the mask, the reference."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hallo4.errors import ShapeError
from hallo4.models.temporal_motion_modulation import group_frames, latent_frame_count

MaskRule = Literal["group", "nearest"]

MASK_CHANNELS = 64
"""One per pixel of Wan's cell of 8x8 pixels. All are alike, so larger cells have no more of them."""


def vace_context(
    inactive_latents: Tensor,
    reactive_latents: Tensor,
    reference_latents: Tensor,
    generated: Tensor,
    mask_rule: MaskRule = "group",
    rho: int = 4,
) -> Tensor:
    """Arrange latents and mask into `MotionConditions.control_latents` [B, 2C+64, F+1, h, w].

    `inactive_latents` [B, C, F, h, w]: the video with everything to be generated set to zero, encoded;
    `reactive_latents` [B, C, F, h, w]: what is to be replaced, encoded (an encoded zero video for a portrait,
    or a draft of the frames); `reference_latents` [B, C, 1, h, w]; `generated` [B, T]: 1 where a frame is to
    be generated, 0 where it is known.

    Slot 0 is [reference, 0, 0]; slot f+1 is [inactive, reactive, mask] of latent frame f, all 64 mask
    channels alike because whole frames are known or not.

    `mask_rule` "group": a latent frame counts as known only if all frames of its group are (latent 0 holds
    frame 0 alone, so a carried-over first frame is marked). "nearest" (released, Hallo4
    `wan_vace.py:183-214`): the mask is resized from T to F by nearest-exact, which reads frame 1 for latent 0
    at T = 81 and so loses that flag. Raises ShapeError where lengths or sizes do not belong together.
    """
    batch, channels, latent_frames, height, width = inactive_latents.shape
    expected = {
        "reactive_latents": (reactive_latents, (batch, channels, latent_frames, height, width)),
        "reference_latents": (reference_latents, (batch, channels, 1, height, width)),
    }
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ShapeError(
                f"{name} has shape {tuple(tensor.shape)}, but inactive_latents of shape "
                f"{tuple(inactive_latents.shape)} need {shape}: encode both for the same window"
            )
    if generated.shape[0] != batch or latent_frame_count(generated.shape[1], rho) != latent_frames:
        raise ShapeError(
            f"the mask has shape {tuple(generated.shape)}, but {latent_frames} latent frames need "
            f"({batch}, {rho * (latent_frames - 1) + 1}): give one flag for each video frame of the window"
        )
    flags = _latent_flags(generated.to(inactive_latents), latent_frames, mask_rule, rho)
    mask = flags[:, None, :, None, None].expand(-1, MASK_CHANNELS, -1, height, width)
    video = torch.cat([inactive_latents, reactive_latents, mask], dim=1)
    silence = video.new_zeros(batch, channels + MASK_CHANNELS, 1, height, width)
    reference = torch.cat([reference_latents.to(video), silence], dim=1)
    return torch.cat([reference, video], dim=2)


def _latent_flags(generated: Tensor, latent_frames: int, mask_rule: str, rho: int) -> Tensor:
    if mask_rule == "group":
        return group_frames(generated, rho).amax(dim=2)
    if mask_rule == "nearest":
        return F.interpolate(generated[:, None], size=latent_frames, mode="nearest-exact")[:, 0]
    raise ShapeError(f"mask rule {mask_rule!r} is unknown: use 'group' or 'nearest'")
