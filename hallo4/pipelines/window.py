"""One window of a video: conditions in, frames out. Nothing is kept between windows.

::

    portrait --prepare_scene--> scene (once per video) ---.
    skeleton drawings, audio windows, known frames -------+--> MotionConditions --.
    noise of (seed, window) ------------------------------------------------------+--> denoise --> decode -->
    frames
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from hallo4.diffusion import denoise, denoise_ddim, guide
from hallo4.media.pixels import frames_to_pm1, pm1_to_frames
from hallo4.models.precision import fast_autocast
from hallo4.models.window_conditions import encode_frames
from hallo4.pipelines.model_folder import LoadedModel
from hallo4.types import MotionConditions

OnStep = Callable[[int], None]
"""Told how many denoising steps of a window are done; an exception raised in it stops the window."""

FEW_CELLS = 8192
"""Up to this many latent cells a window is small: guidance is one batch, keys and values are kept."""


@torch.inference_mode()
def prepare_scene(model: LoadedModel, portrait_u8: np.ndarray) -> dict[str, Tensor]:
    """What all windows share, from the portrait [H, W, 3] uint8; see `WindowRules.encode_scene`."""
    portrait_pm1 = _as_video(portrait_u8[None], model)[:, :, 0]
    with _arithmetic(model):
        return model.backbone.windows.encode_scene(model.autoencoder, portrait_pm1, model.info.window_frames)


@torch.inference_mode()
def window_conditions(
    model: LoadedModel,
    scene: Mapping[str, Tensor],
    skeleton_u8: np.ndarray | None,  # [rho T, H, W, 3]
    audio_windows: Tensor,  # [rho T, 5, blocks, channels]
    known_u8: np.ndarray | None,  # [M, H, W, 3]
    generator: torch.Generator,
) -> MotionConditions:
    """Conditions of one window of T frames; `known_u8` are the frames before its new ones, if there are any;
    `generator`: for what is random about telling them."""
    rules = model.backbone.windows
    known = skeleton = None
    with _arithmetic(model):
        if known_u8 is not None:
            frames = model.info.window_frames
            known = rules.encode_known(model.autoencoder, _as_video(known_u8, model), frames, generator)
        if skeleton_u8 is not None:
            skeleton = encode_frames(model.autoencoder, _as_video(skeleton_u8, model))
    heard = audio_windows[None].to(model.device, model.dtype)
    return rules.conditions(scene, heard, skeleton, known, continues=known is not None)


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
    backbone, noise = model.backbone, noise.to(model.device)

    def pin(latents: Tensor) -> Tensor:
        return backbone.pin(latents, conditions)

    with _arithmetic(model):
        small = noise[0, 0].numel() <= FEW_CELLS or backbone.sides_meet
        predict = guided_velocity(model, conditions, guidance_scale, small)
        if backbone.schedule is None:
            return denoise(predict, noise, steps, model.info.flow_shift, pin=pin, on_step=on_step)
        return denoise_ddim(predict, noise, steps, backbone.schedule, pin=pin, on_step=on_step)


@torch.inference_mode()
def decode_window(model: LoadedModel, latents: Tensor) -> np.ndarray:
    """Latents of a window -> its frames [T, H, W, 3] uint8, the known one included."""
    video_latents = model.backbone.video_latents(latents).to(model.dtype)
    with _arithmetic(model):
        video_pm1 = model.autoencoder.decode_video(video_latents)[0].float()
    return pm1_to_frames(video_pm1.transpose(0, 1))


def guided_velocity(
    model: LoadedModel, conditions: MotionConditions, guidance_scale: float, small: bool
) -> Callable[[Tensor, Tensor], Tensor]:
    """(latents [1, C, F', h, w], timestep [1]) -> guided velocity; step-invariant work is done before.

    velocity = unconditional + scale (conditional - unconditional); a scale of 1 needs one side only. A
    `small` window has both sides in one batch, and keys and values kept.
    """
    backbone = model.backbone
    if guidance_scale == 1.0:
        features = backbone.prepare(conditions, cache_kv=small)
        return lambda latents, timestep: backbone.forward(latents, timestep, features)
    other = backbone.windows.unconditional(conditions)
    if small:
        features = backbone.prepare(_both(other, conditions), cache_kv=True)

        def batched(latents: Tensor, timestep: Tensor) -> Tensor:
            both = backbone.forward(latents.expand(2, -1, -1, -1, -1), timestep.expand(2), features)
            return guide(*both.chunk(2), guidance_scale)

        return batched
    guided, unguided = backbone.prepare(conditions), backbone.prepare(other)

    def one_by_one(latents: Tensor, timestep: Tensor) -> Tensor:
        base = backbone.forward(latents, timestep, unguided)
        return guide(base, backbone.forward(latents, timestep, guided), guidance_scale)

    return one_by_one


def _arithmetic(model: LoadedModel) -> AbstractContextManager:
    """bf16 products on a CPU with units for them, where training ran in it too; else the model's own type."""
    return fast_autocast() if model.device.type == "cpu" else nullcontext()


def _as_video(frames_u8: np.ndarray, model: LoadedModel) -> Tensor:
    """[T, H, W, 3] uint8 -> [1, 3, T, H, W] in [-1, 1] on the model's device and in its type."""
    return frames_to_pm1(frames_u8).transpose(0, 1)[None].to(model.device, model.dtype)


def _both(first: MotionConditions, second: MotionConditions) -> MotionConditions:
    """Two conditions as one batch; what is said to be given on one side only is given on the other."""
    pairs = {field.name: (getattr(first, field.name), getattr(second, field.name)) for field in fields(first)}
    joined = {}
    for name, (one, other) in pairs.items():
        if one is not None and other is None:
            other = torch.ones_like(one)
        joined[name] = None if one is None else torch.cat([one, other])
    return MotionConditions(**joined)
