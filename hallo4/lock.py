"""One process at a time: a second process learns which one works on it.

The operating system holds the lock (`filelock`), so it ends with its process, however that ends: what a dead
one left behind is taken over. The name of the holder stands in the lock file, for the message only. On disks
without such locks the file itself is the lock: one of a dead process of the same machine is taken over, one
of another machine has to be removed by hand.
"""

from __future__ import annotations

import json
import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from hallo4.errors import InputError, LockedError, OutputError
from hallo4.input_file import read_input, shown
from hallo4.json_file import read_json
from hallo4.whole import companion, real_path

WAIT = "Wait for it, or choose another output."
_LARGEST_RECORD = 4096
_ASKED_EVERY_S = 0.2
# The library states this in its code; no action is needed.
warnings.filterwarnings("ignore", "flock not supported", UserWarning)


@dataclass(frozen=True)
class _Record:
    """What stands in a lock file."""

    hallo4_process: int
    host: str
    since: str


class WaitingNote(UserWarning):
    """Which process is waited for, and for what."""


@contextmanager
def sole_writer(output: str | os.PathLike[str], instead: str = WAIT) -> Iterator[None]:
    """`sole_worker` of an output. Its lock is `.NAME.lock` beside a file, and `.hallo4.lock` in a folder that
    is there; folders above it are made."""
    with sole_worker(_lock_of(output), output, instead):
        yield


@contextmanager
def sole_maker(folder: str | os.PathLike[str], instead: str = WAIT) -> Iterator[None]:
    """`sole_worker` of a folder that is made or replaced meanwhile: its lock is `.NAME.lock` beside it,
    whether it is there or not; folders above it are made."""
    with sole_worker(_lock_beside(folder), folder, instead):
        yield


@contextmanager
def in_turn(shared: str | os.PathLike[str]) -> Iterator[None]:
    """As `sole_writer`, for what several jobs need and the first of them makes: the others wait for it, with
    a `WaitingNote`."""
    lock_file = _lock_of(shared)
    lock = _lock(lock_file)
    if not _acquired(lock, lock_file, shared):
        warnings.warn(f"{shared}: {_holder(lock_file)} is working on it; waiting for it", WaitingNote, 3)
        while not _acquired(lock, lock_file, shared):
            time.sleep(_ASKED_EVERY_S)
    with _held(lock, lock_file):
        yield


@contextmanager
def sole_worker(lock_file: Path, on: str | os.PathLike[str], instead: str) -> Iterator[None]:
    """Hold `lock_file`, which is made and removed again, while the block works on `on`.

    `instead` says in a sentence what the other may do. LockedError: another process, or thread, holds it
    (its process id, machine and start are named). OutputError: the file cannot be made.
    """
    lock = _lock(lock_file)
    if not _acquired(lock, lock_file, on):
        raise LockedError(f"{on}: {_holder(lock_file)} is working on it. {instead}")
    with _held(lock, lock_file):
        yield


def is_locked(lock_file: Path) -> bool:
    """Whether a process holds `lock_file` now, by `sole_worker`. The file of one that was killed is removed.

    OutputError: it cannot be looked at.
    """
    if not lock_file.exists():
        return False
    lock = _lock(lock_file)
    if not _acquired(lock, lock_file, lock_file):
        return True
    with _released(lock, lock_file):
        return False


def _lock_of(output: str | os.PathLike[str]) -> Path:
    return real_path(output) / ".hallo4.lock" if Path(output).is_dir() else _lock_beside(output)


def _lock_beside(output: str | os.PathLike[str]) -> Path:
    try:
        target = real_path(output)
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output}: cannot be made ({error.strerror}). Choose another output.") from error
    return companion(target, ".", f"{target.suffix}.lock")


def _lock(lock_file: Path) -> BaseFileLock:
    return FileLock(lock_file, timeout=0, thread_local=False)  # may be let go by another thread


def _acquired(lock: BaseFileLock, lock_file: Path, on: str | os.PathLike[str]) -> bool:
    """Whether this process has the lock now. OutputError: its file cannot be made."""
    try:
        lock.acquire()
    except Timeout:
        return False
    except OSError as error:
        raise OutputError(
            f"{on}: its lock {lock_file} cannot be made ({error.strerror or error}). Choose another place."
        ) from error
    return True


@contextmanager
def _held(lock: BaseFileLock, lock_file: Path) -> Iterator[None]:
    with _released(lock, lock_file):
        _sign(lock_file)
        yield


@contextmanager
def _released(lock: BaseFileLock, lock_file: Path) -> Iterator[None]:
    try:
        yield
    finally:
        # Removed while it is held: no process can take a file that is then deleted.
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
    """Who signed it; None where it is unsigned."""
    try:
        return read_json(lock_file, _Record, limit_bytes=_LARGEST_RECORD)
    except InputError:
        return None


def _holder(lock_file: Path) -> str:
    record = _record(lock_file)
    if record is None:
        return f"another process{_named_by_library(lock_file)}"
    here = record.host == socket.gethostname()
    where = "" if here else f" on {record.host}"
    if here and record.hallo4_process == os.getpid():
        return f"this process ({record.hallo4_process}), since {record.since},"
    return f"another hallo4 (process {record.hallo4_process}{where}, since {record.since})"


def _named_by_library(lock_file: Path) -> str:
    """On disks without such locks: the number of the process and its machine, two lines of the lock file."""
    try:
        number, host, *_ = read_input(lock_file, _LARGEST_RECORD).decode().splitlines()
    except (InputError, ValueError):
        return ""
    return f" ({number} on {shown(host)}, by its lock {lock_file})" if number.isdigit() else ""
