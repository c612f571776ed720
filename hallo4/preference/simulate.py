"""Simulated raters, and never anything else: for trying the machinery where there are no people.

::

    latent quality of each clip and axis --spread over the scale--> + taste of the rater + noise --> answer
                                                                    + pull to the left side

Every rating is marked `simulated`, and every report says so. They know nothing but the qualities they are
given, usually machine scores, so agreement with that scorer is built in and proves nothing about people.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np

from hallo4.errors import InputError
from hallo4.preference.gold import GOLD_SYSTEM
from hallo4.preference.schema import AXES, HIGHEST, LOWEST, Axis, GoldAnswer, Rating
from hallo4.preference.store import PreferenceStore

Qualities = Mapping[tuple[str, str], float]
"""(clip_id, axis) -> latent quality on any scale, higher is better."""

UI_VERSION = "simulated"
_START_UNIX_MS = 1_700_000_000_000


@dataclass(frozen=True)
class Simulation:
    """How the raters are. Lengths are in points of the scale 1..5.

    `spread`: standard deviation between clips of one condition, as raters see them; they judge a clip beside
    the others of its condition. `noise` per axis: from answer to answer. `rater_bias`: between raters, of
    their mean level (scores) or pull to one side (comparisons: each rater's own, around `left_pull`).
    `tie_width`: smaller differences are a tie. `repeats`: share of comparisons asked again, sides swapped.
    """

    raters: int = 3
    kind: Literal["score", "comparison"] = "score"
    noise_alignment: float = 0.6
    noise_fidelity: float = 0.8
    rater_bias: float = 0.3
    left_pull: float = 0.0
    spread: float = 1.0
    tie_width: float = 0.3
    cannot_judge: float = 0.02
    repeats: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        """InputError for numbers out of range."""
        lengths = ("noise_alignment", "noise_fidelity", "rater_bias", "spread", "tie_width")
        limits = {"raters": (1, 1000), "left_pull": (-10, 10), "cannot_judge": (0, 1), "repeats": (0, 1)}
        for name, (low, high) in (limits | dict.fromkeys(lengths, (0, 10))).items():
            if not low <= getattr(self, name) <= high:
                raise InputError(f"{name} is {getattr(self, name)}; allowed is {low} to {high}.")


def simulate(store: PreferenceStore, simulation: Simulation | None = None, scorer: str | None = None) -> int:
    """Add the answers of simulated raters about every scored clip of a store; returns how many are new.

    The same simulation gives the same answers, so calling again adds nothing. InputError: no machine scores,
    or several scorers and none chosen.
    """
    simulation = simulation or Simulation()
    scores = [s for s in store.scores().values() if scorer in (None, s.scorer)]
    if len({s.scorer for s in scores}) != 1:
        found = ", ".join(sorted({s.scorer for s in scores})) or "none"
        raise InputError(
            f"{store.folder}: simulated raters need the scores of exactly one scorer; found {found}. "
            "`hallo4 prefer score` measures the clips."
        )
    qualities = {(s.clip_id, s.axis): s.score for s in scores}
    clips = store.clips().values()
    conditions = {clip.clip_id: clip.condition_id for clip in clips}
    spoilt = {clip.clip_id for clip in clips if clip.source_system == GOLD_SYSTEM}
    found = simulated_ratings(qualities, conditions, simulation, store.gold(), spoilt)
    return store.add_ratings(list(found))


def simulated_ratings(
    qualities: Qualities,
    conditions: Mapping[str, str],
    simulation: Simulation,
    gold: Iterable[GoldAnswer] = (),
    spoilt: Set[str] = frozenset(),
) -> Iterator[Rating]:
    """Answers of every rater to every question; `conditions`: of each clip. Repeatable from the seed.

    Clips in `spoilt` are asked about in `gold` questions only.
    """
    seen = as_seen(qualities, conditions, simulation.spread, spoilt)
    plain = {clip: condition for clip, condition in conditions.items() if clip not in spoilt}
    for number in range(simulation.raters):
        rater = _Rater(number, simulation, seen)
        if simulation.kind == "score":
            yield from rater.scores(plain)
        else:
            yield from rater.comparisons(plain, gold)


def as_seen(
    qualities: Qualities, conditions: Mapping[str, str], spread: float, spoilt: Set[str] = frozenset()
) -> dict[tuple[str, str], float]:
    """Qualities moved to a mean of 3 within each condition, and stretched to a standard deviation of `spread`
    between clips of a condition, each axis by one factor. Clips in `spoilt` follow, but do not decide."""
    seen: dict[tuple[str, str], float] = {}
    for axis in AXES:
        groups: dict[str, dict[str, float]] = {}
        for (clip, of), value in qualities.items():
            if of == axis:
                groups.setdefault(conditions[clip], {})[clip] = value
        means = {
            name: statistics.fmean([v for clip, v in group.items() if clip not in spoilt] or group.values())
            for name, group in groups.items()
        }
        centred = {c: v - means[name] for name, group in groups.items() for c, v in group.items()}
        deciding = [value for clip, value in centred.items() if clip not in spoilt]
        free = len(deciding) - len(groups)
        deviation = (sum(value**2 for value in deciding) / free) ** 0.5 if free > 0 else 0.0
        factor = spread / deviation if deviation > 0 else 0.0
        seen |= {(clip, axis): 3.0 + factor * value for clip, value in centred.items()}
    return seen


class _Rater:
    """One simulated person, with a taste and a random stream of their own."""

    def __init__(self, number: int, simulation: Simulation, seen: Mapping[tuple[str, str], float]) -> None:
        self.name = f"simulated-{simulation.seed}-{number:03d}"
        self._simulation, self._seen = simulation, seen
        self._rng = np.random.default_rng([simulation.seed, number, 0x5A])
        self._noise = {"alignment": simulation.noise_alignment, "fidelity": simulation.noise_fidelity}
        self._bias = self._rng.normal(0.0, simulation.rater_bias)
        self._count = 0

    def scores(self, conditions: Mapping[str, str]) -> Iterator[Rating]:
        """A score 1..5, whole, for every clip of a condition, on each axis."""
        for (clip, axis), quality in sorted(self._seen.items()):
            if clip not in conditions:
                continue
            felt = quality + self._bias + self._rng.normal(0.0, self._noise[axis])
            value: Any = "cannot_judge" if self._passes() else float(np.clip(round(felt), LOWEST, HIGHEST))
            yield self._rating(axis, value, kind="score", clip_id=clip)

    def comparisons(self, conditions: Mapping[str, str], gold: Iterable[GoldAnswer]) -> Iterator[Rating]:
        """Every two clips of every condition on both axes, then repeats, then gold questions."""
        clips: dict[str, list[str]] = {}
        for clip in sorted({clip for clip, _ in self._seen} & conditions.keys()):
            clips.setdefault(conditions[clip], []).append(clip)
        again: list[tuple[Rating, str]] = []
        for names in clips.values():
            for a, b in combinations(names, 2):
                left = self._coin((a, b))
                repeat = self._rng.random() < self._simulation.repeats
                for axis in self._axes(a, b):
                    first = self._compared(axis, a, b, left)
                    yield first
                    if repeat:
                        again.append((first, b if left == a else a))
        for first, left in again:
            yield self._compared(first.axis, first.clip_a, first.clip_b, left, "repeat", first.event_id)  # type: ignore[arg-type]
        for known in gold:
            if known.axis in self._axes(*known.clips):
                yield self._compared(known.axis, *known.clips, self._coin(known.clips), "gold")

    def _compared(
        self, axis: Axis, a: str, b: str, left: str, role: str = "plain", repeat_of: str | None = None
    ) -> Rating:
        pull = self._simulation.left_pull + self._bias
        difference = self._seen[a, axis] - self._seen[b, axis] + (pull if left == a else -pull)
        difference += self._rng.normal(0.0, self._noise[axis] * 2**0.5)  # of two clips
        value = "a" if difference > 0 else "b"
        if abs(difference) < self._simulation.tie_width:
            value = "tie"
        if self._passes():
            value = "cannot_judge"
        shown: dict[str, Any] = {"clip_a": a, "clip_b": b, "left_clip_id": left}
        return self._rating(axis, value, kind="comparison", role=role, repeat_of=repeat_of, **shown)

    def _axes(self, a: str, b: str) -> list[Axis]:
        return [axis for axis in AXES if (a, axis) in self._seen and (b, axis) in self._seen]

    def _coin(self, clips: Sequence[str]) -> str:
        return clips[int(self._rng.integers(2))]

    def _passes(self) -> bool:
        return bool(self._rng.random() < self._simulation.cannot_judge)

    def _rating(self, axis: Axis, value: Any, **what: Any) -> Rating:
        shown_ms = round(1000 * float(self._rng.lognormal(2.0, 0.4)))
        self._count += 1
        alone = replace(self._simulation, raters=1)  # who else is there does not change an answer
        drawn_from = repr((alone, self.name, axis, sorted(what.items())))
        blank: dict[str, Any] = {"clip_id": None, "clip_a": None, "clip_b": None, "left_clip_id": None}
        blank |= {"role": "plain", "repeat_of": None}
        return Rating(
            event_id="s" + hashlib.sha256(drawn_from.encode()).hexdigest()[:24],
            rater_id=self.name,
            axis=axis,
            value=value,
            flags={},
            shown_ms=shown_ms,
            answered_unix_ms=_START_UNIX_MS + 20_000 * self._count,
            ui_version=UI_VERSION,
            simulated=True,
            **(blank | what),
        )
