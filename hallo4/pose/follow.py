"""Follow one person through frames: from where they were to where they are, over gaps, up to a cut.

What is kept is a row of points per frame and two thumbnails; the frames themselves stream by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from hallo4.motion import PersonChoice
from hallo4.pose.estimator import Candidate, PersonPose, PoseEstimator, box_centre, box_side
from hallo4.pose.person import chosen_one
from hallo4.pose.scene import alike, thumbnail
from hallo4.types import KEYPOINTS

LOST_S = 1.0
"""After this long out of sight, in seconds, the person is chosen again, with a note."""
_NEAR = 1.5
"""Between two frames a head moves less than this many of its sizes ..."""
_LARGER = 2.0
"""... and grows or shrinks by less than this factor."""


@dataclass
class Track:
    """What was seen of one person in T frames.

    points_px [T, 133, 2], confidence [T, 133]; `face_boxes_px`, `person_boxes_px` [T, 4], NaN where there is
    none; `shot` [T]: the number of the shot, which rises at every cut; `found` [T] bool. `chosen`: frames at
    which the person was chosen, with all who were seen there.
    """

    points_px: np.ndarray
    confidence: np.ndarray
    face_boxes_px: np.ndarray
    person_boxes_px: np.ndarray
    found: np.ndarray
    shot: np.ndarray
    cuts: list[int] = field(default_factory=list)
    chosen: list[tuple[int, list[Candidate]]] = field(default_factory=list)


def follow(
    frames_u8: Iterable[np.ndarray],
    estimator: PoseEstimator,
    choice: PersonChoice,
    fps: float,
    on_frame: Callable[[int], None] = lambda frame: None,
) -> Track:
    """Measure one person in frames [H, W, 3] uint8 that come at `fps`; `on_frame` is called with the number
    done.

    A frame without the person is a gap. Within `LOST_S` only a person near the last place is taken for them.
    After a longer absence and after a cut the person is chosen again. InputError of `choice`.
    """
    poses: list[PersonPose | None] = []
    shots: list[int] = []
    cuts: list[int] = []
    chosen: list[tuple[int, list[Candidate]]] = []
    last: PersonPose | None = None
    last_frame, last_scene = 0, None
    for number, frame_u8 in enumerate(frames_u8):
        scene = thumbnail(frame_u8)
        same_shot = last is None or alike(scene, last_scene)
        pose = None
        if last is not None and same_shot and number - last_frame <= LOST_S * fps:
            pose = _again(estimator, frame_u8, last, number - last_frame)
        else:
            people = estimator.find(frame_u8)
            if people:
                pose = estimator.look(frame_u8, chosen_one(choice, people))
            if pose is not None:
                chosen.append((number, people))
                if last is not None and not same_shot:
                    cuts.append(number)
        if pose is not None:
            last, last_frame, last_scene = pose, number, scene
        poses.append(None if pose is None else replace(pose, trace=None))
        shots.append(len(cuts))
        on_frame(number + 1)
    return _track(poses, shots, cuts, chosen)


def _again(estimator: PoseEstimator, frame_u8: np.ndarray, last: PersonPose, steps: int) -> PersonPose | None:
    """The person of `last`, `steps` frames later: where they were, else whoever is found near there."""
    pose = estimator.look(frame_u8, last)
    if pose is not None and _near(pose.box_px, last.box_px, steps):
        return pose
    near = [one for one in estimator.find(frame_u8) if _near(one.box_px, last.box_px, steps)]
    if not near:
        return None
    middle = box_centre(last.box_px)
    return estimator.look(
        frame_u8, min(near, key=lambda one: np.linalg.norm(box_centre(one.box_px) - middle))
    )


def _near(box_px: np.ndarray, last_px: np.ndarray, steps: int) -> bool:
    """Whether what was at `last_px` can be at `box_px`; after several frames further away."""
    size, before = box_side(box_px), box_side(last_px)
    if not before / _LARGER <= size <= before * _LARGER:
        return False
    moved = np.linalg.norm(box_centre(box_px) - box_centre(last_px))
    return bool(moved <= _NEAR * before * min(steps, 4) ** 0.5)


def _track(
    poses: list[PersonPose | None],
    shots: list[int],
    cuts: list[int],
    chosen: list[tuple[int, list[Candidate]]],
) -> Track:
    track = Track(
        np.zeros((len(poses), KEYPOINTS, 2), np.float32),
        np.zeros((len(poses), KEYPOINTS), np.float32),
        np.full((len(poses), 4), np.nan),
        np.full((len(poses), 4), np.nan),
        np.array([pose is not None for pose in poses], bool),
        np.array(shots, int),
        cuts,
        chosen,
    )
    for number, pose in enumerate(poses):
        if pose is not None:
            track.points_px[number], track.confidence[number] = pose.points_px, pose.confidence
            track.person_boxes_px[number] = pose.person_box_px
            if pose.face_box_px is not None:
                track.face_boxes_px[number] = pose.face_box_px
    return track
