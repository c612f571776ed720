"""From what a window is about to `MotionConditions`: the UNet's rules, as `window_conditions` has the DiT's.

    portrait --encode_scene-----------------------> reference latents --.
    frames before the window --encode_known-------> motion latents -----+--> conditions
    (window 0: the portrait, as often)                                  |
    skeleton, sound at their rates -------------------------------------'

An image autoencoder codes each frame alone; a video autoencoder does too, given a video of one frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hallo4.errors import ShapeError
from hallo4.models.window_conditions import check_draft, check_independent, encode_portrait
from hallo4.types import Autoencoder, AutoencoderSpec, MotionConditions

HALLO2_DROPPED = 0.25
"""Share of the known frames' pixels that Hallo 2 blanks, in training and in use."""


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


class UNetWindows:
    """The `hallo4.types.WindowRules` of a `PortraitUNet`, from its config."""

    repeated_frames = 0
    drafts = False
    frames_per_latent = 1
    cell_px = 8  # the locator of the face comes in pixels, and its layers halve it three times

    def __init__(self, config: Any) -> None:
        self.config = config
        self.known_frames = config.motion_frames
        self.side_multiple_px = self.cell_px * 2 ** (len(config.block_out_channels) - 1)
        self.audio_rho = round(config.audio_rate_hz / config.fps)
        self.skeleton_rho = round(config.skeleton_fps / config.fps)

    def check_length(self, frames: int) -> None:
        """ShapeError unless `frames` and the frames before fit the positions of the motion modules."""
        longest = self.config.motion_positions - self.config.motion_frames
        if not 1 <= frames <= longest:
            raise ShapeError(
                f"a window of {frames} frames after {self.config.motion_frames} motion frames does not fit "
                f"the {self.config.motion_positions} positions of the motion modules: use 1 to {longest} "
                "frames a window"
            )

    def encode_scene(
        self,
        autoencoder: Autoencoder,
        portrait_pm1: Tensor,
        frames: int,
        text: Tensor | None = None,
        negative_text: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """`reference` [B, C, 1, h, w]. ShapeError for texts: this model has no layers for them."""
        if text is not None or negative_text is not None:
            raise ShapeError("this model takes no text and got one: leave the prompt out")
        return {"reference": encode_portrait(autoencoder, portrait_pm1)}

    def encode_known(
        self,
        autoencoder: Autoencoder,
        known_pm1: Tensor,
        scene: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> Tensor:
        """Frames before the window [B, 3, M, H, W] -> motion latents [B, C, M, h, w], each encoded alone,
        with `motion_dropped` of their pixels blanked."""
        if self.config.motion_dropped:
            known_pm1 = drop_patches(known_pm1, generator, self.config.motion_dropped)
        return autoencoder.encode_frames(known_pm1)

    def known_from_latents(
        self, spec: AutoencoderSpec, known_latents: Tensor, scene: Mapping[str, Tensor]
    ) -> Tensor:
        """[B, C, M, h, w] as they are; nothing is blanked."""
        check_independent(spec)
        return known_latents

    def conditions(
        self,
        scene: Mapping[str, Tensor],
        audio_windows: Tensor,  # [B, rho*T, 5, blocks, channels]
        skeleton_latents: Tensor | None = None,  # [B, C, rho*T, h, w]
        known_latents: Tensor | None = None,  # [B, C, M, h, w]
        continues: Tensor | bool = False,  # [B] bool, or one for all
        draft_latents: None = None,
    ) -> MotionConditions:
        """See `WindowRules`. The first window has no frames before it: the portrait stands for all M of them
        (Hallo 1 `inference.py:294-301`; its training gives zeros to one window in twenty instead, 799-805).

        Face embedding, locator and regions, which the portrait world has not, can be put in by `replace`.
        """
        check_draft(self, draft_latents)
        reference = scene["reference"]
        known = torch.as_tensor(continues, dtype=torch.bool, device=reference.device).expand(len(reference))
        portrait = reference.expand(-1, -1, self.known_frames, -1, -1)
        if known_latents is None:
            if known.any():
                raise ShapeError(
                    f"the window continues another, but known_latents are None: encode the "
                    f"{self.known_frames} frames before it"
                )
            known_latents = portrait
        motion = torch.where(known[:, None, None, None, None], known_latents.to(portrait), portrait)
        return MotionConditions(
            reference_latents=reference,
            audio_windows=audio_windows,
            skeleton_latents=skeleton_latents,
            motion_latents=motion if self.known_frames else None,
        )

    def unconditional(self, conditions: MotionConditions, which: Tensor | None = None) -> MotionConditions:
        """As in Hallo 1 (`face_animate.py:291-379`): no portrait to look at and no face, no locator, no audio
        tokens; known frames, skeleton and regions stay."""
        given = conditions.reference_latents.new_zeros(len(conditions.reference_latents), dtype=torch.bool)
        given = given if which is None else ~which.to(given)
        names = ("portrait_given", "locator_given", "audio_given")
        before = {name: getattr(conditions, name) for name in names}
        left = {name: given if value is None else value.to(given) & given for name, value in before.items()}
        return replace(conditions, **left)
