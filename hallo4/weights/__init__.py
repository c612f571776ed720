"""Files that come from elsewhere: which they are, fetching and checking them, and reading tensors strictly.
Names are imported when first used."""

from __future__ import annotations

from hallo4.lazy import lazy_names

_HOMES = {
    "BUNDLES": "catalogue",
    "FILES": "catalogue",
    "Bundle": "catalogue",
    "WeightFile": "catalogue",
    "files_named": "catalogue",
    "weights_root": "places",
    "folder_of": "places",
    "find_weights": "check",
    "check_file": "check",
    "file_sha256": "check",
    "plan_fetch": "fetch",
    "run_fetch": "fetch",
    "read_tensors": "tensors",
    "misfits": "tensors",
    "fill": "tensors",
    "load_strictly": "module_folder",
    "save_weights": "module_folder",
}

__all__ = sorted(_HOMES)

__getattr__ = lazy_names(__name__, _HOMES)
