"""What finds a person in a picture, whatever networks are behind it: the Protocol and its records.

Boxes are (left, top, right, bottom) in pixels of the frame; coordinates are continuous, as in `motion`: pixel
i covers [i, i + 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True)
class Candidate:
    """A person who was found in a frame and can be looked at.

    `box_px` [4]: where; of the head or of the whole person, for all candidates of an estimator the same.
    `trace`: where the estimator has to look, for itself.
    """

    box_px: np.ndarray
    trace: Any = None


@dataclass(frozen=True)
class PersonPose:
    """One person in one frame: `points_px` [133, 2] float32 and `confidence` [133] float32 in [0, 1] (0: not
    seen).

    `box_px` [4]: of the same kind as that of the estimator's candidates; `person_box_px` [4]: of all points
    that are seen; `face_box_px` [4]: of the face, None where it is not seen. `trace`: where to look in the
    next frame.
    """

    points_px: np.ndarray
    confidence: np.ndarray
    box_px: np.ndarray
    person_box_px: np.ndarray
    face_box_px: np.ndarray | None
    trace: Any = None


@runtime_checkable
class PoseEstimator(Protocol):
    """Frames [H, W, 3] uint8 RGB, one at a time and in any size, -> people. Keeps nothing between calls: what
    is known of the last frame is an argument."""

    name: str

    def find(self, frame_u8: np.ndarray) -> list[Candidate]:
        """All people in the frame, in no order; [] if no person is seen."""
        ...

    def look(self, frame_u8: np.ndarray, near: Candidate | PersonPose) -> PersonPose | None:
        """The person of whom `near` was found in this frame, or measured in the frame before; None if they
        are not there any more."""
        ...


def box_of(points_px: np.ndarray) -> np.ndarray:
    """The box [4] around points [n, 2], n >= 1."""
    return np.concatenate([points_px.min(axis=0), points_px.max(axis=0)])


def box_centre(box_px: np.ndarray) -> np.ndarray:
    """Its middle [2]."""
    return (box_px[:2] + box_px[2:]) / 2


def box_side(box_px: np.ndarray) -> float:
    """The square root of its area."""
    return float(np.sqrt(np.prod(np.maximum(box_px[2:] - box_px[:2], 0))))


def overlap(box_px: np.ndarray, others_px: np.ndarray) -> np.ndarray:
    """Intersection over union [n] of a box [4] with others [n, 4]."""
    corner, far = np.maximum(box_px[:2], others_px[:, :2]), np.minimum(box_px[2:], others_px[:, 2:])
    shared = np.prod(np.maximum(far - corner, 0), axis=1)
    areas = np.prod(others_px[:, 2:] - others_px[:, :2], axis=1)
    return shared / np.maximum(np.prod(box_px[2:] - box_px[:2]) + areas - shared, 1e-9)
