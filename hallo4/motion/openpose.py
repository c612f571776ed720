"""OpenPose's JSON, also as ComfyUI writes it: people with flat lists of x, y, confidence -> the 133 points.

Fields of a person: `pose_keypoints_2d` (18 COCO or 25 BODY_25 joints), `face_keypoints_2d` (68, or 70 with
two pupils, which are dropped), `hand_left_keypoints_2d` and `hand_right_keypoints_2d` (21 each),
`foot_keypoints_2d` (6, ComfyUI); in OpenPose 1.0 without `_2d`. A field that is missing, null or empty was
not seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hallo4.errors import InputError
from hallo4.motion import layout
from hallo4.motion.checks import Context, People, numbers
from hallo4.types import KEYPOINTS

# For each of COCO's 17 joints (and, in BODY_25, the six points of the feet), the joint's number in OpenPose.
COCO_FROM_18 = (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10)
_COCO_FROM_25 = (0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11, 19, 20, 21, 22, 23, 24)
_POSE_ORDERS = {18: COCO_FROM_18, 25: _COCO_FROM_25}

_POSE = "pose_keypoints"
_PARTS = {
    "foot_keypoints": (layout.FEET, (6,)),
    "face_keypoints": (layout.FACE, (70, 68)),
    "hand_left_keypoints": (layout.LEFT_HAND, (21,)),
    "hand_right_keypoints": (layout.RIGHT_HAND, (21,)),
}


def openpose_people(frames: list[Any], context: Context) -> People:
    """Frames, each an object with `people`, -> everybody in them. InputError names frame and field."""
    found = [_people(frame, number, context) for number, frame in enumerate(frames)]
    first = frames[0]
    size = (first.get("canvas_width"), first.get("canvas_height"))
    return People.of_frames(found, first.get("fps"), size)


def _people(frame: Any, number: int, context: Context) -> list[np.ndarray]:
    """All people of a frame, each [133, 3] (x, y, confidence)."""
    people = frame.get("people") if isinstance(frame, dict) else None
    if not isinstance(people, list) or not all(isinstance(person, dict) for person in people):
        raise InputError(
            f'{context.name}: "people" of frame {number} is no list of objects, as OpenPose writes it.'
        )
    return [_person(person, number, context) for person in people]


def _person(person: dict[str, Any], number: int, context: Context) -> np.ndarray:
    points = np.zeros((KEYPOINTS, 3))
    fields = [field for field in (_POSE, *_PARTS) if field in person or f"{field}_2d" in person]
    if not fields:
        raise InputError(
            f'{context.name}: a person of frame {number} has none of "{_POSE}_2d", '
            + ", ".join(f'"{field}_2d"' for field in _PARTS)
            + f" (also without _2d); found {', '.join(sorted(map(ascii, person))[:6])[:80] or 'nothing'}."
        )
    pose = _triples(person, _POSE, tuple(_POSE_ORDERS), number, context)
    if pose is not None:
        order = _POSE_ORDERS[len(pose)]
        points[: len(order)] = pose[list(order)]
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
    field = f"{field}_2d" if f"{field}_2d" in person else field
    values = person.get(field)
    if values is None or values == []:
        return None
    return flat_triples(values, counts, f'{context.name}: "{field}" of frame {number}')


def flat_triples(values: Any, counts: tuple[int, ...], what: str) -> np.ndarray:
    """A flat list of 3n finite numbers as [n, 3], n one of `counts`; InputError begins with `what`."""
    array = numbers(values)
    if array is None or array.shape not in [(3 * count,) for count in counts]:
        found = f"{len(values)} values" if isinstance(values, list) else type(values).__name__
        allowed = " or ".join(str(3 * count) for count in counts)
        raise InputError(f"{what} has {found}; must be {allowed} numbers.")
    if not np.isfinite(array).all():
        raise InputError(f"{what} holds NaN or infinity; write 0, 0, 0.")
    return array.astype(np.float64).reshape(-1, 3)
