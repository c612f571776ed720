"""Portrait and sound as the user gives them, files or arrays -> what windows are made from.

Nothing is repaired silently: every function returns, beside its result, notes of one line each that say what
was done.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from torch import Tensor

from hallo4.errors import InputError
from hallo4.media import collect_notes, load_image, open_sound, resampled
from hallo4.media.image import rgb_of
from hallo4.media.pixels import frames_to_pm1, pm1_to_frames
from hallo4.pipelines.canvas import (
    Canvas,
    fit_by_height,
    portrait_canvas,
)
from hallo4.types import Audio, AudioFrontEnd, SampleSource

PathLike = str | os.PathLike[str]

SOUND_RATE_HZ = 48_000
"""Rate of the sound of the finished video."""


@dataclass(frozen=True)
class Portrait:
    """The image on its canvas: `video_pm1` [3, H, W] in [-1, 1], as the model sees it, and `pixels_u8`
    [H, W, 3], the same in whole levels; `image_u8` [h, w, 3] is the original."""

    pixels_u8: np.ndarray
    video_pm1: Tensor
    canvas: Canvas
    image_u8: np.ndarray

    @property
    def image_width_px(self) -> int:
        """Of the original."""
        return self.image_u8.shape[1]

    @property
    def image_height_px(self) -> int:
        """Of the original."""
        return self.image_u8.shape[0]


def prepare_portrait(
    image: PathLike | np.ndarray | Image.Image,
    size_px: int,
    multiple_px: int = 16,
    canvas_sizes_px: Sequence[tuple[int, int]] = (),
) -> tuple[Portrait, list[str]]:
    """An image file, a PIL image or [H, W, 3] uint8 RGB, brought onto the canvas of
    `portrait_canvas`; `canvas_sizes_px` (height, width): those that the model was trained on, if there are
    such.

    InputError: as `load_image`, or an array of another shape or type.
    """
    notes: list[str] = []
    if isinstance(image, Image.Image):
        with collect_notes(notes):
            image = rgb_of(image)
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise InputError(
                f"the image is an array of shape {image.shape} and type {image.dtype}; "
                "only [H, W, 3] uint8 RGB is allowed. Convert it first."
            )
        pixels = image
    else:
        with collect_notes(notes):
            pixels = load_image(image)
    height_px, width_px = pixels.shape[:2]
    canvas = portrait_canvas(width_px, height_px, size_px, multiple_px, canvas_sizes_px)
    if canvas.by_height:
        video_pm1 = fit_by_height(pixels[None], canvas)[0]
        on_canvas = pm1_to_frames(video_pm1)
    else:
        resized = Image.fromarray(pixels).resize(
            (canvas.width_px, canvas.height_px), Image.Resampling.LANCZOS, box=canvas.crop_box_px
        )
        on_canvas = np.asarray(resized)
        video_pm1 = frames_to_pm1(on_canvas)
    if (width_px, height_px) != (canvas.width_px, canvas.height_px):
        notes.append(canvas.describe(width_px, height_px))
    return Portrait(on_canvas, video_pm1, canvas, pixels), notes


def prepare_audio(audio: PathLike | Audio) -> tuple[SampleSource, list[str]]:
    """Sound or video file, or an `Audio`, checked: the sound of the finished video.

    InputError, OutputError: as `open_sound`; no samples, NaN, not mono.
    """
    notes: list[str] = []
    if not isinstance(audio, Audio):
        with collect_notes(notes):
            return open_sound(audio, SOUND_RATE_HZ), notes
    samples = np.asarray(audio.samples)
    if samples.ndim != 1 or not len(samples) or audio.sample_rate_hz < 1:
        raise InputError(
            f"the audio is an array of shape {samples.shape} at {audio.sample_rate_hz} Hz; "
            "only mono samples [S] with at least one sample are allowed. Mix it down first."
        )
    if not np.isfinite(samples).all():
        raise InputError(
            "the audio holds NaN or infinite samples; only finite ones are allowed. Clean it first."
        )
    return replace(audio, samples=samples.astype(np.float32, copy=False)), notes


def prepare_feature_sound(
    audio: PathLike | Audio, video_sound: SampleSource, front_end: AudioFrontEnd
) -> SampleSource:
    """The sound that `front_end` makes features of, at its own rate.

    `video_sound` is what `prepare_audio` made of `audio`. A front end that does not go by it takes the file's
    own samples, so that a file at its rate is not resampled on the way. Errors as there.
    """
    if front_end.from_video_sound or isinstance(audio, Audio):
        return resampled(video_sound, front_end.sample_rate_hz)
    with collect_notes([]):  # `prepare_audio` has said them all
        return open_sound(audio, front_end.sample_rate_hz)
