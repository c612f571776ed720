"""What is true of an episode, frame by frame: the 133 keypoints and the face's parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hallo4.motion import layout
from hallo4.types import FPS, KEYPOINTS, Skeleton
from hallo4.world.framing import View
from hallo4.world.identity import Identity
from hallo4.world.performance import Performance
from hallo4.world.portrait import brow_curve, eye_curves, face_outline, mouth_curves
from hallo4.world.rig import Body, HeadFrame, body, head_frame
from hallo4.world.scene import face_state


@dataclass(frozen=True)
class Truth:
    """Per frame, each [T] float32: `mouth_open`, `mouth_wide`, `blink`, `speaking` in [0, 1]; `brow`,
    `smile` in [-1, 1]."""

    mouth_open: np.ndarray
    mouth_wide: np.ndarray
    blink: np.ndarray
    brow: np.ndarray
    smile: np.ndarray
    speaking: np.ndarray


def skeleton_of(identity: Identity, performance: Performance, view: View, fps: float = FPS) -> Skeleton:
    """True keypoints in pixels of a performance that is seen `fps` times a second."""
    points = np.stack([keypoints(identity, performance, t) for t in range(len(performance))])
    placed = view.place(points).astype(np.float32)
    return Skeleton(placed, confidence_of(len(points)), fps, view.width_px, view.height_px)


def confidence_of(frames: int) -> np.ndarray:
    """[T, 133] float32: one, but zero for feet, knees and ankles, which no frame of the world shows."""
    confidence = np.ones((frames, KEYPOINTS), np.float32)
    confidence[:, layout.FEET] = 0.0
    confidence[:, layout.LEFT_KNEE : layout.RIGHT_ANKLE + 1] = 0.0
    return confidence


def keypoints(identity: Identity, performance: Performance, t: int) -> np.ndarray:
    """[133, 2] in parts of the person's square."""
    head, limbs = head_frame(identity, performance, t), body(identity, performance, t)
    points = np.zeros((KEYPOINTS, 2))
    face = _face_points(head, identity, performance, t)
    points[layout.FACE] = face
    points[layout.NOSE] = head(0.0, 0.38, 1.1)[0]
    for index, side in ((layout.LEFT_EYE, 1.0), (layout.RIGHT_EYE, -1.0)):
        points[index] = head(side * 0.435 * identity.eye_gap, 0.02)[0]
    for index, side in ((layout.LEFT_EAR, 1.0), (layout.RIGHT_EAR, -1.0)):
        points[index] = head(side * 1.02 * identity.face_width, 0.12, -0.1)[0]
    _place_body(points, limbs)
    return points


def _place_body(points: np.ndarray, limbs: Body) -> None:
    points[layout.LEFT_SHOULDER], points[layout.RIGHT_SHOULDER] = limbs.left_shoulder, limbs.right_shoulder
    points[layout.LEFT_ELBOW], points[layout.RIGHT_ELBOW] = limbs.left_elbow, limbs.right_elbow
    points[layout.LEFT_HIP], points[layout.RIGHT_HIP] = limbs.left_hip, limbs.right_hip
    points[layout.LEFT_HAND], points[layout.RIGHT_HAND] = limbs.left_hand.joints, limbs.right_hand.joints
    points[layout.LEFT_WRIST], points[layout.RIGHT_WRIST] = (
        limbs.left_hand.joints[0],
        limbs.right_hand.joints[0],
    )


def _face_points(head: HeadFrame, identity: Identity, performance: Performance, t: int) -> np.ndarray:
    """The 68 points [68, 2], from the picture's left to its right."""
    state = face_state(performance, t)
    # The contour keeps its shape while the mouth opens: lips are left to the audio.
    jaw = head(*face_outline(identity, 0.0, n=17), 0.0)
    brows = [head(*brow_curve(identity, state, side, n=5)) for side in (-1.0, 1.0)]
    bridge = head(np.zeros(4), np.linspace(-0.02, 0.32, 4), np.linspace(0.98, 1.1, 4))
    base = head(
        np.linspace(-0.16, 0.16, 5) * identity.nose_size, np.array([0.44, 0.46, 0.47, 0.46, 0.44]), 1.0
    )
    eyes = []
    for side in (-1.0, 1.0):
        x, upper, lower = eye_curves(identity, state, side, n=13)
        order = [(0, upper), (4, upper), (8, upper), (12, upper), (8, lower), (4, lower)]
        eyes.append(head(np.array([x[i] for i, _ in order]), np.array([curve[i] for i, curve in order])))
    m = mouth_curves(identity, state, n=13)
    outer = [(i, m.outer_top) for i in (0, 2, 4, 6, 8, 10, 12)] + [
        (i, m.outer_bottom) for i in (10, 8, 6, 4, 2)
    ]
    inner = [(1, m.inner_top), (4, m.inner_top), (6, m.inner_top), (8, m.inner_top), (11, m.inner_top)]
    inner += [(i, m.inner_bottom) for i in (8, 6, 4)]
    mouth = head(
        np.array([m.x[i] for i, _ in outer + inner]), np.array([curve[i] for i, curve in outer + inner])
    )
    return np.concatenate([jaw, *brows, bridge, base, *eyes, mouth])
