"""Workers that are actors of a Ray cluster, on whatever machines it has."""

from __future__ import annotations

import math
import os
import platform
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hallo4.engine.stage import Answer, Need, StageRunner
from hallo4.errors import Hallo4Error, InputError, MissingExtraError
from hallo4.version import __version__

AUTO = "auto"
_ANSWER_S = 5.0
"""A machine that does not answer for this long, in seconds, is taken to be absent."""
_START_S = 120.0
"""If no worker can be started for this long, in seconds, and none works, the cluster is in use by others."""
_EVERY_S, _FRESH_S = 1.0, 10.0


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The module `ray`, connected to the cluster at `address` (HOST:PORT, or `auto`: that of this machine).

    A connection that is there already is used and kept. MissingExtraError: Ray is not installed. InputError:
    there is no such cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError(
            f"working on a cluster needs Ray ({error}): pip install 'hallo4[cluster]'."
        ) from error
    if address != AUTO:
        _check_address(address)
    if ray.is_initialized():
        there = ray.get_runtime_context().gcs_address
        if address not in (AUTO, there):
            raise InputError(f"--ray {address}: this process is connected to {there} already. Give that.")
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = "on this machine" if address == AUTO else f"at {address}"
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise InputError(
            f"--ray {address}: no Ray cluster that can be used was found {where} ({reason}). Start one: "
            "ray start --head."
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536 or "/" in host:
        raise InputError(f"--ray {address}: give HOST:PORT of the head of a cluster, or auto.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S).close()
    except OSError as error:
        raise InputError(
            f"--ray {address}: nothing answers there ({error.strerror or error}). Start a cluster: ray start "
            "--head, which says its address."
        ) from None


class RayWorkers:
    """Actors on a cluster: up to `workers` for stages of CPUs (None: all CPUs that it has), and for stages of
    GPUs one for each."""

    def __init__(self, ray: Any, workers: int | None) -> None:
        self._ray, self._workers = ray, workers
        self._actor = ray.remote(_Actor)
        self._actors: dict[int, Any] = {}
        self._asked: dict[Any, int] = {}  # reference to an answer -> worker
        self._starting: set[int] = set()
        self._number = 0
        self._last_sign = time.monotonic()
        self._resources: dict[str, float] = {}
        self._resources_of = -math.inf

    def limit(self, need: Need) -> int:
        """See `Workers.limit`."""
        now = time.monotonic()
        if now - self._resources_of > _FRESH_S:  # a cluster may grow
            self._resources, self._resources_of = self._ray.cluster_resources(), now
        kind, wanted = ("GPU", need.gpus) if need.gpus else ("CPU", need.cpus)
        there = int(self._resources.get(kind, 0))
        if there < wanted:
            raise InputError(f"the work needs {wanted} {kind}s, and the Ray cluster has {there}.")
        return there // wanted if need.gpus or self._workers is None else min(there // wanted, self._workers)

    def start(self, need: Need) -> int:
        """See `Workers.start`."""
        # A worker with a GPU asks for no CPU besides: those of the CPU stages may hold them all.
        takes = {"num_gpus": need.gpus, "num_cpus": 0 if need.gpus else need.cpus}
        actor = self._actor.options(**takes, max_restarts=0, max_task_retries=0).remote(sys.path)
        self._number += 1
        self._actors[self._number] = actor
        self._starting.add(self._number)
        self._asked[actor.ready.remote()] = self._number
        return self._number

    def send(self, worker: int, what: str, number: int, packed: bytes) -> None:
        """See `Workers.send`."""
        self._asked[getattr(self._actors[worker], what).remote(number, packed)] = worker

    def wait(self) -> list[tuple[int, Answer]]:
        """See `Workers.wait`."""
        while True:
            done, _ = self._ray.wait(list(self._asked), num_returns=1, timeout=_EVERY_S)
            if done or len(self._starting) < len(self._asked):
                self._last_sign = time.monotonic()
            elif time.monotonic() - self._last_sign > _START_S:
                raise Hallo4Error(
                    f"the Ray cluster started no worker for {_START_S:.0f} s; free: "
                    f"{self._ray.available_resources()}. Wait for what else runs on it: ray status."
                )
            if done:
                return [self._answer(reference) for reference in done]

    def _answer(self, reference: Any) -> tuple[int, Answer]:
        worker = self._asked.pop(reference)
        starting = worker in self._starting
        self._starting.discard(worker)
        try:
            said = self._ray.get(reference)
        except self._ray.exceptions.RayActorError as error:
            self._ray.kill(self._actors.pop(worker))
            return worker, ("died", f"ended on the cluster ({str(error).splitlines()[0]})")
        except self._ray.exceptions.RayError as error:
            return worker, ("ends", Hallo4Error(f"a worker of the Ray cluster failed: {str(error).strip()}"))
        if not starting:
            return worker, said
        if said != _versions():
            found = Hallo4Error(
                f"a worker of the Ray cluster has {said}, and this process {_versions()}. Install the same "
                "on all machines."
            )
            return worker, ("ends", found)
        return worker, ("ready", None)

    def stop(self, at_once: bool) -> None:
        """See `Workers.stop`."""
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors.clear()
        self._asked.clear()


class _Actor:
    """A worker on a cluster. Modules are looked for where its driver finds them, too, as by local workers."""

    def __init__(self, paths: list[str]) -> None:
        sys.path += [path for path in paths if path not in sys.path]
        self._runner = StageRunner()

    def ready(self) -> str:
        """What it runs on, which must be what its driver runs on."""
        return _versions()

    def open(self, number: int, packed: bytes) -> Answer:
        """See `StageRunner.open`."""
        return self._runner.open(number, packed)

    def do(self, number: int, packed: bytes) -> Answer:
        """See `StageRunner.do`."""
        return self._runner.do(number, packed)


def _versions() -> str:
    return f"hallo4 {__version__} on Python {platform.python_version()}"
