"""`convert_release`: the released files -> a model folder, tensor by tensor, resumable, whole or not at all.

    PRETRAINED/ --plan_parts--> parts --_build_part, one after the other--> .DIR.converting/ --move--> DIR/

Everything is checked from headers before anything is written. Then, per part, files are mapped and every
tensor is converted and written in pieces, so memory stays at the mapping of the largest file and a few
hundred megabytes. A finished part gets a stamp of what it was made from; the same command after an
interruption keeps the parts whose stamps still hold.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hallo4.errors import Cancelled, CheckpointError, InputError, OutputError
from hallo4.input_file import file_sha256
from hallo4.json_file import read_json
from hallo4.lock import sole_maker
from hallo4.outputs import refuse_output
from hallo4.pipelines.model_index import write_model_index
from hallo4.pipelines.model_info import refuse_other_than_model
from hallo4.pipelines.released_card import (
    RELEASED_CANVAS_SIZES_PX,
    RELEASED_WINDOW_FRAMES,
    converted_card,
    model_description,
)
from hallo4.pipelines.released_files import open_tensors
from hallo4.pipelines.released_part import Part
from hallo4.pipelines.released_plans import DIT_TYPES, StoredType, plan_parts
from hallo4.pipelines.safetensors_stream import write_tensors
from hallo4.version import __version__
from hallo4.whole import flush_folder, place_folder, write_whole

STAMPS = "finished.json"
SIDE_MULTIPLE_PX = 16
"""8 pixels per latent cell, 2 x 2 cells per patch."""
RESERVE_BYTES = 64 * 1024 * 1024
"""Free space beyond the tensors: configs, card, and what the file system needs for itself."""


@dataclass(frozen=True)
class ConversionProgress:
    """`bytes_done` of `bytes_total` are read for hashes or written; `notes` come once, with the first."""

    part: str
    bytes_done: int
    bytes_total: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Conversion:
    """A finished conversion: the model `folder` and `notes` on what was found, one line each."""

    folder: Path
    notes: tuple[str, ...]


OnProgress = Callable[[ConversionProgress], None]


def convert_release(
    pretrained: str | os.PathLike[str],
    output: str | os.PathLike[str],
    dtype: StoredType = "keep",
    canvas_sizes_px: Sequence[tuple[int, int]] = RELEASED_CANVAS_SIZES_PX,
    window_frames: int = RELEASED_WINDOW_FRAMES,
    on_progress: OnProgress = lambda progress: None,
) -> Conversion:
    """Turn the released files under `pretrained` into the model folder `output`.

    `dtype`: how the DiT is stored. "keep": as in the file; "bf16": all but norms, timestep, modulation and
    output layers; "fp32". `canvas_sizes_px` (height, width) and `window_frames` (4k+1) describe what the
    weights were trained on; they differ from the released values only for weights of another training.

    InputError: files that are missing, or values that cannot be. CheckpointError: files that are not what
    belongs in their place, are damaged, or hold NaN. OutputError: no space, something else than a model in
    the place of `output`, or another process that makes it. Cancelled: interrupted; the same call resumes. An
    older model is replaced only by a whole new one.
    """
    root, target = Path(pretrained), Path(output)
    _check_settings(root, target, dtype, canvas_sizes_px, window_frames)
    parts = plan_parts(root, dtype)
    building = target.with_name(f".{target.name}.converting")
    with sole_maker(target):
        try:
            finished = _build_parts(parts, building, root, on_progress)
            _describe(building, parts, finished, dtype, canvas_sizes_px, window_frames)
            place_folder(building, target.resolve())
            (target / STAMPS).unlink()  # till now a kill leaves parts that are known to be finished
        except KeyboardInterrupt as stop:
            raise Cancelled(
                f"stopped; finished parts are in {building}, and the same command resumes"
            ) from stop
        except (CheckpointError, InputError):
            shutil.rmtree(building, ignore_errors=True)  # what was refused leaves nothing behind
            raise
        except OSError as error:
            raise OutputError(
                f"{target}: the model cannot be written there ({error.strerror}). Finished parts are kept in "
                f"{building}: make room and run the same command, or choose another path."
            ) from error
    return Conversion(target, tuple(note for part in parts for note in part.notes))


def _check_settings(
    root: Path, target: Path, dtype: str, canvas_sizes_px: Sequence[tuple[int, int]], window_frames: int
) -> None:
    if dtype not in DIT_TYPES:
        raise InputError(f"dtype is {dtype!r}; use one of {', '.join(DIT_TYPES)}.")
    for height, width in canvas_sizes_px:
        if min(height, width) < SIDE_MULTIPLE_PX or height % SIDE_MULTIPLE_PX or width % SIDE_MULTIPLE_PX:
            raise InputError(
                f"canvas {height}x{width}: height and width must be multiples of {SIDE_MULTIPLE_PX} pixels, "
                "such as 480x832."
            )
    if not canvas_sizes_px or window_frames < 5 or window_frames % 4 != 1:
        raise InputError(
            f"windows of {window_frames} frames on {len(canvas_sizes_px)} canvas sizes: give 4k+1 frames, "
            "5 or more, such as 81, and at least one size."
        )
    if not root.is_dir():
        found = "is a file" if root.exists() else "is not there"
        raise InputError(
            f"{root}: {found}; give the folder of the released files, with hallo4/ and Wan2.1_Encoders/."
        )
    refuse_output(target, [root])
    refuse_output(root, [target])  # what stands there is replaced as a whole
    refuse_other_than_model(target)


# ---------------------------------------------------------------------- parts


def _build_parts(
    parts: list[Part], building: Path, root: Path, on_progress: OnProgress
) -> dict[str, dict[str, Any]]:
    """Write the parts that `building` does not hold yet; the stamps of all."""
    finished = _kept_stamps(parts, building, root)
    waiting = [part for part in parts if part.folder not in finished]
    needed = sum(part.bytes for part in waiting) + RESERVE_BYTES
    free = shutil.disk_usage(next(place for place in building.absolute().parents if place.is_dir())).free
    if free < needed:
        raise OutputError(
            f"{building.parent}: {needed / 1e9:.1f} GB are needed there and {free / 1e9:.1f} GB are free. "
            "Make room, or choose another disk with -o."
        )
    building.mkdir(parents=True, exist_ok=True)
    total = sum(part.bytes + sum(path.stat().st_size for path in part.sources) for part in waiting)
    notes = [note for part in parts for note in part.notes]
    notes += [f"{part.folder}/ is kept from the interrupted run" for part in parts if part not in waiting]
    done = 0

    def advance(part: str, count: int) -> None:
        nonlocal done
        done += count
        on_progress(ConversionProgress(part, done, total))

    on_progress(ConversionProgress(waiting[0].folder if waiting else "", 0, total, tuple(notes)))
    for part in waiting:
        name = part.folder
        hashes = _build_part(part, building / name, root, lambda count, name=name: advance(name, count))
        flush_folder(building / name)
        finished[name] = {"made_from": _fingerprint(part, root), "sources": hashes}
        write_whole(building / STAMPS, json.dumps(finished, indent=2))
    return finished


def _kept_stamps(parts: list[Part], building: Path, root: Path) -> dict[str, dict[str, Any]]:
    """Stamps of parts that an interrupted run finished from the same files; everything else is removed."""
    try:
        stamps = read_json(building / STAMPS, dict[str, dict[str, Any]])
        kept = {
            part.folder: stamps[part.folder]
            for part in parts
            if stamps.get(part.folder, {}).get("made_from") == _fingerprint(part, root)
            and (building / part.folder / part.weights).is_file()
        }
    except InputError:
        kept = {}
    if building.is_dir():
        for path in building.iterdir():
            if path.is_dir() and path.name not in kept:
                shutil.rmtree(path)
            elif path.is_file() and path.name != STAMPS:
                path.unlink()
    return kept


def _fingerprint(part: Part, root: Path) -> str:
    """Says whether a part would come out the same: its plan, and name, size and time of change of its files.

    A file changed with all three left as they were is not noticed.
    """
    states = [(path, path.stat()) for path in part.sources]
    files = [(_named(path, root).as_posix(), state.st_size, state.st_mtime_ns) for path, state in states]
    plan = sorted(
        (ours, theirs, str(stored.dtype), stored.shape) for ours, (theirs, stored) in part.tensors.items()
    )
    content = json.dumps([__version__, files, plan, part.documents, sorted(part.copies)])
    return hashlib.sha256(content.encode()).hexdigest()


def _build_part(part: Part, folder: Path, root: Path, advance: Callable[[int], None]) -> list[list[Any]]:
    """Write one part; [name, bytes, SHA-256] of the files that it was made from."""
    hashes = [
        [_named(path, root).as_posix(), path.stat().st_size, file_sha256(path, advance)]
        for path in part.sources
    ]
    weights = folder / part.weights
    weights.parent.mkdir(parents=True)
    for name, source in part.copies.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / name)
        advance(source.stat().st_size)
    for name, document in part.documents.items():
        (folder / name).write_text(json.dumps(document, indent=2) + "\n")
    tensors = open_tensors(list(part.checkpoint), part.what)
    stored = {name: what for name, (_, what) in part.tensors.items()}
    try:
        write_tensors(weights, stored, lambda name: tensors[part.tensors[name][0]], advance)
    except ValueError as error:
        source = part.tensors[str(error)][0]
        raise CheckpointError(
            f"{part.checkpoint[0]}: tensor {source} holds NaN or infinite values. Copy the file again."
        ) from error
    return hashes


def _named(path: Path, root: Path) -> Path:
    return path.relative_to(root)


# ---------------------------------------------------------------------- the folder


def _describe(
    building: Path,
    parts: list[Part],
    finished: dict[str, dict[str, Any]],
    dtype: str,
    canvas_sizes_px: Sequence[tuple[int, int]],
    window_frames: int,
) -> None:
    stamped = [tuple(source) for part in parts for source in finished[part.folder]["sources"]]
    sources = [(Path(name), size, digest) for name, size, digest in dict.fromkeys(stamped)]
    version = sources[0][2][:12]  # of the DiT's file
    description = model_description(version, canvas_sizes_px, window_frames)
    (building / "README.md").write_text(converted_card(version, dtype, sources), encoding="utf-8")
    text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    (building / "model.json").write_text(text, encoding="utf-8")
    write_model_index(building)
