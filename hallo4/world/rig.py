"""The geometry of a person: where every feature is in the picture, for drawing and for the true keypoints
alike.

Face coordinates: x right, y down, z towards the viewer, in half face widths; eyes at y = 0, chin at about
y = 1.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hallo4.world.framing import HEAD_CENTER
from hallo4.world.hand_joints import Hand, jointed_hand
from hallo4.world.identity import Identity
from hallo4.world.performance import Performance

FACE_RADIUS = 0.222
SHOULDER_Y = 0.845
UPPER_ARM, FOREARM = 0.235, 0.215


@dataclass(frozen=True)
class HeadFrame:
    """Maps face coordinates to the picture: rotation by yaw, pitch and roll, then scale and shift."""

    center: np.ndarray
    radius: float
    rotation: np.ndarray  # [2, 3], rows are picture x and y

    def __call__(
        self, x: np.ndarray | float, y: np.ndarray | float, z: np.ndarray | float | None = None
    ) -> np.ndarray:
        """[n, 2] picture points; without `z` the points lie on the face's surface."""
        x, y = np.atleast_1d(np.asarray(x, float)), np.atleast_1d(np.asarray(y, float))
        x, y = np.broadcast_arrays(x, y)
        if z is None:
            z = 0.95 * np.sqrt(np.maximum(0.0, 1 - (x / 1.12) ** 2 - (y / 1.45) ** 2))
        z = np.broadcast_to(np.asarray(z, float), x.shape)
        return self.center + self.radius * (np.stack([x, y, z], -1) @ self.rotation.T)


@dataclass(frozen=True)
class Body:
    """Joints of one frame in picture coordinates. `right` is the person's right, left in the picture."""

    neck: np.ndarray
    right_shoulder: np.ndarray
    left_shoulder: np.ndarray
    right_elbow: np.ndarray
    left_elbow: np.ndarray
    right_hand: Hand
    left_hand: Hand
    right_hip: np.ndarray
    left_hip: np.ndarray


def head_frame(identity: Identity, performance: Performance, t: int) -> HeadFrame:
    """The head's place and turn in frame `t`."""
    yaw, pitch, roll = (float(c[t]) for c in (performance.yaw, performance.pitch, performance.roll))
    cy, sy, cp, sp, cr, sr = (
        np.cos(yaw),
        np.sin(yaw),
        np.cos(pitch),
        np.sin(pitch),
        np.cos(roll),
        np.sin(roll),
    )
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    center = np.array(HEAD_CENTER) + performance.head[t]
    # The head tilts about the neck, not about the nose.
    center = center + np.array([np.sin(roll), 1 - np.cos(roll)]) * 0.22 + np.array([0.03 * yaw, 0.05 * pitch])
    return HeadFrame(center, FACE_RADIUS, (tilt @ nod @ turn)[:2])


def body(identity: Identity, performance: Performance, t: int) -> Body:
    """Shoulders, arms (elbows by two-bone inverse kinematics) and hands in frame `t`."""
    sway = performance.torso[t]
    half = 0.272 * identity.shoulder_width
    neck = np.array([0.5, SHOULDER_Y - 0.045]) + sway
    right_shoulder = np.array([0.5 - half, SHOULDER_Y]) + sway * np.array([1.0, 1.3])
    left_shoulder = np.array([0.5 + half, SHOULDER_Y]) + sway * np.array([1.0, 0.7])
    right_wrist, left_wrist = performance.right_wrist[t] + sway, performance.left_wrist[t] + sway
    right_elbow = _elbow(right_shoulder, right_wrist, outward=-1.0)
    left_elbow = _elbow(left_shoulder, left_wrist, outward=1.0)
    p = performance
    if identity.look is None:
        right_hand = _fan(right_wrist, p.right_turn[t], p.right_spread[t], side=-1.0)
        left_hand = _fan(left_wrist, p.left_turn[t], p.left_spread[t], side=1.0)
    else:
        right_hand = jointed_hand(right_wrist, p.right_turn[t], p.right_spread[t], p.right_curl[t], side=-1.0)
        left_hand = jointed_hand(left_wrist, p.left_turn[t], p.left_spread[t], p.left_curl[t], side=1.0)
    return Body(
        neck,
        right_shoulder,
        left_shoulder,
        right_elbow,
        left_elbow,
        right_hand,
        left_hand,
        np.array([0.5 - 0.16, 1.22]) + sway * 0.3,
        np.array([0.5 + 0.16, 1.22]) + sway * 0.3,
    )


def _elbow(shoulder: np.ndarray, wrist: np.ndarray, outward: float) -> np.ndarray:
    reach = wrist - shoulder
    length = np.clip(np.linalg.norm(reach), 0.06, UPPER_ARM + FOREARM - 0.004)
    along = reach / max(np.linalg.norm(reach), 1e-6)
    a = (UPPER_ARM**2 - FOREARM**2 + length**2) / (2 * length)
    height = np.sqrt(max(UPPER_ARM**2 - a**2, 0.0))
    normal = np.array([along[1], -along[0]])
    # The elbow hangs down, and a little outwards.
    if normal @ np.array([0.35 * outward, 1.0]) < 0:
        normal = -normal
    return shoulder + along * a + normal * height


_FINGER_ANGLES = np.array([-0.95, -0.36, -0.10, 0.15, 0.42])  # thumb to little finger, about the hand's axis
_FINGER_ROOTS = np.array([0.024, 0.050, 0.052, 0.049, 0.044])
_FINGER_LENGTHS = np.array([0.050, 0.056, 0.062, 0.056, 0.044])


def _fan(wrist: np.ndarray, turn: float, spread: float, side: float) -> Hand:
    """Fingers fan out from the wrist; `turn` 0 hangs down, 1 points up; the thumb is on the inner side."""
    axis = np.pi / 2 - np.pi * turn  # angle from the horizontal, pi/2 down
    direction = np.array([0.32 * -side * np.cos(axis), np.sin(axis)])
    base = np.arctan2(direction[1], direction[0])
    joints = [np.asarray(wrist, float)]
    for root, length, angle in zip(_FINGER_ROOTS, _FINGER_LENGTHS, _FINGER_ANGLES):
        # `sign` keeps the thumb towards the middle of the body whichever way the hand points.
        sign = -side if direction[1] < 0 else side
        theta = base - sign * angle * (0.55 + 0.65 * spread)
        ray = np.array([np.cos(theta), np.sin(theta)])
        curl = 0.72 + 0.28 * spread
        knuckle = wrist + root * ray
        joints += [knuckle + length * curl * s * ray for s in (0.0, 0.42, 0.75, 1.0)]
    return Hand(np.array(joints))
