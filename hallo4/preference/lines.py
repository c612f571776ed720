"""The tables of a store as JSON lines, there and back: a file per table, a record per line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hallo4.errors import InputError, OutputError
from hallo4.input_file import open_input, shown
from hallo4.preference.foreign import Imported
from hallo4.preference.schema import TABLES
from hallo4.preference.store import PreferenceStore
from hallo4.whole import write_whole

_LONGEST_LINE = 1 << 22


def export_lines(store: PreferenceStore, folder: Path) -> int:
    """Write every table of a store as `folder/<table>.jsonl`; returns the records. OutputError."""
    total = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in TABLES:
            records = getattr(store, name)()
            records = list(records.values()) if isinstance(records, dict) else records
            write_whole(folder / f"{name}.jsonl", "".join(record.to_json() + "\n" for record in records))
            total += len(records)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror}). Choose another folder."
        ) from error
    return total


def import_lines(store: PreferenceStore, folder: Path) -> Imported:
    """Add every record of `folder/*.jsonl` to a store; media are copied apart. Pairs replace those there.

    A line that cannot be used is dropped and named. InputError: no such files; OutputError.
    """
    tables = [name for name in TABLES if os.path.lexists(folder / f"{name}.jsonl")]
    if not tables:
        raise InputError(f"{folder}: holds none of {', '.join(TABLES)} as .jsonl. Name the folder of them.")
    result = Imported()
    for name in tables:
        file = folder / f"{name}.jsonl"
        numbered = list(records_of_lines(file, TABLES[name], result.dropped))
        if name == "pairs":
            result.records += store.add_records(name, [record for _, record in numbered])
            continue
        with store.database.writing():
            for number, record in numbered:
                try:
                    result.records += store.add_records(name, [record])
                except InputError as error:
                    result.dropped.append(f"{file.name} line {number}: {error}")
    return result


def records_of_lines(file: Path, kind: Any, dropped: list[str]) -> Iterator[tuple[int, Any]]:
    """(number of the line from 1, record) of a JSON lines file; a line that is none is named in `dropped`.

    InputError: the file cannot be opened.
    """
    with open_input(file, "a file of JSON lines") as lines:
        number = 0
        while line := lines.readline(_LONGEST_LINE):
            number += 1
            try:
                if len(line) == _LONGEST_LINE:
                    raise InputError(f"is longer than {_LONGEST_LINE} bytes")
                if line.strip():
                    yield number, kind.from_json(line.decode())
            except (InputError, UnicodeDecodeError) as error:
                dropped.append(f"{shown(file.name)} line {number}: {error}")
