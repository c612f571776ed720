"""Whatever motion a user has -> skeleton drawings on the canvas, made or read when a window needs them.

Nothing is repaired silently: `prepare_motion` returns, beside its result, notes of one line each that say
what was done.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image
from torch import Tensor

from hallo4.errors import InputError
from hallo4.media import collect_notes, probe_video, read_frames
from hallo4.media.pixels import frames_to_pm1, pm1_to_frames
from hallo4.motion import (
    MotionHints,
    bridge_gaps,
    default_rest_pose,
    draw_skeleton,
    idle_motion,
    load_skeleton,
    looks_like_skeleton_video,
    resampled_frames,
    resampling_note,
    retarget,
)
from hallo4.motion.drawn_video import anything_drawn
from hallo4.motion.gaps import LONGEST_GAP_S, frame_ranges
from hallo4.motion.layout import SEEN
from hallo4.pipelines.canvas import Box, Canvas, fit_by_height, plan_motion_box
from hallo4.pipelines.conditions import PathLike, Portrait
from hallo4.pipelines.conventions import OURS, Conventions
from hallo4.pipelines.portrait_pose import portrait_rest
from hallo4.types import FPS, Skeleton

FindPose = Callable[[np.ndarray], Skeleton | None]
"""Image [H, W, 3] uint8 -> the pose at rest [1 frame] of the person in it; None if nobody is seen."""

KEYPOINT_SUFFIXES = (".json", ".npz", ".pkl", ".pickle")
"""Files that are taken for keypoints; pickles, so that they are refused with the reason."""

NO_HINTS = MotionHints()


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
    """Keypoints at the rate and in the picture they came with; a window's are resampled, and moved onto the
    canvas, when it needs them.

    `box`: the part (left, top, right, bottom) of the keypoints' picture that fills the canvas.
    """

    source: Skeleton
    box: Box
    canvas: Canvas
    frames: int
    fps: float = FPS

    def skeleton(self, indices: np.ndarray) -> Skeleton:
        """The keypoints of these frames, in pixels of the canvas."""
        return _on_canvas(
            resampled_frames(self.source, indices, self.frames, self.fps), self.box, self.canvas
        )

    def frames_u8(self, indices: np.ndarray) -> np.ndarray:
        """See `MotionSource`."""
        different, places = np.unique(indices, return_inverse=True)
        drawn = draw_skeleton(self.skeleton(different), self.canvas.width_px, self.canvas.height_px)
        return drawn[places]


class RenderedMotion:
    """Frames of a rendered skeleton video; they wait, packed, in a temporary file.

    `to_canvas` [n, h, w, 3] uint8 -> [n, 3, H, W] in [-1, 1] brings them onto the canvas. A video shorter
    than `frames` runs back and forth, like keypoints in `hallo4.motion.resample`.
    """

    def __init__(self, to_canvas: Callable[[np.ndarray], Tensor] = frames_to_pm1):
        self.frames = 0
        self._to_canvas = to_canvas
        self._shape: tuple[int, ...] | None = None
        self._spool = tempfile.TemporaryFile(prefix="hallo4-motion-")  # noqa: SIM115 - lives as long as this
        self._spans: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._spans)

    def append(self, frame_u8: np.ndarray) -> None:
        """Add the next frame [h, w, 3]; all have one size."""
        self._shape = self._shape or frame_u8.shape
        assert frame_u8.shape == self._shape
        start = max((stop for _, stop in self._spans[-1:]), default=0)
        self._spool.seek(start)
        self._spans.append((start, start + self._spool.write(zlib.compress(frame_u8.tobytes(), 1))))

    def hold(self) -> None:
        """Show the last frame once more."""
        self._spans.append(self._spans[-1])

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
        start, stop = self._spans[index]
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
    hints: MotionHints = NO_HINTS,
) -> tuple[MotionSource, list[str]]:
    """Whatever the user has, as `frames` drawings at `fps` on the portrait's canvas.

    A `Skeleton` or keypoints (.json, .npz or a folder, see `load_skeleton`), a rendered skeleton video, or
    None for idle motion, which grows from what `rest_pose` finds in the portrait. `fit_motion` brings
    keypoints of another person to the place and proportions of that pose; `hints` are what the caller says
    about a file of keypoints. Short gaps in keypoints are bridged. InputError: as `load_skeleton`,
    `read_frames` and `retarget`; a filmed video; `fit_motion` or `hints` without keypoints.
    """
    if hints and (motion is None or isinstance(motion, Skeleton) or not is_keypoints(motion)):
        given = "the motion is a Skeleton, which says them itself"
        if not isinstance(motion, Skeleton):
            given = "no motion is given" if motion is None else f"{motion} is a video, which says them itself"
        raise InputError(
            f"size, rate and person can be told of a file of keypoints, but {given}; leave them out."
        )
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
    path = Path(motion)
    if is_keypoints(path):
        notes: list[str] = []
        with collect_notes(notes):
            skeleton = load_skeleton(
                path,
                fps=hints.fps,
                size_px=hints.size_px,
                person=hints.person,
                assumed_size_px=(portrait.image_width_px, portrait.image_height_px),
            )
        source, more = _from_keypoints(skeleton, portrait, frames, fps, rest_pose if fit_motion else None)
        return source, notes + more
    _refuse_filmed(path)
    if fit_motion:
        raise InputError(
            f"{path} is a drawn skeleton, which cannot be fitted; give the keypoints instead: "
            ".json, .npz or an OpenPose folder."
        )
    if conventions.skeleton_timing == "frame_by_frame":
        return _frame_by_frame(path, portrait, conventions.start_frame)
    return _from_video(path, portrait, frames, fps)


def is_keypoints(path: PathLike) -> bool:
    """Whether a motion is given as keypoints (.json, .npz or a folder), rather than as a video."""
    path = Path(path)
    return path.is_dir() or path.suffix.lower() in KEYPOINT_SUFFIXES


def _refuse_filmed(path: Path) -> None:
    """InputError unless the pictures of a video are a drawn skeleton."""
    with collect_notes([]):  # who reads the whole of it says them
        look = looks_like_skeleton_video(path)
    if look.empty:
        raise InputError(
            f"{path}: {look}; a skeleton is coloured lines on black. Give one with a person in it."
        )
    if not look:
        raise InputError(
            f"{path} does not look like a drawn skeleton, coloured lines on black: {look}. Of a filmed video "
            f"get the keypoints with `hallo4 keypoints {path} -o OUT`, and give these."
        )


def _from_keypoints(
    skeleton: Skeleton, portrait: Portrait, frames: int, fps: float, fit_to: FindPose | None
) -> tuple[MotionSource, list[str]]:
    if not len(skeleton):
        raise InputError("the skeleton holds no frames; at least one is needed.")
    if not (skeleton.confidence >= SEEN).any():
        raise InputError(
            f"nobody is seen in the {len(skeleton)} frames of the skeleton: no point has a confidence of "
            f"{SEEN:g} or more. Give keypoints of a person, or none for idle motion."
        )
    skeleton, gap_notes = bridge_gaps(skeleton)
    canvas = portrait.canvas
    box, shape_note = _motion_box(skeleton.width_px, skeleton.height_px, portrait)
    time_note = resampling_note(skeleton, frames, fps)
    notes = [*(f"skeleton: {note}" for note in gap_notes), *filter(None, (time_note, shape_note))]
    if fit_to is not None:
        rest = fit_to(portrait.pixels_u8)
        if rest is None:
            notes.append("nobody was found in the portrait, so the motion is used without fitting")
        else:
            # What is measured for the fit are the frames as they came, whatever part of them is used.
            skeleton = retarget(_on_canvas(skeleton, box, canvas), rest)
            box = (0.0, 0.0, float(canvas.width_px), float(canvas.height_px))
            notes.append("motion fitted to the face and shoulders in the portrait")
    return KeypointMotion(skeleton, box, canvas, frames, fps), notes


def _on_canvas(skeleton: Skeleton, box: Box, canvas: Canvas) -> Skeleton:
    """The part `box` (left, top, right, bottom) of the skeleton's picture, stretched to the canvas."""
    left, top, right, bottom = box
    scale = np.array([canvas.width_px / (right - left), canvas.height_px / (bottom - top)])
    points = (skeleton.points_px - np.array([left, top])) * scale
    return replace(
        skeleton, points_px=points.astype(np.float32), width_px=canvas.width_px, height_px=canvas.height_px
    )


