"""Metrics, intervals and reports. Names are imported when first used: importing the room costs nothing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "evaluate_world": "world",
    "episode_seed": "world",
    "TRAINING_SEEDS": "world",
    "INSTRUMENT_SEEDS": "world",
    "EVALUATION_SEEDS": "world",
    "METRICS": "world_metrics",
    "report_table": "report",
    "bootstrap_interval": "statistics",
    "paired_difference": "statistics",
    "win_rate": "statistics",
    "Interval": "statistics",
    "measure": "instrument",
    "load_observer": "instrument",
    "Measurement": "instrument",
    "ObserverData": "instrument_data",
    "observer_method": "instrument_data",
    "measure_speech_response": "speech",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
