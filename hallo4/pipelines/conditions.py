"""What the user gives (files or arrays) -> what windows are made from, in memory that does not grow.

Nothing is repaired silently: every function returns, beside its result, notes of one line each that say what
was done.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image
from torch import Tensor

from hallo4.errors import InputError
from hallo4.media import collect_notes, load_image, open_sound, probe_video, read_frames, resampled
from hallo4.media.image import rgb_of
from hallo4.media.names import as_stored
from hallo4.media.pixels import frames_to_pm1, pm1_to_frames
from hallo4.motion import default_rest_pose, draw_skeleton, idle_motion, load_skeleton, resample, retarget
from hallo4.pipelines.canvas import (
    Box,
    Canvas,
    choose_canvas,
    fit_by_height,
    plan_canvas,
    plan_motion_box,
)
from hallo4.pipelines.conventions import OURS, Conventions
from hallo4.pipelines.portrait_pose import portrait_rest
from hallo4.types import FPS, Audio, AudioFrontEnd, SampleSource, Skeleton

PathLike = str | os.PathLike[str]

FindPose = Callable[[np.ndarray], Skeleton | None]
"""Image [H, W, 3] uint8 -> the pose at rest [1 frame] of the person in it; None if nobody is seen."""

SOUND_RATE_HZ = 48_000
"""Rate of the sound of the finished video."""

KEYPOINT_SUFFIXES = (".json", ".npz")


# ---------------------------------------------------------------------- portrait and sound


@dataclass(frozen=True)
class Portrait:
    """The image on its canvas: `video_pm1` [3, H, W] in [-1, 1], as the model sees it, and `pixels_u8`
    [H, W, 3], the same in whole levels; the other sizes are those of the original."""

    pixels_u8: np.ndarray
    video_pm1: Tensor
    canvas: Canvas
    image_width_px: int
    image_height_px: int


def prepare_portrait(
    image: PathLike | np.ndarray | Image.Image,
    size_px: int,
    multiple_px: int = 16,
    canvas_sizes_px: Sequence[tuple[int, int]] = (),
) -> tuple[Portrait, list[str]]:
    """An image file, a PIL image or [H, W, 3] uint8 RGB, brought onto the canvas of `choose_canvas` where the
    model has `canvas_sizes_px` (height, width) it was trained on, else of `plan_canvas`.

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
    if canvas_sizes_px:
        canvas = choose_canvas(width_px, height_px, canvas_sizes_px)
        video_pm1 = fit_by_height(pixels[None], canvas)[0]
        on_canvas = pm1_to_frames(video_pm1)
    else:
        canvas = plan_canvas(width_px, height_px, size_px, multiple_px)
        resized = Image.fromarray(pixels).resize(
            (canvas.width_px, canvas.height_px), Image.Resampling.LANCZOS, box=canvas.crop_box_px
        )
        on_canvas = np.asarray(resized)
        video_pm1 = frames_to_pm1(on_canvas)
    if (width_px, height_px) != (canvas.width_px, canvas.height_px):
        notes.append(canvas.describe(width_px, height_px))
    return Portrait(on_canvas, video_pm1, canvas, width_px, height_px), notes


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


# ---------------------------------------------------------------------- motion


class MotionSource(Protocol):
    """`frames` skeleton drawings on the canvas, at the rate that the model takes them."""

    frames: int

    def frames_u8(self, indices: np.ndarray) -> np.ndarray:
        """[n] frame numbers, rising and below `frames` -> [n, H, W, 3] uint8."""
        ...

    def frames_pm1(self, indices: np.ndarray) -> Tensor:
        """The same as [n, 3, H, W] in [-1, 1], before any rounding."""
        ...


class _Drawn:
    """A source whose frames are drawn in whole levels."""

    def frames_pm1(self, indices: np.ndarray) -> Tensor:
        """See `MotionSource`."""
        return frames_to_pm1(self.frames_u8(indices))  # type: ignore[attr-defined]


@dataclass(frozen=True)
class IdleMotion(_Drawn):
    """Breathing, blinking, small movements out of a pose at rest; made where and when it is needed."""

    rest: Skeleton
    seed: int
    canvas: Canvas
    frames: int
    fps: float = FPS

    def frames_u8(self, indices: np.ndarray) -> np.ndarray:
        """See `MotionSource`."""
        start = int(indices[0])
        moving = idle_motion(self.rest, int(indices[-1]) - start + 1, self.seed, start, self.fps)
        drawn = draw_skeleton(moving, self.canvas.width_px, self.canvas.height_px)
        return drawn[indices - start]


