"""A video or a picture -> the skeleton of one person in it, and what has to be said about it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hallo4.errors import InputError, NoPersonError
from hallo4.media.files import shown
from hallo4.media.image import load_image
from hallo4.media.video import VideoInfo, probe_video, read_frames
from hallo4.motion import PersonChoice, layout
from hallo4.motion.checks import MAX_FRAMES
from hallo4.motion.gaps import LONGEST_GAP_S, bridged
from hallo4.pose.estimator import PoseEstimator, box_centre
from hallo4.pose.follow import Track, follow
from hallo4.pose.loading import load_estimator
from hallo4.pose.person import LARGEST, chosen_one, counted, places_of
from hallo4.pose.smooth import smoothed
from hallo4.types import FPS, Skeleton

SLOWEST_FPS = 1.0
"""Lowest rate of a video in which a person can be followed."""
FASTEST_FPS = 60.0
"""Highest rate that is measured; of faster videos every second frame is taken, or every third, and so on."""
SMALL_FACE_PX = 32
"""Below this width a face's points are coarse, and a note says so."""

FEW_FRAMES = 5
"""Fewer frames do not show whether a person comes and goes."""

Progress = Callable[[int, int], None]
"""Called with frames done and frames in all."""


@dataclass(frozen=True)
class PoseFindings:
    """One person of a video or picture of T frames.

    `skeleton`: the points, in pixels of the video as it is shown, at `skeleton.fps`. `face_boxes_px`,
    `person_boxes_px` [T, 4]: (left, top, right, bottom), NaN where there is none. `found` [T] bool: the
    person was seen in this frame itself; `filled` [T, 133] bool: points that bridge a short gap. `cuts_s`:
    where a new shot begins. `notes`: a line each of what a user has to know.
    """

    skeleton: Skeleton
    face_boxes_px: np.ndarray
    person_boxes_px: np.ndarray
    found: np.ndarray
    filled: np.ndarray
    cuts_s: tuple[float, ...]
    notes: tuple[str, ...]


def estimate_video(
    path: str | os.PathLike[str],
    estimator: PoseEstimator | str = "auto",
    person: str = LARGEST,
    on_progress: Progress = lambda done, total: None,
    fps: float | None = None,
    end_s: float | None = None,
    start_s: float = 0.0,
) -> PoseFindings:
    """The skeleton of one person in a video, smoothed without lag, at `fps` (None: the video's own rate up to
    60), from `start_s` up to `end_s` (None: to its end). Times of cuts count from `start_s`.

    estimator: of `load_estimator`, or its name. person: as `PersonChoice.of` takes it.

    Raises:
        InputError: as `probe_video` and `read_frames`; `person` is not there. NoPersonError: no one is seen.
        CheckpointError, MissingExtraError: as `load_estimator`.
    """
    choice = PersonChoice.of(person)
    estimator = load_estimator(estimator) if isinstance(estimator, str) else estimator
    info = probe_video(path)
    if fps is None and info.frames > 1 and info.fps < SLOWEST_FPS:
        raise InputError(
            f"{shown(path)}: shows {info.frames} pictures in {info.duration_s:.0f} s; to follow a person, at "
            f"least {SLOWEST_FPS:g} a second are needed. Its time stamps may be wrong: export it again."
        )
    fps, notes = video_rate(info) if fps is None else (fps, [])
    seconds = info.duration_s if end_s is None else min(end_s, info.duration_s)
    total = max(1, round((seconds - start_s) * fps))
    if total > MAX_FRAMES:
        raise InputError(
            f"{shown(path)}: has {total} frames, and a skeleton file holds {MAX_FRAMES}. Cut it into parts."
        )
    frames = read_frames(path, fps, start_s, end_s)
    track = follow(frames, estimator, choice, fps, lambda done: on_progress(min(done, total), total))
    return _findings(track, shown(path), (info.width_px, info.height_px), fps, choice, notes)


def estimate_image(
    image: str | os.PathLike[str] | np.ndarray,
    estimator: PoseEstimator | str = "auto",
    person: str = LARGEST,
    name: str = "the picture",
) -> PoseFindings:
    """The skeleton, one frame at 25 fps, of one person in a picture file or [H, W, 3] uint8, called `name` in
    errors; see `estimate_video`.

    InputError: as `load_image`; `person` is not there; NoPersonError: no person is seen. CheckpointError,
    MissingExtraError.
    """
    if isinstance(image, np.ndarray):
        picture_u8 = image
    else:
        name, picture_u8 = shown(image), load_image(image)
    return estimate_frames(picture_u8[None], FPS, estimator, person, name)


def estimate_frames(
    frames_u8: np.ndarray,
    fps: float,
    estimator: PoseEstimator | str = "auto",
    person: str = LARGEST,
    name: str = "the frames",
    on_progress: Progress = lambda done, total: None,
) -> PoseFindings:
    """The same of frames [T, H, W, 3] uint8 that are in memory and come at `fps`, called `name` in errors.

    Errors as `estimate_image`.
    """
    choice = PersonChoice.of(person)
    estimator = load_estimator(estimator) if isinstance(estimator, str) else estimator
    total, height, width = frames_u8.shape[:3]
    track = follow(frames_u8, estimator, choice, fps, lambda done: on_progress(done, total))
    return _findings(track, name, (width, height), fps, choice, [])


