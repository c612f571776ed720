"""Skeleton files: our `keypoints.json`, `.npz` arrays, and OpenPose's JSON files or folders.

`keypoints.json` is one JSON object, one frame per line::

    {"format": "hallo4-keypoints", "version": 1, "fps": 25.0, "width_px": 768, "height_px": 768,
     "points_px": [T][133][2], "confidence": [T][133]}

`points_px` is rounded to 0.01 px and `confidence` to 0.0001; both follow `hallo4.types.Skeleton`.
An `.npz` holds the same names. DWPose's own names `keypoints` (with a third column or with `scores`) are
read as well, from both kinds of file.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hallo4.errors import InputError, OutputError
from hallo4.motion.checks import MAX_FRAMES, Context, checked_skeleton, frame_array
from hallo4.motion.openpose import people_frames
from hallo4.types import KEYPOINTS, Skeleton

FORMAT = "hallo4-keypoints"
VERSION = 1
MAX_FILE_BYTES = 1 << 28


_ALLOWED = "a keypoints .json, an .npz, or a folder of OpenPose .json files"


def load_skeleton(
    path: str | Path, *, fps: float | None = None, size_px: tuple[int, int] | None = None
) -> Skeleton:
    """Read a skeleton sequence from a `.json` or `.npz` file or from a folder of OpenPose `.json` files.

    `fps` and `size_px` (width, height) serve files that do not say them, and are otherwise ignored; a file
    without `fps` is taken at 25. Where OpenPose saw several people the most visible one is followed.
    Pickles are never opened. Raises InputError, in one line, for whatever cannot be read.
    """
    path = Path(path)
    context = Context(path.name or str(path), fps, size_px)
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
    value = _read_json(path, context)
    if isinstance(value, list) or (isinstance(value, dict) and "people" in value):
        return people_frames(value if isinstance(value, list) else [value], context)
    if isinstance(value, dict):
        return _from_mapping(value, context)
    raise InputError(f"{context.name}: holds a single {type(value).__name__}; give {_ALLOWED}.")


def save_skeleton(path: str | Path, skeleton: Skeleton) -> None:
    """Write `skeleton` as `keypoints.json`, or as `.npz` (float32, exact) if `path` ends so.

    Points that nobody saw (confidence 0) are written as 0, 0 where they are not finite. The file appears
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
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(partial, "wb") as file:
            if path.suffix.lower() == ".npz":
                numbers = {
                    "fps": skeleton.fps,
                    "width_px": skeleton.width_px,
                    "height_px": skeleton.height_px,
                }
                np.savez_compressed(file, points_px=points, confidence=skeleton.confidence, **numbers)
            else:
                file.write(_json_text(skeleton, points).encode())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
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


def _load_folder(folder: Path, context: Context) -> Skeleton:
    """All `.json` files of a folder, in the order of their names, as one OpenPose frame each."""
    files = [file for file in folder.glob("*.json") if not file.name.startswith(".")]
    files.sort(key=lambda file: (len(file.name), file.name))  # frame 10 comes after frame 9, padded or not
    if not files:
        raise InputError(f"{context.name}: a folder without .json files; give {_ALLOWED}.")
    if len(files) > MAX_FRAMES:
        raise InputError(f"{context.name}: {len(files)} files; at most {MAX_FRAMES} are read.")
    _refuse_large(sum(file.stat().st_size for file in files), context)
    frames: list[Any] = []
    for file in files:
        value = _read_json(file, Context(f"{context.name}/{file.name}", context.fps, context.size_px))
        if not isinstance(value, dict) or "people" not in value:
            raise InputError(f'{context.name}/{file.name}: no "people"; give one OpenPose frame per file.')
        frames.append(value)
    return people_frames(frames, context)


def _refuse_large(size_bytes: int, context: Context) -> None:
    if size_bytes > MAX_FILE_BYTES:
        found, allowed = size_bytes >> 20, MAX_FILE_BYTES >> 20
        raise InputError(f"{context.name}: {found} MiB; at most {allowed} MiB are read, cut it into parts.")


