"""The one runner: what is missing is measured, in this process or several, and every row is kept at once.

    jobs, one a clip, each with what decides the rows of its systems
        --> rows that are kept beside the report --> those that are not: `make(settings)(job)` --> kept

So a stopped command goes on, and a system that is added later is measured alone.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from hallo4.engine import THIS_PROCESS, Engine, Outcome, Stage, raise_lost
from hallo4.errors import Cancelled, InputError, OutputError
from hallo4.evaluation.report import Row, require_writable
from hallo4.json_file import read_json_lines
from hallo4.lock import sole_writer
from hallo4.version import __version__

Settings = TypeVar("Settings")
Progress = Callable[[int, int, Row], None]
"""(rows there are, rows in all, the newest row)."""


@dataclass(frozen=True)
class Job:
    """A clip to be measured: `stamps`, system -> what decides its row; `item`, all else that is needed."""

    clip: str
    stamps: Mapping[str, str]
    item: Any = None


@dataclass(frozen=True)
class _KeptRow(Row):
    stamp: str = ""


class RowStore:
    """The file `REPORT.KEY.rows.jsonl`, whose `key` is made of what decides all rows.

    A context manager: within it no other process works on the report. OutputError, before any work, if one
    does, or if it or the report cannot be written.
    """

    def __init__(self, out: Path, decides: Mapping[str, Any]):
        self.out = out
        known = json.dumps({**decides, "version": __version__}, sort_keys=True, default=vars)
        self.key = text_digest(known)
        self.path = out.with_name(f"{out.stem}.{self.key}.rows.jsonl")

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

    def rows(self) -> Iterator[tuple[str, Row]]:
        """(stamp, row) of all that are there, oldest first; a line cut by a kill is left out, to be measured
        again.

        InputError, naming the line: it is no row.
        """
        advice = "Delete the file to measure its rows again."
        for kept in read_json_lines(self.path, _KeptRow, advice=advice):
            yield kept.pop("stamp", ""), Row(**kept)

    def add(self, rows: Sequence[tuple[str, Row]]) -> None:
        """Append rows with their stamps atomically, on disk before this returns. A line that a kill cut
        short is closed first.

        OutputError: they cannot be kept.
        """
        lines = (json.dumps({"stamp": stamp, **row.as_json()}, allow_nan=False) for stamp, row in rows)
        try:
            with self.path.open("rb+") as file:
                size = file.seek(0, os.SEEK_END)
                if size:
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":
                        file.write(b"\n")
                file.write("".join(f"{line}\n" for line in lines).encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(
                f"{self.path}: a row cannot be kept ({error.strerror}); those before it are. Make room and "
                "run the same command again."
            ) from error


def store_of(
    out: str | os.PathLike[str] | None, decides: Mapping[str, Any]
) -> AbstractContextManager[RowStore | None]:
    """The store of a report, or nothing to keep rows in for a report that is not written."""
    return nullcontext() if out is None else RowStore(Path(out), decides)


def measured_rows(
    make: Callable[[Settings], Callable[[Job], list[Row]]],
    settings: Settings,
    jobs: Sequence[Job],
    store: RowStore | None,
    on_progress: Progress | None = None,
    engine: Engine = THIS_PROCESS,
    complete: Callable[[Job, str], bool] = lambda job, system: True,
) -> list[Row]:
    """The rows of all jobs, by clip and then system.

    `make(settings)` is called once in every worker of the engine, and what it gives with every job that has a
    row missing, for the systems of which these are. A kept row of the same stamp is not measured again if
    `complete`, which tells whether what else belongs to it is there. A job that fails is named when all
    others are done. Cancelled on Ctrl-C; errors as `Engine.map`.
    """
    stamps = {(job.clip, system): stamp for job in jobs for system, stamp in job.stamps.items()}
    rows: dict[tuple[str, str], Row] = {}
    for stamp, row in () if store is None else store.rows():
        if stamps.get((row.clip, row.system)) == stamp:
            rows[row.clip, row.system] = row
    todo = []
    for job in jobs:
        missing = {s: t for s, t in job.stamps.items() if (job.clip, s) not in rows or not complete(job, s)}
        if missing:
            todo.append(replace(job, stamps=missing))
            for system in missing:
                rows.pop((job.clip, system), None)
    lost: list[Outcome] = []
    try:
        for done in engine.map(Stage(make, settings), todo):
            if done.error is not None:
                lost.append(done)
                continue
            measured = done.result()
            rows.update({(row.clip, row.system): row for row in measured})
            if store is not None:
                store.add([(stamps[row.clip, row.system], row) for row in measured])
            if on_progress is not None:
                on_progress(len(rows), len(stamps), measured[-1])
    except KeyboardInterrupt:
        kept = (
            "nothing was kept"
            if store is None
            else f"they are kept in {store.path}; the same command goes on"
        )
        raise Cancelled(f"Stopped after {len(rows)} of {len(stamps)} videos: {kept}.") from None
    kept = "nothing was kept" if store is None else f"the rows of the others are kept in {store.path}"
    raise_lost(lost, len(todo), "clips", kept)
    return [rows[place] for place in stamps]


def text_digest(text: str) -> str:
    """A short hash of a text, for file names."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


# ---------------------------------------------------------------------- NAME=PATH on the command line


def split_name(word: str | os.PathLike[str]) -> tuple[str | None, str]:
    """Name and path of `NAME=PATH`; no name in front of a plain path, one of an existing file with an `=` in
    it included."""
    text = os.fspath(word)
    name, _, path = text.partition("=")
    return (name, path) if name and path and not Path(text).exists() else (None, text)


def named_models(words: Sequence[str]) -> dict[str, str]:
    """Name -> model of `MODEL` or `NAME=MODEL` each; a model without a name is called as it is written.

    InputError: none, or one name twice.
    """
    models: dict[str, str] = {}
    for word in words:
        name, model = split_name(word)
        name = name or model
        if name in models:
            raise InputError(f"Two models are called {name!r}. Give them names: NAME=MODEL.")
        models[name] = model
    if not models:
        raise InputError("No model was given; at least one is needed.")
    return models


def within(**ranges: tuple[float, float, float]) -> None:
    """InputError for the first of name=(value, lowest, highest) that is out of its range."""
    for name, (value, low, high) in ranges.items():
        if not low <= value <= high:
            raise InputError(f"{name} is {value}; allowed is {low} to {high}.")
