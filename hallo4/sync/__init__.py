"""Lip sync as SyncNet judges it: its network, the cepstra and mouths that it compares, scores.
Names are imported when first used."""

from __future__ import annotations

from hallo4.lazy import lazy_names

_HOMES = {
    "FaceCropper": "score",
    "SyncNet": "network",
    "face_boxes": "score",
    "load_syncnet": "network",
    "sync_score": "score",
    "syncnet_score": "score",
}

__all__ = sorted(_HOMES)

__getattr__ = lazy_names(__name__, _HOMES)
