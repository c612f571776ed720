"""Skeleton files: our `keypoints.json`, and what OpenPose, ComfyUI, MMPose, COCO-WholeBody and DWPose write.

`keypoints.json` is one JSON object, one frame per line::

    {"format": "hallo4-keypoints", "version": 1, "fps": 25.0, "width_px": 768, "height_px": 768,
     "points_px": [T][133][2], "confidence": [T][133]}

`points_px` is rounded to 0.01 px and `confidence` to 0.0001; both follow `hallo4.types.Skeleton`.
An `.npz` holds the same names, or DWPose's. See `openpose.py` and `mmpose.py` for the other formats.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hallo4.errors import InputError, OutputError
from hallo4.input_file import open_input, read_input
from hallo4.json_file import parse_json
from hallo4.media.files import warn
from hallo4.motion.checks import MAX_FRAMES, Context, People, frame_array, person_of
from hallo4.motion.hints import MotionHints
from hallo4.motion.mmpose import coco_people, dwpose_people, mmpose_people
from hallo4.motion.openpose import openpose_people
from hallo4.types import KEYPOINTS, Skeleton
from hallo4.whole import whole_file

FORMAT = "hallo4-keypoints"
VERSION = 1
MAX_FILE_BYTES = 1 << 28

_ALLOWED = (
    "a .json of hallo4, OpenPose, ComfyUI, MMPose, DWPose or COCO-WholeBody, an .npz of hallo4 or DWPose, or "
    "a folder of .json files, one a frame"
)
_KEYS = (
    '"points_px" (hallo4), "keypoints" with "scores" (DWPose), "people" (OpenPose, ComfyUI), "instance_info" '
    'or "instances" (MMPose), or entries with "image_id" (COCO-WholeBody)'
)


def load_skeleton(
    path: str | Path,
    *,
    fps: float | None = None,
    size_px: tuple[int, int] | None = None,
    person: str | None = None,
    assumed_fps: float | None = None,
    assumed_size_px: tuple[int, int] | None = None,
) -> Skeleton:
    """Read a skeleton sequence from a `.json` or `.npz` file or from a folder of `.json` files, one a frame.

    `fps` and `size_px` (width, height of the picture that the points lie in) count more than what the file
    says; `assumed_fps` and `assumed_size_px` less: they serve a file that does not say it, as far as its
    points lie in such a picture. Without any rate it is 25. `person`: whom to follow, see `PersonChoice.of`;
    None: the largest. Coordinates in fractions of the picture (0..1 or -1..1) are recognised by part of the
    body and scaled. Whatever is assumed, converted, overruled or left out is said in a `MediaWarning`.
    Frames in which no person was seen have confidence 0; see `bridge_gaps`.

    Pickles are never opened. Raises InputError, in one line, for whatever cannot be read or cannot be a
    person.
    """
    path = Path(path)
    hints = MotionHints(size_px, fps, person)
    context = Context(path.name or str(path), hints, assumed_size_px, assumed_fps)
    skeleton, notes = person_of(_read(path, context), context)
    for note in notes:
        warn(note)
    return skeleton


def _read(path: Path, context: Context) -> People:
    """Everybody in a file or folder."""
    if path.is_dir():
        return _load_folder(path, context)
    if not path.exists():
        raise InputError(f"{context.name}: no such file or folder; give {_ALLOWED}.")
    suffix = path.suffix.lower()
    if suffix in (".pkl", ".pickle", ".pt", ".pth"):
        raise InputError(f"{context.name}: pickles can run code and are refused; save it as .npz or .json.")
    if suffix not in (".json", ".npz"):
        raise InputError(f"{context.name}: {suffix or 'no'} suffix; a skeleton is {_ALLOWED}.")
    _refuse_large(path.stat().st_size, context)
    if suffix == ".npz":
        return _from_mapping(_read_npz(path, context), context)
    return _from_json(_read_json(path, context), context)


def save_skeleton(path: str | Path, skeleton: Skeleton) -> None:
    """Write `skeleton` as `keypoints.json`, or as `.npz` (float32, exact) if `path` ends so.

    Points that were not seen (confidence 0) are written as 0, 0 where they are not finite. The file appears
    whole or not at all. Raises OutputError if it cannot be written.
    """
    path = Path(path)
    assert len(skeleton) > 0
    assert skeleton.points_px.shape == (len(skeleton), KEYPOINTS, 2)
    assert skeleton.confidence.shape == (len(skeleton), KEYPOINTS)
    unseen = ~(skeleton.confidence > 0)
    points = np.where(unseen[..., None] & ~np.isfinite(skeleton.points_px), 0, skeleton.points_px)
    assert np.isfinite(points).all()
    assert np.isfinite(skeleton.confidence).all()
    if path.suffix.lower() not in (".json", ".npz"):
        raise OutputError(f"{path.name}: a skeleton is saved as .json or .npz; change the name's end.")
    try:
        with whole_file(path) as temporary, open(temporary, "wb") as file:
            if path.suffix.lower() == ".npz":
                numbers = {
                    "fps": skeleton.fps,
                    "width_px": skeleton.width_px,
                    "height_px": skeleton.height_px,
                }
                np.savez_compressed(file, points_px=points, confidence=skeleton.confidence, **numbers)
            else:
                file.write(_json_text(skeleton, points).encode())
    except OSError as error:
        reason = error.strerror or "cannot be written"
        raise OutputError(f"{path}: {reason}; choose a folder that exists and is writable.") from None


def _json_text(skeleton: Skeleton, points: np.ndarray) -> str:
    """The whole `keypoints.json`, one frame per line."""

    def lines(values: np.ndarray, decimals: int) -> str:
        rounded = np.round(values.astype(np.float64), decimals).tolist()
        return ",\n".join(json.dumps(frame, separators=(",", ":")) for frame in rounded)

    header = {
        "format": FORMAT,
        "version": VERSION,
        "fps": float(skeleton.fps),
        "width_px": int(skeleton.width_px),
        "height_px": int(skeleton.height_px),
    }
    return (
        f'{json.dumps(header)[:-1]},\n"points_px":[\n{lines(points, 2)}\n],\n'
        f'"confidence":[\n{lines(skeleton.confidence, 4)}\n]}}\n'
    )


def _from_json(value: Any, context: Context) -> People:
    """A whole file, of any of the formats, which its keys tell."""
    if isinstance(value, dict):
        if isinstance(value.get("annotations"), list):
            return coco_people(value["annotations"], value.get("images"), context)
        if "instance_info" in value:
            value = value["instance_info"]
        elif "people" in value or "instances" in value:
            value = [value]
        else:
            return _from_mapping(value, context)
    if not isinstance(value, list):
        raise InputError(f"{context.name}: holds a single {type(value).__name__}; give {_ALLOWED}.")
    return _from_frames(value, context)


def _from_frames(frames: list[Any], context: Context) -> People:
    """A list with an entry for each frame, or for each person of COCO-WholeBody."""
    if not 0 < len(frames) <= MAX_FRAMES:
        raise InputError(f"{context.name}: {len(frames)} frames; allowed are 1 to {MAX_FRAMES}.")
    first = next((frame for frame in frames if frame), frames[0])
    keys = first if isinstance(first, dict) else {}
    if "people" in keys:
        return openpose_people(frames, context)
    if "image_id" in keys:
        return coco_people(frames, None, context)
    if "instances" in keys or isinstance(first, list):
        return mmpose_people(frames, context)
    if "keypoints" in keys and "keypoint_scores" in keys:  # the people of one picture
        return mmpose_people([frames], context)
    found = f"objects with {_names(keys)}" if keys else f"a list of {type(first).__name__}"
    raise InputError(f"{context.name}: {found}; read are {_KEYS}.")


def _load_folder(folder: Path, context: Context) -> People:
    """All `.json` files of a folder, in the order of their names, as one frame each."""
    files = [file for file in folder.glob("*.json") if not file.name.startswith(".")]
    files.sort(key=lambda file: (len(file.name), file.name))  # frame 10 comes after frame 9, padded or not
    if not files:
        raise InputError(f"{context.name}: a folder without .json files; give {_ALLOWED}.")
    if len(files) > MAX_FRAMES:
        raise InputError(f"{context.name}: {len(files)} files; at most {MAX_FRAMES} are read.")
    _refuse_large(sum(file.stat().st_size for file in files), context)
    frames = []
    for file in files:
        of_file = replace(context, name=f"{context.name}/{file.name}")
        frames.append(_one_frame(_read_json(file, of_file), of_file))
    return _from_frames(frames, context)


def _one_frame(value: Any, context: Context) -> Any:
    """What one file of a folder holds of a frame: an object of OpenPose or MMPose, or MMPose's instances."""
    if isinstance(value, dict) and "instance_info" in value:
        value = value["instance_info"]
    if isinstance(value, dict) and ("people" in value or "instances" in value):
        return value
    if isinstance(value, list):
        if all(isinstance(one, dict) and "keypoint_scores" in one for one in value):
            return value
        if (
            len(value) == 1
            and isinstance(value[0], dict)
            and ("people" in value[0] or "instances" in value[0])
        ):
            return value[0]
    found = f"found {_names(value)}" if isinstance(value, dict) else f"found a {type(value).__name__}"
    raise InputError(
        f'{context.name}: no "people" (OpenPose) and no "instances" (MMPose) of one frame; {found}. Files of '
        "whole videos are given by themselves, not in a folder."
    )


