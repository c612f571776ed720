"""What an engine is given and gives back: a stage of work, records, and what became of each.

::

    items --Engine.map(stage)--> an Outcome for every item, in the order of the items

A stage is a pure function of a record, made by `open` once in every worker that runs it: there it loads its
networks. Engines differ in where the function runs and in nothing that can be seen in its results.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from hallo4.errors import CheckpointError, Hallo4Error, InputError, MissingExtraError, OutputError

Item = TypeVar("Item")
Result = TypeVar("Result")

ENDS_ALL = (OutputError, MissingExtraError, CheckpointError)
"""Errors that are not about one record: the next record would meet them again."""


@dataclass(frozen=True)
class Need:
    """What one worker takes of a machine."""

    cpus: int
    gpus: int


@dataclass(frozen=True, eq=False)
class Stage(Generic[Item, Result]):
    """`open(settings)`, a class or function of a module, gives the function of one record.

    `cpus`: threads that it computes with, wherever it runs, for sums of floats may depend on them; None: as
    many as are there, which does for what is not compared byte by byte. `gpus`: how many it computes on.
    Settings, records and results are picklable where there is more than one process.
    """

    open: Callable[[Any], Callable[[Item], Result]]
    settings: Any = None
    cpus: int | None = None
    gpus: int = 0

    @property
    def need(self) -> Need:
        """What a worker of this stage takes."""
        return Need(self.cpus or 1, self.gpus)


@dataclass(frozen=True)
class Outcome(Generic[Item, Result]):
    """What became of `item`: a `value`, or the `error` that it costs."""

    item: Item
    value: Result | None = None
    error: Exception | None = None

    def result(self) -> Result:
        """The value. The error is raised, if there is one."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]

    @property
    def reason(self) -> str:
        """The error in one line; for an unexpected error it names the class."""
        assert self.error is not None
        if isinstance(self.error, Hallo4Error):
            return str(self.error)
        return f"an unexpected {type(self.error).__name__}: {' '.join(str(self.error).split())}"


def raise_lost(lost: Sequence[Outcome], of: int, what: str, kept: str) -> None:
    """Raise the error of the first of the lost records, if there are any: how many of all `of` there are, and
    that the others are `kept`, a sentence, is said first. `what` they are, in the plural."""
    if not lost:
        return
    error = lost[0].error
    kind = type(error) if isinstance(error, InputError) else Hallo4Error
    raise kind(f"{len(lost)} of {of} {what} failed, {kept}. The first: {lost[0].reason}") from error


class Engine(Protocol):
    """Where stages run. Used as a context: when the block ends, so do all its workers."""

    def map(self, stage: Stage[Item, Result], items: Iterable[Item]) -> Iterator[Outcome[Item, Result]]:
        """An outcome for every item, in their order, as soon as it and those before it are known.

        Items are taken as they are needed, so memory does not grow with their number, and they may come from
        another `map` of the same engine: both stages then work at the same time. An error in a record is its
        outcome; a worker that dies is replaced, and its record tried again, `ATTEMPTS` times in all.

        Whatever `open` raises, and `ENDS_ALL`, is raised here. Hallo4Error: workers die whatever they do.
        """
        ...

    def __enter__(self) -> Engine: ...

    def __exit__(self, *error: object) -> None: ...


ATTEMPTS = 3
"""How many workers may die while they work on one record, or open one stage."""

Answer = tuple[str, Any]
"""What a worker says: ("opened", None), ("value", the result), ("lost", the error of a record) or ("ends", an
error that ends all)."""


class StageRunner:
    """The worker's side: opens stages and runs them."""

    def __init__(self) -> None:
        self._stages: dict[int, tuple[Stage, Callable[[Any], Any]]] = {}

    def open(self, number: int, packed: bytes) -> Answer:
        """Open a pickled stage, which is called `number` from now on."""
        try:
            stage = pickle.loads(packed)
            with computing_threads(stage.cpus):
                self._stages[number] = stage, stage.open(stage.settings)
        except Exception as error:
            return "ends", _portable(error)
        return "opened", None

    def do(self, number: int, packed: bytes) -> Answer:
        """Run an opened stage on a pickled record."""
        stage, work = self._stages[number]
        try:
            with computing_threads(stage.cpus):
                value = work(pickle.loads(packed))
            return "value", pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            return ("ends" if isinstance(error, ENDS_ALL) else "lost"), _portable(error)


@contextmanager
def computing_threads(threads: int | None) -> Iterator[None]:
    """torch computes with `threads` threads in the block, and as before after it. None: it is not touched."""
    if threads is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _portable(error: Exception) -> Exception:
    """The error as another process can have it; an unexpected one carries its traceback as a note."""
    if not isinstance(error, Hallo4Error):
        error.add_note("".join(traceback.format_exception(error)).rstrip())
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return Hallo4Error(f"{type(error).__name__}: {error}")
    return error
