"""A row for every clip of a video: what filters judge it by, and a picture for people."""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hallo4.data.speech import covered
from hallo4.data.stages import Findings
from hallo4.media import collect_notes, read_frames_at
from hallo4.motion import layout
from hallo4.motion.overlay import overlay
from hallo4.pipelines.canvas import portrait_canvas
from hallo4.types import FPS, Skeleton

LOOKS = 5
"""Frames of a clip whose sharpness is measured."""
COUNTED_AROUND = 12
"""People are counted in frames so far before and behind a clip, too."""
FACE_PX = 64
"""Faces are brought down to this width before their sharpness is measured."""
PICTURE_PX = 240


@dataclass(frozen=True)
class CanvasRule:
    """How pictures come onto the frame of a model; see `portrait_canvas`."""

    size_px: int
    multiple_px: int
    canvas_sizes_px: tuple[tuple[int, int], ...] = ()


def look_at_clips(
    path: Path,
    sha256: str,
    frames: int,
    rule: CanvasRule,
    part: range,
    found: tuple[dict[str, Any], Findings, Findings, Findings],
) -> Findings:
    """Rows of all clips of `frames` frames in `part` of a video, and their pictures (`picture_N`, JPEG).

    `found`: what `probe`, `shots`, `person` (in that part) and `speech` found. A row has `start` (its first
    frame), `reference` (a frame of the same shot, outside of the clip if there is one with a face), and, of
    its frames: `found_share` with the person's face, `face_px`, the median width of the face on the model's
    canvas, `hands_share` with a hand, `speech_share`, the median `sharpness` of faces, the mean `level`, the
    median `change`, the usual number of `people` (None: not known) and whether there is a `cut` that only the
    tracker saw.
    """
    info, shots, person, speech = found
    level, change = (shots.arrays[name][part.start : part.stop] for name in ("level", "change"))
    points_px, confidence = person.arrays["points_px"], person.arrays["confidence"]
    total = min(len(level), len(points_px))
    begin_s, end_s = part.start / FPS, part.stop / FPS
    spans = [span for span in speech.values["spans"] if span[1] > begin_s and span[0] < end_s]
    size_px = (info["width_px"], info["height_px"])
    canvas = portrait_canvas(*size_px, rule.size_px, rule.multiple_px, rule.canvas_sizes_px)
    left, _, right, _ = canvas.crop_box_px
    boxes = face_boxes(points_px, confidence)[:total] * (canvas.content_width_px / (right - left))
    with_face = ~np.isnan(boxes[:, 0])
    hands = hands_seen(points_px, confidence, size_px)
    rows, unused = [], 0
    cuts = [cut - part.start for cut in shots.values["cuts"]]
    edges = [0, *(cut for cut in cuts if 0 < cut < total), total]
    for first, behind in pairwise(edges):
        unused += (behind - first) % frames
        for start in range(first, behind - frames + 1, frames):
            span = slice(start, start + frames)
            seen = with_face[span]
            at = part.start + start
            rows.append(
                {
                    "start": at,
                    "reference": part.start
                    + _reference([at, int(sha256[:12], 16)], start, frames, with_face, first, behind),
                    "found_share": float(seen.mean()),
                    "face_px": _median(boxes[span][seen, 2] - boxes[span][seen, 0]),
                    "hands_share": float(hands[span].mean()),
                    "speech_share": covered(spans, at / FPS, (at + frames) / FPS),
                    "level": float(level[span].mean()),
                    "change": _median(change[start + 1 : start + frames]),
                    "people": _people_near(person, at, at + frames),
                    "cut": any(at < cut < at + frames for cut in person.values["cuts"]),
                }
            )
    skeleton = Skeleton(points_px, confidence, FPS, *size_px)
    pictures = _pictures(path, rows, frames, part.start, skeleton)
    return Findings({"clips": rows, "unused_s": unused / FPS, "frames": total}, pictures)


