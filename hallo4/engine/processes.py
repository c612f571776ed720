"""Workers that are processes of this machine: they start afresh, and end with the process that asked for
them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType
from typing import Any

from hallo4.engine.stage import Answer, Need, StageRunner
from hallo4.errors import InputError

_END_S = 5.0
"""Seconds that a worker has to end when asked; then it is killed."""


class LocalWorkers:
    """Up to `workers` processes for stages of CPUs, which share the cores, and one for every GPU, which sees
    that one alone.

    They are spawned, because the threads of torch and BLAS do not survive a fork. InputError: this process is
    a daemonic worker itself.
    """

    def __init__(self, workers: int) -> None:
        if multiprocessing.current_process().daemon:
            raise InputError(
                "this process is a daemonic worker itself and may not start others; ask for 1 worker here."
            )
        self._workers = workers
        self._processes: dict[int, tuple[_Process, Connection]] = {}
        self._taken: dict[int, list[str]] = {}
        self._started: list[int] = []
        self._number = 0

    def limit(self, need: Need) -> int:
        """See `Workers.limit`."""
        if not need.gpus:
            return max(1, self._workers // need.cpus)
        devices = len(self._devices)
        if devices < need.gpus:
            raise InputError(f"the work needs {need.gpus} GPUs, and this machine shows {devices}.")
        return devices // need.gpus

    def start(self, need: Need) -> int:
        """See `Workers.start`."""
        self._number += 1
        environment = {}
        if "OMP_NUM_THREADS" not in os.environ:
            environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // self._workers))
        if need.gpus:
            taken = [device for devices in self._taken.values() for device in devices]
            free = [device for device in self._devices if device not in taken]
            self._taken[self._number] = free[: need.gpus]
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(free[: need.gpus])
        ours, theirs = _CONTEXT.Pipe()
        process = _Process(target=serve, args=(theirs, environment), daemon=False)
        process.start()
        theirs.close()
        self._processes[self._number] = process, ours
        self._started.append(self._number)
        return self._number

    def send(self, worker: int, what: str, number: int, packed: bytes) -> None:
        """See `Workers.send`."""
        with suppress(OSError):  # it has ended; `wait` says so
            self._processes[worker][1].send((what, number, packed))

    def wait(self) -> list[tuple[int, Answer]]:
        """See `Workers.wait`."""
        if self._started:  # it reads what it is sent when it is ready
            started, self._started = self._started, []
            return [(worker, ("ready", None)) for worker in started]
        of = {connection: worker for worker, (_, connection) in self._processes.items()}
        said: list[tuple[int, Answer]] = []
        for connection in wait(list(of)):
            worker = of[connection]
            try:
                said.append((worker, connection.recv()))
            except (OSError, EOFError):
                said.append((worker, ("died", self._bury(worker))))
        return said

    def stop(self, at_once: bool) -> None:
        """See `Workers.stop`."""
        for process, connection in self._processes.values():
            if at_once:
                process.kill()
            with suppress(OSError):
                connection.close()
        for process, _ in self._processes.values():
            process.join(_END_S)
            if process.is_alive():
                process.kill()
                process.join()
        self._processes.clear()

    @cached_property
    def _devices(self) -> list[str]:
        """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them."""
        import torch

        said = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = None if said is None else [name for name in said.split(",") if name]
        return [str(n) if names is None else names[n] for n in range(torch.cuda.device_count())]

    def _bury(self, worker: int) -> str:
        process, connection = self._processes.pop(worker)
        self._taken.pop(worker, None)
        connection.close()
        process.join(_END_S)
        if process.is_alive():  # it closed its end, which no worker of ours does
            process.kill()
            process.join()
        code = process.exitcode or 0
        if code < 0:
            return f"was ended by signal {signal.Signals(-code).name}"
        return f"ended with exit code {code}"


def serve(connection: Connection, environment: dict[str, str]) -> None:
    """The life of a worker process: answer what comes through the pipe, until it is closed."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches every process; the first one ends the others
    os.environ.update(environment)
    threading.Thread(target=end_with_parent, daemon=True).start()
    runner = StageRunner()
    while True:
        try:
            what, number, packed = connection.recv()
        except (OSError, EOFError):
            return
        connection.send(getattr(runner, what)(number, packed))


@contextmanager
def one_worker(prepare: Callable[[], object]) -> Iterator[ProcessPoolExecutor]:
    """A process that works on what it is given, in turn, and calls `prepare` first: for work that comes from
    outside, one by one, and is no stage. Its end before that of the block is a BrokenProcessPool."""
    pool = ProcessPoolExecutor(1, _CONTEXT, _begin, (prepare,))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _begin(prepare: Callable[[], object]) -> None:
    threading.Thread(target=end_with_parent, daemon=True).start()
    prepare()


def end_with_parent() -> None:
    """End this process when its parent does: one that was killed cannot stop its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


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


class SpawnAlone(SpawnContext):
    """The context whose processes are started so."""

    Process = _Process


_CONTEXT = SpawnAlone()
