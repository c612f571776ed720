"""MediaPipe's points -> the 133 of DWPose (`motion.layout`): which vertex or landmark stands for which."""

from __future__ import annotations

import numpy as np

from hallo4.motion import layout
from hallo4.types import KEYPOINTS

MESH, BODY, HAND = 468, 33, 21
"""How many points the face mesh, the pose and the hand network give."""

MESH_NOSE = 4
MESH_EYES = ([362, 263, 386, 374], [33, 133, 159, 145])
"""Corners and lids, left and right eye: their mean is the eye."""
MESH_EARS = (454, 234)
_OVAL_RIGHT = [127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152]
_OVAL_LEFT = [152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 356]
"""Each half of the face's oval from temple to chin and back; its vertices lie unevenly."""
_BROWS = [70, 63, 105, 66, 107, 336, 296, 334, 293, 300]
_NOSE = [168, 197, 5, 4, 75, 97, 2, 326, 305]
_LIDS = [33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380]
_LIPS = [61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87]

POSE_NOSE = 0
POSE_SHOULDERS, POSE_WRISTS = (11, 12), (15, 16)
_LIMBS = slice(layout.LEFT_SHOULDER, layout.RIGHT_ANKLE + 1)
_LIMB_SOURCES = [11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]
_FEET = [layout.FEET.start + place for place in (0, 2, 3, 5)]
_FEET_SOURCES = [31, 29, 32, 30]
"""Big toes and heels; the pose network has no small toes."""

HANDS = (layout.LEFT_HAND, layout.RIGHT_HAND)


class Points:
    """The 133 points of one person, put together part by part; what is not put in is not seen."""

    def __init__(self) -> None:
        self.px = np.zeros((KEYPOINTS, 2))
        self.confidence = np.zeros(KEYPOINTS)

    def put_face(self, mesh_px: np.ndarray, flag: float) -> None:
        """Head and face from the mesh [468, 2]; the pose network's own points of the head sit off and
        jitter."""
        eyes = [mesh_px[eye].mean(axis=0) for eye in MESH_EYES]
        self.px[: layout.LEFT_SHOULDER] = [mesh_px[MESH_NOSE], *eyes, *mesh_px[list(MESH_EARS)]]
        self.px[layout.FACE] = np.concatenate([jaw(mesh_px), mesh_px[_BROWS + _NOSE + _LIDS + _LIPS]])
        self.confidence[: layout.LEFT_SHOULDER] = self.confidence[layout.FACE] = flag

    def put_body(self, body_px: np.ndarray, confidence: np.ndarray) -> None:
        """Arms, legs and feet from the pose landmarks [33, 2], [33]."""
        self.px[_LIMBS], self.confidence[_LIMBS] = body_px[_LIMB_SOURCES], confidence[_LIMB_SOURCES]
        self.px[_FEET], self.confidence[_FEET] = body_px[_FEET_SOURCES], confidence[_FEET_SOURCES]

    def put_hand(self, side: int, hand_px: np.ndarray, flag: float) -> None:
        """A hand [21, 2], left (0) or right (1). Where the arm's own wrist is not seen, the hand's root is
        it."""
        self.px[HANDS[side]], self.confidence[HANDS[side]] = hand_px, flag
        wrist = (layout.LEFT_WRIST, layout.RIGHT_WRIST)[side]
        if self.confidence[wrist] < layout.SEEN:
            self.px[wrist], self.confidence[wrist] = hand_px[0], flag

    def inside(self, width_px: int, height_px: int) -> tuple[np.ndarray, np.ndarray]:
        """Points [133, 2] and confidence [133] float32; what lies outside the frame was not seen."""
        within = ((self.px >= 0) & (self.px <= (width_px, height_px))).all(axis=1)
        confidence = np.where(within, np.clip(self.confidence, 0, 1), 0)
        return np.where(confidence[:, None] > 0, self.px, 0).astype(np.float32), confidence.astype(np.float32)


def jaw(mesh_px: np.ndarray) -> np.ndarray:
    """17 points [17, 2] along the oval of the face, evenly from each temple to the chin (point 8)."""
    right, left = _evenly(mesh_px[_OVAL_RIGHT], 9), _evenly(mesh_px[_OVAL_LEFT], 9)
    return np.concatenate([right, left[1:]])


def _evenly(line: np.ndarray, count: int) -> np.ndarray:
    """`count` points at equal distances along a line through points [n, 2]."""
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
    length = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = np.linspace(0, length[-1], count)
    return np.stack([np.interp(wanted, length, line[:, axis]) for axis in range(2)], axis=-1)