def face_boxes(points_px: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """[T, 4] (left, top, right, bottom) of the points of the face that are seen; NaN where fewer than ten
    are."""
    points = points_px[:, layout.FACE]
    seen = confidence[:, layout.FACE] >= layout.SEEN
    boxes = np.full((len(points), 4), np.nan)
    for frame in np.flatnonzero(seen.sum(axis=1) >= 10):
        face = points[frame, seen[frame]]
        boxes[frame] = [*face.min(axis=0), *face.max(axis=0)]
    return boxes


def hands_seen(points_px: np.ndarray, confidence: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    """[T] bool: at least half of the points of a hand are seen, inside the picture."""
    inside = ((points_px >= 0) & (points_px < size_px)).all(axis=-1) & (confidence >= layout.SEEN)
    return (
        np.maximum(*(inside[:, hand].mean(axis=1) for hand in (layout.LEFT_HAND, layout.RIGHT_HAND))) >= 0.5
    )


def sharpness(face_u8: np.ndarray) -> float:
    """How much of the contrast of a face [H, W, 3] lies in its finest details: the standard deviation of the
    Laplacian over that of the grey levels, at a width of at most `FACE_PX`; about 0.1 for a blurred face."""
    height, width = face_u8.shape[:2]
    scale = min(1.0, FACE_PX / width)
    small = Image.fromarray(face_u8).convert("L")
    small = small.resize((max(3, round(width * scale)), max(3, round(height * scale))), Image.Resampling.BOX)
    grey = np.asarray(small, np.float64)
    inner = grey[1:-1, 1:-1]
    laplacian = 4 * inner - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return float(laplacian.std() / (grey.std() + 1.0))


def _reference(
    key: list[int], start: int, frames: int, with_face: np.ndarray, first: int, behind: int
) -> int:
    """A frame with the face, of the same shot, drawn by key; of the clip itself only where there is no
    other."""
    usable = np.flatnonzero(with_face[first:behind]) + first
    outside = usable[(usable < start) | (usable >= start + frames)]
    among = outside if len(outside) else usable
    if not len(among):
        return start
    return int(np.random.default_rng(key).choice(among))


def _pictures(
    path: Path, rows: list[dict[str, Any]], frames: int, first: int, skeleton: Skeleton
) -> dict[str, np.ndarray]:
    """Set the `sharpness` of every row, and return a picture of each; `skeleton` is that of the frames from
    `first` on."""
    boxes = face_boxes(skeleton.points_px, skeleton.confidence)
    looks = [(2 * k + 1) * frames // (2 * LOOKS) for k in range(LOOKS)]
    wanted = {row["start"] + look: n for n, row in enumerate(rows) for look in looks}
    middle = {row["start"] + frames // 2: n for n, row in enumerate(rows)}
    found: list[list[float]] = [[] for _ in rows]
    pictures = {}
    with collect_notes([]):
        for number, frame_u8 in read_frames_at(path, [*wanted, *middle], FPS):
            inside = number - first
            if number in wanted and not np.isnan(boxes[inside, 0]):
                face_u8 = _cut_out(frame_u8, boxes[inside])
                if min(face_u8.shape[:2]) >= 3:
                    found[wanted[number]].append(sharpness(face_u8))
            if number in middle:
                drawn = overlay(frame_u8, skeleton, inside, PICTURE_PX)
                packed = io.BytesIO()
                Image.fromarray(drawn).save(packed, "JPEG", quality=80)
                pictures[f"picture_{middle[number]}"] = np.frombuffer(packed.getvalue(), np.uint8)
    for row, values in zip(rows, found, strict=True):
        row["sharpness"] = _median(np.array(values))
    return pictures


def _cut_out(frame_u8: np.ndarray, box_px: np.ndarray) -> np.ndarray:
    height, width = frame_u8.shape[:2]
    low = np.clip(np.floor(box_px[:2]), 0, (width, height)).astype(int)
    high = np.clip(np.ceil(box_px[2:]), 0, (width, height)).astype(int)
    return frame_u8[low[1] : high[1], low[0] : high[0]]


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else 0.0


def _people_near(person: Findings, start: int, stop: int) -> int | None:
    """How many people are seen in most of the frames around a clip in which they were counted: in a single
    one, a detector may see some that are none. None: they were not counted."""
    if "people" not in person.arrays:
        return None
    at, people = person.arrays["people_at"], person.arrays["people"]
    near = people[(at >= start - COUNTED_AROUND) & (at < stop + COUNTED_AROUND)]
    return int(np.sort(near)[(len(near) - 1) // 2]) if len(near) else None
