"""The keypoints that lie beside a video, in pixels and at the rate of that video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from hallo4.errors import InputError
from hallo4.media.files import warn
from hallo4.media.names import as_stored
from hallo4.motion.files import load_skeleton
from hallo4.motion.timing import resample, resampled_frames
from hallo4.types import FPS, Skeleton

_SAME_RATE = 5e-4
"""29.97 and 30000/1001 are one rate, 29.97 and 30 are two."""
_AS_NEAR = 1e-3
"""Two pictures are equally near whose distances differ by less than so many of their intervals."""
SIDECARS = (".keypoints.json", ".keypoints.npz")
ASPECT_TOLERANCE = 0.02
"""How much two pictures' shapes may differ and still count as the same."""


def keypoint_file(video: Path) -> Path | None:
    """The keypoint file beside a video (`NAME.keypoints.json` or `.npz`), if it has one."""
    named = (as_stored(video.with_name(video.stem + suffix)) for suffix in SIDECARS)
    return next((file for file in named if file.exists()), None)


def given_skeleton(file: Path, width: int, height: int, fps: float, person: str | None = None) -> Skeleton:
    """The file's keypoints at 25 fps and in pixels of the video, which may have another size than the one
    they were made of; what they do not say is the video's `width`, `height` (px) and `fps`. `person`: as
    `load_skeleton`.

    At the video's own rate they are of its pictures: frame k has those of the picture that is nearest to
    k / 25 s, which is the one that `read_frames` gives. At another rate they are interpolated in time
    (`resample`). What was assumed, converted or lost is said in a `MediaWarning`. InputError: damaged, of
    another aspect ratio, or no person in a picture of that size.
    """
    skeleton = load_skeleton(file, person=person, assumed_fps=fps, assumed_size_px=(width, height))
    aspect = (skeleton.width_px / skeleton.height_px) / (width / height)
    if abs(aspect - 1) > ASPECT_TOLERANCE:
        raise InputError(
            f"{file.name}: its points lie in a picture of {skeleton.width_px}x{skeleton.height_px} px, the "
            f"picture itself has {width}x{height}. Give keypoints of it; the size may differ, the shape not."
        )
    scale = np.float32([width / skeleton.width_px, height / skeleton.height_px])
    skeleton = replace(skeleton, points_px=skeleton.points_px * scale, width_px=width, height_px=height)
    if skeleton.fps == FPS:
        return skeleton
    frames = max(1, round(len(skeleton) * FPS / skeleton.fps))
    if skeleton.fps > FPS:
        warn(
            f"{file.name}: has {skeleton.fps:g} skeletons a second, of which {FPS:g} are read; what moves to "
            "and fro between two of them is lost."
        )
    if abs(skeleton.fps / fps - 1) > _SAME_RATE:
        return resample(skeleton, frames)[0]
    nearest = np.ceil(np.arange(frames) * (skeleton.fps / FPS) - 0.5 - _AS_NEAR)
    return resampled_frames(skeleton, nearest * (FPS / skeleton.fps), frames)
