"""The front door of generation: load a model once, make many videos.

::

    animator = PortraitAnimator.from_pretrained("tiny-dit")
    result = animator.animate("portrait.png", "speech.wav", output="talk.mp4")

From here down: `job.py` (one request, window by window) -> `window.py` (one window) -> `models/`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hallo4.errors import Cancelled, InputError, OutputError
from hallo4.lock import sole_worker
from hallo4.media import VideoWriter, check_output, provenance_record
from hallo4.media.files import companion
from hallo4.models.attention_backend import choose_attention
from hallo4.pipelines.conditions import FindPose, PathLike
from hallo4.pipelines.conventions import OURS, Conventions
from hallo4.pipelines.devices import check_not_forked, find_device, find_dtype
from hallo4.pipelines.expected import notes_before_work
from hallo4.pipelines.job import AnimationRequest, Job, Motion
from hallo4.pipelines.model_folder import LoadedModel, load_model
from hallo4.pipelines.model_info import DEFAULT_MODEL
from hallo4.pipelines.model_outline import plan_if_large
from hallo4.pipelines.portrait_pose import portrait_rest
from hallo4.pipelines.progress import AnimationResult, OnProgress, Reporter
from hallo4.pipelines.session import WorkFolder, partial_video_path
from hallo4.pipelines.weight_moves import WeightRules
from hallo4.types import Audio


class PortraitAnimator:
    """Makes talking portraits with one loaded model; holds no state between requests."""

    def __init__(self, model: LoadedModel, rest_pose: FindPose = portrait_rest) -> None:
        """`rest_pose` finds the pose of a portrait [H, W, 3] uint8, from which idle motion starts.

        The one it has by itself looks through the observer; where that sees nobody, the pose is the default.
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
        return cls(model)

    def frames(
        self,
        image: PathLike | np.ndarray | Image.Image,
        audio: PathLike | Audio,
        motion: Motion = None,
        seed: int = 0,
        steps: int | None = None,
        guidance_scale: float | None = None,
        fit_motion: bool = False,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        conventions: Conventions = OURS,
        on_progress: OnProgress | None = None,
    ) -> Iterator[np.ndarray]:
        """Yield the video as arrays [n, H, W, 3] uint8, one per window, without writing a file.

        Together they are exactly round(duration * 25) frames; one window is in memory at a time. Arguments as
        in `animate`; inputs are checked at the call, before the first window is asked for.
        """
        request = AnimationRequest(
            *(image, audio, motion, seed, steps, guidance_scale, fit_motion),
            *(prompt, negative_prompt, conventions),
        )
        check_not_forked(self.model.device)
        reporter = Reporter(on_progress)
        job = Job(self.model, request, reporter, self.rest_pose)
        reporter.begin_windows(job.total_windows, job.steps, job.total_frames, notes=job.notes)
        return (made.frames_u8 for made in job.windows())

    def animate(
        self,
        image: PathLike | np.ndarray | Image.Image,
        audio: PathLike | Audio,
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
    ) -> AnimationResult:
        """Write a video of the portrait speaking the audio, exactly as long as the audio, to `output`.

        `image`: a file, [H, W, 3] uint8 RGB or a PIL image, of any size and shape. `audio`: any sound or
        video file, or an `Audio`. `motion`: a rendered skeleton video, a keypoints file, a `Skeleton`, or
        None for idle motion. `fit_motion` brings keypoints of another person to the face and shoulders of
        this one. `steps`, `guidance_scale`, `prompt` and `negative_prompt`: the model's own where None.
        `scale` enlarges the frames.

        Finished windows are kept beside the output until the video is written: after a kill the same call
        goes on from there (`resume`). When `should_cancel` returns True (asked at every denoising step), or
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
            *(image, audio, motion, seed, steps, guidance_scale, fit_motion, prompt, negative_prompt)
        )
        _refuse_overwriting_inputs(target, request)
        with sole_worker(
            companion(target, ".", f"{target.suffix}.lock"), target, "Wait for it, or choose another output."
        ):
            return self._made(
                target, request, Path(output), scale, Reporter(on_progress, should_cancel), resume
            )

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
            work = WorkFolder(target, job.fingerprint(), *size_px, resume)
        except KeyboardInterrupt:
            raise Cancelled("stopped while reading the inputs; nothing was generated.") from None
        notes = [*job.notes, *notes_before_work(self.model, job.size)]
        if work.discarded:
            notes.append("an unfinished video of another request stood beside the output and was discarded")
        try:
            self._generate(job, work, reporter, notes)
            notes += self._write(target, job, work, job.total_windows, scale, reporter)
        except (KeyboardInterrupt, Cancelled) as stop:
            raise self._stopped(target, job, work, scale) from stop
        if work.left_partial_video:
            partial_video_path(target).unlink(missing_ok=True)
        work.remove()
        return AnimationResult(output, job.total_frames, tuple(notes), reporter.timings_s)

    def _generate(self, job: Job, work: WorkFolder, reporter: Reporter, notes: list[str]) -> None:
        """Make the windows that are not in the work folder yet."""
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

    def _write(
        self, path: Path, job: Job, work: WorkFolder, windows: int, scale: int, reporter: Reporter
    ) -> list[str]:
        """Encode the first `windows` windows, and as much of the sound; returns the writer's notes."""
        canvas, info = job.portrait.canvas, self.model.info
        total = job.frames_of(windows)
        provenance = provenance_record(
            info.name, info.version, job.request.seed, steps=str(job.steps),
            guidance_scale=f"{job.guidance_scale:g}", window_frames=str(info.window_frames),
        )  # fmt: skip
        size = (canvas.content_width_px * scale, canvas.height_px * scale)
        with (
            reporter.stage("write", total) as advance,
            VideoWriter(path, *size, audio=job.audio, provenance=provenance) as writer,
        ):
            for frames_u8 in work.windows(windows):
                for frame_u8 in frames_u8:
                    writer.write(_enlarged(frame_u8, size))
                advance(len(frames_u8))
        return writer.notes

    def _stopped(self, target: Path, job: Job, work: WorkFolder, scale: int) -> Cancelled:
        """Write what is finished beside the output, and say where it is."""
        windows = work.finished()
        if not windows:
            return Cancelled("stopped before the first window was finished; no video was written.")
        partial = partial_video_path(target)
        self._write(partial, job, work, windows, scale, Reporter())
        work.note_partial_video()
        return Cancelled(
            f"stopped after {job.frames_of(windows)} of {job.total_frames} frames; these play in {partial}. "
            "Run the same command again to go on."
        )


def _refuse_overwriting_inputs(target: Path, request: AnimationRequest) -> None:
    for given in (request.image, request.audio, request.motion):
        if isinstance(given, str | os.PathLike) and Path(given).resolve() == target:
            raise OutputError(
                f"{target}: is one of the inputs and would be overwritten. Choose another output."
            )


def _enlarged(frame_u8: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    height_px, width_px = frame_u8.shape[:2]
    if (width_px, height_px) == size_px:
        return frame_u8
    return np.asarray(Image.fromarray(frame_u8).resize(size_px, Image.Resampling.LANCZOS))
