"""Tables as files, through pyarrow: Parquet, which is read, and Arrow, which is mapped."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hallo4.errors import InputError, MissingExtraError, OutputError
from hallo4.input_file import check_regular, open_input
from hallo4.media.files import check_input
from hallo4.whole import whole_file

_ROWS_AT_ONCE = 256


def pyarrow() -> Any:
    """The library. MissingExtraError: not installed."""
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("Parquet files need pyarrow: pip install 'hallo4[parquet]'.") from error
    return pyarrow


def read_table(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Rows of a file by column, 256 in memory at a time. InputError: missing, or no parquet."""
    arrow = pyarrow()
    source = check_input(path, "a parquet file")
    try:
        with open_input(source, "a parquet file") as opened:
            file = arrow.parquet.ParquetFile(opened)
            there = file.schema_arrow.names
            wanted = None if columns is None else [name for name in columns if name in there]
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=wanted):
                yield from batch.to_pylist()
    except (arrow.ArrowException, OSError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(
            f"{path}: is no parquet file that can be read ({reason}). Export it again."
        ) from error


def write_table(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write rows with the same columns as one file, atomically; how many. OutputError: it cannot be."""
    arrow = pyarrow()
    rows = list(rows)
    try:
        with whole_file(path) as temporary:
            arrow.parquet.write_table(arrow.Table.from_pylist(rows), temporary)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error}). Choose another folder.") from error
    return len(rows)


_FACTS = b"hallo4"


def write_mapped(path: Path, columns: Mapping[str, list], types: Mapping[str, str], facts: str) -> None:
    """Write columns of Arrow's `types`, by name, and a text of `facts` about them, atomically.
    OutputError: they cannot be written."""
    arrow = pyarrow()
    schema = arrow.schema(
        [(name, arrow.type_for_alias(types[name])) for name in columns], {_FACTS: facts.encode()}
    )
    try:
        with whole_file(path) as temporary, arrow.ipc.new_file(os.fspath(temporary), schema) as writer:
            writer.write_batch(arrow.record_batch(list(columns.values()), schema=schema))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error}). Choose another folder.") from error


def open_mapped(path: Path, advice: str) -> tuple[Any, str]:
    """(record batch, facts) of such a file, whatever its length without reading it. InputError, which ends
    with `advice`: it is not there, or damaged."""
    arrow = pyarrow()
    check_regular(path, "an index")
    try:
        with arrow.ipc.open_file(arrow.memory_map(os.fspath(path))) as file:
            return file.get_batch(0), file.schema.metadata[_FACTS].decode()
    except (arrow.ArrowException, OSError, KeyError, TypeError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(f"{path}: is damaged ({reason}). {advice}") from error
