"""What a running animation reports to its caller: stages, frames done, time left; and what was made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hallo4.errors import Cancelled


@dataclass(frozen=True)
class Progress:
    """One message: `frames_done` of `frames_total` in `stage`, `eta_s` more seconds (None: unknown).

    Stages, in order: "read" (inputs), "pose" (of a filmed motion), "audio" (audio features), "generate",
    "write". `frames_done` moves with every denoising step and is fractional while a window is in the making.
    `notes` come once, with the first message of "generate": what was done to the inputs, one line each.
    """

    stage: str
    frames_done: float
    frames_total: int
    eta_s: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class AnimationResult:
    """A finished video: `path`, number of `frames`, and `notes`, a line for each change to the inputs.

    `timings_s`: seconds spent by stage (read, audio, conditions, denoise, decode, write).
    """

    path: Path
    frames: int
    notes: tuple[str, ...]
    timings_s: dict[str, float]


OnProgress = Callable[[Progress], None]
OnFrames = Callable[[np.ndarray], None]
"""Gets the new frames of every window, [n, H, W, 3] uint8, as soon as they are kept."""


class Reporter:
    """Sends `Progress` to a callback, keeps the times of stages, raises `Cancelled` when asked to stop."""

    def __init__(
        self,
        on_progress: OnProgress | None = None,
        should_cancel: Callable[[], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
        on_frames: OnFrames | None = None,
    ) -> None:
        self._send = on_progress or (lambda progress: None)
        self._should_cancel = should_cancel or (lambda: False)
        self._clock = clock
        self.frames_made = on_frames or (lambda frames_u8: None)
        self.timings_s: dict[str, float] = {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time of a block to `timings_s[name]`."""
        started = self._clock()
        try:
            yield
        finally:
            self.timings_s[name] = self.timings_s.get(name, 0.0) + self._clock() - started

    @contextmanager
    def stage(self, name: str, frames_total: int = 0) -> Iterator[Callable[[int], None]]:
        """Time a block as a stage and say so; the value is `advance(frames)`, for progress within it."""
        started, done = self._clock(), 0

        def advance(frames: int) -> None:
            nonlocal done
            done += frames
            left = self._time_left(started, done, frames_total - done)
            self._send(Progress(name, done, frames_total, left))

        self._send(Progress(name, 0, frames_total))
        with self.timed(name):
            yield advance

    def frames_of(self, name: str) -> Callable[[int, int], None]:
        """`on_frames(done, total)` for a stage within another one. Cancelled: the caller wants to stop."""
        started = self._clock()

        def on_frames(done: int, total: int) -> None:
            if self._should_cancel():
                raise Cancelled("stopped while reading the inputs; nothing was generated.")
            self._send(Progress(name, done, total, self._time_left(started, done, total - done)))

        return on_frames

    def begin_windows(
        self,
        windows: int,
        steps: int,
        frames_total: int,
        finished: int = 0,
        finished_frames: int = 0,
        notes: Sequence[str] = (),
    ) -> None:
        """The stage "generate" starts: `windows` windows of `steps` steps; some may be finished already."""
        self._started, self._made_before = self._clock(), finished
        self._windows, self._steps, self._frames_total = windows, steps, frames_total
        self._send(Progress("generate", finished_frames, frames_total, None, tuple(notes)))

    def step(self, window: int, steps_done: int, frames_before: int, frames_in_window: int) -> None:
        """`steps_done` steps of window `window` are done. Cancelled: the caller wants to stop."""
        if self._should_cancel():
            raise Cancelled("stopped by the caller")
        share = steps_done / self._steps
        done = window - self._made_before + share
        left = self._time_left(self._started, done, self._windows - window - share)
        self._send(Progress("generate", frames_before + share * frames_in_window, self._frames_total, left))

    def _time_left(self, started: float, done: float, left: float) -> float | None:
        return (self._clock() - started) / done * left if done > 0 else None