def _names(value: Mapping[str, Any]) -> str:
    return ", ".join(sorted(map(ascii, value))[:8])[:80] or "nothing"


def _refuse_large(size_bytes: int, context: Context) -> None:
    if size_bytes > MAX_FILE_BYTES:
        found, allowed = size_bytes >> 20, MAX_FILE_BYTES >> 20
        raise InputError(f"{context.name}: {found} MiB; at most {allowed} MiB are read, cut it into parts.")


def _read_json(path: Path, context: Context) -> Any:
    """Parsed JSON; InputError with the line and column where it breaks."""
    content = read_input(path, MAX_FILE_BYTES, "a skeleton file", advice=f"Give {_ALLOWED}.")
    advice = "Write it again; an unseen point is 0, 0 with confidence 0."
    return parse_json(content, context.name, advice=advice)


def _read_npz(path: Path, context: Context) -> Mapping[str, Any]:
    """The arrays of an `.npz`, without ever unpickling."""
    broken = InputError(
        f"{context.name}: not a readable .npz of plain arrays (pickled objects are refused); "
        "write it with numpy.savez(points_px=..., confidence=..., fps=..., width_px=..., height_px=...)."
    )
    try:
        with open_input(path, "a skeleton file") as file, zipfile.ZipFile(file) as archive:
            _refuse_large(sum(member.file_size for member in archive.infolist()), context)
        with open_input(path, "a skeleton file") as file, np.load(file, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (ValueError, OSError, EOFError, KeyError, RuntimeError, MemoryError):
        raise broken from None
    except (zipfile.BadZipFile, zlib.error, SyntaxError):
        raise broken from None


def _from_mapping(value: Mapping[str, Any], context: Context) -> People:
    """Our own record, or DWPose's arrays under their names."""
    if "format" in value and str(value["format"]) != FORMAT:
        raise InputError(
            f'{context.name}: "format" is {ascii(str(value["format"]))[:40]}; must be "{FORMAT}".'
        )
    version = str(value.get("version", VERSION))
    if "format" in value and version != str(VERSION):
        raise InputError(f'{context.name}: "version" is {ascii(version)[:40]}; this hallo4 reads {VERSION}.')
    if "points_px" not in value:
        if "keypoints" in value:
            return dwpose_people(value, context)
        raise InputError(f"{context.name}: found {_names(value)}; read are {_KEYS}.")
    points = frame_array(value["points_px"], "points_px", ((KEYPOINTS, 2),), context)
    if "confidence" not in value:
        raise InputError(f'{context.name}: no "confidence"; add [T][{KEYPOINTS}] numbers in [0, 1].')
    confidence = frame_array(value["confidence"], "confidence", ((KEYPOINTS,),), context)
    if len(points) != len(confidence):
        raise InputError(
            f"{context.name}: {len(points)} frames of points but {len(confidence)} of confidence; "
            "both must have the same length."
        )
    one = np.concatenate([points, confidence[..., None]], axis=-1)
    size = (value.get("width_px"), value.get("height_px"))
    return People(one, np.arange(len(one)), len(one), value.get("fps"), size)
