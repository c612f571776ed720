"""Processes that share work on clips."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from functools import partial
from typing import Any, TypeVar

from hallo4.errors import Cancelled
from hallo4.evaluation import generators
from hallo4.evaluation.report_rows import KeptValue
from hallo4.evaluation.row_store import RowStore
from hallo4.processes import check_workers, worker_pool

Item = TypeVar("Item", bound=Hashable)
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
    class or function of a module) once. Settings, items and results must then be picklable. InputError: fewer
    than one worker. Hallo4Error: see `worker_pool`.
    """
    check_workers(workers)
    workers = min(workers, len(items))
    if workers <= 1:
        if items:
            work = make(settings)
            yield from map(work, items)
        return
    threads = max(1, (os.cpu_count() or 1) // workers)
    with worker_pool(workers, _start_worker, (make, settings, threads)) as pool:
        futures = [pool.submit(_work, item) for item in items]
        for future in as_completed(futures):
            yield future.result()


def work_by_model(
    make: Callable[[tuple[Any, ...]], Callable[[Item], tuple[Item, Any]]],
    models: Mapping[str, str],
    settings: tuple[Any, ...],
    items: Sequence[Item],
    workers: int,
    on_progress: Callable[[int, int], None] | None = None,
    store: RowStore | None = None,
) -> dict[str, dict[Item, Any]]:
    """Name -> item -> value, for one of the named models after the other; see `shared_work`.

    `make((model, *settings))(item)` is (item, value). With `store` each value, which is then JSON, is kept at
    once; what is kept already of the same weights is not made again. `on_progress(done, total)` counts the
    items of all models. Cancelled on Ctrl-C.
    """
    total, done = len(items) * len(models), 0
    rows = () if store is None else store.rows(KeptValue)
    kept = {(row["of"], row["item"]): row["value"] for row in rows}
    found: dict[str, dict[Item, Any]] = {}
    try:
        for name, model in models.items():
            of = "" if store is None else _weights(model)
            known = {item: kept[of, text] for item in items if (of, text := json.dumps(item)) in kept}
            found[name], done = known, done + len(known)
            todo = [item for item in items if item not in known]
            for item, value in shared_work(make, (model, *settings), todo, workers):
                known[item] = value
                done += 1
                if store is not None:
                    store.add({"of": of, "item": json.dumps(item), "value": value})
                if on_progress is not None:
                    on_progress(done, total)
    except KeyboardInterrupt:
        where = f"they are kept in {store.path}; the same command goes on" if store else "nothing was kept"
        raise Cancelled(f"Stopped after {done} of {total} clips: {where}.") from None
    return found


def _weights(model: str) -> str:
    kind = "autoencoder " if generators.is_autoencoder(model) else ""
    return kind + generators.weights_digest(model)


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
