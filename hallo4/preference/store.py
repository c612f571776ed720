"""Preference data on disk: `PreferenceStore`, a folder of append-only JSON lines and the media they name.

::

    folder/  conditions.jsonl   clips.jsonl   ratings.jsonl   scores.jsonl   gold.jsonl   pairs.jsonl
             conditions/        clips/        store.lock

Raters, scorers and readers may work on one store at once: every append is a single locked write
(`journal.py`). Records are checked against each other: a clip needs its condition, a rating its clips.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from hallo4.errors import InputError, OutputError
from hallo4.lock import sole_worker, sole_writer
from hallo4.outputs import is_store, refuse_output
from hallo4.preference.journal import Journal
from hallo4.preference.schema import Clip, Condition, GoldAnswer, MachineScore, Pair, Rating

MEDIA_FOLDERS = ("conditions", "clips")
RecordT = TypeVar("RecordT")


class StoreWarning(UserWarning):
    """Lines of a store could not be used; the message says how many and which is the first."""


class PreferenceStore:
    """Conditions, clips, ratings, machine scores, gold answers and pairs of one folder.

    Safe for several threads and processes. Make one with `create` or `open`.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Nothing is read or written yet."""
        self.folder = Path(folder)
        place = self.folder.joinpath
        self._conditions = Journal[Condition](place("conditions.jsonl"), Condition, lambda c: c.condition_id)
        self._clips = Journal[Clip](place("clips.jsonl"), Clip, lambda c: c.clip_id)
        self._ratings = Journal[Rating](place("ratings.jsonl"), Rating, lambda r: r.event_id)
        self._scores = Journal[MachineScore](
            place("scores.jsonl"), MachineScore, lambda s: (s.clip_id, s.axis, s.scorer), last_counts=True
        )
        self._gold = Journal[GoldAnswer](
            place("gold.jsonl"), GoldAnswer, lambda g: (*sorted(g.clips), g.axis), last_counts=True
        )
        self._pairs = Journal[Pair](place("pairs.jsonl"), Pair, lambda p: p.pair_id)
        self._journals = (
            *(self._conditions, self._clips, self._ratings),
            *(self._scores, self._gold, self._pairs),
        )  # fmt: skip
        self._orphans: dict[Path, list[str]] = {}
        self._turn = threading.RLock()
        self._warned = False

    # ---------------------------------------------------------------------- opening

    @classmethod
    def create(cls, folder: str | os.PathLike[str]) -> PreferenceStore:
        """Make a store in a new or empty folder, or open the one that is there. OutputError: neither, or it
        would lie in another one."""
        store = cls(folder)
        refuse_output(store.folder, for_store=True)
        try:
            if store.folder.is_dir() and not is_store(store.folder) and any(store.folder.iterdir()):
                raise OutputError(f"{folder}: holds other files. Name a new or empty folder for the store.")
            for name in MEDIA_FOLDERS:
                (store.folder / name).mkdir(parents=True, exist_ok=True)
            for journal in store._journals:
                journal.path.touch()
        except OSError as error:
            raise OutputError(
                f"{folder}: no store can be made here ({error.strerror}). Choose another folder."
            ) from error
        return store

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> PreferenceStore:
        """The store in `folder`. InputError: there is none."""
        if not is_store(Path(folder)):
            raise InputError(
                f"{folder}: is no preference store (it has no conditions.jsonl and clips.jsonl). "
                "Make one with `hallo4 prefer candidates`."
            )
        store = cls(folder)
        for journal in store._journals:
            if not journal.path.exists() and os.access(store.folder, os.W_OK):
                journal.path.touch()
        return store

    # ---------------------------------------------------------------------- reading

    def conditions(self) -> dict[str, Condition]:
        """Every condition by its id."""
        return self._read(self._conditions)

    def clips(self) -> dict[str, Clip]:
        """Every clip by its id."""
        return self._read(self._clips, self.conditions, lambda c: (c.condition_id,))

    def ratings(self) -> list[Rating]:
        """Every rating in the order of arrival."""
        return list(self._read(self._ratings, self.clips, lambda r: r.clips).values())

    def scores(self) -> dict[tuple[str, str, str], MachineScore]:
        """The last machine score of each (clip_id, axis, scorer)."""
        return self._read(self._scores, self.clips, lambda s: (s.clip_id,))

    def gold(self) -> list[GoldAnswer]:
        """Every known answer; the last to a question counts."""
        return list(self._read(self._gold, self.clips, lambda g: g.clips).values())

    def pairs(self) -> dict[str, Pair]:
        """Every pair by its id."""
        return self._read(self._pairs, self.clips, lambda p: (p.winner, p.loser))

    @property
    def problems(self) -> list[str]:
        """A line for every line left out, such as `ratings.jsonl line 7: ...`, in the files read so far."""
        with self._turn:
            unread = [line for journal in self._journals for line in journal.problems]
            return unread + [line for lines in self._orphans.values() for line in lines]

    def media_path(self, relative: str) -> Path:
        """Where a file named in a record lies. InputError: a link leads out of the store."""
        path = (self.folder / relative).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise InputError(f"{relative}: leads out of the store {self.folder}. Put the file itself there.")
        return path

    # ---------------------------------------------------------------------- writing

    def add_condition(self, condition: Condition) -> bool:
        """Append it; False if it is there already.

        InputError: there with other contents. OutputError: disk full; true of every `add_...`.
        """
        return self._add_once(self._conditions, condition.condition_id, condition)

    def add_clip(self, clip: Clip) -> bool:
        """Append it; False if it is there already.

        InputError: there with other contents; its condition is unknown; or its length or size differs from
        the other clips of the condition.
        """
        with self._turn:
            if clip.condition_id not in self.conditions():
                raise InputError(
                    f"clip {clip.clip_id}: there is no condition {clip.condition_id}. Add it first."
                )
            for other in self.clips().values():
                if other.condition_id == clip.condition_id:
                    check_alike(other, clip)
                    break
            return self._add_once(self._clips, clip.clip_id, clip)

    def add_rating(self, rating: Rating) -> bool:
        """Append it; False, and nothing done, if its event is there already. InputError: an unknown clip."""
        return self.add_ratings([rating]) == 1

    def add_ratings(self, ratings: Sequence[Rating]) -> int:
        """Append all that are not there yet in one stroke, or none; returns how many. As `add_rating`."""
        for rating in ratings:
            self._require_clips(rating.clips, f"rating {rating.event_id}")
        with self._turn:
            return self._ratings.append(ratings)

    def add_score(self, score: MachineScore) -> bool:
        """Append it; False if it says what the last of its clip, axis and scorer says. Errors as above."""
        return self.add_scores([score]) == 1

    def add_scores(self, scores: Sequence[MachineScore]) -> int:
        """Append all that are new in one stroke, or none; returns how many. As `add_score`."""
        self._require_clips([score.clip_id for score in scores], "machine score")
        with self._turn:
            return self._scores.append(scores)

    def add_gold(self, gold: GoldAnswer) -> bool:
        """Append it; False if it says what the last to this question says. InputError: an unknown clip."""
        self._require_clips(gold.clips, "gold answer")
        with self._turn:
            return self._gold.append([gold]) == 1

    def write_pairs(self, pairs: Sequence[Pair]) -> None:
        """Put these pairs in the place of all others, in one stroke.

        InputError: an unknown clip, clips of unlike length or size, or an id twice.
        """
        clips = self.clips()
        for pair in pairs:
            self._require_clips((pair.winner, pair.loser), f"pair {pair.pair_id}")
            check_alike(clips[pair.winner], clips[pair.loser])
        if len({pair.pair_id for pair in pairs}) < len(pairs):
            raise InputError("two pairs have the same pair_id. Give each its own.")
        with self._turn:
            self._pairs.replace(pairs)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the store as its one server. OutputError, with the other's process id: another one does."""
        with sole_worker(self.folder / "store.lock", self.folder, "Stop it, or serve another store."):
            yield

    @contextmanager
    def sole_writer_of(self, table: Literal["clips", "scores"]) -> Iterator[None]:
        """Hold a table while a long job fills it. OutputError, with the other's process id: another one
        does."""
        with sole_writer(self.folder / f"{table}.jsonl", "Wait for it; then the same command goes on."):
            yield

    # ---------------------------------------------------------------------- within

    def _read(
        self,
        journal: Journal[RecordT],
        known: Callable[[], dict[str, Any]] | None = None,
        needs: Callable[[RecordT], Sequence[str]] = lambda _: (),
    ) -> dict[Any, RecordT]:
        """The records of a file whose `needs` are all among the ids of `known`."""
        with self._turn:
            # First the file itself: a record that another process adds in between comes after what it needs.
            records = journal.read()
            orphans = _orphans(records, known() if known else {}, needs)
            self._orphans[journal.path] = [
                f"{journal.path.name} line {journal.line_of(key)}: names {missing}, which is not in the store"
                for key, missing in orphans.items()
            ]
            problems = self.problems
            if problems and not self._warned:
                self._warned = True
                warnings.warn(
                    f"{self.folder}: {len(problems)} lines left out; the first: {problems[0]}",
                    StoreWarning,
                    stacklevel=3,
                )
            return {key: record for key, record in records.items() if key not in orphans}

    def _add_once(self, journal: Journal[RecordT], name: str, record: RecordT) -> bool:
        with self._turn:
            if journal.append([record]):
                return True
            if journal.read()[name] != record:
                raise InputError(f"{name}: is in {journal.path.name} with other contents. Use another id.")
            return False

    def _require_clips(self, names: Sequence[str], who: str) -> None:
        known = self.clips()
        for name in names:
            if name not in known:
                raise InputError(f"{who}: there is no clip {name} in {self.folder}.")


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


def _orphans(
    records: dict[Hashable, RecordT], known: dict[str, Any], needs: Callable[[RecordT], Sequence[str]]
) -> dict[Hashable, str]:
    """Key -> the first id that the record needs and that is not known."""
    missing = {}
    for key, record in records.items():
        lacking = [name for name in needs(record) if name not in known]
        if lacking:
            missing[key] = lacking[0]
    return missing
