"""What lies in a folder of shards: a row per clip, kept or not, and what all of them were made by."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from hallo4.data.sources import Source
from hallo4.errors import InputError
from hallo4.json_file import checked, parse_json, read_json
from hallo4.media.parquet_files import open_mapped, read_table, write_mapped, write_table
from hallo4.whole import write_whole

INDEX, KEPT, STAMP = "index.parquet", "kept.arrow", "prepared.json"
FORMAT = 1
UNUSABLE, NO_PERSON, TOO_SHORT, SAME_FILE = "unusable", "no person", "too short", "same file"
"""Reasons of a whole video."""
ANOTHER = "Prepare into another folder."


@dataclass(frozen=True)
class IndexRow:
    """A clip, or a video of which there is none.

    `clip`: its key ("": none); `reasons` against it and what was `found`, both separated by "; ";
    `made_of`: JSON of everything that decided it; `shard` that holds it and its `latent_shape` "FxHxW";
    `text`: the file of its text embedding; `reference_s`: the time of the frame that is the reference (None:
    a portrait beside the video is); `sync_confidence` and `sync_offset` (frames) of SyncNet, where it
    was asked.
    """

    clip: str
    source: str
    source_sha256: str
    start_s: float
    end_s: float
    licence: str
    kept: bool
    reasons: str = ""
    found: str = ""
    prompt: str | None = None
    text: str | None = None
    reference_s: float | None = None
    face_px: float = 0.0
    sharpness: float = 0.0
    found_share: float = 0.0
    hands_share: float = 0.0
    speech_share: float = 0.0
    sync_confidence: float | None = None
    sync_offset: float | None = None
    people: int | None = None
    keypoints_by: str = ""
    picture: str = ""
    made_of: str = "{}"
    shard: str | None = None
    latent_shape: str | None = None

    @staticmethod
    def of_video(path: Path, reason: str, found: str, source: Source | None, licence: str) -> IndexRow:
        """The row of a video without clips."""
        sha256 = "" if source is None else source.sha256
        return IndexRow("", str(path), sha256, 0.0, 0.0, licence, False, reason, found)

    def placed(self, place: tuple[str, str] | None, problem: str | None) -> IndexRow:
        """With its shard and latent shape; a clip that could not be encoded is not kept."""
        if not self.kept:
            return self
        if place is None:
            return replace(self, kept=False, reasons=UNUSABLE, found=problem or "was not encoded")
        return replace(self, shard=place[0], latent_shape=place[1])


@dataclass(frozen=True)
class Stamp:
    """Of all shards in a folder: the model's name and where it was, frames of a clip, and what of the model
    decided their content."""

    model: str
    model_path: str
    clip_frames: int
    made_by: dict[str, Any]


def write_index(folder: Path, rows: Iterable[IndexRow]) -> None:
    """Replace the index. OutputError: it cannot be written. MissingExtraError: pyarrow is not installed."""
    write_table(folder / INDEX, [asdict(row) for row in rows])


def write_kept(folder: Path, rows: Iterable[IndexRow]) -> None:
    """Write what drawing clips needs of the kept rows, those of one latent shape behind each other, as a file
    that is mapped and not read. OutputError: it cannot be written."""
    kept = sorted((row for row in rows if row.kept), key=lambda row: row.latent_shape or "")
    shapes: dict[str, list[int]] = {}
    for number, row in enumerate(kept):
        shapes.setdefault(row.latent_shape or "", [number, number])[1] = number + 1
    facts = {"shapes": shapes, "licences": Counter(row.licence for row in kept)}
    columns = {name: [getattr(row, name) for row in kept] for name in KEPT_COLUMNS}
    write_mapped(folder / KEPT, columns, KEPT_COLUMNS, json.dumps(facts))


KEPT_COLUMNS = {
    **dict.fromkeys(("clip", "shard", "latent_shape", "text", "source"), "string"),
    "face_px": "double",
}
"""Columns of `kept.arrow` and their types."""


def open_kept(folder: Path) -> tuple[Any, dict[str, list[int]], dict[str, int]]:
    """(the mapped table, latent shape -> first clip and the one behind the last, licence -> clips).
    InputError: there is none, or it is damaged."""
    advice = "Prepare again: shards are kept."
    table, said = open_mapped(folder / KEPT, advice)
    facts = parse_json(said, str(folder / KEPT), dict[str, dict[str, Any]], advice=advice)
    return table, facts["shapes"], facts["licences"]


def read_index(folder: Path) -> Iterator[IndexRow]:
    """All rows. InputError: there is no index, or of another form."""
    names = [field.name for field in fields(IndexRow)]
    for row in read_table(folder / INDEX, names):
        if set(row) != set(names):
            raise InputError(
                f"{folder / INDEX}: is of another version of hallo4 (columns {', '.join(sorted(row))}). "
                "Prepare again; what has not changed is used again."
            )
        yield IndexRow(**row)


def read_stamp(folder: Path) -> Stamp:
    """InputError: the folder holds no shards, or those of another version."""
    file = folder / STAMP
    if not file.is_file():
        raise InputError(
            f"{folder}: holds no prepared clips. Make them: hallo4 data prepare VIDEOS -o {folder}."
        )
    content = read_json(file, dict[str, Any], advice=ANOTHER)
    if content.pop("format", None) != FORMAT:
        raise InputError(f"{file}: is of another version of hallo4. {ANOTHER}")
    return checked(content, Stamp, str(file), advice=ANOTHER)


def claim_folder(folder: Path, stamp: Stamp) -> None:
    """Write the stamp. InputError: the folder holds shards made by something else. OSError: not written."""
    if not (folder / STAMP).exists():
        others = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        if others:
            raise InputError(
                f"{folder}: holds other things, such as {others[0]}. Choose a new or empty folder."
            )
        content = {"format": FORMAT, **asdict(stamp)}
        write_whole(folder / STAMP, (json.dumps(content, indent=1) + "\n").encode())
        return
    there = read_stamp(folder)
    if there.clip_frames != stamp.clip_frames:
        raise InputError(
            f"{folder}: holds clips of {there.clip_frames} frames, and {stamp.clip_frames} are asked for. "
            "Choose another folder."
        )
    differ = differences(there, stamp)
    if differ:
        raise InputError(
            f"{folder}: holds shards for {there.model}, which differ from those for {stamp.model} in "
            f"{', '.join(differ)}. Choose another folder."
        )


def differences(one: Stamp, other: Stamp) -> list[str]:
    """What decided the content of shards and is not the same in both."""
    first, second = (parse_json(json.dumps(stamp.made_by), STAMP, dict[str, Any]) for stamp in (one, other))
    return sorted(name for name in first | second if first.get(name) != second.get(name))
