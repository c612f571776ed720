"""Records -> workers that may die -> outcomes in order: what processes and clusters have in common.

All stages of an engine that need the same of a machine share their workers. Where stages stand in a row, the
last one goes first: what is nearly finished leaves memory before something new is started.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

from hallo4.engine.stage import ATTEMPTS, Answer, Item, Need, Outcome, Result, Stage
from hallo4.errors import Hallo4Error

AHEAD = 8
"""Records, for each worker, that may be started or finished while an earlier one is still worked on."""

Worker = Hashable


class Workers(Protocol):
    """Processes, here or elsewhere, each with a `StageRunner`."""

    def limit(self, need: Need) -> int:
        """How many there may be. InputError: none, because nothing here has what is needed."""
        ...

    def start(self, need: Need) -> Worker:
        """Begin to start one; `wait` says when it is ready."""
        ...

    def send(self, worker: Worker, what: str, number: int, packed: bytes) -> None:
        """Ask for `StageRunner.open` or `do` of a worker that has answered all it was asked before."""
        ...

    def wait(self) -> Sequence[tuple[Worker, Answer]]:
        """What happened, when something has: answers, ("ready", None), or ("died", how). Hallo4Error: nothing
        can happen any more."""
        ...

    def stop(self, at_once: bool) -> None:
        """End all: at once, or each when it has done what it is doing."""
        ...


@dataclass(eq=False)
class _Job:
    run: _Run
    place: int
    item: Any
    deaths: int = 0
    opening: bool = False


@dataclass(eq=False)
class _Run:
    """One running `map`."""

    number: int
    stage: Stage
    packed: bytes
    queued: deque[_Job] = field(default_factory=deque)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    deaths_opening: int = 0


class Scheduler:
    """The engine over any `Workers`; see `Engine`."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._numbers = count()
        self._runs: list[_Run] = []  # the last stage first
        self._jobs: dict[Worker, _Job] = {}  # of busy workers
        self._free: dict[Worker, Need] = {}
        self._needs: dict[Worker, Need] = {}  # of all workers
        self._opened: dict[Worker, set[int]] = {}
        self._deaths_idle = 0

    def map(self, stage: Stage[Item, Result], items: Iterable[Item]) -> Iterator[Outcome[Item, Result]]:
        """See `Engine.map`."""
        run = _Run(next(self._numbers), stage, pickle.dumps(stage, pickle.HIGHEST_PROTOCOL))
        source, taken, given = iter(items), 0, 0
        self._runs.append(run)
        try:
            while True:
                if given in run.outcomes:
                    yield run.outcomes.pop(given)
                    given += 1
                elif source is not None and taken - given < AHEAD * self._workers.limit(stage.need):
                    try:
                        item = next(source)
                    except StopIteration:
                        source = None
                        continue
                    run.queued.append(_Job(run, taken, item))
                    taken += 1
                    self._hand_out()
                elif given == taken:
                    return
                else:
                    self._wait()
        finally:
            self._runs.remove(run)

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._workers.stop(at_once=kind is not None or bool(self._jobs))

    def _hand_out(self) -> None:
        """Give waiting records to free workers, and start workers for those that find none."""
        for run in self._runs:
            need = run.stage.need
            while run.queued:
                worker = next((one for one, has in self._free.items() if has == need), None)
                if worker is None:
                    break
                del self._free[worker]
                self._give(worker, run.queued.popleft())
            starting = sum(
                has == need and worker not in self._jobs and worker not in self._free
                for worker, has in self._needs.items()
            )
            there = sum(has == need for has in self._needs.values())
            for _ in range(min(len(run.queued) - starting, self._workers.limit(need) - there)):
                self._needs[self._workers.start(need)] = need

    def _give(self, worker: Worker, job: _Job) -> None:
        self._jobs[worker] = job
        job.opening = job.run.number not in self._opened.setdefault(worker, set())
        if job.opening:
            self._workers.send(worker, "open", job.run.number, job.run.packed)
        else:
            self._workers.send(worker, "do", job.run.number, pickle.dumps(job.item, pickle.HIGHEST_PROTOCOL))

    def _wait(self) -> None:
        self._hand_out()
        for worker, (what, said) in self._workers.wait():
            if what == "died":
                self._replace(worker, said)
            elif what == "ready":
                self._free[worker] = self._needs[worker]
            elif what == "opened":
                job = self._jobs[worker]
                self._opened[worker].add(job.run.number)
                job.run.deaths_opening = 0
                self._give(worker, job)
            elif what == "ends":
                raise said
            else:
                job, self._deaths_idle = self._jobs.pop(worker), 0
                self._free[worker] = self._needs[worker]
                outcome = (
                    Outcome(job.item, pickle.loads(said))
                    if what == "value"
                    else Outcome(job.item, error=said)
                )
                job.run.outcomes[job.place] = outcome
        self._hand_out()

    def _replace(self, worker: Worker, how: str) -> None:
        """Forget a dead worker; what it worked on is tried again, but not for ever."""
        del self._needs[worker]
        self._free.pop(worker, None)
        self._opened.pop(worker, None)
        job = self._jobs.pop(worker, None)
        if job is None:
            self._deaths_idle += 1
            _check_deaths(self._deaths_idle, "before they had work", how)
            return
        if job.opening:
            job.run.deaths_opening += 1
            _check_deaths(job.run.deaths_opening, "while they loaded what the work needs", how)
        else:
            job.deaths += 1
        if job.deaths < ATTEMPTS:
            job.run.queued.appendleft(job)
        else:
            error = Hallo4Error(f"{job.deaths} workers ended while they worked on it; the last one {how}.")
            job.run.outcomes[job.place] = Outcome(job.item, error=error)


def _check_deaths(deaths: int, when: str, how: str) -> None:
    if deaths >= ATTEMPTS:
        raise Hallo4Error(
            f"{deaths} workers ended {when}; the last one {how}. Run it again, with fewer workers if memory "
            "may be short."
        )
