"""May a new model take the place of the old one? The rule of dpo.md section 5, on people's answers.

::

    ratings of both on the same conditions --per axis and overall, clustered by condition--> win rates
    clips of both on the same conditions   --motion amplitude--> ratio of the means
    reports of `evaluate` of both          --sync, identity, Frechet distances--> not worse

It passes with a lower bound above 50 % on an axis and overall, above 45 % on the other axes, at least 95 % of
the motion, and no measured value that is worse: sync outside the old one's interval, identity by 0.01,
a Frechet distance by 3 %.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hallo4.errors import InputError
from hallo4.evaluation.statistics import Interval, bootstrap_interval, rated_wins
from hallo4.json_file import read_json
from hallo4.preference.audit import source_of
from hallo4.preference.ranking import Comparison
from hallo4.preference.report import source_comparisons
from hallo4.preference.schema import AXES, Clip, Rating
from hallo4.world.look import named_world

WINS, NOT_WORSE = 0.5, 0.45
LEAST_MOTION = 0.95
FEWEST_CLIPS = 47
"""Decisive clips that tell 70 % from 50 % with a power of 80 % (dpo.md section 5)."""


@dataclass(frozen=True)
class Check:
    """One condition of the rule: `passed` None where nothing was measured."""

    name: str
    passed: bool | None
    found: str


@dataclass(frozen=True)
class Verdict:
    """All conditions; it ships when each that was measured passed, and people's were."""

    new: str
    old: str
    checks: tuple[Check, ...]

    @property
    def ships(self) -> bool:
        """Whether the rule is fulfilled."""
        return all(check.passed is not False for check in self.checks) and bool(self.checks[0].passed)


def ship(
    ratings: Sequence[Rating],
    clips: Mapping[str, Clip],
    new: str,
    old: str,
    reports: tuple[Path, Path] | None = None,
) -> Verdict:
    """Apply the rule; `new` and `old`: sources as `prefer report` names them; `reports`: of `evaluate` for
    the new and the old one.

    InputError: no such source, or the two were never compared on both axes.
    """
    sources = sorted({source_of(clip) for clip in clips.values()})
    for name in (new, old):
        if name not in sources:
            raise InputError(f"{name}: no clip is of this source; there are {', '.join(sources) or 'none'}.")
    outcomes = {axis: _outcomes(ratings, axis, clips, new, old) for axis in AXES}
    for axis, by_clip in outcomes.items():
        if not by_clip:
            raise InputError(f"{new} and {old} were not compared in {axis}. Collect ratings of both first.")
    rates = {axis: rated_wins(list(by_clip.values())).win_rate for axis, by_clip in outcomes.items()}
    overall = rated_wins(list(_joined(outcomes).values())).win_rate
    better = [axis for axis, rate in rates.items() if _low(rate) > WINS]
    checks = [
        Check("better overall", _low(overall) > WINS, _rate(overall)),
        Check("better on an axis", bool(better), ", ".join(better) or "none"),
        *(Check(f"{axis} not worse", _low(rate) > NOT_WORSE, _rate(rate)) for axis, rate in rates.items()),
        _motion(clips, new, old),
    ]
    if reports is not None:
        checks += _measured(*reports)
    return Verdict(new, old, tuple(checks))


def _outcomes(
    ratings: Sequence[Rating], axis: str, clips: Mapping[str, Clip], new: str, old: str
) -> dict[Any, list[float]]:
    """Condition -> outcomes of the new one, of all questions about an axis."""
    found: dict[Any, list[float]] = {}
    for name in dict.fromkeys(rating.asked for rating in ratings if rating.axis == axis):
        for _, comparison in source_comparisons(ratings, name, clips):
            if {comparison.a, comparison.b} == {new, old}:
                found.setdefault(comparison.clip, []).append(_of(comparison, new))
    return found


def _of(comparison: Comparison, new: str) -> float:
    return comparison.outcome if comparison.a == new else 1 - comparison.outcome


def _joined(outcomes: Mapping[str, dict[Any, list[float]]]) -> dict[Any, list[float]]:
    joined: dict[Any, list[float]] = {}
    for by_clip in outcomes.values():
        for clip, own in by_clip.items():
            joined.setdefault(clip, []).extend(own)
    return joined


