"""Preference data on disk: `PreferenceStore`, a folder with one database and the media that it names.

::

    folder/  preferences.sqlite        conditions, clips, ratings, scores, gold, pairs, excluded; events
             conditions/  clips/       pictures, sounds, skeletons; videos
             studio/  store.lock       the rating page: keys, copies of clips

Raters, scorers and readers may work on one store at once: every change is one transaction (`database.py`).
Records are checked against each other: a clip needs its condition, a rating its clips.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from hallo4.errors import InputError, OutputError
from hallo4.lock import sole_worker, sole_writer
from hallo4.outputs import STORE_FILE, is_store, refuse_output
from hallo4.preference.database import Database, Table
from hallo4.preference.schema import (
    TABLES,
    Clip,
    Condition,
    Exclusion,
    GoldAnswer,
    MachineScore,
    Pair,
    Rating,
)

MEDIA_FOLDERS = ("conditions", "clips")
EVENTS = "events"
"""The table of the rating page, whose records are its own business."""
RecordT = TypeVar("RecordT")


class StoreWarning(UserWarning):
    """Rows of a store could not be used; the message says how many and which is the first."""


class PreferenceStore:
    """Conditions, clips, ratings, machine scores, gold answers and pairs of one folder.

    Safe for several threads and processes. Make one with `create` or `open`.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Nothing is read or written yet."""
        self.folder = Path(folder)
        self.database = Database(self.folder / STORE_FILE, (*TABLES, EVENTS))
        table = self._table
        self._conditions: Table[Condition] = table("conditions", lambda c: c.condition_id)
        self._clips: Table[Clip] = table("clips", lambda c: c.clip_id, lambda c: c.condition_id)
        self._ratings: Table[Rating] = table("ratings", lambda r: r.event_id, lambda r: r.rater_id)
        self._scores: Table[MachineScore] = table(
            "scores", lambda s: (s.clip_id, s.axis, s.scorer), lambda s: s.clip_id, last_counts=True
        )
        self._gold: Table[GoldAnswer] = table("gold", lambda g: (*sorted(g.clips), g.axis), last_counts=True)
        self._pairs: Table[Pair] = table("pairs", lambda p: p.pair_id)
        self._excluded: Table[Exclusion] = table(
            "excluded", lambda e: e.rater_id, lambda e: e.rater_id, last_counts=True
        )
        self._orphans: dict[str, tuple[Any, dict[Any, Any], list[str]]] = {}
        self._warned = False

    def _table(
        self,
        name: str,
        key: Callable[[Any], Hashable],
        about: Callable[[Any], str] = lambda _: "",
        last_counts: bool = False,
    ) -> Table[Any]:
        return Table(self.database, name, TABLES[name], key, about, last_counts)

    # ---------------------------------------------------------------------- opening

    @classmethod
    def create(cls, folder: str | os.PathLike[str]) -> PreferenceStore:
        """Make a store in a new or empty folder, or open the one that is there. OutputError: neither, or it
        would lie in another one. InputError: one of an older hallo4 is there."""
        store = cls(folder)
        refuse_output(store.folder, for_store=True)
        if is_store(store.folder):
            _refuse_older(store.folder)
        try:
            if store.folder.is_dir() and not is_store(store.folder) and any(store.folder.iterdir()):
                raise OutputError(f"{folder}: holds other files. Name a new or empty folder for the store.")
            for name in MEDIA_FOLDERS:
                (store.folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{folder}: a store cannot be made here ({error.strerror}). Choose another folder."
            ) from error
        store.database.create()
        return store

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> PreferenceStore:
        """The store in `folder`. InputError: there is none, it is damaged, or it is of another version."""
        if not is_store(Path(folder)):
            raise InputError(
                f"{folder}: is not a preference store (it has no {STORE_FILE}). Make one with "
                "`hallo4 prefer candidates`."
            )
        _refuse_older(Path(folder))
        store = cls(folder)
        store.database.check()
        return store

    def close(self) -> None:
        """Let go of the database; the next use opens it again."""
        self.database.close()

    # ---------------------------------------------------------------------- reading

    def conditions(self) -> dict[str, Condition]:
        """Every condition by its id."""
        return self._read(self._conditions)

    def clips(self) -> dict[str, Clip]:
        """Every clip by its id."""
        return self._read(self._clips, "conditions", lambda c: (c.condition_id,))

    def ratings(self) -> list[Rating]:
        """Every rating in the order of arrival, of excluded raters too."""
        return list(self._read(self._ratings, "clips", lambda r: r.clips).values())

    def scores(self) -> dict[tuple[str, str, str], MachineScore]:
        """The last machine score of each (clip_id, axis, scorer)."""
        return self._read(self._scores, "clips", lambda s: (s.clip_id,))

    def gold(self) -> list[GoldAnswer]:
        """Every known answer; the last to a question counts."""
        return list(self._read(self._gold, "clips", lambda g: g.clips).values())

    def pairs(self) -> dict[str, Pair]:
        """Every pair by its id."""
        return self._read(self._pairs, "clips", lambda p: (p.winner, p.loser))

    def excluded(self) -> list[Exclusion]:
        """The raters whose answers do not count."""
        return list(self._read(self._excluded).values())

    def has_answers_of(self, rater: str) -> bool:
        """Whether there are ratings under this name."""
        return bool(self._ratings.some(rater))

    @property
    def problems(self) -> list[str]:
        """A line for every row left out, such as `ratings row 7: ...`, in the tables read so far."""
        unread = [line for table in self._tables for line in table.problems]
        return unread + [line for _, _, lines in list(self._orphans.values()) for line in lines]

    @property
    def _tables(self) -> tuple[Table[Any], ...]:
        return (
            *(self._conditions, self._clips, self._ratings, self._scores),
            *(self._gold, self._pairs, self._excluded),
        )

    def media_path(self, relative: str) -> Path:
        """Where a file named in a record lies. InputError: a link leads out of the store."""
        path = (self.folder / relative).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise InputError(f"{relative}: leads out of the store {self.folder}. Put the file itself there.")
        return path

    # ---------------------------------------------------------------------- writing

    def add_condition(self, condition: Condition) -> bool:
        """Add it; False if it is there already.

        InputError: there with other contents. OutputError: disk full; true of every `add_...`.
        """
        return self._add_once(self._conditions, condition.condition_id, condition)

    def add_clip(self, clip: Clip) -> bool:
        """Add it; False if it is there already.

        InputError: there with other contents; its condition is unknown; or its length or size differs from
        the other clips of the condition.
        """

        def check() -> None:
            if not self._conditions.has(clip.condition_id):
                raise InputError(
                    f"clip {clip.clip_id}: there is no condition {clip.condition_id}. Add it first."
                )
            for other in self._clips.some(clip.condition_id)[:1]:
                check_alike(other, clip)

        return self._add_once(self._clips, clip.clip_id, clip, check)

    def add_rating(self, rating: Rating) -> bool:
        """Add it; False, and nothing done, if its event is there already. InputError: an unknown clip."""
        return self.add_ratings([rating]) == 1

    def add_ratings(self, ratings: Sequence[Rating]) -> int:
        """Add all that are not there yet in one transaction; returns how many. As `add_rating`."""

        def check() -> None:
            for rating in ratings:
                self._require_clips(rating.clips, f"rating {rating.event_id}")

        return len(self._ratings.add(ratings, check))

    def add_score(self, score: MachineScore) -> bool:
        """Add it; False if it says what the last of its clip, axis and scorer says. Errors as above."""
        return self.add_scores([score]) == 1

    def add_scores(self, scores: Sequence[MachineScore]) -> int:
        """Add all that are new in one transaction; returns how many. As `add_score`."""
        clips = [score.clip_id for score in scores]
        return len(self._scores.add(scores, lambda: self._require_clips(clips, "machine score")))

    def add_gold(self, gold: GoldAnswer) -> bool:
        """Add it; False if it says what the last to this question says. InputError: an unknown clip."""
        return bool(self._gold.add([gold], lambda: self._require_clips(gold.clips, "gold answer")))

    def write_pairs(self, pairs: Sequence[Pair]) -> None:
        """Replace all pairs by these, in one transaction.

        InputError: an unknown clip, clips of unlike length or size, or an id twice.
        """
        clips = self.clips()
        for pair in pairs:
            self._require_clips((pair.winner, pair.loser), f"pair {pair.pair_id}")
            check_alike(clips[pair.winner], clips[pair.loser])
        if len({pair.pair_id for pair in pairs}) < len(pairs):
            raise InputError("two pairs have the same pair_id. Give each its own.")
        self._pairs.replace(pairs)

    def add_records(self, table: str, records: Sequence[Any]) -> int:
        """Add records of one of `TABLES`, where pairs replace all others; how many were new. Errors as the
        methods above."""
        if table == "ratings":
            return self.add_ratings(records)
        if table == "scores":
            return self.add_scores(records)
        if table == "pairs":
            self.write_pairs(records)
            return len(records)
        if table == "excluded":
            return len(self._excluded.add(records))
        add: Callable[[Any], bool] = getattr(self, f"add_{table.removesuffix('s')}")
        with self.database.writing():
            return sum(add(record) for record in records)

    def exclude(self, rater: str, reason: str) -> None:
        """Let the answers of a rater count no more; they stay. InputError: `reason` is empty or endless."""
        self._excluded.add([Exclusion(rater, reason)])

    def include(self, rater: str) -> bool:
        """Let the answers of an excluded rater count again; False if no rater of that name was excluded."""
        return self._excluded.delete([rater]) > 0

    def delete_ratings_of(self, rater: str) -> int:
        """Delete every rating of a rater, and that they were excluded; returns how many ratings."""
        with self.database.writing():
            self._excluded.delete([rater])
            return self._ratings.delete([rater])

    def replace_ratings(self, ratings: Sequence[Rating]) -> None:
        """Replace all ratings by these, in one transaction: for upgrading an older store."""
        self._ratings.replace(ratings)

    def table_of_events(self, kind: Any, key: Callable, about: Callable) -> Table[Any]:
        """The table that the rating page keeps its events in, as records of `kind`."""
        return Table(self.database, EVENTS, kind, key, about)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the store as its one server. OutputError, with the other's process id: another one does."""
        with sole_worker(self.folder / "store.lock", self.folder, "Stop it, or serve another store."):
            yield

    @contextmanager
    def sole_writer_of(self, table: Literal["clips", "scores"]) -> Iterator[None]:
        """Hold a table while a long job fills it. OutputError, with the other's process id: another one
        does."""
        # A name that nothing in the store ever has: the lock of a folder moves into it once it is there.
        rows = self.folder / f"{table}.rows"
        with sole_writer(rows, "Wait for it; then the same command goes on."):
            yield

    # ---------------------------------------------------------------------- within

    def _read(
        self,
        table: Table[RecordT],
        known: Literal["conditions", "clips"] | None = None,
        needs: Callable[[RecordT], Sequence[str]] = lambda _: (),
    ) -> dict[Any, RecordT]:
        """The records of a table whose `needs` are all among the ids of the table `known`."""
        with self.database.reading():
            there = {} if known is None else getattr(self, known)()
            records = table.read()
            of_known = None if known is None else getattr(self, f"_{known}").version
            at = (table.version, of_known, len(there))
            if table.name not in self._orphans or self._orphans[table.name][0] != at:
                missing = {} if known is None else _missing(records, there, needs)
                lines = [
                    f"{table.name} row {table.row_of(key)}: names {name}, which is not in the store"
                    for key, name in missing.items()
                ]
                self._orphans[table.name] = (at, missing, lines)
            self._warn()
            missing = self._orphans[table.name][1]
            return {k: record for k, record in records.items() if k not in missing} if missing else records

    def _warn(self) -> None:
        problems = [] if self._warned else self.problems
        if problems:
            self._warned = True
            warnings.warn(
                f"{self.folder}: {len(problems)} rows left out; the first: {problems[0]}",
                StoreWarning,
                stacklevel=4,
            )

    def _add_once(
        self, table: Table[RecordT], name: str, record: RecordT, check: Callable[[], None] = lambda: None
    ) -> bool:
        with self.database.writing():
            if table.has(name):
                if table.read().get(name) != record:
                    raise InputError(f"{name}: is in {table.name} with other contents. Use another id.")
                return False
            return bool(table.add([record], check))

    def _require_clips(self, names: Sequence[str], who: str) -> None:
        for name in dict.fromkeys(names):
            if not self._clips.has(name):
                raise InputError(f"{who}: there is no clip {name} in {self.folder}.")


def _refuse_older(folder: Path) -> None:
    if not (folder / STORE_FILE).is_file():
        raise InputError(
            f"{folder}: is a store of an older hallo4, kept as JSON lines. Convert it with "
            f"`hallo4 prefer upgrade {folder}`; nothing in it is lost."
        )


def check_alike(one: Clip, other: Clip) -> None:
    """InputError unless both clips are equally long, fast and large, as a fair comparison needs."""
    if one.shape != other.shape:
        shapes = [
            f"{c.clip_id} is {c.frames} frames at {c.fps:g} fps, {c.width_px}x{c.height_px}"
            for c in (one, other)
        ]
        raise InputError(
            f"clips of a condition must be alike: {', '.join(shapes)}. Register them again with "
            "`hallo4 prefer candidates`, which encodes alike."
        )


def _missing(
    records: dict[Any, RecordT], known: dict[str, Any], needs: Callable[[RecordT], Sequence[str]]
) -> dict[Any, str]:
    """Key -> the first id that the record needs and that is not known."""
    missing = {}
    for key, record in records.items():
        lacking = [name for name in needs(record) if name not in known]
        if lacking:
            missing[key] = lacking[0]
    return missing
