"""Processes that share work on clips, model by model."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

from hallo4.errors import Cancelled
from hallo4.evaluation import generators
from hallo4.evaluation.report_rows import KeptValue
from hallo4.evaluation.row_store import RowStore
from hallo4.processes import shared_work

Item = TypeVar("Item", bound=Hashable)


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
