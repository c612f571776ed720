"""What a folder of prepared clips holds and no row of its index needs any more: found, and removed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hallo4.data.encode import COMMON, SHARDS, places_in_shards
from hallo4.data.index import IndexRow, read_index, read_stamp
from hallo4.data.stages import Findings, FindingsStore
from hallo4.errors import OutputError
from hallo4.json_file import parse_json
from hallo4.lock import sole_worker


@dataclass(frozen=True)
class Pruned:
    """Files that were removed, by kind, their bytes, and how many clips that are not needed lie in shards
    with others, which stay."""

    shards: int
    findings: int
    texts: int
    bytes_freed: int
    clips_left: int


def prune_shards(folder: Path) -> Pruned:
    """Remove shards without a clip of the index, findings of videos and options that are no more, and texts
    of no clip. What is removed is made again by `prepare_videos` where it is needed again.

    InputError: no prepared clips. OutputError: another process works on the folder, or it cannot be written.
    """
    read_stamp(folder)
    with sole_worker(folder / ".prepare.lock", folder, "Wait for it."):
        rows = list(read_index(folder))
        kept = {row.clip for row in rows if row.kept}
        there = places_in_shards(folder)
        needed = {shard for clip, (shard, _) in there.items() if clip in kept}
        shards = [file for file in (folder / SHARDS).glob("*.safetensors") if file.stem not in needed]
        names = {row.text for row in rows if row.kept}
        texts = [file for file in (folder / COMMON).glob("text-*.safetensors") if file.stem not in names]
        findings = list(_unneeded(folder, rows))
        freed = sum(file.stat().st_size for file in [*shards, *texts, *findings])
        try:
            for file in [*shards, *texts, *findings]:
                file.unlink()
        except OSError as error:
            raise OutputError(f"{folder}: cannot be pruned ({error.strerror}). Change its rights.") from error
    left = sum(clip not in kept and shard in needed for clip, (shard, _) in there.items())
    return Pruned(len(shards), len(findings), len(texts), freed, left)


def _unneeded(folder: Path, rows: list[IndexRow]) -> Iterator[Path]:
    """Findings that stand in no row. Those of videos without clips say why, and stay."""
    needed: set[str] = set()
    for row in rows:
        made_of = parse_json(row.made_of, "made_of", dict[str, Any])
        needed |= set(made_of.get("stages", {}).values())
    store = FindingsStore(folder / "findings")
    for file in sorted(store.folder.glob("*/*/*.npz")):
        if file.stem not in needed and not _is_problem(store.stored(file.parts[-3], file.stem)):
            yield file


def _is_problem(found: Findings | None) -> bool:
    return found is not None and "problem" in found.values
