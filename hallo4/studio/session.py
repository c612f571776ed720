"""Who was asked what, and what they said: the rules of the studio, without HTTP.

::

    join --> questions (two in hand: one on screen, one loading) --> answer --> sealed into the store
                                                          ^            |   by the next answer, after two
                                                          +--- undo ---+   minutes, or when the server ends

Every step is one event on the disk before it is acknowledged (`record.py`); the state in memory is nothing
but the fold of those events. One lock, one writer.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from hallo4.errors import InputError
from hallo4.preference.schema import AXES, Clip
from hallo4.preference.store import PreferenceStore
from hallo4.studio import assign
from hallo4.studio.assign import Draw, Mode, Plan, Question, Quotas
from hallo4.studio.media import BlindMedia
from hallo4.studio.record import Answered, Event, EventLine, Given, Joined, Undone, Withdrawn, about, key_of
from hallo4.studio.refused import Refused
from hallo4.studio.state import State, Task, before_undo, ratings_of

IN_HAND = 2
"""Questions a rater holds: the one on the screen and the one that is being loaded."""

LEASE_MS = 30 * 60_000
"""After half an hour without an answer a question in hand is open to others again."""

UNDO_MS = 120_000
"""An answer can be taken back until the next one is given, at most this long."""

_SEEN_SHARE = 0.9  # of a clip's length must have passed before an answer


class Session:
    """The studio of one store; all methods are safe for several threads.

    Raises `Refused` for what a rater did wrong and OutputError where the disk is full: then nothing was
    acknowledged and the same call can be made again.
    """

    def __init__(
        self,
        store: PreferenceStore,
        folder: Path,
        media: BlindMedia,
        seed: int = 0,
        mode: Mode = "comparison",
        quotas: Quotas | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.store, self._media, self.now_ms = store, media, now_ms
        self._seed, self._mode, self._quotas = seed, mode, quotas or Quotas()
        self._lock = threading.RLock()
        self._journal = store.table_of_events(EventLine, key_of, about)
        self._state = State()
        self._unsealable: list[str] = []
        self._plan_key: tuple[int, int, int] | None = None
        for event in self._journal.read().values():
            self._state.apply(event)
        self._state.withdrawn.clear()  # perhaps mended since; tried once more
        self._clips: Mapping[str, Clip] = store.clips()
        done = {rating.event_id for rating in store.ratings()}
        for token, task in self._state.tasks.items():
            task.sealed = task.answered is not None and all(f"{token}-{axis}" in done for axis in AXES)

    def require_questions(self) -> None:
        """InputError unless there is something to ask about."""
        if not self._plan().wanted:
            needs = "two clips of one condition" if self._mode == "comparison" else "clip"
            raise InputError(
                f"{self.store.folder}: has no {needs} to rate. Add clips with `hallo4 prefer candidates`."
            )

    # ------------------------------------------------------------------ raters

    def join(self, rater: str, key: str) -> None:
        """Let a rater in who read the consent note; the same rater with the same key may come back."""
        digest = hashlib.sha256(key.encode()).hexdigest()
        with self._lock:
            for known, its_digest in self._state.keys.items():
                if known.casefold() == rater.casefold():
                    if known == rater and hmac.compare_digest(digest, its_digest):
                        return
                    raise Refused(409, "This name is taken. Choose another, or open your own resume link.")
            self._record(Joined(rater, digest, self.now_ms()))

    def knows(self, rater: str, key: str) -> bool:
        """Whether `key` is that of `rater`."""
        digest = hashlib.sha256(key.encode()).hexdigest()
        return hmac.compare_digest(digest, self._state.keys.get(rater, ""))

    # ------------------------------------------------------------------ questions

    def questions(self, rater: str) -> dict:
        """What the page shows: the questions in hand (none: all is done) and how far the rater is."""
        with self._lock:
            self._seal(self.now_ms() - UNDO_MS)
            self._withdraw_what_cannot_be_shown(rater)
            history = self._state.history(rater)
            hand = [task for task in history if task.answered is None]
            while len(hand) < IN_HAND and (task := self._draw(rater)):
                hand.append(task)
            for task in hand:
                self._media.prepare(task.given.token, [self._clips[clip] for clip in task.shown])
            plan = self._plan()
            last = self._last_answer(rater)
            return {
                "questions": [self._for_page(task) for task in hand[:IN_HAND]],
                "done": sum(task.answered is not None for task in self._state.history(rater)),
                "left": len(hand) + len(plan.open_to(rater, self._taken(rater))),
                "undo": last.given.token if last and not last.sealed else None,
            }

    def answer(self, rater: str, answer: Answered) -> None:
        """Write an answer down; a second try of the same `submit_id` changes nothing."""
        with self._lock:
            task = self._task_of(rater, answer.token)
            if answer.submit_id in self._state.submitted:
                return
            if task.answered is not None:
                raise Refused(409, "This question was answered already, perhaps in another window.")
            self._check(task, answer)
            self._seal(self.now_ms() + 1, rater)  # what came before can no longer be undone
            self._record(answer)
            for token in self._state.by_rater[rater]:
                if token != answer.token and self._state.tasks[token].answered:
                    self._media.forget(token)

    def undo(self, rater: str, token: str) -> None:
        """Take back the last answer; a second try changes nothing."""
        with self._lock:
            task = self._task_of(rater, token)
            if task.answered is None:
                return
            last = self._last_answer(rater)
            if task.sealed or last is None or last.given.token != token:
                raise Refused(409, "This answer can no longer be changed.")
            self._record(Undone(token, self.now_ms()))

    def media_failed(self, token: str, reason: str) -> None:
        """Note that the video of a question cannot be shown; it is taken out for everybody."""
        with self._lock:
            if token in self._state.tasks and self._state.tasks[token].answered is None:
                self._record(Withdrawn(token, reason[:400], self.now_ms()))

    def seal(self) -> None:
        """Put every answer into the store; none can be undone any more."""
        with self._lock:
            self._seal(self.now_ms() + 1)

    # ------------------------------------------------------------------ for the organiser

    def overview(self) -> tuple[Plan, dict[str, list[Task]], list[str]]:
        """(plan, tasks by rater, problems): a consistent picture for `progress.py`."""
        with self._lock:
            self._seal(self.now_ms() - UNDO_MS)
            tasks = {rater: list(self._state.history(rater)) for rater in self._state.by_rater}
            gone = [f"{' / '.join(q.clips)}: {why}" for q, why in self._state.withdrawn.items()]
            return (
                self._plan(),
                tasks,
                [
                    *self.store.problems,
                    *self._journal.problems,
                    *self._state.orphans,
                    *self._unsealable,
                    *gone,
                ],
            )

    # ------------------------------------------------------------------ inside

    def _record(self, event: Event) -> None:
        self._journal.add([event])
        self._state.apply(event)

    def _task_of(self, rater: str, token: str) -> Task:
        task = self._state.tasks.get(token)
        if task is None or task.given.rater_id != rater:
            raise Refused(404, "There is no such question.")
        return task

    def _last_answer(self, rater: str) -> Task | None:
        done = [task for task in reversed(self._state.history(rater)) if task.answered]
        return max(done, key=lambda task: task.answered.at_unix_ms) if done else None

    def _check(self, task: Task, answer: Answered) -> None:
        single = len(task.given.clips) == 1
        for value in (answer.alignment, answer.fidelity):
            if isinstance(value, int) != single and value != "cannot_judge":
                raise Refused(422, "The answer is of the wrong kind for this question.")
        if single and answer.flags_right:
            raise Refused(422, "There is no second clip to flag.")
        clip = self._clips[task.given.clips[0]]
        if answer.shown_ms < 1000 * _SEEN_SHARE * clip.frames / clip.fps:
            raise Refused(422, "Watch to the end once before answering.")

    def _plan(self) -> Plan:
        """The plan of the clips and gold answers that are in the store now."""
        self._clips, gold = self.store.clips(), self.store.gold()
        key = (len(self._clips), len(gold), len(self._state.withdrawn))
        if key != self._plan_key:
            gone = self._state.withdrawn
            asked = [q for q in assign.questions(self._clips.values(), self._mode) if q not in gone]
            checks = assign.gold_questions(self._clips, gold) if self._mode == "comparison" else []
            checks = [question for question in checks if question not in gone]
            self._cached = assign.make_plan(asked, checks, self._quotas, self._seed)
            self._plan_key = key
        return self._cached

    def _taken(self, rater: str) -> dict[Question, set[str]]:
        """Who answered each question or holds it; what lapsed stays with `rater` alone."""
        lapsed, taken = self.now_ms() - LEASE_MS, {}
        for task in self._state.tasks.values():
            holder, fresh = task.given.rater_id, task.given.at_unix_ms > lapsed
            if task.given.role == "plain" and (task.answered or fresh or holder == rater):
                taken.setdefault(task.draw.question, set()).add(holder)
        return taken

    def _draw(self, rater: str) -> Task | None:
        """Hand out the next question."""
        tasks = self._state.history(rater)
        place = {task.given.token: at for at, task in enumerate(tasks)}
        history = [
            Draw(task.draw.question, task.draw.swapped, task.draw.role, place.get(task.given.repeat_of or ""))
            for task in tasks
        ]
        draw = assign.next_draw(self._plan(), rater, history, self._taken(rater))
        if draw is None:
            return None
        clips, again = draw.question.clips, draw.repeat_of
        given = Given(
            token=secrets.token_hex(16),
            rater_id=rater,
            condition_id=draw.question.condition_id,
            clips=clips,
            left=clips[-1] if draw.swapped else clips[0],
            role=draw.role,
            repeat_of=None if again is None else tasks[again].given.token,
            at_unix_ms=self.now_ms(),
        )
        self._record(given)
        return self._state.tasks[given.token]

    def _withdraw_what_cannot_be_shown(self, rater: str) -> None:
        """Questions in hand whose clips left the store or whose pair was withdrawn by another rater."""
        for task in self._state.history(rater):
            if task.answered is None and not set(task.given.clips) <= set(self._clips):
                self._record(Withdrawn(task.given.token, "a clip is no longer in the store", self.now_ms()))
            elif task.answered is None and task.draw.question in self._state.withdrawn:
                reason = self._state.withdrawn[task.draw.question]
                self._record(Withdrawn(task.given.token, reason, self.now_ms()))

    def _for_page(self, task: Task) -> dict:
        """A question without anything that tells what it is about."""
        clips = [self._clips[clip] for clip in task.shown]
        return {
            "token": task.given.token,
            "media": f"media/{task.given.token}",  # relative to the page
            "clips": len(clips),
            "before": before_undo(task),
            **vars(self._media.view(clips)),
        }

    def _seal(self, before_ms: int, rater: str | None = None) -> None:
        """Move answers given before a time into the store, of one rater or of all; idempotent."""
        for task in self._state.tasks.values():
            if task.sealed or not task.answered or rater not in (None, task.given.rater_id):
                continue
            if task.answered.at_unix_ms < before_ms:
                try:
                    self.store.add_ratings(ratings_of(task))
                except InputError as error:  # its clip left the store; the answer stays in the events
                    self._unsealable.append(f"answer {task.given.token}: {error}")
                task.sealed = True
