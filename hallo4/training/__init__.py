"""The one loop: config, order, optimizers, mean weights, checkpoints, log. What is learned comes from
recipes.

Names are imported when first used: importing the room costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "train": "loop",
    "Method": "loop",
    "TrainResult": "loop",
    "TrainConfig": "config",
    "OptimizerConfig": "config",
    "ScheduleConfig": "config",
    "override": "config",
    "EMA": "ema",
    "batch_indices": "order",
    "keyed_generator": "order",
    "load_weights": "checkpoint",
    "read_log": "log",
    "plot_log": "log",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
