"""One way to work on many records: in this process, in processes of this machine, or on a Ray cluster. The
same results come out, in the same order."""

from __future__ import annotations

from hallo4.lazy import lazy_names

_HOMES = {
    "Engine": "stage",
    "Outcome": "stage",
    "Stage": "stage",
    "THIS_PROCESS": "here",
    "open_engine": "choose",
    "raise_lost": "stage",
}

__all__ = sorted(_HOMES)

__getattr__ = lazy_names(__name__, _HOMES)
