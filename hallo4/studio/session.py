"""Who was asked what, and what they said: the rules of the studio, without HTTP.

::

    join --> questions (two in hand: one on screen, one loading) --> answer --> sealed into the store
                                                          ^            |   by the next answer, after two
                                                          +--- undo ---+   minutes, or when the server ends
         ... --> finish: everything is sealed, the rater gets a code

Every step is one event on the disk before it is acknowledged (`record.py`); the state in memory is nothing
but the fold of those events (`memory.py`). `hallo4 prefer raters` may exclude and delete meanwhile.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hallo4.errors import InputError
from hallo4.preference.schema import Clip
from hallo4.preference.store import PreferenceStore
from hallo4.studio import assign
from hallo4.studio.assign import Draw, Plan, Question
from hallo4.studio.media import BlindMedia
from hallo4.studio.memory import Memory
from hallo4.studio.people import code_of, key_digest, lesson, new_rater, passes_gold, same_key
from hallo4.studio.plausible import checked_answer
from hallo4.studio.record import (
    Answered,
    Ended,
    Event,
    Given,
    Joined,
    SoundChecked,
    Undone,
    Withdrawn,
)
from hallo4.studio.refused import Refused
from hallo4.studio.state import UNSAFE, State, Taken, Task, before_undo, ratings_of
from hallo4.studio.study import Study, redirect_of

IN_HAND = 2
"""Questions a rater holds: the one on the screen and the one that is being loaded."""

LEASE_MS = 30 * 60_000
"""After half an hour without an answer a question in hand is open to others again."""

UNDO_MS = 120_000
"""An answer can be taken back until the next one is given, at most this long."""


class Session:
    """The studio of one store; all methods are safe for several threads.

    Raises `Refused` for what a rater did wrong and OutputError where the disk is full: then nothing was
    acknowledged and the same call can be made again.
    """

    def __init__(
        self,
        store: PreferenceStore,
        media: BlindMedia,
        study: Study,
        seed: int = 0,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.store, self.study, self.now_ms = store, study, now_ms
        self._media, self._seed = media, seed
        self._memory = Memory(store)
        self._turn = self._memory.turn
        self._unsealable: list[str] = []
        self._plan_key: Any = None
        with self._turn():  # the first one reads the store
            pass

    @contextmanager
    def turn_of(self, rater: str) -> Iterator[None]:
        """One request of a rater: all that it calls is one transaction. Refused: there is no such rater, or
        no longer."""
        with self._turn():
            if rater not in self._state.joined:
                raise Refused(401, "This page is not signed in. Open the link that you were given.")
            yield

    def require_questions(self) -> None:
        """InputError unless there is something to ask about."""
        with self._turn():
            if not self._plan().wanted:
                needs = "two clips of one condition" if self.study.mode == "comparison" else "clip"
                raise InputError(
                    f"{self.store.folder}: has no {needs} to rate. Add clips with `hallo4 prefer candidates`."
                )
            checks = self.study.checks
            if (checks.practice or checks.stop_below is not None) and not self._plan().gold:
                raise InputError(
                    f"{self.store.folder}: the study has practice or stops raters by gold questions, and the "
                    "store has none. Make some with `hallo4 prefer candidates --gold N`."
                )

    def wanted_copies(self) -> list[list[Clip]]:
        """What may be shown: the clips of every question, in both orders."""
        with self._turn():
            plan = self._plan()
            asked = list(dict.fromkeys([*plan.wanted, *plan.gold]))
            both = [order for q in asked for order in dict.fromkeys([q.clips, q.clips[::-1]])]
            return [[self._memory.clips[clip] for clip in order] for order in both]

    def withdraw(self, failed: Mapping[tuple[str, ...], str]) -> None:
        """Take questions out whose clips cannot be shown, for this run of the server."""
        with self._turn():
            for clips, why in failed.items():
                condition = self._memory.clips[clips[0]].condition_id
                self._state.withdrawn[Question(condition, tuple(sorted(clips)))] = why

    # ------------------------------------------------------------------ raters

    def join(
        self, rater: str | None, key: str, language: str = "", participant: Mapping[str, str] | None = None
    ) -> str:
        """Let a rater in who read the consent note; the same with the same key may come back. The name."""
        with self._turn():
            asked = Joined(
                *(rater or "", key_digest(key), self.now_ms()),
                study=self.study.stamp,
                consent_version=self.study.consent.version,
                language=language,
                participant=dict(participant or {}),
            )
            found, known = new_rater(asked, self._state, self.study, self.store)
            if not known:
                self._record(found)
            return found.rater_id

    def knows(self, rater: str, key: str) -> bool:
        """Whether `key` is that of `rater`; waits for no lock, so one who was deleted meanwhile may still be
        known here: see `turn_of`."""
        return same_key(self._state.joined.get(rater), key)

    def sound_checked(self, rater: str) -> None:
        """The rater passed the sound check."""
        with self._turn():
            if rater not in self._state.sound_checked:
                self._record(SoundChecked(rater, self.now_ms()))

    def finish(self, rater: str) -> None:
        """Give the rater a code who has nothing more to answer; a second call changes nothing."""
        with self._turn():
            if rater in self._state.ended:
                return
            if self._hand(rater):
                raise Refused(409, "There are questions left. Answer them first.")
            real = [task for task in self._state.history(rater) if task.given.role != "practice"]
            full = self.study.quotas.per_rater is not None and len(real) >= self.study.quotas.per_rater
            self._end(rater, "complete" if full else "nothing left")

    # ------------------------------------------------------------------ questions

    def questions(self, rater: str) -> dict:
        """What the page shows: the questions in hand (none: all is done) and how far the rater is."""
        with self._turn():
            self._seal(self.now_ms() - UNDO_MS)
            if rater in self._memory.excluded and rater not in self._state.ended:
                self._end(rater, "excluded")
            ended = self._state.ended.get(rater)
            if ended is not None:
                return self._for_page(rater, [], 0, ended)
            if self.study.checks.sound_check and rater not in self._state.sound_checked:
                return {**self._for_page(rater, [], 1, None), "sound_check": True}
            hand = self._hand(rater)
            plan = self._plan()
            history = self._draws(rater)
            left = assign.remaining(plan, rater, history, len(plan.open_to(rater, self._taken(rater))))
            return self._for_page(rater, hand, len(hand) + left, None)

    def answer(self, rater: str, answer: Answered) -> None:
        """Write an answer down; a second try of the same one changes nothing."""
        with self._turn():
            task = self._task_of(rater, answer.token)
            known = self._state.submitted.get(answer.submit_id)
            if known is not None:
                if known.token == answer.token and known.answers == answer.answers:
                    return
                raise Refused(409, "This submission was another answer. Reload the page.")
            if task.answered is not None:
                raise Refused(409, "This question was answered already, perhaps in another window.")
            if rater in self._state.ended:
                raise Refused(409, "You have finished. Thank you!")
            answer = checked_answer(answer, task, self.study, self._memory.clips, self._passed_ms(task))
            self._seal(self.now_ms() + 1, rater)  # what came before can no longer be undone
            self._record(answer)
            if task.given.role == "gold" and not passes_gold(
                self._state.history(rater), self._memory.gold, self.study.checks
            ):
                self._end(rater, "stopped")

    def undo(self, rater: str, token: str) -> None:
        """Take back the last answer; a second try changes nothing."""
        with self._turn():
            task = self._task_of(rater, token)
            if task.answered is None:
                return
            last = self._last_answer(rater)
            if task.sealed or last is None or last.given.token != token or task.given.role == "practice":
                raise Refused(409, "This answer can no longer be changed.")
            self._record(Undone(token, self.now_ms()))

    def clips_of(self, token: str) -> list[Clip]:
        """What a question that may be looked at now shows, left first; waits for no lock. Refused: none of
        that token, or its clips left the store."""
        state, clips = self._state, self._memory.clips
        task = state.tasks.get(token)
        over = task is None or task.sealed or (task.answered and task.given.role == "practice")
        if over or not set(task.shown) <= clips.keys():  # one may have left the store
            raise Refused(404, "There is no such video.")
        if set(task.given.clips) & state.unsafe_clips and not task.answered:
            raise Refused(410, "This video cannot be shown. The next one is on its way.")
        return [clips[clip] for clip in task.shown]

    def media_failed(self, token: str, reason: str) -> None:
        """Note that the video of a question cannot be shown; it is taken out for everybody."""
        with self._turn():
            if token in self._state.tasks and self._state.tasks[token].answered is None:
                self._record(Withdrawn(token, reason[:400], self.now_ms()))

    def seal(self) -> None:
        """Put every answer into the store; none can be undone any more."""
        with self._turn():
            self._seal(self.now_ms() + 1)

    # ------------------------------------------------------------------ for the organiser

    def overview(self) -> tuple[Plan, State, list[str]]:
        """(plan, state, problems): a consistent picture for `progress.py`."""
        with self._turn():
            self._seal(self.now_ms() - UNDO_MS)
            gone = [f"{' / '.join(q.clips)}: {why}" for q, why in self._state.withdrawn.items()]
            problems = [*self.store.problems, *self._memory.problems, *self._state.orphans]
            return self._plan(), self._state, [*problems, *self._unsealable, *gone]

    # ------------------------------------------------------------------ inside

    @property
    def _state(self) -> State:
        return self._memory.state

    def _record(self, event: Event) -> None:
        self._memory.record(event)

    def _end(self, rater: str, reason: str) -> None:
        self._seal(self.now_ms() + 1, rater)
        self._record(Ended(rater, code_of(self.study, reason), reason, self.now_ms()))  # type: ignore[arg-type]

    def _task_of(self, rater: str, token: str) -> Task:
        task = self._state.tasks.get(token)
        if task is None or task.given.rater_id != rater:
            raise Refused(404, "There is no such question.")
        return task

    def _last_answer(self, rater: str) -> Task | None:
        done = [task for task in self._state.history(rater) if task.answered]
        return max(done, key=lambda task: task.answered.at_unix_ms) if done else None

    def _passed_ms(self, task: Task) -> int:
        """How long it can have been looked at: since it was given, or the one before was answered."""
        last = self._last_answer(task.given.rater_id)
        since = max(task.given.at_unix_ms, last.answered.at_unix_ms if last else 0)
        return max(0, self.now_ms() - since)

    def _plan(self) -> Plan:
        """The plan of the clips and gold answers that are in the store now."""
        unsafe, withdrawn = self._state.unsafe_clips, self._state.withdrawn
        key = (len(self._memory.clips), len(self._memory.gold), len(withdrawn), unsafe)
        if key != self._plan_key:
            mode = self.study.mode

            def fit(questions: list[Question]) -> list[Question]:
                return [q for q in questions if q not in withdrawn and not unsafe & set(q.clips)]

            asked = fit(assign.questions(self._memory.clips.values(), mode))
            gold = fit(assign.gold_questions(self._memory.clips, self._memory.gold, mode))
            study = self.study
            self._cached = assign.make_plan(asked, gold, study.quotas, self._seed, study.checks)
            self._plan_key = key
        return self._cached

    def _taken(self, rater: str) -> Taken:
        return Taken(self._state, rater, self.now_ms() - LEASE_MS, self._memory.excluded)

    def _draws(self, rater: str) -> list[Draw]:
        tasks = self._state.history(rater)
        place = {task.given.token: at for at, task in enumerate(tasks)}
        return [task.draw(place.get(task.given.repeat_of or "")) for task in tasks]

    def _hand(self, rater: str) -> list[Task]:
        """The questions that wait for an answer, after new ones were handed out."""
        self._withdraw_what_cannot_be_shown(rater)
        hand = [task for task in self._state.history(rater) if task.answered is None]
        while len(hand) < IN_HAND and (task := self._draw(rater)):
            hand.append(task)
        return hand[:IN_HAND]

    def _draw(self, rater: str) -> Task | None:
        """Hand out the next question."""
        draw = assign.next_draw(self._plan(), rater, self._draws(rater), self._taken(rater))
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
            repeat_of=None if again is None else self._state.history(rater)[again].given.token,
            at_unix_ms=self.now_ms(),
        )
        self._record(given)
        return self._state.tasks[given.token]

    def _withdraw_what_cannot_be_shown(self, rater: str) -> None:
        """Questions in hand whose clips left the store or are unsafe, or that others could not be shown."""
        self._plan()
        for task in [task for task in self._state.history(rater) if task.answered is None]:
            if not set(task.given.clips) <= set(self._memory.clips):
                why = "a clip is no longer in the store"
            elif set(task.given.clips) & self._state.unsafe_clips:
                why = UNSAFE
            else:
                why = self._state.withdrawn.get(task.question, "")[:400]
            if why:
                self._record(Withdrawn(task.given.token, why, self.now_ms()))

    def _for_page(self, rater: str, hand: list[Task], left: int, ended: Ended | None) -> dict:
        """All that the page gets, without anything that shows what a question is about."""
        last = self._last_answer(rater)
        undo = last if last and not last.sealed and not ended and last.given.role != "practice" else None
        practised = lesson(last, self._memory.gold) if last and last.given.role == "practice" else None
        done = [t for t in self._state.history(rater) if t.answered and t.given.role != "practice"]
        found = {
            "questions": [self._question(task) for task in hand],
            "done": len(done),
            "left": left,
            "undo": undo.given.token if undo else None,
            "lesson": practised,
            "ended": None,
        }
        if ended is not None:
            participant = self._state.joined[rater].participant if rater in self._state.joined else {}
            stopped = ended.reason in ("stopped", "excluded")
            go = None if stopped else redirect_of(self.study, ended.code, participant)
            found["ended"] = {"code": ended.code, "stopped": stopped, "redirect": go}
        return found

    def _question(self, task: Task) -> dict:
        clips = [self._memory.clips[clip] for clip in task.shown]
        return {
            "token": task.given.token,
            "media": f"media/{task.given.token}",  # relative to the page
            "clips": len(clips),
            "practice": task.given.role == "practice",
            "before": before_undo(task),
            **vars(self._media.view(clips)),
        }

    def _seal(self, before_ms: int, rater: str | None = None) -> None:
        """Move answers given before a time into the store, of one rater or of all; idempotent."""
        for token, task in list(self._state.unsealed.items()):
            if rater not in (None, task.given.rater_id) or task.answered.at_unix_ms >= before_ms:
                continue
            try:
                self.store.add_ratings(ratings_of(task, self.study.value_of))
            except InputError as error:  # its clip left the store; the answer stays in the events
                self._unsealable.append(f"answer {token}: {error}")
            task.sealed = True
            del self._state.unsealed[token]
