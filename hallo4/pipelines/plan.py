"""What will be made, worked out beforehand: how many frames, which windows, which canvas, which noise.

Only arithmetic. The window rule: windows of W frames, of which the first R repeat the window before (R is 1
for the DiT, which starts at a frame that it knows, 0 for the UNet), so window k covers W frames from k*(W-R)
on. The last window runs past the end of the video and what it makes there is dropped.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hallo4.errors import InputError
from hallo4.types import FPS

STRETCH_LIMIT = 0.02
"""An aspect ratio may be changed by up to this fraction without cropping; nobody sees two per cent."""


def frame_count(samples: int, sample_rate_hz: int) -> int:
    """Frames of a video as long as the sound: round(duration * 25), at least one."""
    return max(1, round(samples * FPS / sample_rate_hz))


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


def window_noise(shape: tuple[int, ...], seed: int, window_index: int) -> Tensor:
    """Standard normal noise [1, *shape], float32, that depends on (seed, window_index) alone.

    It is always drawn on the CPU, so that every device starts from the same. (The released code seeds every
    window alike and gives all of them the same noise.)
    """
    return torch.randn((1, *shape), generator=window_generator("noise", seed, window_index))


def window_generator(what: str, seed: int, window_index: int) -> torch.Generator:
    """For what is random about a window. The words are hashed, so that neighbouring seeds and windows share
    nothing."""
    digest = hashlib.sha256(f"hallo4 window {what}: seed {seed}, window {window_index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@dataclass(frozen=True)
class Canvas:
    """The frame that a video is made on, and what of the image goes onto it.

    `crop_box_px` (left, top, right, bottom) is the part of the image that is resized to `width_px` x
    `height_px`.
    """

    width_px: int
    height_px: int
    crop_box_px: tuple[int, int, int, int]

    def describe(self, image_width_px: int, image_height_px: int) -> str:
        """One line for people: what became of the image's size and edges."""
        line = f"image {image_width_px}x{image_height_px} -> video {self.width_px}x{self.height_px}"
        left, top, right, bottom = self.crop_box_px
        lost_x, lost_y = image_width_px - (right - left), image_height_px - (bottom - top)
        if lost_x:
            return f"{line}; {lost_x} of {image_width_px} columns cut, half on each side"
        if lost_y:
            return f"{line}; {lost_y} of {image_height_px} rows cut, half at top and bottom"
        return f"{line}; nothing cut"


def plan_canvas(image_width_px: int, image_height_px: int, size_px: int, multiple_px: int = 16) -> Canvas:
    """The canvas for an image: sides multiples of `multiple_px`, area about `size_px` squared, the image's
    own aspect.

    Among the sizes with 0.7 to 1.3 times that area the one nearest in area whose aspect is within 2 % is
    taken and the image is stretched onto it; where the coarse grid has none, the one nearest in aspect is
    taken and the overhang of the image is cut off evenly, which `Canvas.describe` says.
    """
    if image_width_px < 1 or image_height_px < 1:
        raise InputError(
            f"an image of {image_width_px}x{image_height_px} pixels has no area; use a larger image."
        )
    wanted_aspect = image_width_px / image_height_px
    wanted_cells = (size_px / multiple_px) ** 2
    sizes = []
    longest_cells = max(1, math.floor(1.3 * wanted_cells))
    for across in range(1, longest_cells + 1):
        lowest = max(1, math.ceil(0.7 * wanted_cells / across))
        highest = max(lowest, math.floor(1.3 * wanted_cells / across))
        sizes += [(across, down) for down in range(lowest, highest + 1)]

    def badness(size: tuple[int, int]) -> tuple[float, float]:
        across, down = size
        stretch = abs(math.log(across / down / wanted_aspect))
        return max(stretch, math.log1p(STRETCH_LIMIT)), abs(math.log(across * down / wanted_cells))

    across, down = min(sizes, key=badness)
    box = _crop_box(image_width_px, image_height_px, across / down)
    return Canvas(across * multiple_px, down * multiple_px, box)


def plan_motion_box(
    frame_width_px: int, frame_height_px: int, image_width_px: int, image_height_px: int, canvas: Canvas
) -> tuple[tuple[float, float, float, float], str]:
    """Which part (left, top, right, bottom) of a skeleton's frame lies under the canvas; a note or "".

    A skeleton belongs to the whole image, so what was cut from the image is cut from it too. A frame of
    another aspect is fitted by its height and centred, as the released code does; the box may then reach
    beyond the frame, where there is nothing (black).
    """
    note = ""
    aspect, frame_aspect = image_width_px / image_height_px, frame_width_px / frame_height_px
    wide_px = float(frame_width_px)
    if abs(math.log(frame_aspect / aspect)) > math.log1p(STRETCH_LIMIT):
        wide_px = frame_height_px * aspect
        change = "its sides are cut" if wide_px < frame_width_px else "its sides are filled up with black"
        note = (
            f"skeleton: its frame of {frame_width_px}x{frame_height_px} has another shape than the image "
            f"({image_width_px}x{image_height_px}): fitted by height and centred, {change}"
        )
    left_px = (frame_width_px - wide_px) / 2
    left, top, right, bottom = canvas.crop_box_px
    across, down = wide_px / image_width_px, frame_height_px / image_height_px
    return (left_px + left * across, top * down, left_px + right * across, bottom * down), note


def _crop_box(width_px: int, height_px: int, aspect: float) -> tuple[int, int, int, int]:
    """The largest centred box of that aspect; the whole image where it is within the stretch limit."""
    if abs(math.log(width_px / height_px / aspect)) <= math.log1p(STRETCH_LIMIT):
        return 0, 0, width_px, height_px
    if width_px / height_px > aspect:
        box_width = max(1, round(height_px * aspect))
        left = (width_px - box_width) // 2
        return left, 0, left + box_width, height_px
    box_height = max(1, round(width_px / aspect))
    top = (height_px - box_height) // 2
    return 0, top, width_px, top + box_height
