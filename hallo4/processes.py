"""Worker processes that start afresh, need nothing of the program that asked for them, and end with it."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType
from typing import Any

from hallo4.errors import Hallo4Error, InputError


@contextmanager
def worker_pool(
    workers: int, prepare: Callable[..., object] | None = None, arguments: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """A pool of `workers` processes, each of which calls `prepare(*arguments)` first.

    They are spawned, because the threads of torch and BLAS do not survive a fork. What they are given and
    return must be picklable and of importable modules. All work is done when the block ends; with an error,
    what has not begun is dropped.

    InputError: `workers` below 1, or a process that may not start others. Hallo4Error: a worker died, or
    `prepare` failed in it.
    """
    check_workers(workers)
    if multiprocessing.current_process().daemon:
        raise InputError(
            "this process is a daemonic worker itself and may not start others; ask for 1 worker here."
        )
    pool = ProcessPoolExecutor(workers, _Context(), _begin, (prepare, arguments))
    try:
        yield pool
    except BrokenProcessPool:
        pool.shutdown(wait=False, cancel_futures=True)
        raise Hallo4Error(
            "a worker process ended before its work was done, or could not be prepared; what it said stands "
            "above. Run it again, with fewer workers if memory may be short."
        ) from None
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown(wait=True)


def check_workers(workers: int) -> None:
    """InputError: fewer than one."""
    if workers < 1:
        raise InputError(f"workers is {workers}; use 1 or more.")


class _Process(SpawnProcess):
    """A spawned process that does not run the main script of its parent again: without this, a script
    without `if __name__ == "__main__":`, or one read from standard input, could have no workers."""

    @staticmethod
    def _Popen(process: Any) -> Any:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            return SpawnProcess._Popen(process)
        finally:
            sys.modules["__main__"] = main


class _Context(SpawnContext):
    Process = _Process


def _begin(prepare: Callable[..., object] | None, arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if prepare is not None:
        prepare(*arguments)


def _end_with_parent() -> None:
    """A parent that was killed cannot stop its workers, and they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
