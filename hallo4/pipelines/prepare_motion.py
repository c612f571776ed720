"""Whatever motion a user has -> a source of skeleton drawings on the canvas.

Nothing is repaired silently: `prepare_motion` returns, beside its result, notes of one line each that say
what was done.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from hallo4.errors import InputError
from hallo4.media import collect_notes, probe_video, read_frames
from hallo4.media.files import shown
from hallo4.media.names import as_stored
from hallo4.media.pixels import frames_to_pm1
from hallo4.motion import (
    MotionHints,
    bridge_gaps,
    default_rest_pose,
    load_skeleton,
    looks_like_skeleton_video,
    resampling_note,
    retarget,
)
from hallo4.motion.drawn_video import anything_drawn
from hallo4.motion.gaps import LONGEST_GAP_S, frame_ranges
from hallo4.motion.layout import SEEN
from hallo4.pipelines.canvas import Box, fit_by_height, on_canvas, plan_motion_box
from hallo4.pipelines.conditions import PathLike, Portrait
from hallo4.pipelines.conventions import OURS, Conventions
from hallo4.pipelines.motion_source import IdleMotion, KeypointMotion, MotionSource, RenderedMotion, fit_frame
from hallo4.pipelines.portrait_rest import (
    FindPose,
    confidences,
    missing_estimator,
    portrait_rest,
    usable_estimator,
)
from hallo4.pose import estimate_video
from hallo4.types import FPS, Skeleton

KEYPOINT_SUFFIXES = (".json", ".npz", ".pkl", ".pickle")
"""Files that are taken for keypoints; pickles, so that they are refused with the reason."""

NO_HINTS = MotionHints()

OnFrames = Callable[[int, int], None]
"""Called with how many frames are done, and how many there are."""


def prepare_motion(
    motion: PathLike | Skeleton | None,
    portrait: Portrait,
    frames: int,
    seed: int,
    rest_pose: FindPose = portrait_rest,
    fit_motion: bool = False,
    fps: float = FPS,
    conventions: Conventions = OURS,
    hints: MotionHints = NO_HINTS,
    on_frames: OnFrames = lambda done, total: None,
) -> tuple[MotionSource, list[str]]:
    """Whatever the user has, as `frames` drawings at `fps` on the portrait's canvas.

    A `Skeleton` or keypoints (.json, .npz or a folder, see `load_skeleton`), a rendered skeleton video, a
    filmed video of a person, whose pose is found and fitted to the portrait (`on_frames` is called with how
    many frames of it are done), or None for idle motion, which grows from what `rest_pose` finds in the
    portrait. `fit_motion` brings keypoints of another person to the place and proportions of that pose;
    `hints` are what the caller says about a file of keypoints, or which person of a filmed video is meant.
    Short gaps in keypoints are bridged.

    InputError: as `load_skeleton`, `read_frames`, `retarget` and `estimate_video`; a filmed video without a
    pose estimator; `fit_motion` or `hints` where they mean nothing.
    """
    _refuse_idle_hints(motion, hints)
    if motion is None:
        if fit_motion:
            raise InputError("no motion is given, so there is nothing to fit; leave fitting out.")
        canvas, found = portrait.canvas, rest_pose(portrait)
        if found is None:
            rest, how = default_rest_pose(canvas.width_px, canvas.height_px), "by the default pose"
        else:
            rest, how = found.skeleton, f"fitted to the portrait, {found.how}"
        return IdleMotion(rest, seed, canvas, frames, fps), [
            f"no motion given: idle motion with blinks is supplied, {how}",
            *(found.notes if found else ()),
        ]
    if isinstance(motion, Skeleton):
        return _from_keypoints(motion, portrait, frames, fps, rest_pose if fit_motion else None)
    path = existing_motion(motion)
    if is_keypoints(path):
        notes: list[str] = []
        with collect_notes(notes):
            skeleton = load_skeleton(
                path,
                fps=hints.fps,
                size_px=hints.size_px,
                person=hints.person,
                assumed_size_px=(portrait.image_width_px, portrait.image_height_px),
            )
        source, more = _from_keypoints(skeleton, portrait, frames, fps, rest_pose if fit_motion else None)
        return source, notes + more
    if _is_filmed(path):
        return _from_film(path, portrait, frames, fps, rest_pose, hints, on_frames)
    if hints.person is not None:
        raise InputError(
            f"{path} is a drawn skeleton, in which no person can be chosen; leave the person out."
        )
    if fit_motion:
        raise InputError(
            f"{path} is a drawn skeleton, which cannot be fitted; give the keypoints instead: "
            ".json, .npz or an OpenPose folder."
        )
    if conventions.skeleton_timing == "frame_by_frame":
        return _frame_by_frame(path, portrait, conventions.start_frame)
    return _from_video(path, portrait, frames, fps)


def existing_motion(motion: PathLike) -> Path:
    """The path of a motion as it is spelled on the disk. InputError: there is nothing, or no such name can
    be."""
    path = as_stored(motion)
    try:
        exists = path.exists()
    except (OSError, ValueError):
        exists = False
    if not exists:
        raise InputError(
            f"{shown(path)}: no such file. Give a video, a file or folder of keypoints, or no motion."
        )
    return path


def is_keypoints(path: PathLike) -> bool:
    """Whether a motion is given as keypoints (.json, .npz or a folder), rather than as a video."""
    path = Path(path)
    return path.is_dir() or path.suffix.lower() in KEYPOINT_SUFFIXES


def _refuse_idle_hints(motion: PathLike | Skeleton | None, hints: MotionHints) -> None:
    """InputError for hints about what says itself what they say."""
    if not hints or (motion is not None and not isinstance(motion, Skeleton) and is_keypoints(motion)):
        return
    if motion is None or isinstance(motion, Skeleton):
        given = "no motion is given" if motion is None else "the motion is a Skeleton, which says them itself"
        raise InputError(
            f"size, rate and person can be given for a file of keypoints, but {given}; leave them out."
        )
    if hints.size_px is not None or hints.fps is not None:
        raise InputError(
            f"size and rate can be given for a file of keypoints, but {motion} is a video, which says them "
            "itself; leave them out."
        )


def _is_filmed(path: Path) -> bool:
    """Whether a video is not a drawn skeleton. InputError: it is black."""
    with collect_notes([]):  # who reads the whole of it says them
        look = looks_like_skeleton_video(path)
    if look.empty:
        raise InputError(
            f"{path}: {look}; a skeleton is coloured lines on black. Give one with a person in it."
        )
    if not look and usable_estimator() is None:
        raise InputError(
            f"{path} does not look like a drawn skeleton, coloured lines on black: {look}. To follow the "
            f"person in a filmed video: {missing_estimator()}"
        )
    return not look


def _from_film(
    path: Path,
    portrait: Portrait,
    frames: int,
    fps: float,
    rest_pose: FindPose,
    hints: MotionHints,
    on_frames: OnFrames,
) -> tuple[MotionSource, list[str]]:
    """The person in a filmed video, fitted to the one in the portrait."""
    estimator, notes = usable_estimator(), []
    with collect_notes(notes):
        info = probe_video(path)
        needed_s = frames / fps
        end_s = needed_s + 2 / info.fps  # what is between two of its frames needs both
        findings = estimate_video(path, estimator, hints.person or "largest", on_frames, end_s=end_s)
    found, skeleton = int(findings.found.sum()), findings.skeleton
    if info.duration_s > end_s:
        notes.append(f"motion: cut from {info.duration_s:.2f} s to {needed_s:.2f} s")
    notes.append(
        f"motion: {path} is a filmed video; {estimator.name} found the person in {found} of {len(skeleton)} "
        f"frames ({confidences(skeleton)})"
    )
    notes += [f"motion: {note}" for note in findings.notes]
    source, more = _from_keypoints(skeleton, portrait, frames, fps, rest_pose, filmed=True)
    return source, notes + more


def _from_keypoints(
    skeleton: Skeleton,
    portrait: Portrait,
    frames: int,
    fps: float,
    fit_to: FindPose | None,
    filmed: bool = False,
) -> tuple[MotionSource, list[str]]:
    if not len(skeleton):
        raise InputError("the skeleton holds no frames; at least one is needed.")
    if not (skeleton.confidence >= SEEN).any():
        raise InputError(
            f"no person is seen in the {len(skeleton)} frames of the skeleton: no point has a confidence of "
            f"{SEEN:g} or more. Give keypoints of a person, or none for idle motion."
        )
    # Of a film short gaps are bridged already, never over a cut, and no more of it was measured than needed.
    skeleton, gap_notes = (skeleton, []) if filmed else bridge_gaps(skeleton)
    canvas = portrait.canvas
    box, shape_note = _motion_box(skeleton.width_px, skeleton.height_px, portrait)
    longer = len(skeleton) / skeleton.fps >= frames / fps
    time_note = "" if filmed and longer else resampling_note(skeleton, frames, fps)
    notes = [*(f"skeleton: {note}" for note in gap_notes), *filter(None, [time_note])]
    rest = None if fit_to is None else fit_to(portrait)
    if rest is not None:
        # What is measured for the fit are the frames as they came, whatever part of them is used.
        skeleton = retarget(on_canvas(skeleton, box, canvas), rest.skeleton)
        box = (0.0, 0.0, float(canvas.width_px), float(canvas.height_px))
        notes.append(f"motion fitted to the face and shoulders in the portrait, {rest.how}")
        notes += rest.notes
    elif shape_note:
        notes.append(shape_note)
    if fit_to is not None and rest is None:
        notes.append("no person was found in the portrait, so the motion is used without fitting")
    return KeypointMotion(skeleton, box, canvas, frames, fps), notes


def _from_video(path: Path, portrait: Portrait, frames: int, fps: float) -> tuple[MotionSource, list[str]]:
    notes: list[str] = []
    with collect_notes(notes):
        info = probe_video(path)
        box, shape_note = _motion_box(info.width_px, info.height_px, portrait)
        source, gap_notes = _rendered_frames(path, portrait, box, frames, fps)
    done = []
    if info.variable_frame_rate:
        done.append(f"variable frame rate (about {info.fps:.4g} fps) read at {fps:g} fps")
    elif abs(info.fps - fps) > 0.01:
        done.append(f"resampled from {info.fps:.4g} to {fps:g} fps")
    if len(source) == 1 < frames:
        done.append(f"its single frame was held for {frames / fps:.2f} s")
    elif len(source) < frames:
        done.append(
            f"{len(source) / fps:.2f} s is shorter than {frames / fps:.2f} s, so it runs back and forth"
        )
    elif round(info.duration_s * fps) > frames:
        done.append(f"cut from {info.duration_s:.2f} s to {frames / fps:.2f} s")
    if done:
        notes.append(f"skeleton: {'; '.join(done)}")
    return source, notes + gap_notes + ([shape_note] if shape_note else [])


def _rendered_frames(
    path: Path, portrait: Portrait, box: Box, frames: int, fps: float
) -> tuple[RenderedMotion, list[str]]:
    """The frames of a drawn skeleton at `fps`. Where nothing is drawn, because a detector lost the person,
    the frame before is held for up to `LONGEST_GAP_S`."""
    source = _rendered(portrait)
    run, held, black, drawn = 0, [], [], False
    for number, frame in enumerate(read_frames(path, fps, end_s=frames / fps)):
        run = 0 if anything_drawn(frame) else run + 1
        drawn = drawn or not run
        if run:
            (held if drawn and run <= LONGEST_GAP_S * fps else black).append(number)
        if held[-1:] == [number]:
            source.hold()
        else:
            source.append(frame if portrait.canvas.by_height else fit_frame(frame, box, portrait.canvas))
    source.frames = frames
    return source, [
        f"skeleton: nothing is drawn in {len(numbers)} of {len(source)} frames "
        f"({frame_ranges(np.array(numbers))}); {what}"
        for numbers, what in ((held, "the frame before is held"), (black, "they stay black"))
        if numbers
    ]


def _frame_by_frame(path: Path, portrait: Portrait, start_frame: int) -> tuple[MotionSource, list[str]]:
    """The frames of a video from `start_frame` on, one by one, whatever its rate."""
    info = probe_video(path)
    box, _ = _motion_box(info.width_px, info.height_px, portrait)
    source = _rendered(portrait)
    for number, frame in enumerate(read_frames(path, None)):
        if number >= start_frame:
            source.append(frame if portrait.canvas.by_height else fit_frame(frame, box, portrait.canvas))
    if not len(source):
        raise InputError(f"{path}: has no frame from frame {start_frame} on; start earlier.")
    source.frames = len(source)
    return source, [f"skeleton: its {source.frames} frames are taken one by one, at whatever rate they are"]


def _rendered(portrait: Portrait) -> RenderedMotion:
    """An empty `RenderedMotion`. Where pictures are fitted by their height they are kept as they are, and
    resized, in floats, when they are needed."""
    canvas = portrait.canvas
    return RenderedMotion(partial(fit_by_height, canvas=canvas) if canvas.by_height else frames_to_pm1)


def _motion_box(width_px: int, height_px: int, portrait: Portrait) -> tuple[Box, str]:
    return plan_motion_box(
        width_px, height_px, portrait.image_width_px, portrait.image_height_px, portrait.canvas
    )
