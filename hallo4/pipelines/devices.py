"""Devices and number formats by the names that people give them."""

from __future__ import annotations

import torch

from hallo4.errors import InputError

DTYPES = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16}


def find_device(device: str | torch.device) -> torch.device:
    """ "auto" is CUDA where there is one. InputError: a device that cannot be used here."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
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
