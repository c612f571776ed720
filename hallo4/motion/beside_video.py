"""The keypoints that lie beside a video, in pixels and at the rate of that video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from hallo4.errors import InputError
from hallo4.media.names import as_stored
from hallo4.motion.files import load_skeleton
from hallo4.motion.timing import resample
from hallo4.types import FPS, Skeleton

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
    `load_skeleton`. What was assumed or converted is said in a `MediaWarning`. InputError: damaged, of
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
    return resample(skeleton, max(1, round(len(skeleton) * FPS / skeleton.fps)))[0]
