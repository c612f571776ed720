"""Findings kept by what decided them: a stage of preparation is computed once for the same content.

A key is the SHA-256 of the stage's name, the version of its code and everything else that decides its result
(hashes of files, keys of earlier stages, options). What a stage found lies in a file under that key, so
nothing else has to remember what was done: a run that was killed, has other options or more videos finds
what has not changed.
"""

from __future__ import annotations

import hashlib
import io
import json
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from hallo4.errors import InputError, NoPersonError, OutputError
from hallo4.input_file import open_input
from hallo4.json_file import parse_json
from hallo4.media.files import cannot_write, shown
from hallo4.whole import write_whole

_VALUES = "values"


def content_key(stage: str, version: int, decided_by: Mapping[str, Any]) -> str:
    """40 hexadecimal digits of a stage and of what decides its result, which must be JSON."""
    text = json.dumps([stage, version, decided_by], sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def require_folder(folder: Path) -> None:
    """OutputError: the machine on which this runs does not see `folder`, which its driver has made."""
    if not folder.is_dir():
        raise OutputError(
            f"{folder}: {socket.gethostname()} does not see this folder. Put it on a disk that all machines "
            "have under one path."
        )


@dataclass(frozen=True)
class Findings:
    """What a stage found: `values`, JSON, and named `arrays`."""

    values: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


class FindingsStore:
    """A folder of findings. `made` counts, by stage, what was not there and was computed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: Counter[str] = Counter()

    def get(self, stage: str, key: str, make: Callable[[], Findings]) -> Findings:
        """The findings under `key`, made where they are not there or damaged.

        An InputError of `make` is a finding too, since the same content raises it again: it is kept, and
        raised. OutputError: the findings cannot be written.
        """
        found = self.stored(stage, key)
        if found is None:
            try:
                found = make()
            except InputError as error:
                found = Findings({"problem": str(error), "nobody": isinstance(error, NoPersonError)})
            self.made[stage] += 1
            path = self._path(stage, key)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, _packed(found))
            except OSError as error:
                raise cannot_write(path, error) from error
        if "problem" in found.values:
            raise (NoPersonError if found.values["nobody"] else InputError)(found.values["problem"])
        return found

    def stored(self, stage: str, key: str) -> Findings | None:
        """What is kept under `key`; None: nothing that can be read."""
        path = self._path(stage, key)
        try:
            with open_input(path) as opened, np.load(opened, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            values = parse_json(arrays.pop(_VALUES).tobytes(), shown(path), dict[str, Any])
            return Findings(values, arrays)
        except (OSError, ValueError, KeyError, BadZipFile, InputError):
            return None

    def _path(self, stage: str, key: str) -> Path:
        return self.folder / stage / key[:2] / f"{key}.npz"


def _packed(found: Findings) -> bytes:
    values = np.frombuffer(json.dumps(found.values, allow_nan=False).encode(), np.uint8)
    packed = io.BytesIO()
    np.savez_compressed(packed, **{_VALUES: values}, **found.arrays)
    return packed.getvalue()