@dataclass(frozen=True)
class KeypointMotion(_Drawn):
    """Keypoints already at the model's rate, as long as the video and in pixels of the canvas."""

    skeleton: Skeleton

    @property
    def frames(self) -> int:
        """As many as the keypoints."""
        return len(self.skeleton)

    def frames_u8(self, indices: np.ndarray) -> np.ndarray:
        """See `MotionSource`."""
        span = slice(int(indices[0]), int(indices[-1]) + 1)
        drawn = draw_skeleton(self.skeleton, self.skeleton.width_px, self.skeleton.height_px, span)
        return drawn[indices - span.start]


class FilmedMotion:
    """Frames of a rendered skeleton video; they wait, packed, in a temporary file.

    `to_canvas` [n, h, w, 3] uint8 -> [n, 3, H, W] in [-1, 1] brings them onto the canvas. A video shorter
    than `frames` runs back and forth, like keypoints in `hallo4.motion.resample`.
    """

    def __init__(self, to_canvas: Callable[[np.ndarray], Tensor] = frames_to_pm1):
        self.frames = 0
        self._to_canvas = to_canvas
        self._shape: tuple[int, ...] | None = None
        self._spool = tempfile.TemporaryFile(prefix="hallo4-motion-")  # noqa: SIM115 - lives as long as this
        self._offsets = [0]

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def append(self, frame_u8: np.ndarray) -> None:
        """Add the next frame [h, w, 3]; all have one size."""
        self._shape = self._shape or frame_u8.shape
        assert frame_u8.shape == self._shape
        self._spool.seek(self._offsets[-1])
        self._offsets.append(self._offsets[-1] + self._spool.write(zlib.compress(frame_u8.tobytes(), 1)))

    def frames_u8(self, indices: np.ndarray) -> np.ndarray:
        """See `MotionSource`."""
        return pm1_to_frames(self.frames_pm1(indices))

    def frames_pm1(self, indices: np.ndarray) -> Tensor:
        """See `MotionSource`."""
        return self._to_canvas(np.stack([self._frame(int(index)) for index in indices]))

    def _frame(self, index: int) -> np.ndarray:
        last = len(self) - 1
        if index > last:
            index = abs((index + last) % (2 * last) - last) if last else 0
        start, stop = self._offsets[index], self._offsets[index + 1]
        self._spool.seek(start)
        return np.frombuffer(zlib.decompress(self._spool.read(stop - start)), np.uint8).reshape(self._shape)


def prepare_motion(
    motion: PathLike | Skeleton | None,
    portrait: Portrait,
    frames: int,
    seed: int,
    rest_pose: FindPose = portrait_rest,
    fit_motion: bool = False,
    fps: float = FPS,
    conventions: Conventions = OURS,
) -> tuple[MotionSource, list[str]]:
    """Whatever the user has, as `frames` drawings at `fps` on the portrait's canvas.

    A `Skeleton` or keypoints file (.json, .npz, OpenPose folder), a rendered skeleton video, or None for idle
    motion, which grows from what `rest_pose` finds in the portrait. `fit_motion` brings keypoints of another
    person to the place and proportions of that pose. InputError: as `load_skeleton`, `read_frames` and
    `retarget`; `fit_motion` without keypoints to be fitted.
    """
    if motion is None:
        if fit_motion:
            raise InputError("no motion is given, so there is nothing to fit; leave fitting out.")
        canvas, rest = portrait.canvas, rest_pose(portrait.pixels_u8)
        how = "fitted to the portrait"
        if rest is None:
            rest, how = default_rest_pose(canvas.width_px, canvas.height_px), "by the default pose"
        return IdleMotion(rest, seed, canvas, frames, fps), [
            f"no motion given: idle motion with blinks is supplied, {how}"
        ]
    if isinstance(motion, Skeleton):
        return _from_keypoints(motion, portrait, frames, fps, rest_pose if fit_motion else None)
    path = as_stored(motion)
    if path.is_dir() or path.suffix.lower() in KEYPOINT_SUFFIXES:
        size_px = (portrait.image_width_px, portrait.image_height_px)
        skeleton = load_skeleton(path, size_px=size_px)
        return _from_keypoints(skeleton, portrait, frames, fps, rest_pose if fit_motion else None)
    if fit_motion:
        raise InputError(
            f"{path} is a drawn skeleton, which cannot be fitted; give the keypoints instead: "
            ".json, .npz or an OpenPose folder."
        )
    if conventions.skeleton_timing == "frame_by_frame":
        return _frame_by_frame(path, portrait, conventions.start_frame)
    return _from_video(path, portrait, frames, fps)


