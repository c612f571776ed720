"""The 133 points of DWPose / COCO-WholeBody: their names, groups, limbs and colours.

The single source for drawing, the portrait world and evaluation.

"left" and "right" are the person's own, so the right eye is at the left of the picture. Numbers inside the
face follow the common 68-point scheme (0-16 jaw, 17-26 brows, 27-35 nose, 36-47 eyes, 48-67 mouth).
"""

from __future__ import annotations

import colorsys

import numpy as np

SEEN = 0.3
"""A point counts as seen when its confidence is at least this; others are never drawn."""

# Groups, as slices of the 133 points.
BODY = slice(0, 17)
FEET = slice(17, 23)
FACE = slice(23, 91)
LEFT_HAND = slice(91, 112)
RIGHT_HAND = slice(112, 133)

# Parts of the face, also as slices of the 133 points.
JAW = slice(23, 40)
RIGHT_BROW = slice(40, 45)
LEFT_BROW = slice(45, 50)
NOSE_BRIDGE = slice(50, 54)
NOSE_BASE = slice(54, 59)
RIGHT_EYE_LIDS = slice(59, 65)
LEFT_EYE_LIDS = slice(65, 71)
MOUTH = slice(71, 91)

NOSE = 0
LEFT_EYE, RIGHT_EYE = 1, 2
LEFT_EAR, RIGHT_EAR = 3, 4
LEFT_SHOULDER, RIGHT_SHOULDER = 5, 6
LEFT_ELBOW, RIGHT_ELBOW = 7, 8
LEFT_WRIST, RIGHT_WRIST = 9, 10
LEFT_HIP, RIGHT_HIP = 11, 12
LEFT_KNEE, RIGHT_KNEE = 13, 14
LEFT_ANKLE, RIGHT_ANKLE = 15, 16

_SIDED = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_BODY_NAMES = ["nose"] + [f"{side}_{part}" for part in _SIDED for side in ("left", "right")]
_FEET_NAMES = [f"{side}_{part}" for side in ("left", "right") for part in ("big_toe", "small_toe", "heel")]
_FINGERS = ("thumb", "index", "middle", "ring", "little")
_HAND_NAMES = ["root"] + [f"{finger}_{joint}" for finger in _FINGERS for joint in range(1, 5)]

NAMES: tuple[str, ...] = (
    *_BODY_NAMES,
    *_FEET_NAMES,
    *(f"face_{i}" for i in range(68)),
    *(f"left_hand_{name}" for name in _HAND_NAMES),
    *(f"right_hand_{name}" for name in _HAND_NAMES),
)
"""Name of each of the 133 points."""

# OpenPose's 18 body joints from COCO's 17; its neck (1) is not COCO's: `openpose_body` makes it.
_OPENPOSE_FROM_COCO = np.array([0, 0, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3])
OPENPOSE_NECK = 1
OPENPOSE_NAMES: tuple[str, ...] = tuple(
    "neck" if joint == OPENPOSE_NECK else NAMES[coco] for joint, coco in enumerate(_OPENPOSE_FROM_COCO)
)

JOINT_COLOURS: tuple[tuple[int, int, int], ...] = (
    (255, 0, 0),
    (255, 85, 0),
    (255, 170, 0),
    (255, 255, 0),
    (170, 255, 0),
    (85, 255, 0),
    (0, 255, 0),
    (0, 255, 85),
    (0, 255, 170),
    (0, 255, 255),
    (0, 170, 255),
    (0, 85, 255),
    (0, 0, 255),
    (85, 0, 255),
    (170, 0, 255),
    (255, 0, 255),
    (255, 0, 170),
    (255, 0, 85),
)
"""RGB of the 18 OpenPose joints: eighteen even steps around the colour circle."""

LIMBS: tuple[tuple[int, int], ...] = (
    (1, 2),
    (1, 5),
    (2, 3),
    (3, 4),
    (5, 6),
    (6, 7),
    (1, 8),
    (8, 9),
    (9, 10),
    (1, 11),
    (11, 12),
    (12, 13),
    (1, 0),
    (0, 14),
    (14, 16),
    (0, 15),
    (15, 17),
)
"""Pairs of OpenPose joints, in drawing order: arms, legs, neck to nose, nose to eyes to ears."""

LIMB_COLOURS: tuple[tuple[int, int, int], ...] = tuple(
    tuple(round(0.6 * channel) for channel in colour) for colour in JOINT_COLOURS[: len(LIMBS)]
)
"""RGB of the 17 limbs: the joint colours in order, at 0.6 of their brightness."""

HAND_EDGES: tuple[tuple[int, int], ...] = tuple(
    (0 if step == 0 else 4 * finger + step, 4 * finger + step + 1) for finger in range(5) for step in range(4)
)
"""Pairs of the 21 hand points: five fingers of four edges, thumb first, each starting at the root."""

HAND_EDGE_COLOURS: tuple[tuple[int, int, int], ...] = tuple(
    tuple(round(255 * channel) for channel in colorsys.hsv_to_rgb(edge / len(HAND_EDGES), 1.0, 1.0))
    for edge in range(len(HAND_EDGES))
)
HAND_JOINT_COLOUR = (0, 0, 255)
FACE_COLOUR = (255, 255, 255)

DRAWN_FACE = slice(FACE.start, MOUTH.start)
"""The face points that are drawn: all but the mouth, whose shape the speech decides."""


def openpose_body(points_px: np.ndarray, confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points [..., 133, 2] and confidence [..., 133] -> OpenPose's 18 joints [..., 18, 2] and [..., 18].

    The neck is the mean of the shoulders, with the smaller of their confidences.
    """
    joints_px = points_px[..., _OPENPOSE_FROM_COCO, :]
    joint_confidence = confidence[..., _OPENPOSE_FROM_COCO]
    shoulders = [LEFT_SHOULDER, RIGHT_SHOULDER]
    joints_px[..., OPENPOSE_NECK, :] = points_px[..., shoulders, :].mean(axis=-2)
    joint_confidence[..., OPENPOSE_NECK] = confidence[..., shoulders].min(axis=-1)
    return joints_px, joint_confidence
