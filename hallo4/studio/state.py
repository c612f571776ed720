"""The state of the studio, folded from its events, and what an answer becomes in the store.

::

    events --State.apply--> tasks by token, in the order of each rater --ratings_of--> one Rating per axis
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hallo4.preference.schema import AXES, Rating
from hallo4.studio.assign import Draw, Question
from hallo4.studio.record import Answer, Answered, Event, Given, Joined, Undone, Withdrawn


@dataclass
class Task:
    """A question in a rater's history."""

    given: Given
    answered: Answered | None = None
    taken_back: Answered | None = None
    sealed: bool = False

    @property
    def draw(self) -> Draw:
        """The same in the words of `assign`, but for `repeat_of`."""
        question = Question(self.given.condition_id, self.given.clips)
        return Draw(question, self.given.left != self.given.clips[0], self.given.role)

    @property
    def shown(self) -> tuple[str, ...]:
        """Clip ids from left to right."""
        clips = self.given.clips
        return clips if self.given.left == clips[0] else clips[::-1]


@dataclass
class State:
    """The fold of all events."""

    keys: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    by_rater: dict[str, list[str]] = field(default_factory=dict)
    submitted: set[str] = field(default_factory=set)
    withdrawn: dict[Question, str] = field(default_factory=dict)
    orphans: list[str] = field(default_factory=list)

    def apply(self, event: Event) -> None:
        """Take in what happened. What belongs to a question whose line was lost is noted and left out."""
        if isinstance(event, Joined):
            self.keys[event.rater_id] = event.key_sha256
            self.by_rater.setdefault(event.rater_id, [])
            return
        if isinstance(event, Given):
            self.tasks[event.token] = Task(event)
            self.by_rater.setdefault(event.rater_id, []).append(event.token)
            return
        task = self.tasks.get(event.token)
        if task is None:
            self.orphans.append(f"events: {event.event} of a question that is not there; left out")
        elif isinstance(event, Answered):
            task.answered = event
            self.submitted.add(event.submit_id)
        elif isinstance(event, Undone):
            task.taken_back, task.answered = task.answered, None
        elif isinstance(event, Withdrawn):
            del self.tasks[event.token]
            self.by_rater[task.given.rater_id].remove(event.token)
            self.withdrawn[task.draw.question] = event.reason

    def history(self, rater: str) -> list[Task]:
        """All tasks of a rater in the order in which they were given."""
        return [self.tasks[token] for token in self.by_rater.get(rater, ())]


def before_undo(task: Task) -> dict | None:
    """What the rater said before taking it back, for the page to begin with."""
    said = task.taken_back
    names = ("alignment", "fidelity", "flags_left", "flags_right")
    return None if said is None else {name: getattr(said, name) for name in names}


def ratings_of(task: Task) -> list[Rating]:
    """One rating per axis of an answered task, sides turned back into clips."""
    given, said = task.given, task.answered
    assert said is not None, "only what is answered can be sealed"
    single = len(given.clips) == 1
    flags = {
        clip: of for clip, of in zip(task.shown, (said.flags_left, said.flags_right), strict=False) if of
    }
    return [
        Rating(
            event_id=f"{given.token}-{axis}",
            rater_id=given.rater_id,
            axis=axis,
            kind="score" if single else "comparison",
            clip_id=given.clips[0] if single else None,
            clip_a=None if single else given.clips[0],
            clip_b=None if single else given.clips[1],
            value=_value(getattr(said, axis), given),
            left_clip_id=None if single else given.left,
            flags=flags,
            shown_ms=said.shown_ms,
            answered_unix_ms=said.at_unix_ms,
            ui_version=said.ui_version,
            role=given.role,
            repeat_of=given.repeat_of and f"{given.repeat_of}-{axis}",
            simulated=False,
        )
        for axis in AXES
    ]


def _value(said: Answer, given: Given) -> float | str:
    """ "left" and "right" as the clips "a" and "b" that were there; scores as they are."""
    if isinstance(said, int):
        return float(said)
    side = {"left": given.left == given.clips[0], "right": given.left != given.clips[0]}
    return ("a" if side[said] else "b") if said in side else said
