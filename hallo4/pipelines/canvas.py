"""The frame that a video is made on, and how pictures come onto it and finished frames off it.

Two rules, of which `model.json` chooses one:

* own shape: sides of about the trained area in the picture's own aspect; the picture fills the frame
  (`plan_canvas`);
* trained sizes: one of few sizes; the picture is fitted by its height and centred, its sides are cut or black
  bars are put beside it, and the bars are cut from the finished frames (`choose_canvas`). This is what the
  released program does (Hallo4 `vace_wan_inference.py`, `_resize_for_rectangle_crop`, `center_crop_width`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from hallo4.errors import InputError
from hallo4.media.pixels import frames_to_pm1
from hallo4.types import Skeleton

STRETCH_LIMIT = 0.02
"""An aspect ratio may be changed by up to this fraction without cropping; two per cent are not visible."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Canvas:
    """The frame that a video is made on, and what of the image goes onto it.

    `crop_box_px` (left, top, right, bottom) is the part of the image that is resized to `content_width_px` x
    `height_px`; these columns stand in the middle of `width_px`, and what is beside them is black.
    `by_height`: pictures are fitted by their height (the rule of trained sizes).
    """

    width_px: int
    height_px: int
    crop_box_px: tuple[int, int, int, int]
    by_height: bool = False
    content_width_px: int = 0

    def __post_init__(self) -> None:
        if not self.content_width_px:
            object.__setattr__(self, "content_width_px", self.width_px)

    @property
    def content_columns(self) -> slice:
        """The columns of finished frames that are kept: all but the bars, of which the left one is the
        narrower where they differ."""
        left = (self.width_px - self.content_width_px) // 2
        return slice(left, left + self.content_width_px)

    def describe(self, image_width_px: int, image_height_px: int) -> str:
        """One line for people: what became of the image's size and edges."""
        line = f"image {image_width_px}x{image_height_px} -> video {self.content_width_px}x{self.height_px}"
        if self.content_width_px < self.width_px:
            line += f" (made on {self.width_px}x{self.height_px} with black bars, which are cut away)"
        left, top, right, bottom = self.crop_box_px
        lost_x, lost_y = image_width_px - (right - left), image_height_px - (bottom - top)
        if lost_x:
            return f"{line}; {lost_x} of {image_width_px} columns cut, half on each side"
        if lost_y:
            return f"{line}; {lost_y} of {image_height_px} rows cut, half at top and bottom"
        return f"{line}; nothing cut"


def portrait_canvas(
    image_width_px: int,
    image_height_px: int,
    size_px: int,
    multiple_px: int = 16,
    canvas_sizes_px: Sequence[tuple[int, int]] = (),
) -> Canvas:
    """`choose_canvas` where a model has sizes it was trained on, else `plan_canvas`."""
    if canvas_sizes_px:
        return choose_canvas(image_width_px, image_height_px, canvas_sizes_px)
    return plan_canvas(image_width_px, image_height_px, size_px, multiple_px)


@lru_cache(maxsize=256)
def plan_canvas(image_width_px: int, image_height_px: int, size_px: int, multiple_px: int = 16) -> Canvas:
    """The canvas for an image: sides multiples of `multiple_px`, area about `size_px` squared, the image's
    own aspect.

    Among the sizes with 0.7 to 1.3 times that area the one nearest in area whose aspect is within 2 % is
    taken and the image is stretched onto it; where the coarse grid has none, the one nearest in aspect is
    taken and the overhang of the image is cut off evenly, which `Canvas.describe` says.
    """
    _check_area(image_width_px, image_height_px)
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


def choose_canvas(image_width_px: int, image_height_px: int, sizes_px: Sequence[tuple[int, int]]) -> Canvas:
    """Of the trained `sizes_px` (height, width) that on which least of the image is cut, then that which
    shows it largest, then the first.

    The released program takes the size from its command line (default 480x832) and does the same on it.
    """
    _check_area(image_width_px, image_height_px)

    def badness(size: tuple[int, int]) -> tuple[float, float]:
        height_px, width_px = size
        fitted_px = image_width_px * height_px / image_height_px
        return max(0.0, 1.0 - width_px / fitted_px), -min(fitted_px, width_px) * height_px

    height_px, width_px = min(sizes_px, key=badness)
    fitted_px = fitted_width(image_width_px, image_height_px, height_px)
    box = (0, 0, image_width_px, image_height_px)
    if fitted_px > width_px:
        kept_px = max(1, round(image_width_px * width_px / fitted_px))
        left = (image_width_px - kept_px) // 2
        box = (left, 0, left + kept_px, image_height_px)
    return Canvas(width_px, height_px, box, by_height=True, content_width_px=min(fitted_px, width_px))


def fitted_width(width_px: int, height_px: int, new_height_px: int) -> int:
    """The width of a picture that is brought to `new_height_px`, cut to a whole pixel, at least one."""
    return max(1, int(width_px * new_height_px / height_px))


def fit_by_height(frames_u8: np.ndarray, canvas: Canvas) -> Tensor:
    """[n, h, w, 3] uint8 -> [n, 3, H, W] float32 in [-1, 1]: resized to the canvas' height, then cut in the
    middle or padded with black, the left side getting the smaller half.

    Bilinear with antialiasing, in floats and without rounding, as the released program does.
    """
    frames_pm1 = frames_to_pm1(frames_u8)
    width_px = fitted_width(frames_u8.shape[2], frames_u8.shape[1], canvas.height_px)
    frames_pm1 = F.interpolate(
        frames_pm1, size=(canvas.height_px, width_px), mode="bilinear", antialias=True, align_corners=False
    )
    extra = canvas.width_px - width_px
    if extra >= 0:
        return F.pad(frames_pm1, (extra // 2, extra - extra // 2), value=-1.0)
    left = (-extra) // 2
    return frames_pm1[..., left : left + canvas.width_px]


def plan_motion_box(
    frame_width_px: int, frame_height_px: int, image_width_px: int, image_height_px: int, canvas: Canvas
) -> tuple[Box, str]:
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
    if canvas.by_height:
        across_px = frame_height_px * canvas.width_px / canvas.height_px
        left_px = (frame_width_px - across_px) / 2
        return (left_px, 0.0, left_px + across_px, float(frame_height_px)), note
    left_px = (frame_width_px - wide_px) / 2
    left, top, right, bottom = canvas.crop_box_px
    across, down = wide_px / image_width_px, frame_height_px / image_height_px
    return (left_px + left * across, top * down, left_px + right * across, bottom * down), note


def on_canvas(skeleton: Skeleton, box: Box, canvas: Canvas) -> Skeleton:
    """The part `box` (left, top, right, bottom) of the skeleton's picture, stretched to the canvas."""
    left, top, right, bottom = box
    scale = np.array([canvas.width_px / (right - left), canvas.height_px / (bottom - top)])
    points = (skeleton.points_px - np.array([left, top])) * scale
    return replace(
        skeleton, points_px=points.astype(np.float32), width_px=canvas.width_px, height_px=canvas.height_px
    )


def _check_area(width_px: int, height_px: int) -> None:
    if width_px < 1 or height_px < 1:
        raise InputError(f"an image of {width_px}x{height_px} pixels has no area; use a larger image.")


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
