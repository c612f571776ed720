"""The state of the studio, folded from its events, and what an answer becomes in the store.

::

    events --State.apply--> tasks by token, in the order of each rater --ratings_of--> one Rating per question
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field

from hallo4.preference.schema import Rating
from hallo4.studio.assign import Draw, Question
from hallo4.studio.record import (
    Answer,
    Answered,
    Ended,
    Event,
    Given,
    Joined,
    SoundChecked,
    Undone,
    Withdrawn,
)

UNSAFE = "a clip was flagged as unsafe"
"""Why a question is withdrawn that shows such a clip."""


@dataclass
class Task:
    """A question in a rater's history."""

    given: Given
    answered: Answered | None = None
    taken_back: Answered | None = None
    sealed: bool = False

    @property
    def question(self) -> Question:
        """In the words of `assign`."""
        return Question(self.given.condition_id, self.given.clips)

    def draw(self, repeat_of: int | None = None) -> Draw:
        """In the words of `assign`."""
        swapped = self.given.left != self.given.clips[0]
        return Draw(self.question, swapped, self.given.role, repeat_of)

    @property
    def shown(self) -> tuple[str, ...]:
        """Clip ids from left to right."""
        clips = self.given.clips
        return clips if self.given.left == clips[0] else clips[::-1]

    @property
    def flags(self) -> dict[str, tuple]:
        """The flags of each clip that was given some."""
        if self.answered is None:
            return {}
        both = zip(self.shown, (self.answered.flags_left, self.answered.flags_right), strict=False)
        return {clip: flags for clip, flags in both if flags}


@dataclass
class State:
    """The fold of all events."""

    joined: dict[str, Joined] = field(default_factory=dict)
    sound_checked: set[str] = field(default_factory=set)
    ended: dict[str, Ended] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    by_rater: dict[str, list[str]] = field(default_factory=dict)
    by_question: dict[Question, dict[str, Task]] = field(default_factory=dict)
    submitted: dict[str, Answered] = field(default_factory=dict)
    unsealed: dict[str, Task] = field(default_factory=dict)
    withdrawn: dict[Question, str] = field(default_factory=dict)
    unsafe: dict[str, set[str]] = field(default_factory=dict)
    unsafe_clips: frozenset[str] = frozenset()
    """Clips that are shown no more."""
    orphans: list[str] = field(default_factory=list)

    def apply(self, event: Event) -> None:
        """Take in what happened. What belongs to a question whose row was lost is noted and left out."""
        if isinstance(event, Joined):
            self.joined[event.rater_id] = event
            self.by_rater.setdefault(event.rater_id, [])
        elif isinstance(event, SoundChecked):
            self.sound_checked.add(event.rater_id)
        elif isinstance(event, Ended):
            self.ended[event.rater_id] = event
        elif isinstance(event, Given):
            task = self.tasks[event.token] = Task(event)
            self.by_rater.setdefault(event.rater_id, []).append(event.token)
            if event.role == "plain":
                self.by_question.setdefault(task.question, {})[event.rater_id] = task
        elif event.token not in self.tasks:
            self.orphans.append(f"events: {event.event} of a question that is not there; left out")
        else:
            self._of_task(event, self.tasks[event.token])

    def _of_task(self, event: Answered | Undone | Withdrawn, task: Task) -> None:
        if isinstance(event, Answered):
            task.answered = event
            self.submitted[event.submit_id] = event
            self.unsealed[event.token] = task
            for clip, flags in task.flags.items():
                if "unsafe" in flags:
                    self._note_unsafe(clip, event.token)
            return
        for tokens in self.unsafe.values():
            tokens.discard(event.token)
        self._count_unsafe()
        self.unsealed.pop(event.token, None)
        if isinstance(event, Undone):
            task.taken_back, task.answered = task.answered, None
            return
        rater = task.given.rater_id
        del self.tasks[event.token]
        self.by_rater[rater].remove(event.token)
        if self.by_question.get(task.question, {}).get(rater) is task:
            del self.by_question[task.question][rater]
        if event.reason != UNSAFE:  # those are known by their clips
            self.withdrawn[task.question] = event.reason

    def history(self, rater: str) -> list[Task]:
        """All tasks of a rater in the order in which they were given."""
        return [self.tasks[token] for token in self.by_rater.get(rater, ())]

    def learn_unsafe(self, ratings: Iterable[Rating]) -> None:
        """Take in flags from ratings that came another way than through these events."""
        for rating in ratings:
            if rating.event_id.partition("-")[0] not in self.tasks:
                for clip, flags in rating.flags.items():
                    if "unsafe" in flags:
                        self._note_unsafe(clip, rating.event_id)

    def _note_unsafe(self, clip: str, said_in: str) -> None:
        self.unsafe.setdefault(clip, set()).add(said_in)
        self._count_unsafe()

    def _count_unsafe(self) -> None:
        self.unsafe_clips = frozenset(clip for clip, tokens in self.unsafe.items() if tokens)


class Taken(Mapping[Question, Set[str]]):
    """Who answered each question, or holds it since `fresh_since_ms`; what `rater` holds stays theirs."""

    def __init__(self, state: State, rater: str, fresh_since_ms: int, uncounted: Set[str]) -> None:
        self._state, self._rater, self._since, self._uncounted = state, rater, fresh_since_ms, uncounted

    def __getitem__(self, question: Question) -> Set[str]:
        """The raters; KeyError: no rater was ever asked."""
        return {
            holder
            for holder, task in self._state.by_question[question].items()
            if holder == self._rater
            or (holder not in self._uncounted and (task.answered or task.given.at_unix_ms > self._since))
        }

    def __iter__(self) -> Iterator[Question]:
        return iter(self._state.by_question)

    def __len__(self) -> int:
        return len(self._state.by_question)


def fold(events: Iterable[Event]) -> State:
    """The state after these events."""
    state = State()
    for event in events:
        state.apply(event)
    return state


def before_undo(task: Task) -> dict | None:
    """What the rater said before taking it back, for the page to begin with."""
    said = task.taken_back
    names = ("answers", "flags_left", "flags_right")
    return None if said is None else {name: getattr(said, name) for name in names}


def ratings_of(task: Task, value_of: Callable[[int], float]) -> list[Rating]:
    """One rating per question of an answered task, sides turned back into clips; none for practice.

    `value_of`: points of a score -> 1..5.
    """
    given, said = task.given, task.answered
    assert said is not None, "only what is answered can be sealed"
    if given.role == "practice":
        return []
    single = len(given.clips) == 1
    return [
        Rating(
            event_id=f"{given.token}-{name}",
            rater_id=given.rater_id,
            axis=said.axes[name],
            kind="score" if single else "comparison",
            clip_id=given.clips[0] if single else None,
            clip_a=None if single else given.clips[0],
            clip_b=None if single else given.clips[1],
            value=_value(answer, given, value_of),
            left_clip_id=None if single else given.left,
            flags=task.flags,
            shown_ms=said.shown_ms,
            answered_unix_ms=said.at_unix_ms,
            ui_version=said.ui_version,
            role=given.role,
            repeat_of=given.repeat_of and f"{given.repeat_of}-{name}",
            simulated=False,
            question=None if name == said.axes[name] else name,
        )
        for name, answer in said.answers.items()
    ]


def _value(said: Answer, given: Given, value_of: Callable[[int], float]) -> float | str:
    """ "left" and "right" as the clips "a" and "b" that were there; scores on the scale of ratings."""
    if isinstance(said, int):
        return value_of(said)
    side = {"left": given.left == given.clips[0], "right": given.left != given.clips[0]}
    return ("a" if side[said] else "b") if said in side else said
