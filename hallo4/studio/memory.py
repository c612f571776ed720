"""What the server remembers of a store, and how that stays what is on the disk: one turn after the other.

::

    turn: lock, one transaction --> has another process changed the file? read it again
              --> the rules of `session.py` read the state and record events --> one commit to the disk
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from hallo4.preference.schema import Clip, GoldAnswer
from hallo4.preference.store import PreferenceStore
from hallo4.studio.record import Event, EventLine, about, key_of
from hallo4.studio.refused import Refused
from hallo4.studio.state import State, fold


class Memory:
    """The fold of all events (`state`), the clips and gold answers of the store, and the excluded raters.

    It changes within a turn only. Whoever looks without one sees the state of one moment, or the next.
    """

    def __init__(self, store: PreferenceStore) -> None:
        """Nothing is read before the first turn."""
        self._store = store
        self._journal = store.table_of_events(EventLine, key_of, about)
        self._lock = threading.RLock()
        self._in_turn = False
        self._left_at: tuple[int, int] | None = None  # None: memory and disk may differ
        self.state = State()
        self.clips: Mapping[str, Clip] = {}
        self.gold: list[GoldAnswer] = []
        self.excluded: frozenset[str] = frozenset()

    @property
    def problems(self) -> list[str]:
        """A line for every event that could not be used."""
        return self._journal.problems

    def record(self, event: Event) -> None:
        """Write an event down and take it in. OutputError: the disk is full."""
        self._journal.add([event])
        self.state.apply(event)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One request's turn; a turn within a turn is part of it.

        What was written before a refusal stays. After any other error nothing of the turn is on the disk, and
        the next turn reads everything again.
        """
        with self._lock:
            if self._in_turn:
                yield
                return
            refused: Refused | None = None
            self._in_turn = True
            try:
                with self._store.database.writing():
                    self._catch_up()
                    try:
                        yield
                    except Refused as error:
                        refused = error
                    self._left_at = self._store.database.changes()
            except BaseException:
                self._left_at = None
                raise
            finally:
                self._in_turn = False
            if refused is not None:
                raise refused

    def _catch_up(self) -> None:
        if self._store.database.changes() == self._left_at:
            return
        if self._left_at is None or self._journal.revision() != self._journal.version[0]:
            self._fold()
        self.excluded = frozenset(exclusion.rater_id for exclusion in self._store.excluded())
        self.clips, self.gold = self._store.clips(), self._store.gold()

    def _fold(self) -> None:
        state = fold(self._journal.read().values())
        ratings = self._store.ratings()
        done = {rating.event_id for rating in ratings}
        for token, task in list(state.unsealed.items()):
            said = task.answered
            task.sealed = said is not None and all(f"{token}-{name}" in done for name in said.answers)
            if task.sealed:
                del state.unsealed[token]
        state.learn_unsafe(ratings)
        # What this server found out it keeps, and what an earlier one could not show is tried once more.
        state.withdrawn = self.state.withdrawn
        self.state = state