def video_rate(info: VideoInfo) -> tuple[float, list[str]]:
    """The rate at which a video is looked at, and what there is to say of it."""
    every = max(1, int(np.ceil(info.fps / FASTEST_FPS - 1e-6)))
    notes = []
    if every > 1:
        notes.append(f"{info.fps:g} frames a second: one in {every} was looked at")
    if info.variable_frame_rate:
        notes.append(f"its frames come at uneven times: it was looked at at {info.fps / every:.4g} a second")
    return info.fps / every, notes


def _findings(
    track: Track,
    name: str,
    size_px: tuple[int, int],
    fps: float,
    choice: PersonChoice,
    notes: list[str],
) -> PoseFindings:
    """Bridge, smooth, and say what was seen. NoPersonError: no person was."""
    frames = len(track.found)
    if not track.found.any():
        what = "in the picture" if frames == 1 else f"in any of {frames} frames"
        raise NoPersonError(
            f"{name}: no person was found {what} ({size_px[0]}x{size_px[1]} px). Give one with a real person "
            "whose face is upright, turned to the camera and not small, or crop it."
        )
    if frames >= FEW_FRAMES and track.found.mean() < 0.5 and np.isnan(track.face_boxes_px).all():
        raise NoPersonError(
            f"{name}: something like a body was found in {int(track.found.sum())} of {frames} frames, and "
            "never a face: that is not sure enough. Give a video that shows the person's face."
        )
    points, confidence, filled = bridged(track.points_px, track.confidence, fps, track.shot)
    if frames > 1:
        points = smoothed(points, confidence, track.shot, fps, _head_px(track))
    skeleton = Skeleton(
        points.astype(np.float32), confidence.astype(np.float32), float(fps), int(size_px[0]), int(size_px[1])
    )
    said = [*notes, *_people_notes(track, fps, choice), *_gap_notes(track, fps), *_face_notes(track)]
    return PoseFindings(
        skeleton,
        track.face_boxes_px,
        track.person_boxes_px,
        track.found,
        filled,
        tuple(cut / fps for cut in track.cuts),
        tuple(said),
    )


def _head_px(track: Track) -> float:
    """The usual size of the head; a fifth of the person where the face is never seen."""
    faces = track.face_boxes_px[~np.isnan(track.face_boxes_px[:, 0])]
    boxes, part = (faces, 1.0) if len(faces) else (track.person_boxes_px[track.found], 0.2)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1.0)
    return float(part * np.median(np.sqrt(sides.prod(axis=1))))


def _people_notes(track: Track, fps: float, choice: PersonChoice) -> list[str]:
    people = track.chosen[0][1]
    notes = []
    if len(people) > 1:
        followed = "{:.0f},{:.0f}".format(*box_centre(chosen_one(choice, people).box_px))
        which = "the largest one" if choice.rule == LARGEST else "the one"
        notes.append(
            f"{counted(len(people))} seen at {places_of(people)} (x,y in pixels); {which} at {followed} is "
            "followed; --person chooses"
        )
    for number, _ in track.chosen[1:]:
        if number in track.cuts:
            notes.append(f"a cut at {number / fps:.2f} s: the person behind it may be another one")
        else:
            notes.append(
                f"a person comes into view at {number / fps:.2f} s, after none was seen for a while: it may "
                "be another one"
            )
    return notes


def _gap_notes(track: Track, fps: float) -> list[str]:
    """One line on frames without the person: how many, which of them were bridged, which are left empty."""
    missing = ~track.found
    if not missing.any():
        return []
    edges = np.flatnonzero(np.diff(np.concatenate([[0], missing.astype(int), [0]])))
    long = []
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        inside = start > 0 and stop < len(missing) and track.shot[start - 1] == track.shot[stop]
        if not inside or stop - start > LONGEST_GAP_S * fps + 1e-6:
            long.append((start, stop))
    empty = sum(stop - start for start, stop in long)
    note = f"the person was not found in {int(missing.sum())} of {len(missing)} frames"
    if missing.sum() > empty:
        note += (
            f"; {int(missing.sum()) - empty} of them in gaps of at most {LONGEST_GAP_S:g} s, which were "
            "bridged"
        )
    if long:
        spans = ", ".join(f"{start / fps:.2f}-{stop / fps:.2f} s" for start, stop in long[:5])
        note += f"; nothing is drawn at {spans}" + (" and later" if len(long) > 5 else "")
    return [note]


def _face_notes(track: Track) -> list[str]:
    faces = track.face_boxes_px[track.found]
    with_face = faces[~np.isnan(faces[:, 0])]
    notes = []
    unseen = (track.confidence[track.found][:, layout.FACE].max(axis=1) < layout.SEEN).sum()
    if unseen and len(track.found) == 1:
        notes.append("the person's face was not seen")
    elif unseen:
        notes.append(
            f"the person's face was not seen in {int(unseen)} of {len(faces)} frames with the person"
        )
    if len(with_face):
        width = float(np.median(with_face[:, 2] - with_face[:, 0]))
        if width < SMALL_FACE_PX:
            notes.append(
                f"the face is {width:.0f} px wide: its points are coarse; a closer shot, from "
                f"{SMALL_FACE_PX} px on, does better"
            )
    return notes
