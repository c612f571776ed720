"""An append-only file of records, one JSON object per line, that many may read and write at once.

::

    append:  lock -> read what others added -> move a torn last line aside -> one write, fsync -> unlock
                                                                    |
                                                  disk full: cut back to the old length, OutputError

A line is there whole or not at all, and what was acknowledged stays. A line that cannot be read stays in the
file, is left out, and is named in `problems`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from hallo4.errors import InputError, OutputError
from hallo4.whole import write_whole

RecordT = TypeVar("RecordT")


class Journal(Generic[RecordT]):
    """The records of one file by their key. Threads must take turns (the store sees to that).

    Of records with the same key the first counts, or the last with `last_counts`. `kind` is the class of the
    records, with `to_json` and `from_json`.
    """

    def __init__(
        self, path: Path, kind: Any, key: Callable[[RecordT], Hashable], last_counts: bool = False
    ) -> None:
        """Nothing is read yet."""
        self.path = path
        self.last_counts = last_counts
        self._kind, self._key = kind, key
        self._forget()

    def read(self) -> dict[Any, RecordT]:
        """All records by key, in the order of their lines; only lines new since the last call are parsed."""
        with self._open(os.O_RDONLY, fcntl.LOCK_SH) as file:
            self._catch_up(file)
        return dict(self._records)

    def line_of(self, key: Hashable) -> int:
        """Number of the line, from 1, that holds the record of `key`."""
        return self._line_of[key]

    @property
    def problems(self) -> list[str]:
        """One line for every line of the file that could not be used, as of the last `read`."""
        torn = f"{self.path.name} line {self._lines + 1}: cut short, left out"
        return [*self._problems, torn] if self._torn else list(self._problems)

    def append(self, records: Sequence[RecordT]) -> int:
        """Write those that are not there yet, in one stroke; how many, once they are safely on the disk.

        Not there yet: another key, or, where the last counts, another record than the last of that key.
        OutputError: the disk is full or the file may not be written; the file is as it was.
        """
        with self._open(os.O_RDWR | os.O_APPEND | os.O_CREAT, fcntl.LOCK_EX) as file:
            self._catch_up(file)
            fresh = self._fresh(records)
            if fresh:
                self._set_torn_line_aside(file)
                self._write(file, "".join(record.to_json() + "\n" for record in fresh).encode())
                self._catch_up(file)
        return len(fresh)

    def replace(self, records: Sequence[RecordT]) -> None:
        """Put `records` in the place of all others, in one stroke. OutputError: the old file stays."""
        try:
            write_whole(self.path, "".join(record.to_json() + "\n" for record in records))  # type: ignore[attr-defined]
        except OSError as error:
            raise self._cannot_write(error) from error

    def _fresh(self, records: Sequence[RecordT]) -> list[RecordT]:
        fresh: dict[Hashable, RecordT] = {}
        for record in records:
            key = self._key(record)
            known = fresh.get(key, self._records.get(key))
            if known is None or (self.last_counts and known != record):
                fresh[key] = record
        return list(fresh.values())

    def _write(self, file: int, lines: bytes) -> None:
        end = os.fstat(file).st_size
        try:
            written = os.write(file, lines)
            if written < len(lines):
                raise OSError(errno.ENOSPC, f"only {written} of {len(lines)} bytes fitted")
            os.fsync(file)
        except OSError as error:
            with suppress(OSError):  # what then stays is a torn line, which the next append sets aside
                os.ftruncate(file, end)
            raise self._cannot_write(error) from error

    @contextmanager
    def _open(self, flags: int, lock: int) -> Iterator[int]:
        try:
            file = os.open(self.path, flags | os.O_NONBLOCK, 0o644)  # a pipe would wait for its other end
            if not stat.S_ISREG(os.fstat(file).st_mode):
                os.close(file)
                raise InputError(f"{self.path}: is not a regular file. Put the store's own file there.")
        except OSError as error:
            if flags == os.O_RDONLY:
                raise InputError(
                    f"{self.path}: cannot be read ({error.strerror}). Is the store whole?"
                ) from error
            raise self._cannot_write(error) from error
        try:
            fcntl.flock(file, lock)
            yield file
        finally:
            os.close(file)  # unlocks

    def _catch_up(self, file: int) -> None:
        """Parse the whole lines behind the place where the last reading ended."""
        state = os.fstat(file)
        identity = (state.st_dev, state.st_ino)
        if identity != self._file or state.st_size < self._offset:
            self._forget()  # another file of that name
            self._file = identity
        fresh = _read_at(file, self._offset, state.st_size)
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._torn = len(fresh) > len(whole)
        self._offset += len(whole)
        for line in whole.split(b"\n")[:-1]:
            self._lines += 1
            if line.strip():
                self._parse(line)

    def _parse(self, line: bytes) -> None:
        try:
            record = self._kind.from_json(line.decode())
        except (InputError, UnicodeDecodeError) as error:
            self._problems.append(f"{self.path.name} line {self._lines}: {error}")
            return
        key = self._key(record)
        known = self._records.get(key)
        if known is not None and known != record and not self.last_counts:
            self._problems.append(
                f"{self.path.name} line {self._lines}: contradicts line {self._line_of[key]}, which counts"
            )
        elif known is None or self.last_counts:
            self._records[key] = record
            self._line_of[key] = self._lines

    def _set_torn_line_aside(self, file: int) -> None:
        """Move what a kill left behind the last line break to `NAME.torn`, so that the next line is whole."""
        if not self._torn:
            return
        aside = self.path.with_name(f"{self.path.name}.torn")
        try:
            with aside.open("ab") as torn:
                torn.write(_read_at(file, self._offset, os.fstat(file).st_size) + b"\n")
                torn.flush()
                os.fsync(torn.fileno())
            os.ftruncate(file, self._offset)
        except OSError as error:
            raise self._cannot_write(error) from error
        self._torn = False
        self._problems.append(f"{self.path.name} line {self._lines + 1}: cut short, moved to {aside.name}")

    def _forget(self) -> None:
        self._records: dict[Hashable, RecordT] = {}
        self._line_of: dict[Hashable, int] = {}
        self._problems: list[str] = []
        self._file: tuple[int, int] | None = None
        self._offset = self._lines = 0
        self._torn = False

    def _cannot_write(self, error: OSError) -> OutputError:
        return OutputError(
            f"{self.path}: nothing was added ({error.strerror or error}); what was there is safe. "
            "Free some space or mend the permissions, then try again."
        )


def _read_at(file: int, start: int, end: int) -> bytes:
    """Bytes start .. end of an open file, in as many pieces as the system likes."""
    pieces = []
    while start < end and (piece := os.pread(file, end - start, start)):
        pieces.append(piece)
        start += len(piece)
    return b"".join(pieces)