def _from_video(path: Path, portrait: Portrait, frames: int, fps: float) -> tuple[MotionSource, list[str]]:
    notes: list[str] = []
    with collect_notes(notes):
        info = probe_video(path)
        box, shape_note = _motion_box(info.width_px, info.height_px, portrait)
        source, gap_notes = _rendered_frames(path, portrait, box, frames, fps)
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
    return source, notes + gap_notes + ([shape_note] if shape_note else [])


def _rendered_frames(
    path: Path, portrait: Portrait, box: Box, frames: int, fps: float
) -> tuple[RenderedMotion, list[str]]:
    """The frames of a drawn skeleton at `fps`. Where nothing is drawn, because a detector lost the person,
    the frame before is held for up to `LONGEST_GAP_S`."""
    source = _rendered(portrait)
    run, held, black = 0, [], []
    for number, frame in enumerate(read_frames(path, fps, end_s=frames / fps)):
        run = 0 if anything_drawn(frame) else run + 1
        if run:
            (held if len(source) and run <= LONGEST_GAP_S * fps else black).append(number)
        if held[-1:] == [number]:
            source.hold()
        else:
            source.append(frame if portrait.canvas.by_height else fit_frame(frame, box, portrait.canvas))
    source.frames = frames
    return source, [
        f"skeleton: nothing is drawn in {len(numbers)} of {len(source)} frames "
        f"({frame_ranges(np.array(numbers))}); {what}"
        for numbers, what in ((held, "the frame before is held"), (black, "they stay black"))
        if numbers
    ]


def _frame_by_frame(path: Path, portrait: Portrait, start_frame: int) -> tuple[MotionSource, list[str]]:
    """The frames of a video from `start_frame` on, one by one, whatever its rate."""
    info = probe_video(path)
    box, _ = _motion_box(info.width_px, info.height_px, portrait)
    source = _rendered(portrait)
    for number, frame in enumerate(read_frames(path, None)):
        if number >= start_frame:
            source.append(frame if portrait.canvas.by_height else fit_frame(frame, box, portrait.canvas))
    if not len(source):
        raise InputError(f"{path}: has no frame from frame {start_frame} on; start earlier.")
    source.frames = len(source)
    return source, [f"skeleton: its {source.frames} frames are taken one by one, at whatever rate they are"]


def _rendered(portrait: Portrait) -> RenderedMotion:
    """An empty `RenderedMotion`. Where pictures are fitted by their height they are kept as they are, and
    resized, in floats, when they are needed."""
    canvas = portrait.canvas
    return RenderedMotion(partial(fit_by_height, canvas=canvas) if canvas.by_height else frames_to_pm1)


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
