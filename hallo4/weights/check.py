"""Is a file from elsewhere here, and is it the published one: by its size and SHA-256, as far as known."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hallo4.errors import CheckpointError, InputError
from hallo4.input_file import file_sha256
from hallo4.weights.catalogue import FILES, WeightFile
from hallo4.weights.places import folder_of, present

State = Literal["right", "unknown", "wrong", "missing"]
"""`right`: the published file; `unknown`: here, but no SHA-256 is known to compare it with (or it was not
asked for); `wrong`: another or a damaged file."""


@dataclass(frozen=True)
class Finding:
    """What `check_file` found. `path`: where the file lies, or belongs; `reason`: one line for `wrong`."""

    file: WeightFile
    path: Path
    state: State
    reason: str = ""


def check_file(
    file: WeightFile, folder: str | os.PathLike[str] | None = None, hashed: bool = True
) -> Finding:
    """Look for `file` in `folder` (default: its own under the root) and compare it with the catalogue.

    hashed=False compares the size alone, which takes no time. InputError: the file cannot be read.
    """
    path = present(file, folder)
    if path is None:
        return Finding(file, folder_of(file, folder) / file.path, "missing")
    state, reason = compare(path, file.size_bytes, file.sha256 if hashed else None)
    return Finding(file, path, state, reason)


def compare(path: Path, size_bytes: int | None, sha256: str | None) -> tuple[State, str]:
    """Compare a file with what it should be; `sha256` may be its first digits. None: not known."""
    try:
        found_bytes = path.stat().st_size
        if size_bytes is not None and found_bytes != size_bytes:
            return "wrong", f"it has {found_bytes:,} bytes, the published file has {size_bytes:,}"
        if found_bytes == 0:
            return "wrong", "it is empty"
        if sha256 is None:
            return "unknown", ""
        found = file_sha256(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Change its permissions.") from error
    if found.startswith(sha256):
        return "right", ""
    return "wrong", f"its SHA-256 begins with {found[:8]}, that of the published file with {sha256[:8]}"


def find_weights(name: str, folder: str | os.PathLike[str] | None = None) -> Path:
    """The path of the file `FILES[name]`. CheckpointError: it is not there, or is not the published one."""
    file = FILES[name]
    finding = check_file(file, folder)
    if finding.state == "missing":
        raise CheckpointError(
            f"{file.purpose} needs the weights {file.path}, which are not in {folder_of(file, folder)}. "
            f"They are published at {file.where} ({file.terms}). "
            + (f"Run `hallo4 weights fetch {file.name}`" if file.sources else "Get them and put them there")
            + ", or name their folder with --weights."
        )
    if finding.state == "wrong":
        raise CheckpointError(
            f"{finding.path}: {finding.reason}. It is damaged or another file; get it again from "
            f"{file.where}."
        )
    return finding.path
