"""How long videos took here, and from that how long the next one like them will take.

The times of a video stand in its `outcome.json`, so every studio of the folder knows them, and they go when
the video is deleted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from statistics import median

from pydantic import BaseModel, ConfigDict

COUNTED = 5
"""The latest so many videos count, and of their times the middle ones: what was slow once does not last."""
_ONCE = ("load", "read")


class Work(BaseModel):
    """What videos have in common whose windows take the same time: names of the model and of the device, the
    size of a frame in pixels before it is enlarged by `scale`, denoising steps, guidance scale, and whether
    there is a driving video."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    device: str
    height_px: int
    width_px: int
    steps: int
    guidance_scale: float
    scale: int
    driven: bool


class Took(BaseModel):
    """Seconds that a video of `windows` windows took: `once_s` to load the model and read the inputs, and
    `windows_s` for everything that grows with the length."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    work: Work
    windows: int
    once_s: float
    windows_s: float


class Stopwatch:
    """Seconds by stage of a job, from its making on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage, self._since = _ONCE[0], clock()
        self._seconds: dict[str, float] = {}

    def enter(self, stage: str) -> None:
        """From now on it is this stage, which may be the one before."""
        now = self._clock()
        self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = stage, now

    def took(self, work: Work, windows: int) -> Took:
        """The times until now."""
        self.enter(self._stage)
        once_s = sum(self._seconds.get(stage, 0.0) for stage in _ONCE)
        windows_s = sum(self._seconds.values()) - once_s
        return Took(work=work, windows=windows, once_s=once_s, windows_s=windows_s)


class Measured(BaseModel):
    """What `videos` earlier ones say of another one of the same work."""

    model_config = ConfigDict(frozen=True)

    videos: int
    once_s: float
    window_s: float

    def seconds(self, windows: int) -> float:
        """Of a video of so many windows."""
        return self.once_s + windows * self.window_s

    def describe(self) -> str:
        """One line for people."""
        like = "video" if self.videos == 1 else f"{self.videos} videos"
        return (
            f"As the last {like} like this took here: {self.once_s:.2g} s to begin and {self.window_s:.2g} s "
            "for each window."
        )


def measured(work: Work, latest_first: Iterable[Took]) -> Measured | None:
    """What earlier videos say of `work`; None: there is none like it."""
    alike = [took for took in latest_first if took.work == work][:COUNTED]
    if not alike:
        return None
    return Measured(
        videos=len(alike),
        once_s=median(took.once_s for took in alike),
        window_s=median(took.windows_s / took.windows for took in alike),
    )
