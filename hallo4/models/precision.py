"""Which number format is fast where: bf16 on hardware that computes with it, fp32 elsewhere."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def has_bf16_units(device_type: str = "cpu") -> bool:
    """Whether `device_type` ("cpu", "cuda") computes in bf16 faster than in fp32.

    A CPU does with matrix units (AMX): 3 times for the convolutions of the tiny models, 10 times for matrix
    products; and with dot products of bf16 (AVX512-BF16, as AMD's Zen 4 and 5): 1.7 and 4 times. Without
    either it is 2 to 6 times slower in bf16.
    """
    if device_type == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities() if device_type == "cpu" else {}
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))


def fast_autocast(device_type: str = "cpu") -> AbstractContextManager:
    """Autocast to bf16 where that is faster, else a context that does nothing."""
    return torch.autocast(device_type, torch.bfloat16, enabled=has_bf16_units(device_type))


def autocast_off(device_type: str) -> AbstractContextManager:
    """A context without autocast, also for devices that never have it (the meta device)."""
    if not torch.amp.is_autocast_available(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def final_dtype(module: Any, name: str, dtype: torch.dtype, scarce: bool = False) -> torch.dtype:
    """The type that the floating-point tensor `name` of a part has where the part is used in `dtype`: its
    class may keep some in fp32, and of these spare some where memory is `scarce` (`HALF_IF_SCARCE`)."""
    if scarce and name.split(".")[0] in getattr(module, "HALF_IF_SCARCE", ()):
        return dtype
    kept = set(getattr(module, "_keep_in_fp32_modules", None) or ())
    keeps_fp32 = getattr(module, "keeps_fp32", lambda name: not kept.isdisjoint(name.split(".")))
    return torch.float32 if keeps_fp32(name) else dtype
