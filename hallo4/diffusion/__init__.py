"""Noising, targets, guidance, losses and the sampling loop: pure functions of tensors.

Conventions (see `hallo4.types`): sigma runs from 1 (noise) to 0 (data), velocity = noise - data.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "add_noise": "flow",
    "velocity_target": "flow",
    "sample_sigma": "flow",
    "flow_sigmas": "flow",
    "guide": "guidance",
    "clip_errors": "objective",
    "sft_loss": "objective",
    "denoise": "sampling",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
