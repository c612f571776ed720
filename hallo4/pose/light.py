"""The light estimator: MediaPipe's face mesh, pose and hand networks on one person, tied together.

look:  face region -> mesh ----------------------------------> head and face points
       body region -> pose --(nose inside this face?)--------> shoulders to feet
       hand regions -> hands --(at the end of these arms?)---> hands
       what has no region yet is looked for by a detector around what is known
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from hallo4.pose.crops import Region, cut, whole_frame
from hallo4.pose.detections import Detection, suppressed
from hallo4.pose.estimator import Candidate, PersonPose, box_centre, box_of, box_side
from hallo4.pose.light_hands import hands_of
from hallo4.pose.light_networks import Detector, LightNetworks
from hallo4.pose.light_parts import (
    Body,
    Face,
    body_region,
    face_region,
    look_at_body,
    look_at_face,
)
from hallo4.pose.light_points import POSE_NOSE, Points

_HEAD_ABOVE = 0.22
"""The head is this far above the shoulders, in radii of the circle around the whole person ..."""
_HEAD_HALF = 0.09
"""... and has half this size. Both measured on people in whole and in half figure."""
_TILED_ASPECT = 1.25
"""From this aspect ratio on a frame is also looked at in squares: faces of a wide one get too small."""


_CERTAIN, _CERTAIN_ARMS, _STILL_CERTAIN = 0.99, 0.6, 0.9
"""What the pose network must say of a person whose face is not seen: of the person and of shoulders and
elbows at first, of the person in the frames behind."""
_BODY_WAIT_FRAMES = 5
"""Where no body belongs to the face, as in close-ups, it is searched for in every sixth frame only."""
_ARMS = [11, 12, 13, 14]


@dataclass(frozen=True)
class Trace:
    """Where the parts of a person are looked for in the next frame; None: not known. `body_wait`: for how
    many frames no body is searched for."""

    face: Region | None
    body: Region | None
    hands: tuple[Region | None, Region | None] = (None, None)
    body_wait: int = 0


class LightEstimator:
    """A `PoseEstimator` of about 20 ms a frame on one core; `find` takes about three times as long.

    CheckpointError: files are missing, damaged or others. MissingExtraError: LiteRT is not installed.
    """

    name = "light"

    def __init__(self, folder: str | os.PathLike[str] | None = None):
        self.networks = LightNetworks(folder)

    def find(self, frame_u8: np.ndarray) -> list[Candidate]:
        """See `PoseEstimator`; boxes are of heads. A body whose face is not seen counts too."""
        regions = [whole_frame(frame_u8), *_tiles(frame_u8)]
        faces = _detected(self.networks.faces, frame_u8, regions)
        bodies = _detected(self.networks.bodies, frame_u8, regions)
        found = []
        for face in faces:
            body = min(bodies, key=lambda one: _away(one, face), default=None)
            if body is not None and _away(body, face) > 1:
                body = None
            bodies = [one for one in bodies if one is not body]
            region = None if body is None else body_region(*body.points[:2])
            found.append(Candidate(face.box, Trace(face_region(face), region)))
        for body in bodies:
            head = _head_box(body)
            if not any(_touch(head, one.box_px) for one in found):
                found.append(Candidate(head, Trace(None, body_region(*body.points[:2]))))
        return found

    def look(self, frame_u8: np.ndarray, near: Candidate | PersonPose) -> PersonPose | None:
        """See `PoseEstimator`."""
        trace: Trace = near.trace
        face = self._face(frame_u8, trace.face, near.box_px)
        body = self._body(frame_u8, trace.body, face, trace.body_wait > 0)
        if face is None and (body is None or not _is_certain(body, new=isinstance(near, Candidate))):
            return None
        points = Points()
        if face is not None:
            points.put_face(face.mesh_px, face.flag)
        if body is not None:
            points.put_body(body.points_px, body.confidence)
        head_px = near.box_px if face is None else box_of(face.mesh_px)
        hands = hands_of(self.networks, frame_u8, trace.hands, body, head_px)
        for side, hand in enumerate(hands):
            if hand is not None:
                points.put_hand(side, hand.points_px, hand.flag)
        height, width = frame_u8.shape[:2]
        points_px, confidence = points.inside(width, height)
        if not confidence.any():
            return None
        if face is None and body is not None:
            head_px = _moved(near.box_px, body.points_px[POSE_NOSE])
        hand_regions = tuple(None if hand is None else hand.next_region for hand in hands)
        wait = 0 if body is not None else trace.body_wait - 1 if trace.body_wait else _BODY_WAIT_FRAMES
        return PersonPose(
            points_px,
            confidence,
            head_px,
            box_of(points_px[confidence > 0]),
            None if face is None else head_px,
            Trace(
                None if face is None else face.next_region,
                None if body is None else body.next_region,
                hand_regions,
                wait,
            ),
        )

    def _face(self, frame_u8: np.ndarray, region: Region | None, head_px: np.ndarray) -> Face | None:
        """The face in its region, or what the detector finds in the neighbourhood of the head."""
        if region is not None:
            face = look_at_face(self.networks.mesh, frame_u8, region)
            if face is not None:
                return face
        around = Region(*box_centre(head_px), 3 * box_side(head_px))
        found = _detected(self.networks.faces, frame_u8, [around])
        if not found:
            return None
        nearest = min(found, key=lambda one: np.linalg.norm(box_centre(one.box) - box_centre(head_px)))
        return look_at_face(self.networks.mesh, frame_u8, face_region(nearest))

    def _body(
        self, frame_u8: np.ndarray, region: Region | None, face: Face | None, waits: bool
    ) -> Body | None:
        """The pose in its region, or what the detector finds below the face; that of another is dropped."""
        if region is not None:
            body = look_at_body(self.networks.pose, frame_u8, region)
            if body is not None and (face is None or _is_of(body, face)):
                return body
        if face is None or waits:
            return None
        head_px = box_of(face.mesh_px)
        x, y = box_centre(head_px)
        around = Region(x, y + 1.5 * box_side(head_px), 7 * box_side(head_px))
        for found in _detected(self.networks.bodies, frame_u8, [around]):
            body = look_at_body(self.networks.pose, frame_u8, body_region(*found.points[:2]))
            if body is not None and _is_of(body, face):
                return body
        return None


def _detected(detector: Detector, frame_u8: np.ndarray, regions: list[Region]) -> list[Detection]:
    """What a detector finds in upright squares of a frame, in pixels of the frame, each thing once."""
    found = []
    for region in regions:
        picture = cut(frame_u8, region, detector.size_px, "black")
        if picture is not None:
            corner = region.to_frame(np.zeros(2))
            found += [one.moved(region.side_px, corner) for one in detector(picture)]
    return suppressed(found) if len(regions) > 1 else found


def _tiles(frame_u8: np.ndarray) -> list[Region]:
    """Overlapping squares that cover a wide or tall frame; none for one that is about square."""
    height, width = frame_u8.shape[:2]
    short, long = min(height, width), max(height, width)
    if long < _TILED_ASPECT * short:
        return []
    count = int(np.ceil((long - short) / (short / 2))) + 1
    middles = np.linspace(short / 2, long - short / 2, count)
    if width > height:
        return [Region(float(middle), height / 2, float(short)) for middle in middles]
    return [Region(width / 2, float(middle), float(short)) for middle in middles]


def _head_box(body: Detection) -> np.ndarray:
    """Where the head of a detected body should be: its points are hips, a point on the circle around the
    whole person, shoulders, and one on the circle around the upper body."""
    hips, circle, shoulders = body.points[:3]
    middle = shoulders + _HEAD_ABOVE * (circle - hips)
    half = _HEAD_HALF * np.linalg.norm(circle - hips)
    return np.concatenate([middle - half, middle + half])


def _away(body: Detection, face: Detection) -> float:
    """How far a face lies from where the head of a body should be; above 1 it is of another person."""
    head = _head_box(body)
    return float(np.linalg.norm(box_centre(head) - box_centre(face.box)) / (1.5 * box_side(head)))


def _is_of(body: Body, face: Face) -> bool:
    """Whether the nose of the pose lies inside the face, or a quarter of the face beside it."""
    box = box_of(face.mesh_px)
    room = 0.25 * box_side(box)
    nose = body.points_px[POSE_NOSE]
    return bool((nose >= box[:2] - room).all() and (nose <= box[2:] + room).all())


def _is_certain(body: Body, new: bool) -> bool:
    """Whether a body without a face is likely a person: the detector also finds bodies in letters and clouds,
    of most of which the pose network doubts the arms."""
    if not new:
        return body.flag >= _STILL_CERTAIN
    return body.flag >= _CERTAIN and bool((body.confidence[_ARMS] >= _CERTAIN_ARMS).all())


def _touch(head_px: np.ndarray, other_px: np.ndarray) -> bool:
    """Whether two boxes can be of one head: their middles are less than the larger one's size apart."""
    away = np.linalg.norm(box_centre(head_px) - box_centre(other_px))
    return bool(away < max(box_side(head_px), box_side(other_px)))


def _moved(box_px: np.ndarray, centre_px: np.ndarray) -> np.ndarray:
    return box_px + np.tile(centre_px - box_centre(box_px), 2)
