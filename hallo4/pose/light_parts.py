"""One network's look at one part of a person: its square in the frame in, points in the frame out, and the
square in which to look for them in the next frame.

After MediaPipe's graphs: face_landmark/face_landmark_landmarks_to_roi.pbtxt,
face_detection/face_detection_front_detection_to_roi.pbtxt, pose_landmark/pose_landmarks_to_roi.pbtxt,
pose_landmark/pose_detection_to_roi.pbtxt, pose_landmark/tensors_to_pose_landmarks_and_segmentation.pbtxt,
hand_landmark/palm_detection_detection_to_roi.pbtxt, hand_landmark/hand_landmark_landmarks_to_roi.pbtxt (all
in mediapipe/modules of github.com/google-ai-edge/mediapipe).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hallo4.pose.crops import Region, cut, square_around
from hallo4.pose.detections import Detection
from hallo4.pose.light_networks import Network, to_01
from hallo4.pose.light_points import BODY, HAND, MESH

PRESENT = 0.5
"""A part is there if its network says so with at least this probability."""

_PALM_POINTS = [0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18]
"""The points of a hand that say where it is; fingers come and go."""
_PEAK_CELLS = 3
"""How far around a landmark its heat map is looked at: seven cells in all."""


@dataclass(frozen=True)
class Face:
    """`mesh_px` [468, 2], the probability `flag` of a face, and where to look next."""

    mesh_px: np.ndarray
    flag: float

    @property
    def next_region(self) -> Region:
        """The square of the next look."""
        return square_around(self.mesh_px, _angle(self.mesh_px[33], self.mesh_px[263]), 1.5)


@dataclass(frozen=True)
class Body:
    """`points_px` [33, 2] with `confidence` [33], the probability `flag` of a person; the middle of the
    hips and a point on the circle around the whole person say where to look next."""

    points_px: np.ndarray
    confidence: np.ndarray
    flag: float
    circle_px: np.ndarray

    @property
    def next_region(self) -> Region:
        """The square of the next look."""
        return body_region(*self.circle_px)


@dataclass(frozen=True)
class Hand:
    """`points_px` [21, 2], the probability `flag` of a hand, and that it is a `right` one."""

    points_px: np.ndarray
    flag: float
    right: float

    @property
    def next_region(self) -> Region:
        """The square of the next look: around the palm, turned so that the fingers point up."""
        points = self.points_px
        middle = (points[6] + points[14]) / 4 + points[10] / 2
        roll = _angle(points[0], middle) + math.pi / 2
        return square_around(points[_PALM_POINTS], roll, 2.0, shift_down=-0.1)


def face_region(found: Detection) -> Region:
    """Where the mesh of a detected face is looked for; its points 0 and 1 are the right and the left eye."""
    corners = found.box[[[0, 1], [2, 3]]]
    upright = square_around(corners, 0.0, 1.5)
    return Region(upright.x_px, upright.y_px, upright.side_px, _angle(found.points[0], found.points[1]))


def body_region(hips_px: np.ndarray, circle_px: np.ndarray) -> Region:
    """Where the pose is looked for: a circle about the hips, its upper point given, with room around it."""
    side = 2 * 1.25 * float(np.linalg.norm(circle_px - hips_px))
    return Region(float(hips_px[0]), float(hips_px[1]), side, _angle(hips_px, circle_px) + math.pi / 2)


def palm_region(found: Detection) -> Region:
    """Where a detected palm's hand is looked for; its points 0 and 2 are wrist and middle knuckle."""
    roll = _angle(found.points[0], found.points[2]) + math.pi / 2
    side = float((found.box[2:] - found.box[:2]).max())
    upright = Region(*((found.box[:2] + found.box[2:]) / 2), side, roll)
    x, y = upright.to_frame(np.array([0.5, 0.0]))  # half a side towards the fingers
    return Region(float(x), float(y), 2.6 * side, roll)


def look_at_face(network: Network, frame_u8: np.ndarray, region: Region) -> Face | None:
    """The face in a region; None if there is none."""
    picture = cut(frame_u8, region, network.size_px, "rim")
    if picture is None:
        return None
    mesh, logit = network(to_01(picture))
    flag = _sigmoid(float(logit.reshape(())))
    if flag < PRESENT:
        return None
    return Face(region.to_frame(mesh.reshape(MESH, 3)[:, :2] / network.size_px), flag)


def look_at_body(network: Network, frame_u8: np.ndarray, region: Region) -> Body | None:
    """The pose in a region; None if there is no one. Landmarks are moved to the peaks of their heat maps
    nearby."""
    picture = cut(frame_u8, region, network.size_px, "rim")
    if picture is None:
        return None
    landmarks, flag, _, heat, _ = network(to_01(picture))
    if flag.reshape(()) < PRESENT:
        return None
    rows = landmarks.reshape(-1, 5).astype(np.float64)
    points_01 = peaks_near(rows[:, :2] / network.size_px, heat)
    points_px = region.to_frame(points_01)
    confidence = np.minimum(_sigmoid(rows[:BODY, 3]), _sigmoid(rows[:BODY, 4]))
    return Body(points_px[:BODY], confidence, float(flag.reshape(())), points_px[BODY : BODY + 2])


def look_at_hand(network: Network, frame_u8: np.ndarray, region: Region) -> Hand | None:
    """The hand in a region; None if there is none.

    Its third output is the probability of a right hand in a picture that is not mirrored. MediaPipe calls
    that left (handedness.txt), because its pictures are mirrored, as those of people filming themselves.
    """
    picture = cut(frame_u8, region, network.size_px, "rim")
    if picture is None:
        return None
    landmarks, flag, right, _ = network(to_01(picture))
    if flag[0] < PRESENT:
        return None
    points = region.to_frame(landmarks.reshape(HAND, 3)[:, :2] / network.size_px)
    return Hand(points, float(flag[0]), float(right[0]))


def peaks_near(points_01: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Points [K, 2] moved to the centre of mass of their heat maps [h, w, K] (logits) in the cells around
    them, where the highest is at least one half (MediaPipe's `RefineLandmarksFromHeatmapCalculator`)."""
    height, width, count = heat.shape
    moved = points_01.copy()
    for k in range(count):
        column, row = int(points_01[k, 0] * width), int(points_01[k, 1] * height)
        if not (0 <= column < width and 0 <= row < height):
            continue
        rows = slice(max(0, row - _PEAK_CELLS), min(height, row + _PEAK_CELLS + 1))
        columns = slice(max(0, column - _PEAK_CELLS), min(width, column + _PEAK_CELLS + 1))
        weights = _sigmoid(heat[rows, columns, k].astype(np.float64))
        if weights.max() < PRESENT:
            continue
        across, down = np.arange(columns.start, columns.stop), np.arange(rows.start, rows.stop)
        moved[k] = (
            (weights.sum(axis=0) @ across) / width / weights.sum(),
            (weights.sum(axis=1) @ down) / height / weights.sum(),
        )
    return moved


def _sigmoid(logits: np.ndarray | float) -> np.ndarray | float:
    return 1 / (1 + np.exp(-np.clip(logits, -60, 60)))


def _angle(start: np.ndarray, end: np.ndarray) -> float:
    """The direction from start to end, clockwise from the frame's right, in radians."""
    return math.atan2(end[1] - start[1], end[0] - start[0])
