"""The tables of a store as Parquet files, there and back.

A table has a column per field; what is no plain number or text (settings, parts, axes, flags, values that
may be a number or a word) is JSON in a text column. Records are checked as strictly as lines of JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from hallo4.errors import InputError, OutputError
from hallo4.json_file import parse_json
from hallo4.media.parquet_files import pyarrow, read_table, write_table
from hallo4.preference.schema import SCHEMA_VERSION, TABLES
from hallo4.preference.store import PreferenceStore

_JSON_FIELDS = {"settings", "parts", "axes", "flags", "value", "segment_labels"}


def export_parquet(store: PreferenceStore, folder: Path) -> int:
    """Write every table of a store that has records as `folder/<table>.parquet`; returns the records."""
    pyarrow()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}). Choose another folder.") from error
    total = 0
    for name in TABLES:
        records = getattr(store, name)()
        records = list(records.values()) if isinstance(records, dict) else records
        if records:
            total += write_table(folder / f"{name}.parquet", (_row(record) for record in records))
    return total


def import_parquet(store: PreferenceStore, folder: Path) -> int:
    """Add every record of `folder/*.parquet` to a store; returns how many were new. Media are copied apart.

    InputError: no such tables; a record that is wrong, named by table and row. Pairs replace those there.
    """
    tables = [name for name in TABLES if os.path.lexists(folder / f"{name}.parquet")]
    if not tables:
        raise InputError(f"{folder}: holds none of {', '.join(TABLES)} as .parquet. Name the folder of them.")
    return sum(
        store.add_records(name, list(_records(folder / f"{name}.parquet", TABLES[name]))) for name in tables
    )


def _row(record: Any) -> dict[str, Any]:
    values = asdict(record)
    plain = {key: json.dumps(v) if key in _JSON_FIELDS else v for key, v in values.items()}
    return {"schema_version": SCHEMA_VERSION, **plain}


def _records(path: Path, kind: Any) -> Iterator[Any]:
    known = {field.name for field in fields(kind)} | {"schema_version"}
    for number, row in enumerate(read_table(path), start=1):
        try:
            values = {
                key: parse_json(value, key) if key in _JSON_FIELDS and isinstance(value, str) else value
                for key, value in row.items()
            }
            text = json.dumps(
                {key: value for key, value in values.items() if key in known or value is not None}
            )
            yield kind.from_json(text)
        except (ValueError, TypeError, RecursionError, InputError) as error:
            raise InputError(f"{path} row {number}: {error}") from error
