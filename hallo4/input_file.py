"""Files that are read: one way to open them, which no pipe, device, loop of links or endless file stalls."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from hallo4.errors import Hallo4Error, InputError

_AT_ONCE = sum(getattr(os, flag, 0) for flag in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))

_HASHED_BYTES = 16 * 1024 * 1024
"""Read at a time when a file is hashed."""


def shown(path: str | os.PathLike[str]) -> str:
    """`path` as it can stand in a one-line message: line breaks and bad bytes escaped, not endless."""
    text = os.fspath(path)
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= 300 else f"{text[:140]}...{text[-140:]}"


def open_input(
    path: str | os.PathLike[str],
    wanted: str = "a file",
    error: type[Hallo4Error] = InputError,
    advice: str | None = None,
) -> BinaryIO:
    """A regular file, open for reading bytes; `wanted` names the kind in the message, as in "a picture".

    The file is opened without waiting and looked at afterwards, so what is checked is what is read. An
    `error` in one line, which ends with `advice` (None: to give the path of one): no such file, a folder,
    pipe or device, an unusable name, no permission.
    """
    name, advice = shown(path), advice or f"Give the path of {wanted}."
    try:
        number = os.open(path, os.O_RDONLY | _AT_ONCE)
    except FileNotFoundError as cause:
        raise error(f"{name}: no such file. {advice}") from cause
    except IsADirectoryError as cause:
        raise error(f"{name}: is a folder. {advice}") from cause
    except PermissionError as cause:
        raise error(f"{name}: may not be read. Change its permissions, or give another.") from cause
    except (OSError, ValueError) as cause:  # too long, a loop of links, a socket, a NUL character
        raise error(f"{name}: cannot be opened ({why(cause)}). {advice}") from cause
    kind = os.fstat(number).st_mode
    if not stat.S_ISREG(kind):
        os.close(number)
        if stat.S_ISDIR(kind):
            raise error(f"{name}: is a folder. {advice}")
        raise error(f"{name}: is not a regular file. {advice}")
    return os.fdopen(number, "rb")


def check_regular(
    path: str | os.PathLike[str],
    wanted: str = "a file",
    error: type[Hallo4Error] = InputError,
    advice: str | None = None,
) -> Path:
    """`path`, which `open_input` can open: for libraries that open files by name. The same errors."""
    open_input(path, wanted, error, advice).close()
    return Path(path)


def read_input(
    path: str | os.PathLike[str],
    limit_bytes: int,
    wanted: str = "a file",
    error: type[Hallo4Error] = InputError,
    advice: str | None = None,
) -> bytes:
    """The bytes of a regular file of at most `limit_bytes`; never more than these are read.

    An `error` in one line: as `open_input`, or a larger file, or one that the disk does not give.
    """
    with open_input(path, wanted, error, advice) as file:
        try:
            content = file.read(limit_bytes + 1)
        except OSError as cause:
            raise error(f"{shown(path)}: cannot be read ({why(cause)}). Copy it again.") from cause
    if len(content) > limit_bytes:
        raise error(
            f"{shown(path)}: is larger than {_size(limit_bytes)}, the most that {wanted} may have here. "
            "Give a smaller file."
        )
    return content


def why(error: Exception) -> str:
    """Why a file failed, alone: `str` of an OSError would repeat the path."""
    return getattr(error, "strerror", None) or " ".join(str(error).split())


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count} bytes"


def file_sha256(
    path: str | os.PathLike[str],
    advance: Callable[[int], object] = lambda count: None,
    what: str = "a file",
    advice: str | None = None,
) -> str:
    """Hexadecimal SHA-256 of a file, read piece by piece. `advance` is called with the bytes of every piece
    that is done. Errors: as `open_input`, with its `advice`."""
    digest = hashlib.sha256()
    with open_input(path, what, advice=advice) as handle:
        while piece := handle.read(_HASHED_BYTES):
            digest.update(piece)
            advance(len(piece))
    return digest.hexdigest()
