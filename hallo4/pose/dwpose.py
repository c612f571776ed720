"""DWPose: YOLOX finds people, RTMPose with SimCC heads gives each of them 133 points.

Preprocessing and decoding follow the published program, branch `onnx` of github.com/IDEA-Research/DWPose, in
ControlNet-v1-1-nightly/annotator/dwpose: `onnxdet.py` (lines 6-123) and `onnxpose.py` (lines 7-360). Both
networks get RGB, as from its gradio_dw_open_pose.py. Three differences: one person is measured, not all; a
frame without a person gives none instead of the pose of the whole frame (`onnxpose.py`, line 25); and points
are half a pixel further right and down, because pixels are named here by their corner and there by their
middle.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hallo4.errors import CheckpointError
from hallo4.motion import layout
from hallo4.pose.estimator import Candidate, PersonPose, box_of, overlap
from hallo4.types import KEYPOINTS
from hallo4.weights.check import find_weights
from hallo4.weights.onnx_session import open_onnx

DETECTOR_PX = 640
_GREY = 114
_STRIDES = (8, 16, 32)
_MIN_SCORE, _SAME_OVERLAP = 0.3, 0.45
_MEAN, _STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
_PADDING = 1.25
_BINS_PER_PX = 2.0
_SAME_PERSON = 0.3
"""Least overlap (IoU) of the boxes of one person in two frames."""


class DwposeEstimator:
    """A `PoseEstimator` of `yolox_l.onnx` and `dw-ll_ucoco_384.onnx`; its boxes are of whole persons.

    device: as `open_onnx`. CheckpointError: a file is missing, damaged, or another network.
    MissingExtraError: onnxruntime is not installed.
    """

    name = "dwpose"

    def __init__(self, folder: str | os.PathLike[str] | None = None, device: str = "auto"):
        self._detector = _opened(find_weights("yolox", folder), device)
        self._pose = _opened(find_weights("dwpose", folder), device)
        anchors = sum((DETECTOR_PX // stride) ** 2 for stride in _STRIDES)
        _check(
            self._detector, ([3, DETECTOR_PX, DETECTOR_PX],), ([anchors, 85],), find_weights("yolox", folder)
        )
        width, height = _input_size(self._pose, find_weights("dwpose", folder))
        self._size = (width, height)
        bins = ([KEYPOINTS, int(width * _BINS_PER_PX)], [KEYPOINTS, int(height * _BINS_PER_PX)])
        _check(self._pose, ([3, height, width],), bins, find_weights("dwpose", folder))

    def find(self, frame_u8: np.ndarray) -> list[Candidate]:
        """See `PoseEstimator`."""
        picture, ratio = letterboxed(frame_u8)
        rows = self._detector.run(None, {self._detector.get_inputs()[0].name: picture})[0][0]
        return [Candidate(box) for box in person_boxes(rows, ratio)]

    def look(self, frame_u8: np.ndarray, near: Candidate | PersonPose) -> PersonPose | None:
        """See `PoseEstimator`. After a `PersonPose` the person is detected again, as the published program
        does in every frame; it is the one whose box overlaps the last one most."""
        box = near.box_px
        if isinstance(near, PersonPose):
            found = self.find(frame_u8)
            shared = [float(overlap(box, one.box_px[None])[0]) for one in found]
            if not found or max(shared) < _SAME_PERSON:
                return None
            box = found[int(np.argmax(shared))].box_px
        centre, extent = padded_box(box, self._size)
        picture = normalised(cut_box(frame_u8, centre, extent, self._size))
        bins_x, bins_y = self._pose.run(None, {self._pose.get_inputs()[0].name: picture})
        points_px, score = decode_simcc(bins_x[0], bins_y[0], centre, extent, self._size)
        height, width = frame_u8.shape[:2]
        inside = ((points_px >= 0) & (points_px <= (width, height))).all(axis=1)
        confidence = np.where(inside, np.clip(score, 0, 1), 0).astype(np.float32)
        seen = confidence >= layout.SEEN
        if not seen.any():
            return None
        face = [*range(layout.FACE.start, layout.FACE.stop)]
        face_px = points_px[face][seen[face]]
        return PersonPose(
            np.where(confidence[:, None] > 0, points_px, 0).astype(np.float32),
            confidence,
            box,
            box_of(points_px[seen]),
            box_of(face_px) if len(face_px) else None,
        )


def letterboxed(frame_u8: np.ndarray) -> tuple[np.ndarray, float]:
    """A frame [H, W, 3] -> [1, 3, 640, 640] float32 levels in its upper left corner, grey beside it, and the
    scale (`onnxdet.py`, lines 80-96)."""
    height, width = frame_u8.shape[:2]
    ratio = min(DETECTOR_PX / height, DETECTOR_PX / width)
    small = (int(width * ratio), int(height * ratio))
    affine = (width / small[0], 0, 0, 0, height / small[1], 0)
    resized = Image.fromarray(frame_u8).transform(
        small, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR
    )
    picture = np.full((DETECTOR_PX, DETECTOR_PX, 3), _GREY, np.float32)
    picture[: small[1], : small[0]] = np.asarray(resized)
    return np.ascontiguousarray(picture.transpose(2, 0, 1)[None]), ratio


def person_boxes(rows: np.ndarray, ratio: float) -> list[np.ndarray]:
    """YOLOX's raw rows [8400, 5 + classes] -> boxes [4] of people in the frame, best first (`onnxdet.py`,
    lines 6-33, 58-78 and 104-122): centre in cells from the anchor, logarithm of the size in cells; the
    score is that of an object times that of a person, the first class."""
    cells, strides = [], []
    for stride in _STRIDES:
        side = DETECTOR_PX // stride
        down, across = np.mgrid[0:side, 0:side]
        cells.append(np.stack([across.ravel(), down.ravel()], axis=-1))
        strides.append(np.full((side * side, 1), stride))
    cells, strides = np.concatenate(cells), np.concatenate(strides)
    score = rows[:, 4] * rows[:, 5]
    chosen = np.flatnonzero(score > _MIN_SCORE)
    chosen = chosen[np.argsort(-score[chosen], kind="stable")]
    centre = (rows[chosen, :2] + cells[chosen]) * strides[chosen]
    half = np.exp(rows[chosen, 2:4]) * strides[chosen] / 2
    left = np.concatenate([centre - half, centre + half], axis=1).astype(np.float64) / ratio
    kept = []
    while len(left):
        kept.append(left[0])
        left = left[1:][_pixel_overlap(left[0], left[1:]) <= _SAME_OVERLAP]
    return kept


def _pixel_overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes whose far pixels belong to them, as the published program counts."""
    one = np.array([0, 0, 1, 1])
    return overlap(box + one, others + one)


