"""Records in one SQLite file: tables of JSON records that many threads and processes read and write at once.

::

    add:   BEGIN IMMEDIATE -> which keys are new? -> INSERT -> COMMIT, flushed to the disk -> acknowledged
    read:  BEGIN -> only rows added since the last call are parsed -> COMMIT

What was acknowledged survives a kill and a power cut; what was not is not there at all. The journal is a
write-ahead log (WAL), so reading never waits for writing. Its index is memory that is shared by the
processes of one machine, so on a network file system the file has a rollback journal instead: safe from
several machines as far as that file system keeps its locks, and slower.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from hallo4.errors import InputError, OutputError
from hallo4.input_file import check_regular, shown

RecordT = TypeVar("RecordT")

VERSION = 1
"""Of the tables; kept as `user_version`."""
_APPLICATION = 0x68346C34
_WAIT_S = 60.0
_NETWORK = (
    "nfs",
    "cifs",
    "smb",
    "9p",
    "afs",
    "ceph",
    "lustre",
    "gpfs",
    "beegfs",
    "fuse.sshfs",
    "fuse.gluster",
)
_FULL_OR_BROKEN = "Free some space or correct the permissions, then try again."


class Database:
    """One file and this process' connection to it; safe for several threads, and in a forked process."""

    def __init__(self, path: Path, tables: Sequence[str]) -> None:
        """Nothing is opened yet; `tables`: their names."""
        self.path = path
        self._names = tuple(tables)
        self._turn = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0
        self._of_parents: list[sqlite3.Connection] = []
        self._depth = 0
        self.rolled_back = 0
        """How many blocks were undone: what was read inside of them never was."""

    def create(self) -> None:
        """Make the file with its tables, where they are not there yet. OutputError: it cannot be made."""
        with self.says_what_failed(), self._turn:
            if not self.path.exists():
                self.path.touch()
            connection = self._open()
            if self._is_new(connection):
                self._make_tables(connection)

    def check(self) -> None:
        """InputError unless this is a file of ours, of this version."""
        with self.says_what_failed(), self._turn:
            self._open()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A block that sees one state of all tables."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A block whose changes are on the disk after it, all or, if it raises, none; others wait meanwhile.

        OutputError: the disk is full or the file may not be written; nothing was changed.
        """
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    def changes(self) -> tuple[int, int]:
        """Another value than before when the file was changed: by another process or `Database`, or by this
        one."""
        with self.reading() as connection:
            return connection.execute("PRAGMA data_version").fetchone()[0], connection.total_changes

    def leave_no_trace(self) -> None:
        """After a deletion: what was deleted is also gone from the write-ahead log and from free pages."""
        with self.says_what_failed(), self._turn:
            self._open().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close this process' connection; the next use opens another."""
        with self._turn:
            if self._connection is not None and self._process == os.getpid():
                self._connection.close()
                self._connection = None

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self.says_what_failed(), self._turn:
            connection = self._open()
            if self._depth:  # within another block of this thread: one transaction for both
                yield connection
                return
            connection.execute(begin)
            self._depth = 1
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                self.rolled_back += 1
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
            finally:
                self._depth = 0

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and self._process == os.getpid():
            return self._connection
        if self._connection is not None:  # opened before a fork: it belongs to the parent, which goes on
            self._of_parents.append(self._connection)
            self._connection, self._depth = None, 0
        check_regular(self.path, "the database of a preference store")
        connection = sqlite3.connect(
            self._address(), uri=True, timeout=_WAIT_S, isolation_level=None, check_same_thread=False
        )
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._connection, self._process = connection, os.getpid()
        return connection

    def _address(self) -> str:
        """A file that may not be written can still be read, if nothing waits in its log."""
        log = self.path.with_name(f"{self.path.name}-wal")
        frozen = not os.access(self.path.parent, os.W_OK) and not (log.exists() and log.stat().st_size)
        return self.path.absolute().as_uri() + ("?mode=ro&immutable=1" if frozen else "?mode=rw")

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA trusted_schema = OFF")
        if not self._is_new(connection):
            self._check_version(connection)
        if "immutable" not in self._address():
            mode = "DELETE" if on_network(self.path) else "WAL"
            connection.execute(f"PRAGMA journal_mode = {mode}").fetchall()
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")

    def _check_version(self, connection: sqlite3.Connection) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != _APPLICATION:
            raise InputError(
                f"{shown(self.path)}: is a database of another program. Name a preference store."
            )
        if version != VERSION:
            raise InputError(
                f"{shown(self.path)}: is a store of version {version}; this hallo4 reads {VERSION}. "
                "Use the hallo4 that wrote it, or export it there as JSON lines and import it here."
            )
        found = {
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        missing = sorted({*self._names, "revisions"} - found)
        if missing:
            raise InputError(
                f"{shown(self.path)}: has no table {', '.join(missing)}; it is damaged. Restore a copy."
            )

    def _is_new(self, connection: sqlite3.Connection) -> bool:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return tables == 0 and version == 0

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        with self.writing():
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("CREATE TABLE revisions (name TEXT PRIMARY KEY, revision INTEGER NOT NULL)")
            for name in self._names:
                connection.execute(
                    f"CREATE TABLE {name} (row INTEGER PRIMARY KEY AUTOINCREMENT, "
                    "key TEXT NOT NULL UNIQUE, about TEXT NOT NULL, record TEXT NOT NULL)"
                )
                connection.execute(f"CREATE INDEX {name}_about ON {name} (about)")
                connection.execute("INSERT INTO revisions VALUES (?, 0)", (name,))

    @contextmanager
    def says_what_failed(self) -> Iterator[None]:
        """Errors of the database as ours, in one line."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise OutputError(
                f"{shown(self.path)}: nothing was added ({error}); what was there is safe. {_FULL_OR_BROKEN}"
            ) from error
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.ProgrammingError):  # a mistake of ours
                raise
            raise InputError(
                f"{shown(self.path)}: cannot be read as a database ({error}). Restore a copy of it."
            ) from error
        except OSError as error:
            raise OutputError(
                f"{shown(self.path)}: cannot be made ({error.strerror or error}). {_FULL_OR_BROKEN}"
            ) from error


class Table(Generic[RecordT]):
    """The records of one kind by their key, in the order in which they came.

    `kind` is the class of the records, with `to_json` and `from_json`. `about` says what a record is about,
    for looking up and deleting. Of records with the same key the first counts, or the last with
    `last_counts`.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        kind: Any,
        key: Callable[[RecordT], Hashable],
        about: Callable[[RecordT], str] = lambda _: "",
        last_counts: bool = False,
    ) -> None:
        """Nothing is read yet."""
        self.database, self.name, self.last_counts = database, name, last_counts
        self._kind, self._key, self._about = kind, key, about
        self._forget(-1)

    @property
    def version(self) -> tuple[int, int]:
        """Changes with the content, as of the last `read`."""
        return self._revision, self._last

    def revision(self) -> int:
        """Grows when something was replaced or deleted, not when something was added."""
        with self.database.reading() as connection:
            return self._revision_in(connection)

    @property
    def problems(self) -> list[str]:
        """A line for every row that could not be used, as of the last `read`."""
        return list(self._problems)

    def read(self) -> dict[Any, RecordT]:
        """All records by key."""
        with self.database.reading() as connection:
            self._catch_up(connection)
        return dict(self._records)

    def row_of(self, key: Hashable) -> int:
        """Number of the row that holds the record of `key`, as of the last `read`."""
        return self._row_of[key]

    def add(self, records: Sequence[RecordT], check: Callable[[], None] = lambda: None) -> list[RecordT]:
        """Write those that are new, in one transaction, once `check` has looked at the other tables; which.

        New: of another key, or, where the last counts, unlike the last of that key. OutputError: the disk is
        full or the file may not be written; nothing was added.
        """
        with self.database.writing() as connection:
            check()
            fresh = self._fresh(connection, records)
            for key, record in fresh.items():
                if self.last_counts:
                    connection.execute(f"DELETE FROM {self.name} WHERE key = ?", (key,))
                self._insert(connection, key, record)
        return list(fresh.values())

    def replace(self, records: Iterable[RecordT]) -> None:
        """Replace all records by `records`, in one transaction. Errors as `add`: the old ones stay."""
        with self.database.writing() as connection:
            connection.execute(f"DELETE FROM {self.name}")
            for record in records:
                self._insert(connection, _text(self._key(record)), record)
            self._revise(connection)

    def delete(self, about: Sequence[str]) -> int:
        """Delete every record that is about one of these; returns how many."""
        with self.database.writing() as connection:
            gone = sum(
                connection.execute(f"DELETE FROM {self.name} WHERE about = ?", (one,)).rowcount
                for one in dict.fromkeys(about)
            )
            if gone:
                self._revise(connection)
        return gone

    def some(self, about: str) -> list[RecordT]:
        """The records that are about one thing, without reading the others; rows that cannot be used are left
        out."""
        query = f"SELECT record FROM {self.name} WHERE about = ? ORDER BY row"
        with self.database.reading() as connection:
            lines = [line for (line,) in connection.execute(query, (about,))]
        found = []
        for line in lines:
            with suppress(InputError):
                found.append(self._kind.from_json(line))
        return found

    def has(self, key: Hashable) -> bool:
        """Whether there is a record of `key`."""
        query = f"SELECT 1 FROM {self.name} WHERE key = ?"
        with self.database.reading() as connection:
            return connection.execute(query, (_text(key),)).fetchone() is not None

    def _insert(self, connection: sqlite3.Connection, key: str, record: RecordT) -> None:
        values = (key, self._about(record), record.to_json())  # type: ignore[attr-defined]
        connection.execute(f"INSERT INTO {self.name} (key, about, record) VALUES (?, ?, ?)", values)

    def _fresh(self, connection: sqlite3.Connection, records: Sequence[RecordT]) -> dict[str, RecordT]:
        fresh: dict[str, RecordT] = {}
        query = f"SELECT record FROM {self.name} WHERE key = ?"
        for record in records:
            key = _text(self._key(record))
            known = connection.execute(query, (key,)).fetchone()
            if key in fresh and not self.last_counts:
                continue
            if known is None or (self.last_counts and known[0] != record.to_json()):  # type: ignore[attr-defined]
                fresh[key] = record
        return fresh

    def _revise(self, connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE revisions SET revision = revision + 1 WHERE name = ?", (self.name,))

    def _revision_in(self, connection: sqlite3.Connection) -> int:
        query = "SELECT revision FROM revisions WHERE name = ?"
        (revision,) = connection.execute(query, (self.name,)).fetchone() or (0,)
        return revision

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        revision = self._revision_in(connection)
        if (revision, self.database.rolled_back) != (self._revision, self._undone):
            self._forget(revision)
        query = f"SELECT row, record FROM {self.name} WHERE row > ? ORDER BY row"
        for row, line in connection.execute(query, (self._last,)):
            self._last = row
            try:
                if not isinstance(line, str):
                    raise InputError("holds no text")
                record = self._kind.from_json(line)
            except InputError as error:
                self._problems.append(f"{self.name} row {row}: {error}")
                continue
            key = self._key(record)
            self._records.pop(key, None)  # so that the order is that of the last ones
            self._records[key], self._row_of[key] = record, row

    def _forget(self, revision: int) -> None:
        self._records: dict[Any, RecordT] = {}
        self._row_of: dict[Hashable, int] = {}
        self._problems: list[str] = []
        self._revision, self._last, self._undone = revision, 0, self.database.rolled_back


def _text(key: Hashable) -> str:
    return "\x1f".join(map(str, key)) if isinstance(key, tuple) else str(key)


def on_network(path: Path) -> bool:
    """Whether a file lies on a file system of another machine, as far as Linux says; elsewhere False."""
    try:
        mounts = Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines()
        where = os.path.realpath(path)
    except OSError:
        return False
    best, kind = "", ""
    for line in mounts:
        _, mounted, of, *_ = line.split(" ")
        mounted = mounted.encode("latin-1", "backslashreplace").decode("unicode_escape", "replace")
        inside = where == mounted or where.startswith(mounted.rstrip("/") + "/")
        if inside and len(mounted) >= len(best):
            best, kind = mounted, of
    return kind.startswith(_NETWORK)
