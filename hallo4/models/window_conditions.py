"""From what a window is about (portrait, skeleton, sound) to `MotionConditions`: the rules of the DiT.

Training and generation both come through `DiTWindows.conditions`, so a model meets in use what it met in
training::

    portrait --encode_scene--> reference, grey (reactive) and text -------------.
    known frame --encode_known--> inactive latents -----------------------------+--> conditions
    skeleton --autoencoder, frame by frame--> latents ---------------------------|
    draft of the frames (`drafts`) --autoencoder--> reactive latents ------------|
    sound --front end, audio_windows--> five-frame windows ---------------------'

A window whose first frame is known (the last frame of the window before) has it as in VACE: the inactive
video is [known frame, grey, grey, ...] and the mask says 0 for the known frame (Hallo4 `wan_vace.py:153-217`,
`inf.py:511-516`). Grey is zero in [-1, 1]. What differs between the released weights and ours is in the
config of the DiT: the share of the known frame that is blackened (`known_dropped`; released: an unseeded
draw) and the rule of the mask (`mask_rule`, see `vace_context`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hallo4.errors import ShapeError
from hallo4.models.temporal_motion_modulation import latent_frame_count
from hallo4.models.vace_context import vace_context
from hallo4.types import Autoencoder, AutoencoderSpec, MotionConditions, WindowRules

BLACK = -1.0
DROPPED_PATCH_PX = 2
"""Side of the patches that `blacken_patches` blackens."""


def encode_portrait(autoencoder: Autoencoder, portrait_pm1: Tensor) -> Tensor:
    """[B, 3, H, W] -> reference latents [B, C, 1, h, w]: the portrait as a video of one frame."""
    return autoencoder.encode_video(portrait_pm1[:, :, None])


def encode_grey(autoencoder: Autoencoder, like: Tensor, frames: int) -> Tensor:
    """Latents [1, C, F, h, w] of `frames` grey frames of the size, type and device of `like` [..., H, W]."""
    return autoencoder.encode_video(like.new_zeros(1, 3, frames, *like.shape[-2:]))


def null_text(text_dim: int) -> Tensor:
    """[1, 1, text_dim] of zeros: the text of a model that was trained without any."""
    return torch.zeros(1, 1, text_dim)


def check_independent(spec: AutoencoderSpec) -> None:
    """ShapeError unless latents may be cut from one video and joined with those of another."""
    if not spec.independent_latents:
        raise ShapeError(
            "the known frames of a window were given as latents, but in this autoencoder a latent depends on "
            "the frames before its own: give the frames and use encode_known"
        )


def check_draft(rules: WindowRules, draft_latents: Tensor | None) -> None:
    """ShapeError unless there is a draft where the backbone is made for one, and none where it is not."""
    if rules.drafts != (draft_latents is not None):
        words = "is made for a draft of its frames, and none" if rules.drafts else "takes no draft, and one"
        raise ShapeError(f"this model {words} was given: see `WindowRules.drafts`")


def blacken_patches(frames_pm1: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """[B, 3, M, H, W] with floor(share * n) of the n = (H/2)(W/2) patches of 2x2 pixels black, a new tensor.

    The same patches in all frames of a clip, another draw for each clip. Hallo4 `wan_vace.py:36-66`
    (`random_mask_patches`, there drawn from the global generator, which nothing seeds).
    """
    batch, _, _, height, width = frames_pm1.shape
    rows, columns = height // DROPPED_PATCH_PX, width // DROPPED_PATCH_PX
    dropped = torch.zeros(batch, rows * columns)
    for clip in range(batch):
        order = torch.randperm(rows * columns, generator=generator)
        dropped[clip, order[: int(share * rows * columns)]] = 1.0
    picture = dropped.view(batch, 1, rows, columns)
    mask = F.interpolate(picture, scale_factor=DROPPED_PATCH_PX, mode="nearest")[:, :, None].bool()
    return frames_pm1.masked_fill(mask.to(frames_pm1.device), BLACK)


class DiTWindows:
    """The `hallo4.types.WindowRules` of a `PortraitDiT`, from its config."""

    known_frames = 1
    repeated_frames = 1
    audio_rho = 1
    skeleton_rho = 1

    def __init__(self, config: Any) -> None:
        self.config = config
        self.drafts = getattr(config, "draft", False)  # a backbone of one's own need not know of them
        self.cell_px = config.cell_px
        self.side_multiple_px = config.cell_px * config.patch_size[1]
        self.frames_per_latent = config.rho

    def check_length(self, frames: int) -> None:
        """ShapeError unless `frames` = rho k + 1, with k at least 1: a window must add to what it repeats."""
        rho = self.config.rho
        if latent_frame_count(frames, rho) < 2:
            raise ShapeError(f"a window has {rho}k+1 frames, {rho + 1} or more; got {frames}.")

    def encode_scene(
        self,
        autoencoder: Autoencoder,
        portrait_pm1: Tensor,
        frames: int,
        text: Tensor | None = None,
        negative_text: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """`reference` [B, C, 1, h, w], `grey` [1, C, F, h, w], `text` [1, L, D] and, if given,
        `negative_text` [1, L, D]; L is the model's `text_len`, to which texts are padded with zeros, or,
        where it has none, as given."""
        scene = {
            "reference": encode_portrait(autoencoder, portrait_pm1),
            "grey": encode_grey(autoencoder, portrait_pm1, frames),
            "text": self._padded(null_text(self.config.text_dim) if text is None else text),
        }
        if negative_text is not None:
            scene["negative_text"] = self._padded(negative_text)
        return {name: value.to(portrait_pm1.device) for name, value in scene.items()}

    def encode_known(
        self,
        autoencoder: Autoencoder,
        known_pm1: Tensor,
        scene: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> Tensor:
        """Known frame [B, 3, 1, H, W] -> inactive latents [B, C, F, h, w] of [known, grey, grey, ...]."""
        if self.config.known_dropped:
            known_pm1 = blacken_patches(known_pm1, self.config.known_dropped, generator)
        spec = autoencoder.spec
        if spec.independent_latents:  # the grey ones are there already
            return self.known_from_latents(spec, autoencoder.encode_video(known_pm1), scene)
        frames = spec.frames_per_latent * (scene["grey"].shape[2] - 1) + 1
        grey = known_pm1.new_zeros(1).expand(*known_pm1.shape[:2], frames - 1, *known_pm1.shape[3:])
        return autoencoder.encode_video(torch.cat([known_pm1, grey], dim=2))

    def known_from_latents(
        self, spec: AutoencoderSpec, known_latents: Tensor, scene: Mapping[str, Tensor]
    ) -> Tensor:
        """[B, C, 1, h, w] and the grey latents of `scene` -> [B, C, F, h, w], as `encode_known`."""
        check_independent(spec)
        grey = scene["grey"][:, :, 1:].to(known_latents).expand(len(known_latents), -1, -1, -1, -1)
        return torch.cat([known_latents, grey], dim=2)

    def conditions(
        self,
        scene: Mapping[str, Tensor],
        audio_windows: Tensor,  # [B, T, 5, blocks, channels]
        skeleton_latents: Tensor | None = None,  # [B, C, T, h, w]
        known_latents: Tensor | None = None,  # [B, C, F, h, w]
        continues: Tensor | bool = False,  # [B] bool, or one for all
        draft_latents: Tensor | None = None,  # [B, C, F, h, w]
    ) -> MotionConditions:
        """See `WindowRules`. In a first window the inactive latents are grey, and the mask says that every
        frame is to be generated; a draft stands where VACE has what is to be replaced."""
        check_draft(self, draft_latents)
        batch, frames = audio_windows.shape[:2]
        reference = scene["reference"]
        known = torch.as_tensor(continues, dtype=torch.bool, device=reference.device).expand(batch)
        grey = scene["grey"].to(reference).expand(batch, -1, -1, -1, -1)
        if known_latents is None:
            if known.any():
                raise ShapeError("the window continues another, but known_latents are None: use encode_known")
            known_latents = grey
        inactive = torch.where(known[:, None, None, None, None], known_latents.to(grey), grey)
        generated = torch.ones(batch, frames, device=reference.device)
        generated[:, 0] = (~known).float()
        return MotionConditions(
            reference_latents=reference,
            audio_windows=audio_windows,
            skeleton_latents=skeleton_latents,
            control_latents=vace_context(
                inactive,
                grey if draft_latents is None else draft_latents.to(reference),
                *(reference, generated, self.config.mask_rule, self.config.rho),
            ),
            text=self._of_batch(scene["text"], reference),
            negative_text=self._of_batch(scene.get("negative_text"), reference),
        )

    def unconditional(self, conditions: MotionConditions, which: Tensor | None = None) -> MotionConditions:
        """Audio windows of zeros and the negative text, if there is one; all else kept (Hallo4
        `wan_vace.py:381-518`).

        Zeros go through the audio projection, so the model has tokens of their own for "no sound given".
        Training drops the sound in the same way.
        """
        text = conditions.text if conditions.negative_text is None else conditions.negative_text
        silent = torch.zeros_like(conditions.audio_windows)
        if which is not None:
            silent = _where(which, silent, conditions.audio_windows)
            text = _where(which, text, conditions.text)
        return replace(conditions, audio_windows=silent, text=text)

    def _padded(self, text: Tensor) -> Tensor:
        length = self.config.text_len
        if length is not None and text.shape[1] > length:
            raise ShapeError(f"text has {text.shape[1]} tokens, the model takes {length}: shorten it")
        return text if length is None else F.pad(text, (0, 0, 0, length - text.shape[1]))

    @staticmethod
    def _of_batch(text: Tensor | None, reference: Tensor) -> Tensor | None:
        return None if text is None else text.to(reference).expand(len(reference), -1, -1)


def _where(which: Tensor, chosen: Tensor, others: Tensor) -> Tensor:
    """`chosen` [B, ...] for the clips that `which` [B] bool names, `others` for the rest."""
    return torch.where(which.to(others.device).view(-1, *[1] * (others.ndim - 1)), chosen, others)
