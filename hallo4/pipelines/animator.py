"""The front door of generation: load a model once, make many videos.

::

    animator = PortraitAnimator.from_pretrained("tiny-dit")
    result = animator.animate("portrait.png", "speech.wav", output="talk.mp4")

From here down: `job.py` (one request, window by window) -> `window.py` (one window) -> `models/`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from PIL import Image

from hallo4.errors import Cancelled, Hallo4Error, InputError, OutputError
from hallo4.lock import sole_writer
from hallo4.media import VideoWriter, check_output, provenance_record
from hallo4.models.attention_backend import choose_attention
from hallo4.motion import MotionHints
from hallo4.outputs import refuse_output
from hallo4.pipelines.conditions import PathLike
from hallo4.pipelines.conventions import OURS, Conventions
from hallo4.pipelines.devices import check_not_forked, find_device, find_dtype
from hallo4.pipelines.expected import notes_before_work
from hallo4.pipelines.job import AnimationRequest, Job, Motion
from hallo4.pipelines.model_folder import LoadedModel, load_model
from hallo4.pipelines.model_info import DEFAULT_MODEL
from hallo4.pipelines.model_outline import plan_if_large
from hallo4.pipelines.portrait_rest import FindPose, portrait_rest
from hallo4.pipelines.prepare_motion import NO_HINTS
from hallo4.pipelines.progress import AnimationResult, OnFrames, OnProgress, Reporter
from hallo4.pipelines.session import PART_FRAMES, WorkFolder, partial_video_path
from hallo4.pipelines.weight_moves import WeightRules
from hallo4.types import Audio

EncodePart = Callable[[Path, Iterator[np.ndarray]], None]
NO_FACTS: Mapping[str, str] = MappingProxyType({})


class PortraitAnimator:
    """Makes talking portraits with one loaded model; holds no state between requests."""

    def __init__(self, model: LoadedModel, rest_pose: FindPose = portrait_rest) -> None:
        """`rest_pose` finds the pose of the person in a portrait, from which idle motion starts and to which
        other people's motion is fitted; where it finds no person, the pose is the default.
        """
        self.model = model
        self.rest_pose = rest_pose

    @classmethod
    def from_pretrained(
        cls,
        name_or_dir: str | os.PathLike[str] = DEFAULT_MODEL,
        device: str | torch.device = "auto",
        dtype: torch.dtype | str | None = None,
        prompts: Sequence[str | None] | None = None,
        memory: str | float = "auto",
        attention: str | None = None,
    ) -> PortraitAnimator:
        """Load a model by name or folder.

        `device` "auto" takes CUDA where there is one; `dtype`: of weights and products, also by the names
        "auto", "fp32" and "bf16"; `prompts`: see `load_model`. `memory`: how many GB of the device may be
        used, from which follows where the weights live ("auto": what is free). `attention`: a backend of
        diffusers (None: PyTorch's own); see `choose_attention`.

        CheckpointError: see `load_model`. InputError: a device that is not there or has too little memory, or
        a type or backend that cannot be used.
        """
        device, dtype = find_device(device), find_dtype(dtype)
        plan = plan_if_large(name_or_dir, WeightRules(device, dtype), memory)
        model = load_model(name_or_dir, device, dtype, prompts, plan)
        if attention is not None:
            choose_attention(model.backbone, attention, device, model.dtype)
            model = replace(model, attention=attention)
        return cls(model)

    def frames(
        self,
        image: PathLike | np.ndarray | Image.Image,
        audio: PathLike | Audio | None = None,
        motion: Motion = None,
        seed: int = 0,
        steps: int | None = None,
        guidance_scale: float | None = None,
        fit_motion: bool = False,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        conventions: Conventions = OURS,
        on_progress: OnProgress | None = None,
        motion_hints: MotionHints = NO_HINTS,
    ) -> Iterator[np.ndarray]:
        """Yield the video as arrays [n, H, W, 3] uint8, one per window, without writing a file.

        Together they are exactly round(duration * 25) frames; one window is in memory at a time. Arguments as
        in `animate`; inputs are checked at the call, before the first window is asked for.
        """
        request = AnimationRequest(
            *(image, audio, motion, seed, steps, guidance_scale, fit_motion),
            *(prompt, negative_prompt, conventions, motion_hints),
        )
        check_not_forked(self.model.device)
        reporter = Reporter(on_progress)
        job = Job(self.model, request, reporter, self.rest_pose)
        reporter.begin_windows(job.total_windows, job.steps, job.total_frames, notes=job.notes)
        return (made.frames_u8 for made in job.windows())

    def animate(
        self,
        image: PathLike | np.ndarray | Image.Image,
        audio: PathLike | Audio | None = None,
        motion: Motion = None,
        output: PathLike = "talk.mp4",
        seed: int = 0,
        steps: int | None = None,
        guidance_scale: float | None = None,
        fit_motion: bool = False,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        scale: int = 1,
        on_progress: OnProgress | None = None,
        should_cancel: Callable[[], bool] | None = None,
        resume: bool = True,
        motion_hints: MotionHints = NO_HINTS,
        on_frames: OnFrames | None = None,
        facts: Mapping[str, str] = NO_FACTS,
    ) -> AnimationResult:
        """Write a video of the portrait speaking the audio, exactly as long as the audio, to `output`.

        `image`: a file, [H, W, 3] uint8 RGB or a PIL image, of any size and shape. `audio`: any sound or
        video file, an `Audio`, or None for the sound of the motion. `motion`: a filmed video of a person, a
        rendered skeleton video, a keypoints file, a `Skeleton`, or None for idle motion. `fit_motion` brings
        keypoints of another person to the face and shoulders of this one, as is always done with a filmed
        one; `motion_hints`: size, rate and person of a keypoints file, where it does not say them. `steps`,
        `guidance_scale`, `prompt` and `negative_prompt`: the model's own where None. `scale` enlarges the
        frames. `on_frames` gets the new frames of every window when they are kept; `facts` are added to the
        provenance in the file.

        Finished windows are kept beside the output until the video is written: after a kill the same call
        resumes there (`resume`). When `should_cancel` returns True (asked at every denoising step), or
        on KeyboardInterrupt, what is finished is written to `<name>.partial.<suffix>`; an older `output`
        stays as it is. The same inputs, seed and machine give the same video.

        InputError: an input that cannot be used. OutputError: `output` cannot be written, or another
        process writes it. Cancelled: stopped.
        """
        check_not_forked(self.model.device)
        if not 1 <= scale <= 8:
            raise InputError(f"scale is {scale}; frames can be enlarged 1 to 8 times.")
        target = check_output(output)
        request = AnimationRequest(
            *(image, audio, motion, seed, steps, guidance_scale, fit_motion, prompt, negative_prompt),
            motion_hints=motion_hints,
            facts=facts,
        )
        refuse_output(target, [*request.files, self.model.folder])
        with sole_writer(target):
            reporter = Reporter(on_progress, should_cancel, on_frames=on_frames)
            return self._made(target, request, Path(output), scale, reporter, resume)

    def _made(
        self,
        target: Path,
        request: AnimationRequest,
        output: Path,
        scale: int,
        reporter: Reporter,
        resume: bool,
    ) -> AnimationResult:
        """`animate`, alone with the work folder of `target`."""
        try:
            job = Job(self.model, request, reporter, self.rest_pose)
            canvas = job.portrait.canvas
            size_px = (canvas.height_px, canvas.content_width_px)
            work = WorkFolder(target, f"{job.fingerprint()} x{scale}", *size_px, resume)
        except KeyboardInterrupt:
            raise Cancelled("stopped while reading the inputs; nothing was generated.") from None
        notes = [*job.notes, *notes_before_work(self.model, job.size)]
        if work.discarded:
            notes.append("an unfinished video of another request stood beside the output and was discarded")
        try:
            encode = partial(self._encode, job, scale, reporter)
            self._generate(job, work, encode, reporter, notes)
            notes += self._write(target, job, work.parts(), job.total_frames, scale, reporter)
        except (KeyboardInterrupt, Cancelled) as stop:
            raise self._stopped(target, job, work, scale) from stop
        except Hallo4Error:
            if not work.finished():
                work.remove()  # there is nothing in it to resume from
            raise
        if work.left_partial_video:
            partial_video_path(target).unlink(missing_ok=True)
        work.remove()
        return AnimationResult(output, job.total_frames, tuple(notes), reporter.timings_s)

    def _generate(
        self, job: Job, work: WorkFolder, encode: EncodePart, reporter: Reporter, notes: list[str]
    ) -> None:
        """Make the windows that are not in the work folder yet, and parts of the video of them."""
        finished = work.finished()
        known_pm1 = work.known(finished - 1) if finished else None
        finished_frames = job.frames_of(finished)
        if finished:
            notes.append(f"resumed: {finished_frames} of {job.total_frames} frames were made before")
        reporter.begin_windows(
            job.total_windows, job.steps, job.total_frames, finished, finished_frames, notes
        )
        for index, made in enumerate(job.windows(finished, known_pm1), start=finished):
            work.save(index, made)
            reporter.frames_made(made.frames_u8)
            if job.frames_of(index + 1) - job.frames_of(work.in_parts()) >= PART_FRAMES:
                work.close_part(encode)
        work.close_part(encode)

    def _encode(
        self, job: Job, scale: int, reporter: Reporter, part: Path, windows: Iterator[np.ndarray]
    ) -> None:
        """Write one part of the video, without sound."""
        size = _size_px(job, scale)
        with reporter.timed("write"), VideoWriter(part, *size) as writer:
            for frames_u8 in windows:
                for frame_u8 in frames_u8:
                    writer.write(_enlarged(frame_u8, size))

    def _write(
        self, path: Path, job: Job, parts: Sequence[Path], frames: int, scale: int, reporter: Reporter
    ) -> list[str]:
        """Join parts of the video, `frames` frames together, with as much of the sound; returns the writer's
        notes."""
        info = self.model.info
        provenance = provenance_record(
            info.name, info.version, job.request.seed, steps=str(job.steps),
            guidance_scale=f"{job.guidance_scale:g}", window_frames=str(info.window_frames),
            **job.request.facts,
        )  # fmt: skip
        with (
            reporter.stage("write", frames) as advance,
            VideoWriter(path, *_size_px(job, scale), audio=job.audio, provenance=provenance) as writer,
        ):
            try:
                for part in parts:
                    before = writer.frames
                    writer.append(part)
                    advance(writer.frames - before)
            except InputError as error:
                raise _damaged_part(part, "cannot be read") from error
            if writer.frames != frames:
                raise _damaged_part(parts[0].parent, f"holds {writer.frames} frames instead of {frames}")
        return writer.notes

    def _stopped(self, target: Path, job: Job, work: WorkFolder, scale: int) -> Cancelled:
        """Write what is finished beside the output, and say where it is."""
        finished = work.finished()
        if not finished:
            return Cancelled("stopped before the first window was finished; no video was written.")
        frames, parts = job.frames_of(finished), work.parts()
        if finished > work.in_parts():
            self._encode(job, scale, Reporter(), work.last_part, work.windows_in_no_part())
            parts.append(work.last_part)
        partial_video = partial_video_path(target)
        self._write(partial_video, job, parts, frames, scale, Reporter())
        work.last_part.unlink(missing_ok=True)
        work.note_partial_video()
        return Cancelled(
            f"stopped after {frames} of {job.total_frames} frames; these play in {partial_video}. "
            "Run the same command again to resume."
        )


def _damaged_part(path: Path, how: str) -> OutputError:
    return OutputError(f"{path}: is damaged, it {how}. Run again with --no-resume to start afresh.")


def _size_px(job: Job, scale: int) -> tuple[int, int]:
    """Width and height of the video: the picture, without the bars of the canvas, enlarged."""
    canvas = job.portrait.canvas
    return canvas.content_width_px * scale, canvas.height_px * scale


def _enlarged(frame_u8: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    height_px, width_px = frame_u8.shape[:2]
    if (width_px, height_px) == size_px:
        return frame_u8
    return np.asarray(Image.fromarray(frame_u8).resize(size_px, Image.Resampling.LANCZOS))
