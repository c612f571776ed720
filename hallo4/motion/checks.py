"""From what readers found in a skeleton file to one person's Skeleton: every number, size and unit checked.

Each refusal is one line; so is each note on what was assumed or converted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hallo4.errors import InputError
from hallo4.motion import units
from hallo4.motion.hints import MotionHints
from hallo4.motion.layout import SEEN
from hallo4.motion.person import follow_person
from hallo4.types import FPS, KEYPOINTS, Skeleton

MAX_FRAMES = 100_000
MAX_FPS = 240.0
MIN_SIDE_PX, MAX_SIDE_PX = 8, 16384
MAX_COORDINATE_PX = 1e5


@dataclass(frozen=True)
class Context:
    """What the reader of a file knows beside its content: its name, what the caller says about it, and what
    is taken where neither file nor caller says it."""

    name: str
    hints: MotionHints = field(default_factory=MotionHints)
    assumed_size_px: tuple[int, int] | None = None
    assumed_fps: float | None = None


@dataclass(frozen=True)
class People:
    """Everybody in a file of `frames` frames: `points` [M, 133, 3] (x, y, confidence) in the frames
    `frame_of` [M], rising; `fps` and `size` (width, height) as the file says them, or None."""

    points: np.ndarray
    frame_of: np.ndarray
    frames: int
    fps: Any = None
    size: tuple[Any, Any] = (None, None)

    @classmethod
    def of_frames(cls, frames: list[list[np.ndarray]], fps: Any, size: tuple[Any, Any]) -> People:
        """From the people, each [133, 3], of every frame."""
        everybody = [person for people in frames for person in people]
        points = np.stack(everybody) if everybody else np.zeros((0, KEYPOINTS, 3))
        frame_of = np.repeat(np.arange(len(frames)), [len(people) for people in frames])
        return cls(points, frame_of, len(frames), fps, size)


def frame_array(values: Any, field: str, shapes: tuple[tuple[int, ...], ...], context: Context) -> np.ndarray:
    """`values` as float64 [T, *shape], all frames of the same one of `shapes`; InputError names the frame."""
    if not isinstance(values, list) and not (isinstance(values, np.ndarray) and values.ndim):
        raise InputError(f'{context.name}: "{field}" is not frames; write [T]{_brackets(shapes[0])} numbers.')
    if not 0 < len(values) <= MAX_FRAMES:
        raise InputError(f'{context.name}: {len(values)} frames of "{field}"; allowed are 1 to {MAX_FRAMES}.')
    frames: list[np.ndarray] = []
    allowed = shapes
    for number, frame in enumerate(values):
        array = numbers(frame)
        if array is None or array.shape not in allowed:
            found = "something else" if array is None else _brackets(array.shape) or "a number"
            raise InputError(
                f'{context.name}: "{field}" of frame {number} is {found}; '
                f"each frame must be {' or '.join(map(_brackets, allowed))} numbers."
            )
        if not np.isfinite(array).all():
            raise InputError(
                f'{context.name}: "{field}" of frame {number} holds NaN or infinity; '
                "give an unseen point as 0, 0 with confidence 0."
            )
        allowed = (array.shape,)
        frames.append(array.astype(np.float64))
    return np.stack(frames)


def person_of(people: People, context: Context) -> tuple[Skeleton, list[str]]:
    """The Skeleton of the person who is meant, in pixels, after every number has been checked.

    Notes say, in one line each, what was assumed, converted or left out, or that no person is seen.
    InputError: a number out of range, a size that neither file nor caller says, or points that cannot be a
    person in a picture of that size.
    """
    points, confidence = people.points[..., :2].astype(np.float64), people.points[..., 2].copy()
    _refuse_outside(confidence, 0.0, 1.0, "confidence", people, context)
    _refuse_outside(points, -MAX_COORDINATE_PX, MAX_COORDINATE_PX, "coordinate", people, context)
    notes = []
    nowhere = (points == 0).all(axis=-1) & (confidence >= SEEN)
    if nowhere.any():
        confidence[nowhere] = 0
        where = len(np.unique(people.frame_of[nowhere.any(axis=1)]))
        notes.append(f"{nowhere.sum()} points at 0, 0 in {where} frames are taken as not seen")
    shown = (confidence >= SEEN).any(axis=1)
    points, confidence, frame_of = points[shown], confidence[shown], people.frame_of[shown]
    fps = _rate(people.fps, context, notes)
    size_px = _in_pixels(points, confidence, people.size, context, notes)
    if shown.any():
        everybody = np.concatenate([points, confidence[..., None]], axis=-1)
        try:
            one, note = follow_person(everybody, frame_of, people.frames, context.hints.choice)
        except InputError as error:
            raise InputError(f"{context.name}: {error}") from None
        notes += [note, units.refuse_implausible(one[..., :2], one[..., 2], size_px, context.name)]
    else:
        one = np.zeros((people.frames, KEYPOINTS, 3))
        notes.append(
            f"no person is seen in any of its {people.frames} frames (confidence of {SEEN:g} or more)"
        )
    skeleton = Skeleton(one[..., :2].astype(np.float32), one[..., 2].astype(np.float32), fps, *size_px)
    return skeleton, [f"{context.name}: {note}" for note in notes if note]


def _rate(stated: Any, context: Context, notes: list[str]) -> float:
    """Frames per second: as the caller says, else the file, else as assumed, which is noted."""
    given = context.hints.fps
    if stated is not None:
        stated = _one_number(stated, "fps", 1e-3, MAX_FPS, context)
    if given is not None:
        given = _one_number(given, "fps", 1e-3, MAX_FPS, context)
        if stated is not None and stated != given:
            notes.append(f"says {stated:g} fps; taken at {given:g}, as asked")
        return given
    if stated is not None:
        return stated
    if context.assumed_fps is not None:
        return context.assumed_fps
    notes.append(
        f"does not say its frame rate; {FPS:g} fps is assumed; the file or --motion-fps F can say another"
    )
    return FPS


def _in_pixels(
    points: np.ndarray, confidence: np.ndarray, stated: tuple[Any, Any], context: Context, notes: list[str]
) -> tuple[int, int]:
    """Bring `points` into pixels, in place; the size of their picture (width, height)."""
    found = units.unit_of_parts(points, confidence)
    size_px = _stated_size(stated, context, notes)
    fractions = {name: unit for name, unit in found.items() if unit != "pixels"}
    if size_px is None:
        if not len(points) and context.assumed_size_px is not None:
            return context.assumed_size_px
        size_px = _assumed_size(points, confidence, found, context, notes)
    if fractions:
        units.to_pixels(points, found, size_px)
        which = "" if len(fractions) == len(found) else f" of {', '.join(fractions)}"
        unit = next(iter(fractions.values()))
        notes.append(
            f"coordinates{which} are fractions ({unit}) and were scaled to {size_px[0]}x{size_px[1]} px"
        )
    return size_px


def _stated_size(stated: tuple[Any, Any], context: Context, notes: list[str]) -> tuple[int, int] | None:
    """Width and height that caller or file say; the caller's count, and that is noted where they differ."""
    given, size_px = context.hints.size_px, None
    if stated[0] is not None and stated[1] is not None:
        size_px = _whole_size(stated, context)
    if given is None:
        return size_px
    given = _whole_size(given, context)
    if size_px is not None and size_px != given:
        notes.append(f"says {size_px[0]}x{size_px[1]} px; taken as {given[0]}x{given[1]}, as asked")
    return given