def padded_box(box_px: np.ndarray, size_px: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Centre and extent [2] of what is looked at: a quarter more than the box, in the shape of the network's
    picture (width, height) (`onnxpose.py`, lines 115-164)."""
    centre, extent = (box_px[:2] + box_px[2:]) / 2, (box_px[2:] - box_px[:2]) * _PADDING
    aspect = size_px[0] / size_px[1]
    if extent[0] > extent[1] * aspect:
        return centre, np.array([extent[0], extent[0] / aspect])
    return centre, np.array([extent[1] * aspect, extent[1]])


def cut_box(
    frame_u8: np.ndarray, centre: np.ndarray, extent: np.ndarray, size_px: tuple[int, int]
) -> np.ndarray:
    """The box of a frame as [height, width, 3] uint8, black beyond the frame (`onnxpose.py`, lines 255-285).

    OpenCV's `warpAffine`: the middle of the first pixel of the cut lies on the pixel at the box's corner.
    """
    step = extent / size_px
    start = centre - extent / 2 + (1 - step) / 2
    affine = (step[0], 0, start[0], 0, step[1], start[1])
    picture = Image.fromarray(frame_u8)
    return np.asarray(
        picture.transform(size_px, Image.Transform.AFFINE, tuple(affine), Image.Resampling.BILINEAR)
    )


def normalised(picture_u8: np.ndarray) -> np.ndarray:
    """[h, w, 3] levels -> [1, 3, h, w] float32 of mean 0 and deviation 1 (`onnxpose.py`, lines 40-43)."""
    values = (picture_u8.astype(np.float64) - _MEAN) / _STD
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None].astype(np.float32))


def decode_simcc(
    bins_x: np.ndarray, bins_y: np.ndarray, centre: np.ndarray, extent: np.ndarray, size_px: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the bins [133, 2 w], [133, 2 h] -> points [133, 2] in pixels of the frame and their scores
    [133]: the highest bin of each axis, and the lower of the two heights (`onnxpose.py`, lines 80-112 and
    288-350)."""
    place = np.stack([bins_x.argmax(axis=1), bins_y.argmax(axis=1)], axis=-1) / _BINS_PER_PX
    score = np.minimum(bins_x.max(axis=1), bins_y.max(axis=1))
    return place / size_px * extent + centre - extent / 2 + 0.5, score


def _opened(path: Path, device: str) -> Any:
    return open_onnx(path, "DWPose runs", "pose", device)


def _input_size(session: Any, path: Path) -> tuple[int, int]:
    """(width, height) of a network's picture."""
    shape = session.get_inputs()[0].shape
    if len(shape) != 4 or not all(isinstance(side, int) for side in shape[2:]):
        raise CheckpointError(f"{path}: is another network: its input is {shape}. {_AGAIN}")
    return shape[3], shape[2]


def _check(session: Any, inputs: tuple[list[int], ...], outputs: tuple[list[int], ...], path: Path) -> None:
    """CheckpointError unless inputs and outputs, without the axis of the batch, have these shapes."""
    found = [list(one.shape[1:]) for one in (*session.get_inputs(), *session.get_outputs())]
    wanted = [*inputs, *outputs]
    same = len(found) == len(wanted) and all(
        len(a) == len(b) and all(x == y or not isinstance(x, int) for x, y in zip(a, b, strict=True))
        for a, b in zip(found, wanted, strict=True)
    )
    if not same:
        raise CheckpointError(
            f"{path}: is another network: its input and outputs are {found}, wanted are {wanted}. {_AGAIN}"
        )


_AGAIN = "Move it away and run `hallo4 weights fetch pose-dwpose`."