def _low(rate: Interval) -> float:
    return -1.0 if rate.low is None else rate.low


def _rate(rate: Interval) -> str:
    interval = "" if rate.low is None else f" [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"
    few = f"; plan for {FEWEST_CLIPS} or more" if rate.n < FEWEST_CLIPS else ""
    return f"{100 * rate.mean:.1f} %{interval} of {rate.n} conditions{few}"


def _motion(clips: Mapping[str, Clip], new: str, old: str) -> Check:
    """The mean amplitude of the new one over that of the old one, on conditions with both."""
    amplitudes: dict[str, dict[str, list[float]]] = {}
    for clip in clips.values():
        if clip.motion_amplitude is not None and source_of(clip) in (new, old):
            of = amplitudes.setdefault(clip.condition_id, {}).setdefault(source_of(clip), [])
            of.append(clip.motion_amplitude)
    pairs = [(np.mean(of[new]), np.mean(of[old])) for of in amplitudes.values() if {new, old} <= set(of)]
    if not pairs or not sum(before for _, before in pairs):
        return Check("keeps moving", None, "the motion of the clips is not known")
    ratio = float(sum(after for after, _ in pairs) / sum(before for _, before in pairs))
    spread = bootstrap_interval([after / before for after, before in pairs if before])
    interval = "" if spread.low is None else f", per condition [{spread.low:.2f}, {spread.high:.2f}]"
    return Check("keeps moving", ratio >= LEAST_MOTION, f"{ratio:.1%} of the motion{interval}")


_Rule = Callable[[float, Mapping[str, Any]], bool]
_MEASURED: dict[str, _Rule] = {
    "sync_c": lambda new, old: new >= _end(old, "low"),
    "sync_d": lambda new, old: new <= _end(old, "high"),
    "lip_sync_correlation": lambda new, old: new >= _end(old, "low"),
    "csim": lambda new, old: new > old["mean"] - 0.01,
    "face_similarity": lambda new, old: new > old["mean"] - 0.01,
    "fid": lambda new, old: new < 1.03 * old["mean"],
    "fvd": lambda new, old: new < 1.03 * old["mean"],
}
"""Metric -> whether the new mean may stand beside the old {"mean", "low", "high"}."""


def _end(old: Mapping[str, Any], name: str) -> float:
    return old["mean"] if old.get(name) is None else old[name]


def _measured(new: Path, old: Path) -> list[Check]:
    reports = [
        read_json(path, dict[str, Any], advice="Name a report of `hallo4 evaluate`.") for path in (new, old)
    ]
    worlds = [named_world(report.get("settings", {}))["world"] for report in reports]
    if worlds[0] != worlds[1]:
        raise InputError(
            f"{new}: was measured in the world {worlds[0]}, {old} in {worlds[1]}: measure both in one "
            "(hallo4 evaluate world --world)."
        )
    observers = [report.get("settings", {}).get("observer_weights") for report in reports]
    if None not in observers and observers[0] != observers[1]:
        raise InputError(
            f"{new}: was measured through another observer than {old}: measure both through one "
            "(hallo4 evaluate world --observer)."
        )
    metrics = [report.get("metrics") for report in reports]
    for path, found in zip((new, old), metrics, strict=True):
        if not isinstance(found, dict):
            raise InputError(f"{path}: has no metrics. Name a report of `hallo4 evaluate world` or `videos`.")
    checks = []
    for name, rule in _MEASURED.items():
        after, before = (found.get(name) for found in metrics)
        if not (_has_mean(after) and _has_mean(before)):
            continue
        said = f"{after['mean']:.4g}, before {before['mean']:.4g}"
        checks.append(Check(f"{name} not worse", bool(rule(float(after["mean"]), before)), said))
    if not checks:
        raise InputError(f"{new}, {old}: have none of {', '.join(_MEASURED)} in common; nothing to compare.")
    return checks


def _has_mean(found: Any) -> bool:
    return isinstance(found, dict) and isinstance(found.get("mean"), int | float)
