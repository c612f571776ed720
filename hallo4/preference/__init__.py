"""Candidates -> scores and ratings -> audited pairs. Names are imported when first used."""

from __future__ import annotations

from hallo4.lazy import lazy_names

_HOMES = {
    "Condition": "schema",
    "Clip": "schema",
    "Rating": "schema",
    "GoldAnswer": "schema",
    "MachineScore": "schema",
    "Pair": "schema",
    "PreferenceStore": "store",
    "StoreWarning": "store",
    "Variant": "candidates",
    "make_candidates": "candidates",
    "make_gold": "gold",
    "score_clips": "score",
    "Curation": "curate",
    "audit_pairs": "audit",
    "preference_report": "report",
}

__all__ = sorted(_HOMES)

__getattr__ = lazy_names(__name__, _HOMES)