def _assumed_size(
    points: np.ndarray,
    confidence: np.ndarray,
    found: dict[str, units.Unit],
    context: Context,
    notes: list[str],
) -> tuple[int, int]:
    """The size for a file that says none: `assumed_size_px`, where what is in pixels lies inside it."""
    unsaid = (
        f"{context.name}: does not say how large its picture is (OpenPose: canvas_width and canvas_height; "
        "ours: width_px and height_px)"
    )
    how = "give the size of the video that they were made from with --motion-size WxH"
    assumed = context.assumed_size_px
    if assumed is None:
        reach = f"; its points reach {units.extent(points, confidence)}" if len(points) else ""
        raise InputError(f"{unsaid}{reach}. Add it, or {how}.")
    width, height = assumed
    pixels = np.zeros(confidence.shape, bool)
    for name, unit in found.items():
        pixels[:, units.PARTS[name]] = unit == "pixels"
    inside = np.where(pixels, confidence, 0.0)
    if (inside >= SEEN).any():
        outside = units.share_outside(points, inside, assumed)
        reach = units.extent(points, inside)
        if outside > units.MANY_OUTSIDE:
            raise InputError(
                f"{unsaid}, and {outside:.0%} of its points lie outside {width}x{height} px (they reach "
                f"{reach}); {how}."
            )
    else:
        reach = units.extent(points, confidence)
    notes.append(
        f"does not say how large its picture is; {width}x{height} px is assumed (points reach {reach}); the "
        "file or --motion-size WxH can say another"
    )
    return assumed


def _whole_size(size: tuple[Any, Any], context: Context) -> tuple[int, int]:
    sides = [
        _one_number(side, name, MIN_SIDE_PX, MAX_SIDE_PX, context)
        for side, name in zip(size, ("width_px", "height_px"), strict=True)
    ]
    if any(side != int(side) for side in sides):
        raise InputError(f"{context.name}: a picture of {sides[0]} x {sides[1]} px; use whole pixels.")
    return int(sides[0]), int(sides[1])


def numbers(value: Any) -> np.ndarray | None:
    """`value` as an array of numbers; None for texts, objects, ragged lists and endless integers."""
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError):
        return None
    return array if array.dtype.kind in "iuf" else None


def _one_number(value: Any, field: str, least: float, most: float, context: Context) -> float:
    array = numbers(value)
    if array is None or array.size != 1 or not least <= float(array.reshape(())) <= most:
        raise InputError(
            f'{context.name}: "{field}" is {ascii(value)[:40]}; allowed is a number {least:g} to {most:g}.'
        )
    return float(array.reshape(()))


def _refuse_outside(
    values: np.ndarray, least: float, most: float, what: str, people: People, context: Context
) -> None:
    bad = np.argwhere((values < least) | (values > most))
    if len(bad):
        person, point = bad[0][:2]
        raise InputError(
            f"{context.name}: {what} {values[tuple(bad[0])]:g} of point {point} in frame "
            f"{people.frame_of[person]}; allowed is {least:g} to {most:g}."
        )


def _brackets(shape: tuple[int, ...]) -> str:
    return "".join(f"[{size}]" for size in shape)
