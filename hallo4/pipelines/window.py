"""One window of a video: conditions in, frames out. Nothing is kept between windows.

::

    portrait --prepare_scene--> scene (once per video) ----------.
    skeleton drawings, audio windows, known frames, a draft -----+--> MotionConditions --.
    noise of (seed, window) -------------------------------------------------------------+--> denoise
                                                                                         --> decode --> frames
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields

import torch
from torch import Tensor

from hallo4.diffusion import denoise, denoise_ddim, guide
from hallo4.pipelines.model_folder import LoadedModel
from hallo4.types import MotionConditions

OnStep = Callable[[int], None]
"""Called with the number of denoising steps of a window that are done; an exception raised in it stops the
window."""

FEW_CELLS = 8192
"""Up to this many latent cells both sides of guidance are one batch: larger ones gain nothing from it."""


@torch.inference_mode()
def prepare_scene(
    model: LoadedModel,
    portrait_pm1: Tensor,  # [3, H, W]
    text: Tensor | None = None,  # [1, L, D]
    negative_text: Tensor | None = None,
) -> dict[str, Tensor]:
    """What all windows share; see `WindowRules.encode_scene`."""
    rules = model.backbone.windows
    with model.autoencoding():
        portrait_pm1 = portrait_pm1[None].to(model.device)
        frames = model.info.window_frames
        return rules.encode_scene(model.autoencoder, portrait_pm1, frames, text, negative_text)


@torch.inference_mode()
def window_conditions(
    model: LoadedModel,
    scene: Mapping[str, Tensor],
    skeleton_pm1: Tensor | None,  # [rho T, 3, H, W]
    audio_windows: Tensor,  # [rho T, 5, blocks, channels]
    known_pm1: Tensor | None,  # [M, 3, H, W]
    generator: torch.Generator,
    draft_pm1: Tensor | None = None,  # [T, 3, H, W]
) -> MotionConditions:
    """Conditions of one window of T frames; `known_pm1` are the frames before its new ones, if there are any;
    `generator`: for what is random about encoding them; `draft_pm1`: of a model that takes drafts."""
    rules = model.backbone.windows
    known = skeleton = draft = None
    with model.autoencoding():
        if known_pm1 is not None:
            known = rules.encode_known(model.autoencoder, _as_video(known_pm1, model), scene, generator)
        if skeleton_pm1 is not None:
            skeleton = model.autoencoder.encode_frames(_as_video(skeleton_pm1, model))
        if draft_pm1 is not None:
            draft = model.autoencoder.encode_video(_as_video(draft_pm1, model))
    with model.denoising():
        audio_windows = audio_windows[None].to(model.device, model.dtype)
        return rules.conditions(scene, audio_windows, skeleton, known, known is not None, draft)


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

    with model.denoising():
        velocity = guided_velocity(model, conditions, guidance_scale, noise[0, 0].numel() <= FEW_CELLS)
        if backbone.schedule is None:
            return denoise(velocity, noise, steps, model.info.flow_shift, pin=pin, on_step=on_step)
        return denoise_ddim(velocity, noise, steps, backbone.schedule, pin=pin, on_step=on_step)


@torch.inference_mode()
def decode_window(model: LoadedModel, latents: Tensor, frames: int | None = None) -> Tensor:
    """Latents of a window -> its frames [T, 3, H, W] float32 in [-1, 1] on the CPU, the known one included.

    `frames`: only so many are needed, from the first on; latents that hold none of them are not decoded.
    """
    video_latents = model.backbone.video_latents(latents)
    if frames is not None:
        held = model.autoencoder.spec.frames_per_latent
        video_latents = video_latents[:, :, : latents_holding(frames, held)]
    with model.autoencoding():
        video_pm1 = model.autoencoder.decode_video(video_latents)[0].float().clamp(-1.0, 1.0)
    return video_pm1.transpose(0, 1)[:frames].cpu()


def latents_holding(frames: int, frames_per_latent: int) -> int:
    """How many latents hold the first `frames` frames of a video: the first latent holds one alone."""
    return math.ceil((frames - 1) / frames_per_latent) + 1


def guided_velocity(
    model: LoadedModel, conditions: MotionConditions, guidance_scale: float, small: bool
) -> Callable[[Tensor, Tensor], Tensor]:
    """(latents [1, C, F', h, w], timestep [1]) -> guided velocity; step-invariant work is kept.

    velocity = unconditional + scale (conditional - unconditional); a scale of 1 needs one side only. Both
    sides are one batch where the window is `small`, or the backbone needs it.
    """
    backbone = model.backbone
    sides = 1 if guidance_scale == 1.0 else 2
    if sides == 1:
        cache = backbone.new_cache(model.cache_bytes)
        return lambda latents, timestep: backbone(latents, timestep, conditions, cache)
    other = backbone.windows.unconditional(conditions)
    if small or backbone.sides_share_a_batch:
        both, cache = _both(other, conditions), backbone.new_cache(model.cache_bytes)

        def batched(latents: Tensor, timestep: Tensor) -> Tensor:
            pair = backbone(latents.expand(2, -1, -1, -1, -1), timestep.expand(2), both, cache)
            return guide(*pair.chunk(2), guidance_scale)

        return batched
    budget = None if model.cache_bytes is None else model.cache_bytes // sides
    guided, unguided = backbone.new_cache(budget), backbone.new_cache(budget)

    def one_by_one(latents: Tensor, timestep: Tensor) -> Tensor:
        base = backbone(latents, timestep, other, unguided)
        return guide(base, backbone(latents, timestep, conditions, guided), guidance_scale)

    return one_by_one


def _as_video(frames_pm1: Tensor, model: LoadedModel) -> Tensor:
    """[T, 3, H, W] -> [1, 3, T, H, W] on the model's device."""
    return frames_pm1.transpose(0, 1)[None].to(model.device)


def _both(first: MotionConditions, second: MotionConditions) -> MotionConditions:
    """Two conditions as one batch; what is said to be given on one side only is given on the other."""
    pairs = {field.name: (getattr(first, field.name), getattr(second, field.name)) for field in fields(first)}
    joined = {}
    for name, (one, other) in pairs.items():
        if one is not None and other is None:
            other = torch.ones_like(one)
        joined[name] = None if one is None else torch.cat([one, other])
    return MotionConditions(**joined)