def _from_keypoints(
    skeleton: Skeleton, portrait: Portrait, frames: int, fps: float, fit_to: FindPose | None
) -> tuple[MotionSource, list[str]]:
    if not len(skeleton):
        raise InputError("the skeleton holds no frames; at least one is needed.")
    box, shape_note = _motion_box(skeleton.width_px, skeleton.height_px, portrait)
    skeleton, time_note = resample(skeleton, frames, fps)
    canvas = portrait.canvas
    left, top, right, bottom = box
    scale = np.array([canvas.width_px / (right - left), canvas.height_px / (bottom - top)])
    points = (skeleton.points_px - np.array([left, top])) * scale
    moved = replace(
        skeleton, points_px=points.astype(np.float32), width_px=canvas.width_px, height_px=canvas.height_px
    )
    notes = [note for note in (time_note, shape_note) if note]
    if fit_to is not None:
        rest = fit_to(portrait.pixels_u8)
        if rest is None:
            notes.append("nobody was found in the portrait, so the motion is used without fitting")
        else:
            moved = retarget(moved, rest)
            notes.append("motion fitted to the face and shoulders in the portrait")
    return KeypointMotion(moved), notes


def _from_video(path: Path, portrait: Portrait, frames: int, fps: float) -> tuple[MotionSource, list[str]]:
    notes: list[str] = []
    with collect_notes(notes):
        info = probe_video(path)
        box, shape_note = _motion_box(info.width_px, info.height_px, portrait)
        source = _film(portrait)
        for frame in read_frames(path, fps, end_s=frames / fps):
            source.append(frame if portrait.canvas.by_height else fit_frame(frame, box, portrait.canvas))
    source.frames = frames
    done = []
    if info.variable_frame_rate:
        done.append(f"variable frame rate (about {info.fps:.4g} fps) read at {fps:g} fps")
    elif abs(info.fps - fps) > 0.01:
        done.append(f"resampled from {info.fps:.4g} to {fps:g} fps")
    if len(source) == 1 < frames:
        done.append(f"its single frame was held for {frames / fps:.2f} s")
    elif len(source) < frames:
        done.append(
            f"{len(source) / fps:.2f} s is shorter than {frames / fps:.2f} s, so it runs back and forth"
        )
    elif round(info.duration_s * fps) > frames:
        done.append(f"cut from {info.duration_s:.2f} s to {frames / fps:.2f} s")
    if done:
        notes.append(f"skeleton: {'; '.join(done)}")
    return source, notes + ([shape_note] if shape_note else [])


def _frame_by_frame(path: Path, portrait: Portrait, start_frame: int) -> tuple[MotionSource, list[str]]:
    """The frames of a video from `start_frame` on, one by one, whatever its rate."""
    info = probe_video(path)
    box, _ = _motion_box(info.width_px, info.height_px, portrait)
    source = _film(portrait)
    for number, frame in enumerate(read_frames(path, None)):
        if number >= start_frame:
            source.append(frame if portrait.canvas.by_height else fit_frame(frame, box, portrait.canvas))
    if not len(source):
        raise InputError(f"{path}: has no frame from frame {start_frame} on; start earlier.")
    source.frames = len(source)
    return source, [f"skeleton: its {source.frames} frames are taken one by one, at whatever rate they are"]


def _film(portrait: Portrait) -> FilmedMotion:
    """An empty `FilmedMotion`. Where pictures are fitted by their height they are kept as they are, and
    resized, in floats, when they are needed."""
    canvas = portrait.canvas
    return FilmedMotion(partial(fit_by_height, canvas=canvas) if canvas.by_height else frames_to_pm1)


def _motion_box(width_px: int, height_px: int, portrait: Portrait) -> tuple[Box, str]:
    return plan_motion_box(
        width_px, height_px, portrait.image_width_px, portrait.image_height_px, portrait.canvas
    )


def fit_frame(frame_u8: np.ndarray, box: Box, canvas: Canvas) -> np.ndarray:
    """The part `box` (left, top, right, bottom, in pixels) of a frame, resized to the canvas.

    What of the box lies beyond the frame is black. The edge between both is rounded to whole pixels of the
    canvas.
    """
    height_px, width_px = frame_u8.shape[:2]
    left, top, right, bottom = box
    if box == (0, 0, width_px, height_px) and (canvas.width_px, canvas.height_px) == (width_px, height_px):
        return frame_u8
    inside = (max(left, 0.0), max(top, 0.0), min(right, float(width_px)), min(bottom, float(height_px)))
    across, down = canvas.width_px / (right - left), canvas.height_px / (bottom - top)
    x0, y0 = round((inside[0] - left) * across), round((inside[1] - top) * down)
    x1, y1 = round((inside[2] - left) * across), round((inside[3] - top) * down)
    fitted = np.zeros((canvas.height_px, canvas.width_px, 3), np.uint8)
    if x1 > x0 and y1 > y0:
        part = Image.fromarray(frame_u8).resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR, box=inside)
        fitted[y0:y1, x0:x1] = np.asarray(part)
    return fitted
