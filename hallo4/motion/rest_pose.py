"""A canonical half-body pose, facing the camera: what idle motion grows from when nobody was measured."""

from __future__ import annotations

import numpy as np

from hallo4.motion import layout
from hallo4.types import FPS, KEYPOINTS, Skeleton

# The face in units of its width, from the middle between the jaw ends (x right, y down); brow: the left one.
_JAW_DEGREES = np.linspace(180, 0, 17)
_JAW_DEPTH = 0.62
_BROW = [(0.09, -0.21), (0.17, -0.25), (0.25, -0.26), (0.33, -0.23), (0.39, -0.17)]
_BRIDGE_Y = [-0.10, -0.02, 0.06, 0.14]
_NOSE_BASE = [(-0.09, 0.18), (-0.045, 0.195), (0.0, 0.205), (0.045, 0.195), (0.09, 0.18)]
_EYE_MIDDLE, _EYE_HALF_WIDTH, _EYE_HALF_HEIGHT = (0.21, -0.09), 0.09, 0.035
_MOUTH_Y, _MOUTH_HALF_WIDTH, _LIP_HEIGHT = 0.35, 0.16, 0.045

# Parts of a 1 x 1 picture.
_HEAD_MIDDLE = (0.5, 0.42)
_FACE_WIDTH = 0.42
_BODY = {
    "shoulder": (0.36, 0.80),
    "elbow": (0.43, 0.97),
    "wrist": (0.20, 0.95),
    "hip": (0.20, 1.40),
    "knee": (0.20, 1.90),
    "ankle": (0.20, 2.40),
}
_HAND_LENGTH = 0.15


def default_rest_pose(width_px: int, height_px: int) -> Skeleton:
    """One frame of a calm half-body portrait, in a picture of `width_px` x `height_px`.

    In a square picture the face is 0.42 wide about x = 0.5, from brows at y = 0.31 to the chin at 0.68, the
    shoulders lie at y = 0.80, the hands at the lower edge; other pictures hold this square in their middle.
    Confidence is 1, but 0 for feet and for everything outside of the picture.
    """
    square = np.zeros((KEYPOINTS, 2))
    square[layout.FACE] = np.array(_HEAD_MIDDLE) + _FACE_WIDTH * _face()
    square[layout.NOSE] = square[layout.NOSE_BRIDGE.stop - 1]
    square[layout.RIGHT_EYE] = square[layout.RIGHT_EYE_LIDS].mean(axis=0)
    square[layout.LEFT_EYE] = square[layout.LEFT_EYE_LIDS].mean(axis=0)
    # The person's left is at the right of the picture.
    for side, sign, hand in (("left", 1, layout.LEFT_HAND), ("right", -1, layout.RIGHT_HAND)):
        square[layout.NAMES.index(f"{side}_ear")] = (0.5 + sign * 0.53 * _FACE_WIDTH, _HEAD_MIDDLE[1])
        for part, (x, y) in _BODY.items():
            square[layout.NAMES.index(f"{side}_{part}")] = (0.5 + sign * x, y)
        square[hand] = square[layout.NAMES.index(f"{side}_wrist")] + _HAND_LENGTH * _hand() * (-sign, 1)

    side_px = min(width_px, height_px)
    points = np.array([width_px, height_px]) / 2 + (square - 0.5) * side_px
    inside = ((points >= 0) & (points <= (width_px, height_px))).all(axis=1)
    inside[layout.FEET] = False
    return Skeleton(
        points[None].astype(np.float32), inside[None].astype(np.float32), FPS, int(width_px), int(height_px)
    )


def _face() -> np.ndarray:
    """The 68 points [68, 2], in face widths, the right half of the person first as the scheme wants."""
    angle = np.deg2rad(_JAW_DEGREES)
    jaw = np.stack([0.5 * np.cos(angle), _JAW_DEPTH * np.sin(angle)], axis=-1)
    left_brow = np.array(_BROW)
    right_brow = left_brow[::-1] * (-1, 1)
    bridge = np.stack([np.zeros(4), _BRIDGE_Y], axis=-1)
    right_eye = _ring(6, 180, _EYE_HALF_WIDTH, _EYE_HALF_HEIGHT) + np.array(_EYE_MIDDLE) * (-1, 1)
    left_eye = _ring(6, 180, _EYE_HALF_WIDTH, _EYE_HALF_HEIGHT) + np.array(_EYE_MIDDLE)
    middle = np.array([0.0, _MOUTH_Y])
    outer_lips = middle + _ring(12, 180, _MOUTH_HALF_WIDTH, _LIP_HEIGHT)
    inner_lips = middle + _ring(8, 180, 0.75 * _MOUTH_HALF_WIDTH, 0.2 * _LIP_HEIGHT)
    parts = [jaw, right_brow, left_brow, bridge, _NOSE_BASE, right_eye, left_eye, outer_lips, inner_lips]
    return np.concatenate(parts)


def _ring(points: int, start_degrees: float, half_width: float, half_height: float) -> np.ndarray:
    """Points around an ellipse, clockwise as seen, over the top from the picture's left: [points, 2]."""
    angle = np.deg2rad(start_degrees + np.arange(points) * 360 / points)
    return np.stack([half_width * np.cos(angle), half_height * np.sin(angle)], axis=-1)


def _hand() -> np.ndarray:
    """A relaxed hand [21, 2] of length 1, its root at 0, fingers to the right, the thumb up."""
    hand = np.zeros((21, 2))
    for finger, (degrees, reach) in enumerate(((-50, 0.7), (-14, 0.97), (-3, 1.0), (8, 0.95), (19, 0.8))):
        direction = np.array([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))])
        along = np.array([0.3, 0.55, 0.8, 1.0]) if finger == 0 else np.array([0.5, 0.7, 0.87, 1.0])
        hand[1 + 4 * finger : 5 + 4 * finger] = reach * along[:, None] * direction
    return hand
