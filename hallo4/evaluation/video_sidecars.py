"""Files that a user puts beside a video: its keypoints, its expression coefficients, and the portrait."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from hallo4.errors import InputError
from hallo4.input_file import open_input
from hallo4.media.names import as_stored
from hallo4.motion import load_skeleton, resample
from hallo4.pose.files import PICTURES
from hallo4.types import FPS, Skeleton

SIDECARS = (".keypoints.json", ".keypoints.npz")
ASPECT_TOLERANCE = 0.02
"""How much two pictures' shapes may differ and still count as the same."""


def keypoint_file(video: Path) -> Path | None:
    """The keypoint file beside a video (`NAME.keypoints.json` or `.npz`), if it has one."""
    named = (as_stored(video.with_name(video.stem + suffix)) for suffix in SIDECARS)
    return next((file for file in named if file.is_file()), None)


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


def portrait_file(video: Path) -> Path | None:
    """The portrait beside a video (`NAME.portrait.png`, or another suffix of pictures), if it has one.
    InputError: there are two.
    """
    named = (as_stored(video.with_name(f"{video.stem}.portrait{suffix}")) for suffix in PICTURES)
    files = [file for file in named if file.is_file()]
    if len(files) > 1:
        raise InputError(
            f"{video.name}: has two portraits beside it, {files[0].name} and {files[1].name}. Leave one."
        )
    return files[0] if files else None


def given_expression(video: Path) -> np.ndarray | None:
    """Expression coefficients [n, D] that the user has fitted: `NAME.expression.npy` beside the video."""
    file = as_stored(video.with_name(video.stem + ".expression.npy"))
    if not file.is_file():
        return None
    try:
        with open_input(file, "a matrix of numbers") as handle:
            values = np.lib.format.read_array(handle, allow_pickle=False)
    except Exception as error:  # a damaged header also raises what the parser of its Python literal does
        raise InputError(
            f"{file.name}: cannot be read as numbers ({error}). Save it with numpy.save."
        ) from error
    if values.ndim != 2 or values.dtype.kind not in "fiu" or len(values) < 1:
        raise InputError(
            f"{file.name}: holds {values.dtype} {list(values.shape)}; allowed is a matrix [n, D]."
        )
    return finite_features(values.astype(np.float64), "expression", file.name)


def finite_features(values: np.ndarray, name: str, file: str) -> np.ndarray:
    """`values` [n, D]; InputError, which names `file`, where they are not finite."""
    bad = int((~np.isfinite(values)).any(axis=1).sum())
    if bad:
        raise InputError(f"{file}: {bad} of {len(values)} feature vectors of {name} are not finite (NaN).")
    return values
