"""One request, prepared: everything that its windows need, and the windows, made one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hallo4.errors import InputError
from hallo4.models.audio_features import audio_windows_of
from hallo4.models.precision import has_bf16_units
from hallo4.pipelines import session
from hallo4.pipelines.conditions import (
    FindPose,
    IdleMotion,
    PathLike,
    prepare_audio,
    prepare_feature_sound,
    prepare_motion,
    prepare_portrait,
)
from hallo4.pipelines.model_folder import LoadedModel, folders_of_model
from hallo4.pipelines.plan import (
    Window,
    frame_count,
    plan_windows,
    window_generator,
    window_noise,
)
from hallo4.pipelines.progress import Reporter
from hallo4.pipelines.window import decode_window, denoise_window, prepare_scene, window_conditions
from hallo4.types import FPS, Audio, Skeleton
from hallo4.version import __version__

Motion = PathLike | Skeleton | None

MAX_STEPS = 1000
MAX_SECONDS = 4 * 3600


@dataclass(frozen=True)
class AnimationRequest:
    """What the caller asks for; see `PortraitAnimator.animate`. InputError for numbers out of range."""

    image: PathLike | np.ndarray | Image.Image
    audio: PathLike | Audio
    motion: Motion = None
    seed: int = 0
    steps: int | None = None
    guidance_scale: float | None = None
    fit_motion: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed is {self.seed}; use a whole number from 0 to 2^63 - 1.")
        if self.steps is not None and not 1 <= self.steps <= MAX_STEPS:
            raise InputError(f"steps is {self.steps}; use 1 to {MAX_STEPS}, or leave it to the model.")
        if self.guidance_scale is not None and not 0 <= self.guidance_scale <= 100:  # NaN fails too
            raise InputError(
                f"guidance scale is {self.guidance_scale}; use 0 to 100, or leave it to the model."
            )


class Job:
    """A request with its inputs read and checked. Notes on what was done to them are in `notes`."""

    def __init__(
        self,
        model: LoadedModel,
        request: AnimationRequest,
        reporter: Reporter,
        rest_pose: FindPose,
    ) -> None:
        """Read portrait, sound and motion. InputError: one of them cannot be used."""
        self.model, self.request, self._reporter = model, request, reporter
        self.rules = rules = model.backbone.windows
        self.steps = model.info.steps if request.steps is None else request.steps
        scale = request.guidance_scale
        self.guidance_scale = model.info.guidance_scale if scale is None else scale
        with reporter.stage("read"):
            self.portrait, portrait_notes = prepare_portrait(
                request.image, model.info.size_px, rules.side_multiple_px
            )
            self.audio, audio_notes = prepare_audio(request.audio)
            self.total_frames = frame_count(len(self.audio), self.audio.sample_rate_hz)
            if self.total_frames > MAX_SECONDS * FPS:
                raise InputError(
                    f"the audio lasts {self.audio.duration_s:.0f} s; {MAX_SECONDS} s are allowed. Cut it."
                )
            self.motion, motion_notes = prepare_motion(
                *(request.motion, self.portrait, self.total_frames * rules.skeleton_rho, request.seed),
                *(rest_pose, request.fit_motion, FPS * rules.skeleton_rho),
            )
        with reporter.stage("listen"):
            sound = prepare_feature_sound(request.audio, self.audio, model.audio_front_end)
            self._features = model.audio_front_end.stream(sound, self.total_frames * rules.audio_rho)
        self.notes = [*portrait_notes, *audio_notes, *motion_notes]
        self.total_windows = len(self.plan())
        self._uses_skeleton = getattr(model.backbone.config, "skeleton", "required") != "none"

    def plan(self) -> list[Window]:
        """All windows of the video."""
        return list(
            plan_windows(self.total_frames, self.model.info.window_frames, self.rules.repeated_frames)
        )

    def frames_of(self, windows: int) -> int:
        """How many frames of the video the first `windows` windows make."""
        return sum(window.kept for window in self.plan()[:windows])

    def windows(self, first: int = 0, known_u8: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Yield the new frames [n, H, W, 3] uint8 of every window from number `first` on.

        `known_u8` [n, H, W, 3] are the last frames of window `first - 1`, as many as the model is told, or
        more. Only one window is in memory.
        """
        model, reporter = self.model, self._reporter
        with reporter.timed("conditions"):
            scene = prepare_scene(model, self.portrait.pixels_u8)
        shape = model.backbone.sample_shape(model.info.window_frames, *scene["reference"].shape[-2:])
        for window in self.plan()[first:]:
            told = self._told(known_u8)
            generator = window_generator("known frames", self.request.seed, window.index)
            with reporter.timed("conditions"):
                conditions = window_conditions(
                    *(model, scene, self.skeleton_u8(window), self.sound_windows(window)),
                    *(told, generator),
                )
            with reporter.timed("denoise"):
                noise = window_noise(shape, self.request.seed, window.index)
                latents = denoise_window(
                    model, conditions, noise, self.steps, self.guidance_scale, partial(self._step, window)
                )
            with reporter.timed("decode"):
                frames_u8 = decode_window(model, latents)
            kept = frames_u8[window.first_kept : window.first_kept + window.kept]
            known_u8 = kept.copy()
            yield kept

    def fingerprint(self) -> str:
        """A hash of everything that decides the frames; see `session.fingerprint`."""
        parts: dict[str, Any] = {
            "version": __version__,
            "settings": [int(self.request.seed), self.steps, self.guidance_scale, self.total_frames],
            "fit": self.request.fit_motion,
            "arithmetic": [str(self.model.device.type), str(self.model.dtype), torch.__version__]
            + [has_bf16_units(self.model.device.type)],
            "portrait": self.portrait.pixels_u8,
            "sound": self.audio,
            "model": _model_stamp(self.model),
        }
        motion = self.request.motion
        if isinstance(self.motion, IdleMotion):
            parts["rest"] = self.motion.rest.points_px
        elif isinstance(motion, Skeleton):
            parts |= {"points": motion.points_px, "confidence": motion.confidence}
            parts["motion"] = [motion.fps, motion.width_px, motion.height_px]
        else:
            path = Path(os.fspath(motion))
            files = sorted(path.iterdir()) if path.is_dir() else [path]
            parts |= {f"motion {file.name}": file for file in files if file.is_file()}
        return session.fingerprint(parts)

    def _told(self, before_u8: np.ndarray | None) -> np.ndarray | None:
        """What a window is told of the frames before it."""
        if before_u8 is None or not self.rules.known_frames:
            return None
        return before_u8[-self.rules.known_frames :]

    def _step(self, window: Window, steps_done: int) -> None:
        frames_before = window.start + window.first_kept
        self._reporter.step(window.index, steps_done, frames_before, window.kept)

    def indices(self, window: Window, rho: int = 1) -> np.ndarray:
        """Numbers of the window's frames, or of the `rho` steps of conditions that each has; those beyond the
        end repeat the last."""
        start, stop = rho * window.start, rho * (window.start + window.frames)
        return np.minimum(np.arange(start, stop), rho * self.total_frames - 1)

    def skeleton_u8(self, window: Window) -> np.ndarray | None:
        """Skeleton drawings [rho T, H, W, 3] of a window; None for a model without them."""
        if not self._uses_skeleton:
            return None
        return self.motion.frames_u8(self.indices(window, self.rules.skeleton_rho))

    def sound_windows(self, window: Window) -> Tensor:
        """Audio windows [rho T, 5, blocks, channels] of a window."""
        return audio_windows_of(self._features, self.indices(window, self.rules.audio_rho))


def _model_stamp(model: LoadedModel) -> list[Any]:
    """What tells one state of a model folder from another without reading gigabytes: names, sizes, times."""
    info = [model.info.name, model.info.version]
    if model.folder is None:
        return info
    files = [path for folder in folders_of_model(model.folder) for path in sorted(folder.rglob("*"))]
    kept = [path for path in files if path.suffix in (".safetensors", ".json")]
    return info + [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in kept]
