"""What one of several processes does for all: preparing files, writing results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from hallo4.errors import MissingExtraError

Value = TypeVar("Value")


@contextmanager
def main_first(what: str) -> Iterator[None]:
    """The main process runs the block first; the others wait, and then run it on what is there already."""
    with _state().main_process_first():
        yield


def on_main(what: str, make: Callable[[], Value]) -> Value:
    """What `make()` returns on the main process, which alone calls it, on all."""
    from accelerate.utils import broadcast_object_list

    state = _state()
    made = make() if state.is_main_process else None
    return broadcast_object_list([made])[0] if state.num_processes > 1 else made  # type: ignore[return-value]


def _state() -> Any:
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise MissingExtraError("Training needs accelerate: pip install 'hallo4[train]'.") from error
    return PartialState()
