"""Which engine is meant by `--workers` and `--ray`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hallo4.engine.here import ThisProcess
from hallo4.engine.processes import LocalWorkers
from hallo4.engine.scheduler import Scheduler
from hallo4.engine.stage import Engine
from hallo4.errors import InputError


@contextmanager
def open_engine(workers: int | None = None, ray: str | None = None) -> Iterator[Engine]:
    """The engine for the words of the command line, whose workers end with the block.

    Without `ray` this process (`workers` None or 1) or so many processes of this machine; with `ray`, `auto`
    or HOST:PORT, a Ray cluster (`workers` None: all of it).

    InputError: `workers` below 1, no such cluster, or a process that may not start others. MissingExtraError:
    Ray is not installed.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}; use 1 or more.")
    if ray is not None:
        from hallo4.engine.ray_cluster import RayWorkers, connected

        with connected(ray) as cluster, Scheduler(RayWorkers(cluster, workers)) as engine:
            yield engine
    elif workers in (None, 1):
        yield ThisProcess()
    else:
        assert workers is not None
        with Scheduler(LocalWorkers(workers)) as engine:
            yield engine
