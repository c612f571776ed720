"""Processes that share work on clips."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from typing import Any, TypeVar

from hallo4.errors import Cancelled

Item = TypeVar("Item")
Result = TypeVar("Result")
Settings = TypeVar("Settings")

_make: Callable[[], Callable[[Any], Any]] | None = None  # of a worker process
_work_on: Callable[[Any], Any] | None = None  # what it made


def shared_work(
    make: Callable[[Settings], Callable[[Item], Result]],
    settings: Settings,
    items: Sequence[Item],
    workers: int,
) -> Iterator[Result]:
    """`make(settings)(item)` of every item as results get ready, in any order.

    With more than one of `workers` in fresh processes that share the cores, each of which calls `make` (a
    class or function of a module) once. Settings, items and results must then be picklable.
    """
    workers = min(workers, len(items))
    if workers <= 1:
        if items:
            work = make(settings)
            yield from map(work, items)
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


def work_by_model(
    make: Callable[[tuple[Any, ...]], Callable[[Item], Result]],
    models: Mapping[str, str],
    settings: tuple[Any, ...],
    items: Sequence[Item],
    workers: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, list[Result]]:
    """`make((model, *settings))(item)` of every item, for one of the named models after the other; see
    `shared_work`.

    Results of a model are in any order; `on_progress(done, total)` counts those of all. Cancelled on Ctrl-C.
    """
    found: dict[str, list[Result]] = {name: [] for name in models}
    total, done = len(items) * len(models), 0
    try:
        for name, model in models.items():
            for result in shared_work(make, (model, *settings), items, workers):
                found[name].append(result)
                done += 1
                if on_progress is not None:
                    on_progress(done, total)
    except KeyboardInterrupt:
        raise Cancelled(f"Stopped after {done} of {total} clips; nothing was kept.") from None
    return found


def _start_worker(make: Callable[[Any], Callable[[Any], Any]], settings: Any, threads: int) -> None:
    import torch

    global _make
    torch.set_num_threads(threads)
    _make = partial(make, settings)


def _work(item: Any) -> Any:
    """Made with the first item, not when the process starts: an error then comes out of `shared_work`."""
    global _work_on
    if _work_on is None:
        assert _make is not None
        _work_on = _make()
    return _work_on(item)
