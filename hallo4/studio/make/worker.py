"""What a worker process does: one job after the other, with the model of the last one still loaded."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hallo4.errors import Cancelled, Hallo4Error
from hallo4.lock import in_turn
from hallo4.media import probe_video
from hallo4.motion import MotionHints
from hallo4.pipelines import PortraitAnimator, Progress
from hallo4.pipelines.diagnosis import device_name
from hallo4.studio.make.job_folder import JobFolder, Outcome, Request, in_words_of_the_page
from hallo4.studio.make.settings import CONSENT_FACTS, ProgressView, Role
from hallo4.studio.make.times import Stopwatch, Took, Work

PROGRESS_EVERY_S = 0.2
LIVE_SIDE_PX = 320
"""The pictures of a job in the making are not larger."""
_LIVE_MS = 80  # every second frame

_loaded: dict[Path, PortraitAnimator] = {}


def prepare() -> None:
    """Leave processor time to the page; Ctrl-C is for the server, which asks workers to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):
        os.nice(5)


@dataclass(frozen=True)
class Task:
    """One job as a worker gets it: the `folder` of the job, the `files` that it is made from, the folder of
    the `model`, denoising `steps` and `guidance_scale`, and the `device`.

    Once a file `stopping` is there, the server wants to end: the work is interrupted.
    """

    folder: Path
    stopping: Path
    files: dict[Role, Path]
    model: Path
    steps: int
    guidance_scale: float
    device: str


def make(task: Task) -> None:
    """Make the job, and write how it ended.

    Nothing is written where the work was interrupted for the server to end: the next start goes on with it.
    """
    job = JobFolder(task.folder)
    request = job.request()
    if request is None:
        return
    with in_turn(task.folder / "worker"):  # the one of a server that was killed may need a moment to end
        if job.outcome() is not None:  # it finished, and its server could not say so any more
            return
        _make(task, job, request)


def _make(task: Task, job: JobFolder, request: Request) -> None:
    started = time.monotonic()
    if job.video.is_file():  # killed between the video and its outcome
        job.end(Outcome(status="done", frames=probe_video(job.video).frames, text="finished before a stop"))
        return
    names = {path: request.names[role] for role, path in task.files.items()} | {job.path: request.body.title}
    watch = _Watch(job, Stopwatch())
    try:
        outcome = _animate(task, job, request, watch)
    except Cancelled:
        if not job.asked_to_stop():
            return
        part = job.playable()
        frames = 0 if part is None else probe_video(part).frames
        played = "nothing was finished yet" if part is None else f"{frames} frames are finished and play"
        outcome = Outcome(status="cancelled", text=f"Stopped: {played}.", frames=frames, notes=watch.notes)
    except Hallo4Error as error:
        text = in_words_of_the_page(str(error), names)
        outcome = Outcome(status="failed", text=text, notes=watch.notes)
    except Exception as error:  # an error in the program must not stop the queue
        text = in_words_of_the_page(f"The program failed ({type(error).__name__}: {error}).", names)
        outcome = Outcome(status="failed", text=f"{text} Try again with other settings.", notes=watch.notes)
    notes = tuple(in_words_of_the_page(note, names) for note in outcome.notes)
    job.end(outcome.model_copy(update={"notes": notes, "took_s": time.monotonic() - started}))


def _animate(task: Task, job: JobFolder, request: Request, watch: _Watch) -> Outcome:
    settings, files = request.body.settings, task.files
    watch.write(ProgressView(stage="load"))
    animator = _animator(task, (settings.prompt, settings.negative_prompt))
    result = animator.animate(
        files["portrait"],
        files.get("voice"),
        files.get("motion"),
        job.video,
        seed=settings.seed,
        steps=task.steps,
        guidance_scale=task.guidance_scale,
        fit_motion=settings.fit_motion,
        prompt=settings.prompt,
        negative_prompt=settings.negative_prompt,
        scale=settings.scale,
        on_progress=watch.on_progress,
        should_cancel=lambda: job.asked_to_stop() or task.stopping.exists(),
        motion_hints=MotionHints(person=settings.person),
        on_frames=watch.on_frames,
        facts={"consent": CONSENT_FACTS[request.body.consent]},
    )
    took = watch.took(
        model=settings.model,
        device=device_name(animator.model.device),
        steps=task.steps,
        guidance_scale=task.guidance_scale,
        scale=settings.scale,
        driven="motion" in files,
    )
    return Outcome(status="done", notes=result.notes, frames=result.frames, took=took)


def _animator(task: Task, prompts: tuple[str | None, str | None]) -> PortraitAnimator:
    """The model, loaded again only if it is another than that of the job before."""
    if task.model not in _loaded:
        _loaded.clear()  # before the next one is loaded, so that both are never in memory
        _loaded[task.model] = PortraitAnimator.from_pretrained(
            task.model, device=task.device, prompts=prompts
        )
    return _loaded[task.model]


class _Watch:
    """Writes the progress of a running job into its folder, not more often than people can see."""

    def __init__(self, job: JobFolder, stopwatch: Stopwatch) -> None:
        self._job, self._next = job, 0.0
        self._stopwatch = stopwatch
        self._sizes_px: list[tuple[int, int]] = []  # of the frames of every window that was made
        self._resumed = False
        self.notes: tuple[str, ...] = ()

    def on_progress(self, progress: Progress) -> None:
        """See `PortraitAnimator.animate`."""
        self.notes = progress.notes or self.notes
        self._stopwatch.enter(progress.stage)
        if progress.notes:  # the first of its stage: what is done now was done before
            self._resumed = progress.frames_done > 0
        now = time.monotonic()
        if now >= self._next or progress.notes:
            self._next = now + PROGRESS_EVERY_S
            left_s = progress.eta_s
            self.write(
                ProgressView(
                    stage=progress.stage,
                    done=progress.frames_done,
                    total=progress.frames_total,
                    left_s=left_s,
                )
            )

    def write(self, progress: ProgressView) -> None:
        """Write the progress; a full disk is reported where the video is written."""
        with suppress(OSError):
            self._job.write_progress(progress, self.notes)

    def on_frames(self, frames_u8: np.ndarray) -> None:
        """The newest frames [n, H, W, 3] uint8 as a small animation, and the first ones as a poster."""
        self._sizes_px.append(frames_u8.shape[1:3])
        pictures = [_small(frame_u8) for frame_u8 in frames_u8[::2]]
        content = BytesIO()
        pictures[0].save(
            content, "WEBP", save_all=True, append_images=pictures[1:], duration=_LIVE_MS, loop=1, method=0,
            quality=75,
        )  # fmt: skip
        with suppress(OSError):
            self._job.replace(self._job.live, content.getvalue())
            if not self._job.poster.exists():
                poster = BytesIO()
                Image.fromarray(frames_u8[-1]).save(poster, "JPEG", quality=88)
                self._job.replace(self._job.poster, poster.getvalue())

    def took(self, **work: Any) -> Took | None:
        """The times of a job that is done, see `Work`; None: a part of it was made before."""
        if self._resumed or not self._sizes_px:
            return None
        height_px, width_px = self._sizes_px[0]
        return self._stopwatch.took(Work(height_px=height_px, width_px=width_px, **work), len(self._sizes_px))


def _small(frame_u8: np.ndarray) -> Image.Image:
    picture = Image.fromarray(frame_u8)
    picture.thumbnail((LIVE_SIDE_PX, LIVE_SIDE_PX), Image.Resampling.BILINEAR)
    return picture
