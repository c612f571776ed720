"""Rows of an evaluation as JSON lines beside its report, so that a stopped run goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hallo4.errors import OutputError
from hallo4.evaluation.report_files import require_writable
from hallo4.json_file import read_json_lines
from hallo4.lock import sole_writer
from hallo4.version import __version__

Row = dict[str, Any]


class RowStore:
    """The file `REPORT.KEY.rows.jsonl`, whose `key` is made of everything that decides a row.

    A context manager: within it no other process works on the report. OutputError, before any work, if one
    does, or if it or the report cannot be written.
    """

    def __init__(self, out: Path, key: str):
        self.out = out
        self.path = out.with_name(f"{out.stem}.{key}.rows.jsonl")

    def __enter__(self) -> RowStore:
        require_writable(self.out)
        with ExitStack() as held:
            held.enter_context(sole_writer(self.out))
            try:
                self.path.open("a").close()
            except OSError as error:
                raise OutputError(
                    f"{self.out}: cannot be written ({error.strerror}); nothing was measured. Choose another "
                    "path."
                ) from error
            self._held = held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def rows(self, kind: Any) -> Iterator[Row]:
        """The rows that are there, oldest first; a line cut by a kill is left out, to be measured again.

        InputError, naming the line: a row that is no `kind`.
        """
        return read_json_lines(self.path, kind, advice="Delete the file to measure its rows again.")

    def add(self, row: Row) -> None:
        """Append one row, on disk before this returns. A line that a kill cut short is closed first.

        OutputError: it cannot be kept.
        """
        try:
            with self.path.open("rb+") as file:
                size = file.seek(0, os.SEEK_END)
                if size:
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":
                        file.write(b"\n")
                file.write((json.dumps(row, allow_nan=False) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(
                f"{self.path}: a row cannot be kept ({error.strerror}); those before it are. Make room and "
                "run the same command again."
            ) from error


def row_store(
    out: str | os.PathLike[str], decides: Mapping[str, Any], observer: Path | None = None
) -> RowStore:
    """Rows beside the report `out` in a file named after what `decides` them, and the instrument `observer`
    (None: the embedded one) that measures them."""
    from hallo4.evaluation.generators import folder_digest, text_digest
    from hallo4.evaluation.instrument import OBSERVER_FOLDER

    known = {**decides, "version": __version__, "instrument": folder_digest(observer or OBSERVER_FOLDER)}
    return RowStore(Path(out), text_digest(json.dumps(known, sort_keys=True, default=vars)))
