"""The processes that train one model together: who they are, what they agree on, who waits for whom.

    accelerate launch --num_processes 8 -m hallo4 train ...     sets RANK, WORLD_SIZE, MASTER_ADDR
        -> current_group()          joined once, by gloo on CPUs and NCCL on GPUs; alone without a launcher
        -> group.agreed(value)      what the main process says, on all
           main_first("clips")      the main process prepares, the others wait and then find it
           on_main(what, make)      only the main process writes

Every function here is called by all processes in the same order.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from hallo4.errors import Hallo4Error, InputError, MissingExtraError
from hallo4.training.failure import failed_elsewhere, failures_shared, group_store

Value = TypeVar("Value")

COLLECTIVE_MINUTES = 30.0
"""How long one exchange between processes may take before it is an error."""
PREPARING_MINUTES = 24 * 60.0
"""How long processes wait for what the main one prepares."""
_ASK_S = 0.2

_turns = count()


@dataclass(frozen=True)
class Group:
    """This process among those that train together: its `rank` from 0 of `size`, and its device."""

    rank: int
    size: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def agreed(self, value: Value) -> Value:
        """The `value` of the main process, on all."""
        if self.size == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held, src=0)
        return held[0]

    def gathered(self, value: Value) -> list[Value]:
        """The values of all processes, by rank."""
        if self.size == 1:
            return [value]
        held: list[Any] = [None] * self.size
        dist.all_gather_object(held, value)
        return held

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values


def current_group() -> Group:
    """This process's group, which the first call joins. MissingExtraError without accelerate.

    InputError: the launcher was asked to start several processes and started this one alone. Hallo4Error: the
    others cannot be reached.
    """
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise MissingExtraError("Training needs accelerate: pip install 'hallo4[train]'.") from error
    _refuse_lone_process()
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    joining: dict[str, Any] = {}
    if launched > 1 and not PartialState._shared_state:
        joining["timeout"] = timedelta(minutes=COLLECTIVE_MINUTES)
        if not torch.cuda.is_available():
            joining["cpu"] = True  # else accelerate takes each process to be alone
    try:
        state = PartialState(**joining)
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Hallo4Error(
            f"rank {os.environ.get('RANK', '?')} of {launched} cannot join the others at {where} ({reason}). "
            "Start as many processes as --num_processes says, with the same address and port."
        ) from error
    return Group(state.process_index, state.num_processes, state.device)


def _refuse_lone_process() -> None:
    """InputError: `accelerate launch --cpu --num_processes N` starts one process, unless under MPI. It gives
    an address where others could be met, and no number of processes."""
    sizes = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
    by_accelerate = "ACCELERATE_DYNAMO_BACKEND" in os.environ and "MASTER_ADDR" in os.environ
    if by_accelerate and not any(name in os.environ for name in sizes):
        raise InputError(
            "accelerate launch was asked to start several processes and started this one alone, as it does "
            "with --cpu and with one GPU. Pass --multi_gpu, which starts them on CPUs, too, or use torchrun."
        )


@contextmanager
def main_first(what: str, limit_minutes: float = PREPARING_MINUTES) -> Iterator[None]:
    """The main process runs the block first; the others wait, and then run it on what is there already.

    `what` is made, for the error of those that waited `limit_minutes` in vain. Where the main process fails,
    the others end with an error that says so.
    """
    group = current_group()
    if group.size == 1:
        yield
        return
    with failures_shared(group.rank, group.size):
        done = f"turn {next(_turns)}"
        if group.main:
            yield
            group_store().set(done, "done")
        else:
            _wait_for(done, what, limit_minutes, group)
            yield


def on_main(what: str, make: Callable[[], Value], limit_minutes: float = PREPARING_MINUTES) -> Value:
    """What `make()` returns on the main process, which alone calls it, on all; see `main_first`."""
    group = current_group()
    made = None
    with main_first(what, limit_minutes):
        if group.main:
            made = make()
    return group.agreed(made)  # type: ignore[return-value]


def leave(code: int) -> None:
    """End this process with `code`, if it is one of several: after all have come here, without the clean-up
    of threads in which gloo may abort a process that has done its work."""
    if not (dist.is_available() and dist.is_initialized()):
        return
    sys.stdout.flush()
    sys.stderr.flush()
    if code == 0:
        with suppress(Exception):  # another one is gone: then there is nothing to wait for
            dist.barrier()
            dist.destroy_process_group()
    os._exit(code)


def _wait_for(key: str, what: str, limit_minutes: float, group: Group) -> None:
    end_s = time.monotonic() + 60 * limit_minutes
    while not group_store().check([key]):
        failed_elsewhere(group.rank)
        if time.monotonic() > end_s:
            raise Hallo4Error(
                f"waited {limit_minutes:g} minutes for rank 0 to make {what}. Make it beforehand with one "
                "process, then start all."
            )
        time.sleep(_ASK_S)
