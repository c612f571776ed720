"""One process at a time: whoever comes second to a file or folder is told who works on it.

The operating system holds the lock (`filelock`), so it ends with its process, however that ends: what a dead
one left behind is taken over. The name of the holder stands in the lock file, for the message only.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from hallo4.errors import InputError, OutputError
from hallo4.json_file import read_json
from hallo4.whole import companion

WAIT = "Wait for it, or choose another output."
_LARGEST_RECORD = 4096


@dataclass(frozen=True)
class _Record:
    """What stands in a lock file."""

    hallo4_process: int
    host: str
    since: str


@contextmanager
def sole_writer(output: str | os.PathLike[str], instead: str = WAIT) -> Iterator[None]:
    """`sole_worker` of an output. Its lock is `.NAME.lock` beside a file, and `.hallo4.lock` in a folder that
    is there; folders above it are made."""
    target = Path(output).resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{output}: its folder cannot be made ({error.strerror}). Choose another output."
        ) from error
    inside, beside = target / ".hallo4.lock", companion(target, ".", f"{target.suffix}.lock")
    with sole_worker(inside if target.is_dir() else beside, output, instead):
        yield


@contextmanager
def sole_worker(lock_file: Path, on: str | os.PathLike[str], instead: str) -> Iterator[None]:
    """Hold `lock_file`, which is made and removed again, while the block works on `on`.

    `instead` says in a sentence what the other may do. OutputError: another process, or thread, holds it
    (its process id, machine and start are named), or the file cannot be made.
    """
    lock = FileLock(lock_file, timeout=0, thread_local=False)  # may be let go by another thread
    try:
        lock.acquire()
    except Timeout:
        raise OutputError(f"{on}: {_holder(lock_file)} is working on it. {instead}") from None
    except OSError as error:
        raise OutputError(
            f"{on}: its lock {lock_file} cannot be made ({error.strerror or error}). {instead}"
        ) from error
    try:
        _sign(lock_file)
        yield
    finally:
        # Removed while it is held: nobody can take a file that is then deleted under them.
        with suppress(OSError):
            lock_file.unlink()
        with suppress(OSError):
            lock.release()


def _sign(lock_file: Path) -> None:
    """Write who holds it, unless the library keeps its own record there (disks without such locks)."""
    record = _Record(os.getpid(), socket.gethostname(), time.strftime("%Y-%m-%d %H:%M:%S"))
    with suppress(OSError):
        if lock_file.stat().st_size == 0 or _record(lock_file):
            lock_file.write_text(json.dumps(asdict(record)))


def _record(lock_file: Path) -> _Record | None:
    """Who signed it; None where nobody did."""
    try:
        return read_json(lock_file, _Record, limit_bytes=_LARGEST_RECORD)
    except InputError:
        return None


def _holder(lock_file: Path) -> str:
    record = _record(lock_file)
    if record is None:
        return "another process"
    here = record.host == socket.gethostname()
    where = "" if here else f" on {record.host}"
    if here and record.hallo4_process == os.getpid():
        return f"this process ({record.hallo4_process}), since {record.since},"
    return f"another hallo4 (process {record.hallo4_process}{where}, since {record.since})"
