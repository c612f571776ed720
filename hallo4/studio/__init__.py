"""The web pages and their HTTP server: people compare clips, blind. Names are imported when first used."""

from __future__ import annotations

from hallo4.lazy import lazy_names

_HOMES = {
    "serve": "annotate",
    "open_studio": "annotate",
    "make_app": "routes",
    "Links": "annotate",
    "Study": "study",
    "read_study": "study",
    "default_study": "study",
    "make_plan": "assign",
    "next_draw": "assign",
}

__all__ = sorted(_HOMES)

__getattr__ = lazy_names(__name__, _HOMES)
