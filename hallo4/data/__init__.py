"""Clips for training: rendered once, encoded once, read from disk. Names are imported when first used."""

from __future__ import annotations

from hallo4.lazy import lazy_names

_HOMES = {
    "ClipStore": "clips",
    "ClipStoreConfig": "clips",
    "build_clips": "clips",
    "LatentCache": "latents",
    "build_cache": "latents",
    "build_sounds": "sounds",
}

__all__ = sorted(_HOMES)

__getattr__ = lazy_names(__name__, _HOMES)
