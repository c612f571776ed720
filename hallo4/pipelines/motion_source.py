"""Skeleton drawings on the canvas, made or read when a window needs them."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from PIL import Image
from torch import Tensor

from hallo4.media.pixels import frames_to_pm1, pm1_to_frames
from hallo4.motion import draw_skeleton, idle_motion, resampled_frames
from hallo4.pipelines.canvas import Box, Canvas, on_canvas
from hallo4.types import FPS, Skeleton


class MotionSource(Protocol):
    """`frames` skeleton drawings on the canvas, at the rate that the model takes them."""

    frames: int

    def frames_u8(self, indices: np.ndarray) -> np.ndarray:
        """[n] frame numbers, rising and below `frames` -> [n, H, W, 3] uint8."""
        ...

    def frames_pm1(self, indices: np.ndarray) -> Tensor:
        """The same as [n, 3, H, W] in [-1, 1], before any rounding."""
        ...

    def skeleton(self, indices: np.ndarray) -> Skeleton | None:
        """The keypoints of these frames, in pixels of the canvas; None of a source that has none."""
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
        return draw_skeleton(self.skeleton(indices), self.canvas.width_px, self.canvas.height_px)

    def skeleton(self, indices: np.ndarray) -> Skeleton:
        """See `MotionSource`."""
        start = int(indices[0])
        moving = idle_motion(self.rest, int(indices[-1]) - start + 1, self.seed, start, self.fps)
        chosen = indices - start
        return replace(moving, points_px=moving.points_px[chosen], confidence=moving.confidence[chosen])


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
        """See `MotionSource`."""
        return on_canvas(resampled_frames(self.source, indices, self.frames, self.fps), self.box, self.canvas)

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

    def skeleton(self, indices: np.ndarray) -> None:
        """None: it is drawn."""

    def _frame(self, index: int) -> np.ndarray:
        last = len(self) - 1
        if index > last:
            index = abs((index + last) % (2 * last) - last) if last else 0
        start, stop = self._spans[index]
        self._spool.seek(start)
        return np.frombuffer(zlib.decompress(self._spool.read(stop - start)), np.uint8).reshape(self._shape)


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
