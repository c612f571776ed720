"""Whole-body keypoints as MMPose, DWPose and COCO-WholeBody's evaluation write them -> the 133 points.

* predictions of MMPose: frames of `instances`, each with `keypoints` [133][2] and `keypoint_scores` [133];
* results (or annotations) of COCO-WholeBody: one object a person, with `image_id` and `keypoints` of 133 flat
  triples, or of 17 with `foot_kpts`, `face_kpts`, `lefthand_kpts` and `righthand_kpts` beside them;
* arrays of DWPose: `keypoints` and `scores` of every frame, of 133 points, or of its own 134, in OpenPose's
  order with a neck; of one person or several.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from hallo4.errors import InputError
from hallo4.motion import layout
from hallo4.motion.checks import MAX_FRAMES, Context, People, numbers
from hallo4.motion.openpose import COCO_FROM_18, flat_triples
from hallo4.types import KEYPOINTS

DWPOSE_KEYPOINTS = 134
_FROM_134 = [*COCO_FROM_18, *range(18, DWPOSE_KEYPOINTS)]

_COCO_PARTS = {
    "foot_kpts": (layout.FEET, 6),
    "face_kpts": (layout.FACE, 68),
    "lefthand_kpts": (layout.LEFT_HAND, 21),
    "righthand_kpts": (layout.RIGHT_HAND, 21),
}


def mmpose_people(frames: list[Any], context: Context) -> People:
    """Frames of MMPose's predictions, each a list of instances or an object that holds it as `instances`."""
    found = []
    for number, frame in enumerate(frames):
        instances = frame.get("instances") if isinstance(frame, dict) else frame
        if not isinstance(instances, list) or not all(isinstance(one, dict) for one in instances):
            raise InputError(
                f'{context.name}: "instances" of frame {number} is no list of objects, as MMPose writes it.'
            )
        people = []
        for one in instances:
            scores = one.get("keypoint_scores", one.get("scores"))
            people += _people(one.get("keypoints"), scores, number, context)
        found.append(people)
    return People.of_frames(found, None, (None, None))


def coco_people(results: list[Any], images: Any, context: Context) -> People:
    """Results of COCO-WholeBody, people in any order; `images`: those of an annotation file, for the size.

    Frames are counted by `image_id`: from the smallest to the largest, in the steps that they have in common.
    """
    by_image: dict[int | str, list[np.ndarray]] = {}
    for number, result in enumerate(results):
        image = result.get("image_id") if isinstance(result, dict) else None
        if not isinstance(image, int | str) or isinstance(image, bool):
            raise InputError(f'{context.name}: entry {number} has no "image_id", a number or a name.')
        by_image.setdefault(image, []).append(_coco_person(result, number, context))
    if len({type(image) for image in by_image}) > 1:
        raise InputError(f'{context.name}: "image_id" is a number in some entries and a text in others.')
    names = sorted(by_image, key=lambda image: (len(image), image) if isinstance(image, str) else image)
    if isinstance(names[0], int) and len(names) > 1:
        step = math.gcd(*(after - before for before, after in pairwise(names)))
        count = (names[-1] - names[0]) // step + 1
        if count > min(MAX_FRAMES, 4 * len(names) + 100):
            raise InputError(
                f'{context.name}: {len(names)} values of "image_id" lie between {names[0]} and {names[-1]}, '
                "so they do not number the frames of one video; give them in the order of the frames."
            )
        names = list(range(names[0], names[-1] + 1, step))
    first = images[0] if isinstance(images, list) and images and isinstance(images[0], dict) else {}
    found = [by_image.get(name, []) for name in names]
    return People.of_frames(found, None, (first.get("width"), first.get("height")))


def dwpose_people(value: Mapping[str, Any], context: Context) -> People:
    """Arrays `keypoints` [T][133 or 134][2] with `scores` [T][133 or 134], or [T][133 or 134][3]; also with
    an axis of people behind T."""
    keypoints, scores = value["keypoints"], value.get("scores", value.get("keypoint_scores"))
    if not isinstance(keypoints, list) and not (isinstance(keypoints, np.ndarray) and keypoints.ndim):
        raise InputError(f'{context.name}: "keypoints" is not frames; write [T][{KEYPOINTS}][2] numbers.')
    if not 0 < len(keypoints) <= MAX_FRAMES:
        raise InputError(
            f'{context.name}: {len(keypoints)} frames of "keypoints"; allowed are 1 to {MAX_FRAMES}.'
        )
    if scores is not None and (not isinstance(scores, list | np.ndarray) or len(scores) != len(keypoints)):
        raise InputError(
            f'{context.name}: {len(keypoints)} frames of "keypoints" but other "scores"; both must have the '
            "same length."
        )
    found = [
        _people(frame, None if scores is None else scores[number], number, context)
        for number, frame in enumerate(keypoints)
    ]
    return People.of_frames(found, value.get("fps"), (value.get("width_px"), value.get("height_px")))


def _people(keypoints: Any, scores: Any, number: int, context: Context) -> list[np.ndarray]:
    """The people of one frame, each [133, 3], from points [(N,) 133 or 134, 2 or 3] and scores [(N,) ...]."""
    array = numbers(keypoints)
    if array is not None and not array.size:
        return []
    if array is None or array.ndim not in (2, 3) or array.shape[-2:] not in _SHAPES:
        found = "something else" if array is None else "".join(f"[{size}]" for size in array.shape)
        raise InputError(
            f'{context.name}: "keypoints" of frame {number} is {found}; allowed are whole-body points '
            f"[{KEYPOINTS}][2] with scores, or [{KEYPOINTS}][3], or as many of several people."
        )
    points = array.reshape(-1, *array.shape[-2:]).astype(np.float64)
    if points.shape[-1] == 2:
        confidence = numbers(scores)
        if confidence is None or confidence.size != points.shape[0] * points.shape[1]:
            found = "missing" if scores is None else "something else"
            raise InputError(
                f'{context.name}: "scores" of frame {number} is {found}; add one number for each point.'
            )
        confidence = confidence.reshape(*points.shape[:2], 1)
        points = np.concatenate([points, confidence.astype(np.float64)], axis=-1)
    if not np.isfinite(points).all():
        raise InputError(
            f'{context.name}: "keypoints" of frame {number} holds NaN or infinity; '
            "give an unseen point as 0, 0 with confidence 0."
        )
    if points.shape[1] == DWPOSE_KEYPOINTS:
        points = points[:, _FROM_134]
    # Scores are heights of a peak and may pass 1.
    points[..., 2] = np.clip(points[..., 2], 0.0, 1.0)
    return list(points)


_SHAPES = [(count, columns) for count in (KEYPOINTS, DWPOSE_KEYPOINTS) for columns in (2, 3)]


def _coco_person(result: dict[str, Any], number: int, context: Context) -> np.ndarray:
    what = f'{context.name}: "keypoints" of entry {number}'
    found = flat_triples(result.get("keypoints"), (KEYPOINTS, layout.BODY.stop), what)
    points = np.zeros((KEYPOINTS, 3))
    points[: len(found)] = found
    for field, (part, count) in _COCO_PARTS.items():
        if result.get(field):
            points[part] = flat_triples(
                result[field], (count,), f'{context.name}: "{field}" of entry {number}'
            )
    # Flags of annotations (1: hidden, 2: visible) count as seen.
    points[:, 2] = np.clip(points[:, 2], 0.0, 1.0)
    return points
