"""The web pages and their HTTP server: people compare clips, blind. Names are imported when first used."""

from __future__ import annotations

from hallo4.lazy import lazy_names

_HOMES = {
    "serve": "annotate",
    "open_studio": "annotate",
    "make_app": "routes",
    "Links": "annotate",
    "Quotas": "assign",
    "make_plan": "assign",
    "next_draw": "assign",
}

__all__ = sorted(_HOMES)

__getattr__ = lazy_names(__name__, _HOMES)
