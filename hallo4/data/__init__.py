"""Clips for training, of real videos or rendered: encoded once, read from disk. Names are imported when first
used."""

from __future__ import annotations

from hallo4.lazy import lazy_names

_HOMES = {
    "ClipFilters": "filters",
    "ClipStore": "clips",
    "ClipStoreConfig": "clips",
    "build_clips": "clips",
    "LatentCache": "latents",
    "PrepareSettings": "prepare",
    "PreparedClips": "prepared",
    "build_cache": "latents",
    "build_sounds": "sounds",
    "prepare_videos": "prepare",
    "prune_shards": "prune",
}

__all__ = sorted(_HOMES)

__getattr__ = lazy_names(__name__, _HOMES)
