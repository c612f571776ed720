"""Rows of an evaluation as JSON lines beside its report, so that a stopped run goes on; and processes that
share the work.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

from hallo4.errors import OutputError

Row = dict[str, Any]


class RowStore:
    """The file `REPORT.KEY.rows.jsonl`, whose `key` is made of everything that decides a row.

    OutputError, before any work, if it or the report cannot be written.
    """

    def __init__(self, out: Path, key: str):
        self.path = out.with_name(f"{out.stem}.{key}.rows.jsonl")
        if out.is_dir():
            raise OutputError(f"{out}: is a folder; the report is a file. Choose a name that ends in .json.")
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            self.path.open("a").close()
        except OSError as error:
            raise OutputError(
                f"{out}: cannot be written ({error.strerror}); nothing was measured. Choose another path."
            ) from error

    def rows(self) -> Iterator[Row]:
        """The rows that are there, oldest first; a line cut by a kill is left out, to be measured again."""
        for line in self.path.read_text().splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue

    def add(self, row: Row) -> None:
        """Append one row, on disk before this returns. A line that a kill cut short is closed first."""
        with self.path.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write((json.dumps(row, allow_nan=False) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())


_make: Callable[[], Callable[[Any], Row]] | None = None  # of a worker process
_work_on: Callable[[Any], Row] | None = None  # what it made


def shared_rows(
    make: Callable[[Any], Callable[[Any], Row]], settings: Any, items: Sequence[Any], workers: int
) -> Iterator[Row]:
    """`make(settings)(item)` of every item as rows get ready, in any order; with more than one of `workers`
    in fresh processes that share the cores, each of which calls `make` (a class or function of a module)
    once.
    """
    workers = min(workers, len(items))
    if workers <= 1:
        work = make(settings) if items else None
        for item in items:
            yield work(item)
        return
    threads = max(1, (os.cpu_count() or 1) // workers)
    spawn = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(workers, spawn, _start_worker, (make, settings, threads)) as pool:
        futures = [pool.submit(_work, item) for item in items]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _start_worker(make: Callable[[Any], Callable[[Any], Row]], settings: Any, threads: int) -> None:
    import torch

    global _make
    torch.set_num_threads(threads)
    _make = partial(make, settings)


def _work(item: Any) -> Row:
    """Made with the first item, not when the process starts: an error then comes out of `shared_rows`."""
    global _work_on
    if _work_on is None:
        assert _make is not None
        _work_on = _make()
    return _work_on(item)
