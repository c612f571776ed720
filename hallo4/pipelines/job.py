"""One request, prepared: everything that its windows need, and the windows, made one after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hallo4.errors import InputError
from hallo4.media.names import as_stored
from hallo4.media.pixels import frames_to_pm1, pm1_to_frames
from hallo4.models.audio_features import audio_windows_of
from hallo4.models.precision import has_bf16_units
from hallo4.motion import MotionHints
from hallo4.pipelines import session
from hallo4.pipelines.conditions import (
    PathLike,
    prepare_audio,
    prepare_feature_sound,
    prepare_portrait,
)
from hallo4.pipelines.conventions import OURS, Conventions
from hallo4.pipelines.expected import JobSize
from hallo4.pipelines.frames import WindowFrames
from hallo4.pipelines.model_folder import LoadedModel, folders_of_model
from hallo4.pipelines.motion_source import IdleMotion, KeypointMotion
from hallo4.pipelines.plan import (
    Window,
    frame_count,
    plan_windows,
    window_generator,
    window_noise,
)
from hallo4.pipelines.portrait_drafts import portrait_drafts
from hallo4.pipelines.portrait_rest import FindPose, asked_once
from hallo4.pipelines.prepare_motion import NO_HINTS, existing_motion, is_keypoints, prepare_motion
from hallo4.pipelines.progress import Reporter
from hallo4.pipelines.reach import decoded_psnr_db, notes_beyond_training
from hallo4.pipelines.window import decode_window, denoise_window, prepare_scene, window_conditions
from hallo4.types import FPS, Audio, Skeleton
from hallo4.version import __version__

Motion = PathLike | Skeleton | None

MAX_STEPS = 1000
MAX_SECONDS = 4 * 3600


@dataclass(frozen=True)
class AnimationRequest:
    """What the caller asks for; see `PortraitAnimator.animate`. InputError for numbers out of range.

    `facts` are written into the provenance of the file; they decide no frame.
    """

    image: PathLike | np.ndarray | Image.Image
    audio: PathLike | Audio | None = None
    motion: Motion = None
    seed: int = 0
    steps: int | None = None
    guidance_scale: float | None = None
    fit_motion: bool = False
    prompt: str | None = None
    negative_prompt: str | None = None
    conventions: Conventions = OURS
    motion_hints: MotionHints = NO_HINTS
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed is {self.seed}; use a whole number from 0 to 2^63 - 1.")
        if self.steps is not None and not 1 <= self.steps <= MAX_STEPS:
            raise InputError(f"steps is {self.steps}; use 1 to {MAX_STEPS}, or leave it to the model.")
        if self.guidance_scale is not None and not 0 <= self.guidance_scale <= 100:  # NaN fails too
            raise InputError(
                f"guidance scale is {self.guidance_scale}; use 0 to 100, or leave it to the model."
            )
        if isinstance(self.motion, str | os.PathLike):
            object.__setattr__(self, "motion", existing_motion(self.motion))
        silent = self.motion is None or isinstance(self.motion, Skeleton) or is_keypoints(self.motion)
        if self.audio is None and silent:
            raise InputError(
                "no sound is given. Give a sound or video file, or a video with sound as the motion."
            )

    @property
    def files(self) -> list[Path]:
        """The files and folders that are read."""
        given = (self.image, self.audio, self.motion)
        return [as_stored(path) for path in given if isinstance(path, str | os.PathLike)]

    @property
    def sound(self) -> PathLike | Audio:
        """What is spoken: `audio`, or else the sound of the video that gives the motion."""
        return self.motion if self.audio is None else self.audio


class Job:
    """A request with its inputs read and checked. Notes on what was done to them are in `notes`."""

    def __init__(
        self,
        model: LoadedModel,
        request: AnimationRequest,
        reporter: Reporter,
        rest_pose: FindPose,
    ) -> None:
        """Read portrait, sound (whose features `sound` gives) and motion. InputError: one cannot be used."""
        rest_pose = asked_once(rest_pose)
        self.model, self.request, self._reporter = model, request, reporter
        self.rules = rules = model.backbone.windows
        self.steps = model.info.steps if request.steps is None else request.steps
        scale = request.guidance_scale
        self.guidance_scale = model.info.guidance_scale if scale is None else scale
        with reporter.stage("read"):
            self.portrait, portrait_notes = prepare_portrait(
                *(request.image, model.info.size_px, rules.side_multiple_px, model.info.canvas_sizes_px)
            )
            self.audio, audio_notes = prepare_audio(request.sound)
            if request.audio is None:
                audio_notes.append(f"no sound given: that of {os.fspath(request.motion)} is used")
            sound = prepare_feature_sound(request.sound, self.audio, model.audio_front_end)
            shortest = request.conventions.length == "shortest"
            counted = sound if shortest else self.audio
            sound_frames = frame_count(len(counted), counted.sample_rate_hz, up=shortest)
            self.total_frames = sound_frames - request.conventions.start_frame
            if self.total_frames > MAX_SECONDS * FPS:
                raise InputError(
                    f"the audio lasts {self.audio.duration_s:.0f} s; {MAX_SECONDS} s are allowed. Cut it."
                )
            self.motion, motion_notes = prepare_motion(
                *(request.motion, self.portrait, self.total_frames * rules.skeleton_rho, request.seed),
                *(rest_pose, request.fit_motion, FPS * rules.skeleton_rho, request.conventions),
                hints=request.motion_hints,
                on_frames=reporter.frames_of("pose"),
            )
            reach_notes = self._reach_notes(rest_pose)
            self.drafts, self._rest, draft_notes = (
                portrait_drafts(self.portrait, self.motion, rest_pose) if rules.drafts else (None, None, [])
            )
            if shortest:
                self.total_frames = min(self.total_frames, self.motion.frames // rules.skeleton_rho)
        with reporter.stage("audio"):
            self._sound_steps = sound_frames * rules.audio_rho
            self.sound = model.audio_front_end.stream(sound, self._sound_steps)
        text_notes = self._read_prompts()
        self.notes = [*portrait_notes, *reach_notes, *audio_notes, *motion_notes, *draft_notes, *text_notes]
        self.total_windows = len(self.plan())
        self._uses_skeleton = model.backbone.condition_spec.skeleton != "none"

    def _reach_notes(self, rest_pose: FindPose) -> list[str]:
        """What of the portrait the model was not trained for, where `model.json` says what it was."""
        info, canvas = self.model.info, self.portrait.canvas
        if info.trained_on is None:
            return []
        psnr_db = decoded_psnr_db(self.model.autoencoder, self.portrait.video_pm1)
        size_px = (canvas.content_width_px, canvas.height_px)
        found = rest_pose(self.portrait)
        pose = None if found is None else found.skeleton
        return notes_beyond_training(info.name, info.trained_on, size_px, pose, psnr_db)

    def _read_prompts(self) -> list[str]:
        """Set `texts`, the embeddings of both prompts, or None for a model without text; returns notes.

        InputError: a prompt for a model that takes none.
        """
        info, request = self.model.info, self.request
        if self.model.prompts is None:
            self.texts: tuple[Tensor | None, Tensor | None] = (None, None)
            for name, prompt in (("prompt", request.prompt), ("negative prompt", request.negative_prompt)):
                if prompt is not None:
                    raise InputError(f"{info.name} takes no text, but a {name} was given; leave it out.")
            return []
        found = self.model.prompts.embeddings(info.prompts(request.prompt, request.negative_prompt))
        self.texts = (found[0].tokens, found[1].tokens)
        return [note for embedding in found for note in embedding.notes]

    @property
    def size(self) -> JobSize:
        """What decides how long it takes."""
        canvas = self.portrait.canvas
        return JobSize(self.total_frames, canvas.height_px, canvas.width_px, self.steps, self.guidance_scale)

    def plan(self) -> list[Window]:
        """All windows of the video."""
        return list(
            plan_windows(self.total_frames, self.model.info.window_frames, self.rules.repeated_frames)
        )

    def frames_of(self, windows: int) -> int:
        """How many frames of the video the first `windows` windows make."""
        return sum(window.kept for window in self.plan()[:windows])

    def windows(
        self,
        first: int = 0,
        known_pm1: Tensor | None = None,
        inspect: Callable[[str, Tensor], object] = lambda name, value: None,
    ) -> Iterator[WindowFrames]:
        """Yield the new frames of every window from number `first` on.

        `known_pm1` [n, 3, H, W]: the last frames of window `first - 1`, as many as the model is conditioned
        on, or more. Only one window is in memory. `inspect` is called with the name and value of what every
        window is made of, for comparisons: `skeleton_pm1`, `reference`, `skeleton_latents`,
        `control_latents`, `latents`.
        """
        model, reporter, info = self.model, self._reporter, self.model.info
        with reporter.timed("conditions"):
            scene = prepare_scene(model, self.portrait.video_pm1, *self.texts)
        shape = model.backbone.sample_shape(info.window_frames, *scene["reference"].shape[-2:])
        for window in self.plan()[first:]:
            with reporter.timed("conditions"):
                skeleton_pm1 = self.skeleton_pm1(window)
                conditions = window_conditions(
                    *(model, scene, skeleton_pm1, self.sound_windows(window)),
                    *(known_pm1 if window.index else None, self._known_generator(window)),
                    self.draft_pm1(window),
                )
            with reporter.timed("denoise"):
                noise = window_noise(shape, self.request.seed, window.index, info.window_noise)
                latents = denoise_window(
                    model, conditions, noise, self.steps, self.guidance_scale, partial(self._step, window)
                )
            for name, value in (
                ("skeleton_pm1", skeleton_pm1),
                ("reference", conditions.reference_latents),
                ("skeleton_latents", conditions.skeleton_latents),
                ("control_latents", conditions.control_latents),
                ("latents", latents),
            ):
                if value is not None:
                    inspect(name, value)
            with reporter.timed("decode"):
                end = window.first_kept + window.kept
                new_pm1 = decode_window(model, latents, end)[window.first_kept :]
            made = self._finished(new_pm1)
            known_pm1 = made.known_pm1
            yield made

    def _finished(self, new_pm1: Tensor) -> WindowFrames:
        """New frames [n, 3, H, W] of a window -> what becomes of them."""
        on_canvas = pm1_to_frames(new_pm1, self.request.conventions.rounding)
        known, last_pm1 = self.rules.known_frames, None
        if known and self.model.info.known_frames_as == "uint8":
            last_pm1 = frames_to_pm1(on_canvas[-known:])
        elif known:
            last_pm1 = new_pm1[-known:].clone()
        return WindowFrames(on_canvas[:, :, self.portrait.canvas.content_columns], last_pm1)

    def _known_generator(self, window: Window) -> torch.Generator:
        """For what is random about encoding the known frames of a window."""
        fixed = self.request.conventions.known_frame_seed
        if fixed is not None:
            return torch.Generator().manual_seed(fixed + window.index)
        return window_generator("known frames", self.request.seed, window.index)

    def fingerprint(self) -> str:
        """A hash of everything that decides the frames; see `session.fingerprint`."""
        parts: dict[str, Any] = {
            "version": __version__,
            "settings": [int(self.request.seed), self.steps, self.guidance_scale, self.total_frames],
            "prompts": [self.request.prompt, self.request.negative_prompt],
            "conventions": asdict(self.request.conventions),
            "arithmetic": [str(self.model.device.type), str(self.model.dtype), torch.__version__]
            + [has_bf16_units(self.model.device.type), self.model.autocast, self.model.attention]
            + [self.model.plan is not None and self.model.plan.scarce],
            "portrait": self.portrait.pixels_u8,
            "sound": self.audio,
            "model": _model_stamp(self.model),
        }
        if isinstance(self.motion, IdleMotion):
            rest = self.motion.rest
            parts |= {"points": rest.points_px, "confidence": rest.confidence}
        elif isinstance(self.motion, KeypointMotion):
            skeleton = self.motion.source
            parts |= {"points": skeleton.points_px, "confidence": skeleton.confidence}
            parts["motion"] = [skeleton.fps, *map(float, self.motion.box)]
        else:
            parts["motion"] = Path(os.fspath(self.request.motion))
        if self.drafts is not None and self._rest is not None:
            parts["rest"] = [self._rest.points_px.tolist(), self._rest.confidence.tolist()]
        return session.fingerprint(parts)

    def _step(self, window: Window, steps_done: int) -> None:
        frames_before = window.start + window.first_kept
        self._reporter.step(window.index, steps_done, frames_before, window.kept)

    def indices(self, window: Window, rho: int = 1, length: int | None = None) -> np.ndarray:
        """Numbers of the window's frames, or of the `rho` steps of conditions that each has; those beyond the
        end (of `length` steps; None: of the video) repeat the last."""
        start, stop = rho * window.start, rho * (window.start + window.frames)
        length = rho * self.total_frames if length is None else length
        return np.minimum(np.arange(start, stop), length - 1)

    def skeleton_pm1(self, window: Window) -> Tensor | None:
        """Skeleton drawings [rho T, 3, H, W] of a window; None for a model without them."""
        if not self._uses_skeleton:
            return None
        return self.motion.frames_pm1(self.indices(window, self.rules.skeleton_rho, self.motion.frames))

    def draft_pm1(self, window: Window) -> Tensor | None:
        """Drafts [T, 3, H, W] of the frames of a window; None for a model that takes none."""
        if self.drafts is None:
            return None
        indices = self.rules.skeleton_rho * self.indices(window)
        different, places = np.unique(indices, return_inverse=True)
        skeleton = self.motion.skeleton(different)
        if skeleton is None:
            return self.drafts.still_pm1(len(indices))
        return self.drafts.frames_pm1(skeleton)[places]

    def sound_windows(self, window: Window) -> Tensor:
        """Audio windows [rho T, 5, blocks, channels] of a window."""
        first = self.request.conventions.start_frame * self.rules.audio_rho
        indices = first + self.indices(window, self.rules.audio_rho, self._sound_steps - first)
        return audio_windows_of(self.sound, indices)


def _model_stamp(model: LoadedModel) -> list[Any]:
    """What tells one state of a model folder from another without reading gigabytes: names, sizes, times."""
    info = [model.info.name, model.info.version]
    if model.folder is None:
        return info
    files = [path for folder in folders_of_model(model.folder) for path in sorted(folder.rglob("*"))]
    kept = [path for path in files if path.suffix in (".safetensors", ".json")]
    return info + [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in kept]
