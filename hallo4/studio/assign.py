"""Which question comes next for which rater: pure functions of (seed, rater, what was asked so far).

::

    clips --questions--> every pair of a condition --plan--> 20 % wanted 3 times, the others once
                                                      |
    rater's history -- slot: of 20, 18 plain, 1 gold, 1 repeat -- next_draw --> Draw(question, side, role)

Nothing is drawn from a stateful generator: every choice is a hash of what it depends on, so the same log
gives the same questions on any machine and after any restart.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import combinations, takewhile
from typing import Literal, NamedTuple

from hallo4.preference.gold import GOLD_SYSTEM
from hallo4.preference.schema import Clip, GoldAnswer, Role
from hallo4.studio.study import Checks, Mode, Quotas

Shown = Role | Literal["practice"]
"""What a question is shown for; answers to practice questions are kept nowhere but in the page's events."""

CHUNK = 20
"""Raters work on the same 20 open questions, each in an own order, so that overlap fills early."""

REPEAT_AFTER = 6
"""A question is repeated when at least this many others came in between."""


class Question(NamedTuple):
    """What is asked about: the ids of two clips of `condition_id` in sorted order, or of one."""

    condition_id: str
    clips: tuple[str, ...]


@dataclass(frozen=True)
class Draw:
    """One question for one rater.

    `swapped`: the second clip is on the left. `repeat_of`: place in the rater's history, counted from 0, of
    the question that is asked again.
    """

    question: Question
    swapped: bool
    role: Shown = "plain"
    repeat_of: int | None = None