def _read_json(path: Path, context: Context) -> Any:
    """Parsed JSON; InputError with the line and column where it breaks."""

    def refuse(constant: str) -> None:
        raise InputError(f"{context.name}: holds {constant}; give an unseen point as 0, 0 with confidence 0.")

    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{context.name}: not valid JSON at line {error.lineno} column {error.colno} ({error.msg}); "
            "the file may be cut off, write it again."
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{context.name}: not text in UTF-8, so not JSON; give {_ALLOWED}.") from None
    except (RecursionError, ValueError):  # lists in lists without end, or a number of thousands of digits
        raise InputError(f"{context.name}: nested or sized beyond reason; give {_ALLOWED}.") from None
    except OSError as error:
        raise InputError(f"{context.name}: {error.strerror}; check that you may read it.") from None


def _read_npz(path: Path, context: Context) -> Mapping[str, Any]:
    """The arrays of an `.npz`, without ever unpickling."""
    broken = InputError(
        f"{context.name}: not a readable .npz of plain arrays (pickled objects are refused); "
        "write it with numpy.savez(points_px=..., confidence=..., fps=..., width_px=..., height_px=...)."
    )
    try:
        with zipfile.ZipFile(path) as archive:
            _refuse_large(sum(member.file_size for member in archive.infolist()), context)
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (ValueError, OSError, EOFError, KeyError, RuntimeError, MemoryError):
        raise broken from None
    except (zipfile.BadZipFile, zlib.error, SyntaxError):
        raise broken from None


def _from_mapping(value: Mapping[str, Any], context: Context) -> Skeleton:
    """Our own record, or DWPose's arrays under their names."""
    if "format" in value and str(value["format"]) != FORMAT:
        raise InputError(
            f'{context.name}: "format" is {ascii(str(value["format"]))[:40]}; must be "{FORMAT}".'
        )
    version = str(value.get("version", VERSION))
    if "format" in value and version != str(VERSION):
        raise InputError(f'{context.name}: "version" is {ascii(version)[:40]}; this hallo4 reads {VERSION}.')
    if "points_px" in value:
        points = frame_array(value["points_px"], "points_px", ((KEYPOINTS, 2),), context)
        if "confidence" not in value:
            raise InputError(f'{context.name}: no "confidence"; add [T][{KEYPOINTS}] numbers in [0, 1].')
        confidence = frame_array(value["confidence"], "confidence", ((KEYPOINTS,),), context)
    elif "keypoints" in value:
        points, confidence = _dwpose(value, context)
    else:
        found = ", ".join(sorted(map(ascii, value))[:8])[:80] or "nothing"
        raise InputError(f'{context.name}: no "points_px", "keypoints" or "people"; found {found}.')
    size = (value.get("width_px"), value.get("height_px"))
    return checked_skeleton(points, confidence, value.get("fps"), size, context)


def _dwpose(value: Mapping[str, Any], context: Context) -> tuple[np.ndarray, np.ndarray]:
    """`keypoints` [T][133][2] with `scores` [T][133], or [T][133][3]; also with an axis of one person."""
    shapes = ((KEYPOINTS, 2), (KEYPOINTS, 3), (1, KEYPOINTS, 2), (1, KEYPOINTS, 3))
    keypoints = frame_array(value["keypoints"], "keypoints", shapes, context)
    keypoints = keypoints.reshape(len(keypoints), KEYPOINTS, -1)
    if keypoints.shape[-1] == 3:
        scores = keypoints[..., 2]
    elif "scores" in value:
        scores = frame_array(value["scores"], "scores", ((KEYPOINTS,), (1, KEYPOINTS)), context)
        scores = scores.reshape(len(scores), KEYPOINTS)
    else:
        raise InputError(f'{context.name}: "keypoints" without "scores"; add [T][{KEYPOINTS}] confidences.')
    # DWPose's scores are heights of a peak and may pass 1.
    return keypoints[..., :2], np.clip(scores, 0.0, 1.0)
