"""What will be made, worked out beforehand: how many frames, which windows, which noise.

Only arithmetic. The window rule: windows of W frames, of which the first R repeat the window before (R is 1
for the DiT, which starts at a frame that it knows, 0 for the UNet), so window k covers W frames from k*(W-R)
on. The last window runs past the end of the video and what it makes there is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hallo4.diffusion import keyed_generator
from hallo4.types import FPS


def frame_count(samples: int, sample_rate_hz: int, up: bool = False) -> int:
    """Frames of a video as long as the sound: round(duration * 25), at least one; `up`: rounded up."""
    frames = samples * FPS / sample_rate_hz
    return max(1, math.ceil(frames) if up else round(frames))


@dataclass(frozen=True)
class Window:
    """One window of a plan: it is made of frames `start` .. `start + frames - 1` of the video.

    Of these, the `kept` frames from `first_kept` on (an index into the window) are new and go to the output:
    what a window repeats is dropped, and the last window is trimmed.
    """

    index: int
    start: int
    frames: int
    first_kept: int
    kept: int


def window_count(total_frames: int, window_frames: int, repeated_frames: int) -> int:
    """Windows that cover `total_frames`: ceil((total - R) / (W - R)), at least one."""
    return max(1, math.ceil((total_frames - repeated_frames) / (window_frames - repeated_frames)))


def plan_windows(total_frames: int, window_frames: int, repeated_frames: int) -> Iterator[Window]:
    """The windows of a video in order; together they keep every frame exactly once."""
    for index in range(window_count(total_frames, window_frames, repeated_frames)):
        start = index * (window_frames - repeated_frames)
        first_kept = 0 if index == 0 else repeated_frames
        kept = min(total_frames - start, window_frames) - first_kept
        yield Window(index, start, window_frames, first_kept, kept)


WindowNoise = Literal["own", "shared"]
"""Every window starts from noise of its own, or all from the same, as the released program has it."""


def window_noise(shape: tuple[int, ...], seed: int, window_index: int, kind: WindowNoise = "own") -> Tensor:
    """Standard normal noise [1, *shape], float32, that depends on (seed, window_index) alone.

    It is always drawn on the CPU, so that every device starts from the same. "shared": it depends on the seed
    alone, and is what a CPU generator with this seed draws first, as in the released program (which draws on
    its GPU, whose generator gives other numbers).
    """
    if kind == "shared":
        return torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed))
    return torch.randn((1, *shape), generator=window_generator("noise", seed, window_index))


def window_generator(what: str, seed: int, window_index: int) -> torch.Generator:
    """For what is random about a window: depends on these three alone."""
    return keyed_generator(f"hallo4 window {what}: seed {seed}, window {window_index}", digest="sha256")
