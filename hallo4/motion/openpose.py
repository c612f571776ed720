"""OpenPose's JSON: people with flat lists of x, y, confidence, turned into the 133 points.

Fields of a person: `pose_keypoints_2d` (18 COCO or 25 BODY_25 joints), `face_keypoints_2d` (68, or 70 with
two pupils, which are dropped), `hand_left_keypoints_2d` and `hand_right_keypoints_2d` (21 each). A field that
is missing, null or empty was not seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hallo4.errors import InputError
from hallo4.motion import layout
from hallo4.motion.checks import MAX_FRAMES, Context, checked_skeleton
from hallo4.types import KEYPOINTS, Skeleton

# For each of COCO's 17 joints (and, in BODY_25, the six points of the feet), the joint's number in OpenPose.
_COCO_FROM_18 = [0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10]
_COCO_FROM_25 = [0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11, 19, 20, 21, 22, 23, 24]
_POSE_ORDERS = {18: _COCO_FROM_18, 25: _COCO_FROM_25}

_PARTS = {
    "face_keypoints_2d": (layout.FACE, (70, 68)),
    "hand_left_keypoints_2d": (layout.LEFT_HAND, (21,)),
    "hand_right_keypoints_2d": (layout.RIGHT_HAND, (21,)),
}


def people_frames(frames: list[Any], context: Context) -> Skeleton:
    """Frames, each an object with `people`, -> one person's Skeleton.

    The most visible person of the first frame that has one is followed from then on by nearness; a frame
    without people is a frame where nothing was seen. InputError names frame and field.
    """
    if not 0 < len(frames) <= MAX_FRAMES:
        raise InputError(f"{context.name}: {len(frames)} frames; allowed are 1 to {MAX_FRAMES}.")
    people = np.zeros((len(frames), KEYPOINTS, 3))
    previous: np.ndarray | None = None
    for number, frame in enumerate(frames):
        found = _people(frame, number, context)
        if found:
            people[number] = previous = _follow(found, previous)
    if previous is None:
        raise InputError(f"{context.name}: no person with any visible point in {len(frames)} frames.")
    first = frames[0]
    size = (first.get("canvas_width"), first.get("canvas_height"))
    return checked_skeleton(people[..., :2], people[..., 2], first.get("fps"), size, context)


def _follow(people: list[np.ndarray], previous: np.ndarray | None) -> np.ndarray:
    """The person nearest to `previous` (mean distance of points seen in both), or else the most visible."""

    def strangeness(person: np.ndarray) -> tuple[float, float]:
        visible = person[:, 2] > 0
        shared = visible if previous is None else visible & (previous[:, 2] > 0)
        if previous is None or not shared.any():
            return np.inf, -float(person[:, 2].sum())
        distance = np.linalg.norm(person[shared, :2] - previous[shared, :2], axis=-1).mean()
        return float(distance), -float(person[:, 2].sum())

    return min(people, key=strangeness)


def _people(frame: Any, number: int, context: Context) -> list[np.ndarray]:
    """All people of a frame of whom something is seen, each [133, 3] (x, y, confidence)."""
    people = frame.get("people") if isinstance(frame, dict) else None
    if not isinstance(people, list) or not all(isinstance(person, dict) for person in people):
        raise InputError(
            f'{context.name}: frame {number} has no list "people" of objects; write [] if empty.'
        )
    points = [_person(person, number, context) for person in people]
    return [person for person in points if (person[:, 2] > 0).any()]


def _person(person: dict[str, Any], number: int, context: Context) -> np.ndarray:
    points = np.zeros((KEYPOINTS, 3))
    pose = _triples(person, "pose_keypoints_2d", tuple(_POSE_ORDERS), number, context)
    if pose is not None:
        order = _POSE_ORDERS[len(pose)]
        points[: len(order)] = pose[order]
    for field, (part, counts) in _PARTS.items():
        triples = _triples(person, field, counts, number, context)
        if triples is not None:
            points[part] = triples[: part.stop - part.start]
    points[:, 2] = np.clip(points[:, 2], 0.0, 1.0)
    return points


def _triples(
    person: dict[str, Any], field: str, counts: tuple[int, ...], number: int, context: Context
) -> np.ndarray | None:
    """A flat list of 3n numbers as [n, 3], n one of `counts`; None if not seen."""
    values = person.get(field)
    if values is None or values == []:
        return None
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError):
        array = np.empty(0, object)
    if array.dtype.kind not in "iuf" or array.shape not in [(3 * count,) for count in counts]:
        found = f"{len(values)} values" if isinstance(values, list) else type(values).__name__
        allowed = " or ".join(str(3 * count) for count in counts)
        raise InputError(
            f'{context.name}: "{field}" of frame {number} has {found}; must be {allowed} numbers.'
        )
    if not np.isfinite(array).all():
        raise InputError(f'{context.name}: "{field}" of frame {number} holds NaN or infinity; write 0, 0, 0.')
    return array.astype(np.float64).reshape(-1, 3)
