"""Names of files as other machines write them: another Unicode form, backslashes, drive letters."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path


def same_name(name: str) -> str:
    """What two names have in common that mean the same file: Unicode normal form C."""
    return unicodedata.normalize("NFC", name)


def as_stored(path: str | os.PathLike[str]) -> Path:
    """`path`, with every part spelled as it is on the disk where only its Unicode form differs (macOS
    stores "é" as two characters); `path` itself where nothing is found, or no such name can be."""
    wanted = Path(path)
    try:
        return wanted if os.fspath(path).isascii() or wanted.exists() else _spelled(wanted)
    except (OSError, ValueError):  # too long, a NUL character, a folder that may not be read
        return wanted


def _spelled(wanted: Path) -> Path:
    found = Path(wanted.anchor)
    for part in wanted.parts[1 if wanted.anchor else 0 :]:
        exact = found / part
        if not exact.exists() and found.is_dir():
            exact = next(
                (entry for entry in found.iterdir() if same_name(entry.name) == same_name(part)), exact
            )
        found = exact
    return found if found.exists() else wanted


def below(folder: Path, named: str) -> Path | None:
    """The file in `folder`, or below it, that a table in it names; None: it names none there.

    Either kind of slash divides. Of an absolute path, which was right on the machine that wrote it, the
    longest end counts that is there. Nothing outside the folder is ever found: neither by `..` nor by links.
    """
    base = folder.resolve()
    if not named or "\0" in named:
        return None
    parts = re.split(r"[/\\]", named)
    foreign = named.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", named) is not None
    if ".." in parts or named.startswith("~") or (":" in parts[0] and not foreign):
        return None
    tails = [parts[first:] for first in range(1, len(parts))] if foreign else [parts]
    try:
        found = [as_stored(base.joinpath(*tail)).resolve() for tail in tails if any(tail)]
        inside = [path for path in found if path.is_relative_to(base) and path != base]
        files = [path for path in inside if path.is_file()]
    except (OSError, RuntimeError, ValueError):  # a name too long, a loop of links
        return None
    chosen = files if foreign else inside
    return chosen[0] if chosen else None
