"""Where results may not go: over or into what a command reads, and into preference stores.

One rule for every command, asked before any work: an output that is, or lies inside, an input or a store is
refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from hallo4.errors import OutputError

STORE_FILE = "preferences.sqlite"
"""What a folder holds that is a preference store."""
OLDER_STORE_FILES = ("conditions.jsonl", "clips.jsonl")
"""What it held before that."""


def refuse_output(
    output: str | os.PathLike[str], inputs: Iterable[object] = (), for_store: bool = False
) -> None:
    """OutputError if `output` is, or lies inside, one of `inputs` or a preference store; links are followed.

    `inputs`: all that is read, files and folders. What is no path, or of which nothing is there (such as the
    name of an embedded model), is passed over. `for_store`: the output is itself a store, old or new.
    """
    target = _real(output)
    if target is None:
        return  # no usable name; whoever writes says so
    for given in inputs:
        source = _real(given) if isinstance(given, str | os.PathLike) else None
        if source is None or not source.exists():
            continue
        if target == source:
            raise OutputError(
                f"{output}: is one of the inputs and would be overwritten. Choose another output."
            )
        if source.is_dir() and source in target.parents:
            raise OutputError(
                f"{output}: lies inside the input {os.fspath(given)}, where nothing may change. Choose a "
                "place outside of it."
            )
    for folder in target.parents if for_store else (target, *target.parents):
        if is_store(folder):
            raise OutputError(
                f"{output}: lies in the preference store {folder}, which holds ratings. Choose a place "
                "outside of it."
            )


def is_store(folder: Path) -> bool:
    """Whether `folder` is a preference store, or one of an older hallo4."""
    older = all((folder / name).is_file() for name in OLDER_STORE_FILES)
    return older or (folder / STORE_FILE).is_file()


def _real(path: str | os.PathLike[str]) -> Path | None:
    """With links followed; None for a name that no disk can have."""
    try:
        real = Path(path).resolve()
        real.exists()
    except (OSError, ValueError, RuntimeError):
        return None
    return real
