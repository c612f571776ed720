"""Where files from elsewhere lie on this computer: one root, a folder in it for every kind."""

from __future__ import annotations

import os
from pathlib import Path

from hallo4.weights.catalogue import WeightFile

ROOT_VARIABLE = "HALLO4_WEIGHTS"


def weights_root() -> Path:
    """The folder that the environment variable HALLO4_WEIGHTS names, else `~/.cache/hallo4/weights`."""
    return Path(os.environ.get(ROOT_VARIABLE) or "~/.cache/hallo4/weights").expanduser()


def folder_of(file: WeightFile, folder: str | os.PathLike[str] | None = None) -> Path:
    """The folder that `file.path` counts from: the one given, else that of its kind under the root."""
    return weights_root() / file.folder if folder is None else Path(folder).expanduser()


def present(file: WeightFile, folder: str | os.PathLike[str] | None = None) -> Path | None:
    """The path at which the file lies, under any suffix it is published with; None if it does not."""
    candidates = (folder_of(file, folder) / path for path in file.paths)
    return next((path for path in candidates if path.is_file()), None)


def user_cache() -> Path | None:
    """`$XDG_CACHE_HOME`, else `~/.cache`; None if the machine does not say where a user's files are."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if base.is_absolute():  # another path is to be ignored, by the XDG base directory specification
        return base
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        return None
