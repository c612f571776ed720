"""`NAME=PATH` on the command line: what a report calls a thing, and where the thing is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hallo4.errors import InputError


def split_name(word: str | os.PathLike[str]) -> tuple[str | None, str]:
    """Name and path of `NAME=PATH`; no name in front of a plain path, one of an existing file with an `=` in
    it included."""
    text = os.fspath(word)
    name, _, path = text.partition("=")
    return (name, path) if name and path and not Path(text).exists() else (None, text)


def named_models(words: Sequence[str]) -> dict[str, str]:
    """Name -> model of `MODEL` or `NAME=MODEL` each; a model without a name is called as it is written.

    InputError: none, or one name twice.
    """
    models: dict[str, str] = {}
    for word in words:
        name, model = split_name(word)
        name = name or model
        if name in models:
            raise InputError(f"Two models are called {name!r}. Give them names: NAME=MODEL.")
        models[name] = model
    if not models:
        raise InputError("No model was given; at least one is needed.")
    return models
