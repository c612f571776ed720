"""Devices and number formats by the names that people give them."""

from __future__ import annotations

import os
from functools import cache

import torch

from hallo4.errors import InputError

DTYPES = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16}


def find_device(device: str | torch.device) -> torch.device:
    """ "auto" is CUDA where there is one. InputError: a device that cannot be used here.

    From then on, processes that are forked from this one compute with one thread; see `check_not_forked`.
    """
    _watch_forks()
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        if chosen.type == "meta":
            raise RuntimeError("it holds no values")
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"device {device!r} cannot be used here ({reason}). Use auto or cpu.") from error
    return chosen


def find_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """A type, or the name of one; "auto" is None. InputError: another type or name."""
    if isinstance(dtype, str) and dtype in DTYPES:
        return DTYPES[dtype]
    if isinstance(dtype, str) or dtype not in DTYPES.values():
        raise InputError(f"dtype is {dtype!r}; use {', '.join(DTYPES)}.")
    return dtype


def check_not_forked(device: torch.device) -> None:
    """InputError: a model on a GPU in a process that was forked after it was loaded, where CUDA cannot work.

    On the CPU it works, with one thread: torch's others do not survive a fork, and to wait for them would
    have no end.
    """
    if _forked and device.type != "cpu":
        raise InputError(
            f"this process was forked from one that had a model on {device}, which cannot be used here. "
            "Start it by spawn, or use threads."
        )


_forked = False


@cache
def _watch_forks() -> None:
    os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    global _forked
    _forked = True
    torch.set_num_threads(1)
