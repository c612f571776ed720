"""Tables as Parquet files, through pyarrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hallo4.errors import InputError, MissingExtraError, OutputError
from hallo4.input_file import open_input
from hallo4.media.files import check_input
from hallo4.whole import whole_file

_ROWS_AT_ONCE = 256


def pyarrow() -> Any:
    """The library. MissingExtraError: not installed."""
    try:
        import pyarrow
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
    """Write rows with the same columns as one file, in one stroke; how many. OutputError: it cannot be."""
    arrow = pyarrow()
    rows = list(rows)
    try:
        with whole_file(path) as temporary:
            arrow.parquet.write_table(arrow.Table.from_pylist(rows), temporary)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error}). Choose another folder.") from error
    return len(rows)
