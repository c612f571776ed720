"""One window of a video: conditions in, frames out. Nothing is kept between windows.

::

    portrait --prepare_scene--> Scene (once per video) --.
    skeleton drawings, audio windows, known first frame --+--> MotionConditions --.
    noise of (seed, window) ------------------------------------------------------+--> denoise --> decode -->
    frames
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from hallo4.diffusion import denoise, guide
from hallo4.media.pixels import frames_to_pm1, pm1_to_frames
from hallo4.models import window_conditions as conditioning
from hallo4.models.precision import fast_autocast
from hallo4.pipelines.model_folder import LoadedModel
from hallo4.types import MotionConditions

OnStep = Callable[[int], None]
"""Told how many denoising steps of a window are done; an exception raised in it stops the window."""

FEW_CELLS = 8192
"""Up to this many latent cells a window is small: guidance is one batch, keys and values are kept."""


@dataclass(frozen=True)
class Scene:
    """What all windows of a video share: `reference_latents` [1, C, 1, h, w], `grey_latents` [1, C, F, h, w],

    `text` [1, L, D].
    """

    reference_latents: Tensor
    grey_latents: Tensor
    text: Tensor


@torch.inference_mode()
def prepare_scene(model: LoadedModel, portrait_u8: np.ndarray) -> Scene:
    """Encode the portrait [H, W, 3] uint8 and the grey video once."""
    portrait_pm1 = _as_video(portrait_u8[None], model)[:, :, 0]
    with _arithmetic(model):
        return Scene(
            reference_latents=conditioning.encode_portrait(model.autoencoder, portrait_pm1),
            grey_latents=conditioning.encode_grey(model.autoencoder, portrait_pm1, model.info.window_frames),
            text=conditioning.null_text(model.backbone.config.text_dim).to(model.device, model.dtype),
        )


@torch.inference_mode()
def window_conditions(
    model: LoadedModel,
    scene: Scene,
    skeleton_u8: np.ndarray | None,  # [T, H, W, 3]
    audio_windows: Tensor,  # [T, 5, blocks, channels]
    known_u8: np.ndarray | None,  # [H, W, 3]
) -> MotionConditions:
    """Conditions of one window of T frames; `known_u8` is its first frame where that is made already."""
    inactive = skeleton = None
    with _arithmetic(model):
        if known_u8 is not None:
            known_pm1 = _as_video(known_u8[None], model)[:, :, 0]
            inactive = conditioning.encode_known(
                model.autoencoder, known_pm1, len(audio_windows), model.info.fill
            )
        if skeleton_u8 is not None:
            skeleton = conditioning.encode_skeleton(model.autoencoder, _as_video(skeleton_u8, model))
    return conditioning.assemble_conditions(
        scene.reference_latents,
        scene.grey_latents,
        audio_windows[None].to(model.device, model.dtype),
        scene.text,
        skeleton,
        inactive,
        first_frame_known=known_u8 is not None,
        mask_rule=model.info.mask_rule,
        fill=model.info.fill,
    )


@torch.inference_mode()
def denoise_window(
    model: LoadedModel,
    conditions: MotionConditions,
    noise: Tensor,  # [1, C, F', h, w] float32
    steps: int,
    guidance_scale: float,
    on_step: OnStep,
) -> Tensor:
    """Noise -> clean latents [1, C, F', h, w] float32; `on_step` is called after every step."""
    with _arithmetic(model):
        return denoise(
            guided_velocity(model, conditions, guidance_scale),
            noise.to(model.device),
            steps,
            model.info.flow_shift,
            pin=lambda latents: model.backbone.pin(latents, conditions),
            on_step=on_step,
        )


@torch.inference_mode()
def decode_window(model: LoadedModel, latents: Tensor) -> np.ndarray:
    """Latents of a window -> its frames [T, H, W, 3] uint8, the known one included."""
    video_latents = model.backbone.video_latents(latents).to(model.dtype)
    with _arithmetic(model):
        video_pm1 = model.autoencoder.decode_video(video_latents)[0].float()
    return pm1_to_frames(video_pm1.transpose(0, 1))


def guided_velocity(
    model: LoadedModel, conditions: MotionConditions, guidance_scale: float
) -> Callable[[Tensor, Tensor], Tensor]:
    """(latents [1, C, F', h, w], timestep [1]) -> guided velocity; step-invariant work is done before.

    velocity = without sound + scale (with sound - without sound); a scale of 1 needs the sounding side only.
    """
    backbone = model.backbone
    small = conditions.control_latents[0, 0].numel() <= FEW_CELLS
    if guidance_scale == 1.0:
        features = backbone.prepare(conditions, cache_kv=small)
        return lambda latents, timestep: backbone.forward(latents, timestep, features)
    silent = conditioning.without_sound(conditions)
    if small:
        features = backbone.prepare(_both(silent, conditions), cache_kv=True)

        def batched(latents: Tensor, timestep: Tensor) -> Tensor:
            both = backbone.forward(latents.expand(2, -1, -1, -1, -1), timestep.expand(2), features)
            return guide(*both.chunk(2), guidance_scale)

        return batched
    with_sound, without = backbone.prepare(conditions), backbone.prepare(silent)

    def one_by_one(latents: Tensor, timestep: Tensor) -> Tensor:
        base = backbone.forward(latents, timestep, without)
        return guide(base, backbone.forward(latents, timestep, with_sound), guidance_scale)

    return one_by_one


def _arithmetic(model: LoadedModel) -> AbstractContextManager:
    """bf16 products on a CPU with units for them, where training ran in it too; else the model's own type."""
    return fast_autocast() if model.device.type == "cpu" else nullcontext()


def _as_video(frames_u8: np.ndarray, model: LoadedModel) -> Tensor:
    """[T, H, W, 3] uint8 -> [1, 3, T, H, W] in [-1, 1] on the model's device and in its type."""
    return frames_to_pm1(frames_u8).transpose(0, 1)[None].to(model.device, model.dtype)


def _both(first: MotionConditions, second: MotionConditions) -> MotionConditions:
    """Two conditions as one batch."""
    pairs = {field.name: (getattr(first, field.name), getattr(second, field.name)) for field in fields(first)}
    return MotionConditions(
        **{name: None if pair[0] is None else torch.cat(pair) for name, pair in pairs.items()}
    )