@dataclass(frozen=True)
class Plan:
    """All questions in the order in which they are worth asking, how many raters each is to get, and the gold
    questions."""

    seed: int
    wanted: Mapping[Question, int]
    gold: tuple[Question, ...]
    per_rater: int | None = None
    checks: Checks = field(default_factory=Checks)

    @cached_property
    def chunk(self) -> Mapping[Question, int]:
        """Which `CHUNK` of the order each question belongs to."""
        return {question: at // CHUNK for at, question in enumerate(self.wanted)}

    def open_to(self, rater: str, taken: Mapping[Question, Set[str]]) -> list[Question]:
        """What `rater` has not had and others have not filled, in order; `taken`: who holds or answered a
        question."""
        closed = {
            question
            for question, holders in taken.items()
            if holders and (rater in holders or len(holders) >= self.wanted.get(question, 0))
        }
        return [question for question in self.wanted if question not in closed]


def questions(clips: Iterable[Clip], mode: Mode = "comparison") -> list[Question]:
    """Every pair of clips of the same condition, or every clip; spoilt gold clips are left out."""
    by_condition: dict[str, list[str]] = {}
    for clip in clips:
        if clip.source_system != GOLD_SYSTEM:
            by_condition.setdefault(clip.condition_id, []).append(clip.clip_id)
    size = 2 if mode == "comparison" else 1
    return [
        Question(condition, clips)
        for condition, ids in sorted(by_condition.items())
        for clips in combinations(sorted(ids), size)
    ]


def gold_questions(
    clips: Mapping[str, Clip], answers: Iterable[GoldAnswer], mode: Mode = "comparison"
) -> list[Question]:
    """The pairs with a known answer on any axis whose clips belong to one condition, each once; where single
    clips are scored, both clips of each pair, one after the other."""
    pairs = sorted({tuple(sorted((answer.clip_a, answer.clip_b))) for answer in answers})
    pairs = [(a, b) for a, b in pairs if clips[a].condition_id == clips[b].condition_id]
    groups = (
        pairs if mode == "comparison" else list(dict.fromkeys((clip,) for pair in pairs for clip in pair))
    )
    return [Question(clips[own[0]].condition_id, own) for own in groups]


def make_plan(
    asked: Iterable[Question],
    gold: Iterable[Question] = (),
    quotas: Quotas | None = None,
    seed: int = 0,
    checks: Checks | None = None,
) -> Plan:
    """Order the questions round by round (one of each condition, then a second of each, ...) and spread the
    overlap over them at random, exactly its share rounded up."""
    quotas, gold = quotas or Quotas(), tuple(gold)
    alone = {question for question in gold if len(question.clips) == 2}
    plain = [question for question in asked if question not in alone]
    shuffled = sorted(plain, key=lambda question: _hash(seed, "order", *question.clips))
    seen: dict[str, int] = {}
    rounds: dict[Question, int] = {}
    for question in shuffled:
        rounds[question] = seen[question.condition_id] = seen.get(question.condition_id, -1) + 1
    ordered = sorted(shuffled, key=rounds.__getitem__)  # stable: shuffled within a round
    wanted = dict.fromkeys(ordered, quotas.per_question)
    for at, question in enumerate(ordered):
        # Of every stretch of the order the same share overlaps, so that agreement shows up early.
        if _ceil((at + 1) * quotas.overlap) > _ceil(at * quotas.overlap):
            wanted[question] = max(quotas.per_question, quotas.overlap_raters)
    return Plan(seed, wanted, gold, quotas.per_rater, checks or Checks())


def next_draw(
    plan: Plan, rater: str, history: Sequence[Draw], taken: Mapping[Question, Set[str]]
) -> Draw | None:
    """The question after `history`, the rater's draws so far in order; None when nothing is left to ask.

    A gold or repeat slot that cannot be filled is an ordinary question; when the ordinary ones are used up
    there are no further checks either.
    """
    counted = [draw for draw in history if draw.role != "practice"]
    if plan.per_rater is not None and len(counted) >= plan.per_rater:
        return None
    left = plan.open_to(rater, taken)
    if not left:
        return None
    if plan.gold and not counted and len(history) < plan.checks.practice:
        return replace(_gold_draw(plan, rater, history), role="practice")
    kind = slot(plan, rater, len(counted))
    if kind == "gold" and plan.gold:
        return _gold_draw(plan, rater, history)
    return (_repeat_draw(plan, rater, history) if kind == "repeat" else None) or _plain_draw(
        plan, rater, history, left
    )


def remaining(plan: Plan, rater: str, history: Sequence[Draw], left: int) -> int:
    """How many questions come after `history` if `left` ordinary ones do, checks and practice included.

    With each answer it falls by one, whatever the question was for, so it does not tell which are checks.
    """
    counted = [draw for draw in history if draw.role != "practice"]
    practised = len(history) - len(counted)
    to_practise = max(0, plan.checks.practice - practised) if plan.gold and not counted else 0
    again = {draw.repeat_of for draw in history}
    old = [at for at, draw in enumerate(counted) if draw.role == "plain" and at + practised not in again]
    at = len(counted)
    while left and (plan.per_rater is None or at < plan.per_rater):
        kind = slot(plan, rater, at)
        if kind == "repeat" and old and old[0] < at - REPEAT_AFTER:
            old.pop(0)
        elif kind != "gold" or not plan.gold:
            left -= 1
            old.append(at)
        at += 1
    return to_practise + at - len(counted)


def slot(plan: Plan, rater: str, index: int) -> Role:
    """What the question with this `index` (from 0) of a rater is for: one gold question in the first half of
    every `gold_every`, one repeat in the second half of every `repeat_every`, at places that differ from
    rater to rater."""
    return _slot(plan.seed, rater, index, plan.checks.gold_every, plan.checks.repeat_every)


@lru_cache(1 << 16)
def _slot(seed: int, rater: str, index: int, gold_every: int | None, repeat_every: int | None) -> Role:
    if gold_every is not None:
        block, place = divmod(index, gold_every)
        if place == _hash(seed, rater, "gold", block) % (gold_every // 2):
            return "gold"
    if repeat_every is not None:
        block, place = divmod(index, repeat_every)
        half = repeat_every // 2
        if place == half + _hash(seed, rater, "repeat", block) % (repeat_every - half):
            return "repeat"
    return "plain"


def _plain_draw(plan: Plan, rater: str, history: Sequence[Draw], left: list[Question]) -> Draw:
    first = plan.chunk[left[0]]
    near = takewhile(lambda question: plan.chunk[question] == first, left)
    question = min(near, key=lambda q: _hash(plan.seed, rater, "pick", *q.clips))
    count = sum(draw.role == "plain" for draw in history)
    return Draw(question, _side(plan.seed, rater, "plain", count, question))


def _gold_draw(plan: Plan, rater: str, history: Sequence[Draw]) -> Draw:
    """The gold question that the rater had least often, never the same twice in a row; of single clips, both
    of a pair follow each other."""
    had = [draw.question for draw in history if draw.role in ("gold", "practice")]
    if had and len(plan.gold) > 1:
        fresh = [question for question in plan.gold if question != had[-1]]
    else:
        fresh = list(plan.gold)
    if len(plan.gold[0].clips) == 1:
        place = len(had) + 2 * _hash(plan.seed, rater, "gold") % len(plan.gold)
        question = plan.gold[place % len(plan.gold)]
    else:
        question = min(fresh, key=lambda q: (had.count(q), _hash(plan.seed, rater, "gold", *q.clips)))
    return Draw(question, _side(plan.seed, rater, "gold", len(had), question), "gold")


def _repeat_draw(plan: Plan, rater: str, history: Sequence[Draw]) -> Draw | None:
    """An ordinary question of some time ago, with sides swapped."""
    done = {draw.repeat_of for draw in history}
    old = [
        at
        for at, draw in enumerate(history[: max(0, len(history) - REPEAT_AFTER)])
        if draw.role == "plain" and at not in done
    ]
    if not old:
        return None
    at = min(old, key=lambda at: _hash(plan.seed, rater, "again", *history[at].question.clips))
    question = history[at].question
    return Draw(question, len(question.clips) == 2 and not history[at].swapped, "repeat", at)


def _side(seed: int, rater: str, role: str, count: int, question: Question) -> bool:
    """Left or right at random, but two of each in every four: balanced for every rater at any time."""
    if len(question.clips) == 1:
        return False
    block, place = divmod(count, 4)
    turn = _hash(seed, rater, "sides", role, block) % 6
    return ((0, 0, 1, 1), (0, 1, 0, 1), (0, 1, 1, 0), (1, 0, 0, 1), (1, 0, 1, 0), (1, 1, 0, 0))[turn][
        place
    ] == 1


def _ceil(value: float) -> int:
    return math.ceil(round(value, 9))  # 35 * 0.2 is a little more than 7


def _hash(*words: object) -> int:
    """A number that depends on all words and on nothing else, evenly spread over 0..2^64-1."""
    text = "\x1f".join(map(str, words)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
