"""Clips for training: rendered once, encoded once, read from disk. Names are imported when first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "ClipStore": "clips",
    "ClipStoreConfig": "clips",
    "build_clips": "clips",
    "LatentCache": "latents",
    "build_cache": "latents",
    "build_sounds": "sounds",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
