"""`model_index.json`: the file by which diffusers finds out what a model folder is to be opened with."""

from __future__ import annotations

import json
from pathlib import Path

NAME = "model_index.json"
_PIPELINE = f"{__package__}.diffusers_pipeline"  # which diffusers imports, not we


def write_model_index(folder: Path) -> None:
    """Write the file into a model folder; it is the same for every model.

    It names one component, the whole folder: its parts are read by `load_model` alone.
    """
    index = {
        "_class_name": "Hallo4Pipeline",
        "_diffusers_version": "0.35.0",  # the oldest that we support
        "model": [_PIPELINE, "ModelFolder"],
    }
    (folder / NAME).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
