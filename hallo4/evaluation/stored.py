"""Reports that were written before, taken apart into rows. Without a `schema` they are of version 0.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from hallo4.errors import InputError
from hallo4.evaluation.report import REFERENCE, SCHEMA, Row
from hallo4.json_file import checked, read_json


@dataclass(frozen=True)
class Measured:
    """A report that was read: its kind (`world` or `videos`), what it says of itself, and its rows."""

    kind: str
    said: Mapping[str, Any]
    rows: list[Row]


@dataclass(frozen=True)
class _Any:
    """A report of any version: what says which one it is."""

    schema: int = 1
    kind: str = "world"


@dataclass(frozen=True)
class _WorldClip:
    clip: Annotated[int, Field(ge=0)]
    episode_seed: Annotated[int, Field(ge=0)]
    model: dict[str, float | None]
    instrument: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class _OldWorld:
    episodes: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0)]
    model: str
    settings: dict[str, Any]
    rows: Annotated[tuple[_WorldClip, ...], Field(min_length=1)]
    metrics: dict[str, Any]


@dataclass(frozen=True)
class _OldEntry:
    values: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class _VideosClip:
    clip: str
    systems: dict[str, _OldEntry]
    reference: _OldEntry


@dataclass(frozen=True)
class _OldVideos:
    references: str
    rows: Annotated[tuple[_VideosClip, ...], Field(min_length=1)]


@dataclass(frozen=True)
class _Rows:
    settings: dict[str, Any]
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]


@dataclass(frozen=True)
class _World(_Rows):
    episodes: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0)]
    model: str


@dataclass(frozen=True)
class _Videos(_Rows):
    references: str | None


_KINDS = {
    (1, "world"): _OldWorld, (1, "videos"): _OldVideos, (2, "world"): _World, (2, "videos"): _Videos,
}  # fmt: skip


def read_report(path: Path) -> Measured:
    """The rows of a report of `hallo4 evaluate world` or `videos`, of this version or 0.1; of the world those
    of its model.

    InputError: another file, another version, or one that lacks what is compared.
    """
    advice = "Give the JSON file that `hallo4 evaluate world` or `videos` wrote."
    report = read_json(path, dict[str, Any], advice=advice)
    version = checked(report, _Any, str(path), advice=advice)
    if version.schema > SCHEMA:
        raise InputError(
            f"{path}: is a report of schema {version.schema}; this version of hallo4 reads up to {SCHEMA}. "
            "Update hallo4, or measure again."
        )
    kind = _KINDS.get((version.schema, version.kind))
    if kind is None:
        raise InputError(f"{path}: is a report of another kind, {version.kind!r}. {advice}")
    found = checked(report, kind, str(path), advice=advice)
    return Measured(version.kind, report, _rows_of(found))


def _rows_of(found: Any) -> list[Row]:
    if isinstance(found, _World):
        return [row for row in found.rows if row.system in (found.model, REFERENCE)]
    if isinstance(found, _OldWorld):
        return [
            Row(str(row.clip), system, values, facts={"episode_seed": row.episode_seed})
            for row in sorted(found.rows, key=lambda row: row.clip)
            for system, values in ((REFERENCE, row.instrument), (found.model, row.model))
        ]
    if isinstance(found, _Videos):
        return list(found.rows)
    return [
        Row(row.clip, system, entry.values)
        for row in found.rows
        for system, entry in {REFERENCE: row.reference, **row.systems}.items()
    ]


def as_run(rows: Sequence[Row], system: str, of: str, run: int) -> list[Row]:
    """The rows of the system `of`, as a run of what is called `system`."""
    return [replace(row, system=system, run=run) for row in rows if row.system == of]
