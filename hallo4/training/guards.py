"""When preference training must end: limits on what held-out pairs and videos show.

    preview -> values -> log -> guard(all values so far) -> why to end, or None
                     -> guard.score(values, ...)     -> the lowest is kept as the best

The loss and the accuracy are blind to the usual collapse, in which both errors rise and the winner's rises
less (dpo.md section 4); the winner's own error is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from hallo4.errors import InputError
from hallo4.ranges import NotNegative, Positive, Range, check_ranges

Values = Mapping[str, float | None]


@dataclass(frozen=True)
class PreferenceGuard:
    """Limits on the values of previews, for `hallo4.training.train(guard=...)`.

    Reads `winner_diff`, `winner_reference`, `logit` (`PairStats.summary` of held-out pairs) and, where
    there is one, `motion_ratio`: motion amplitude over that of the reference model's videos. The winner's
    error may rise by `max_winner_rise` of the reference's for fewer than `patience` previews in a row; the
    mean logit may not exceed `max_logit` and the motion ratio not fall below `min_motion_ratio` at all.
    InputError for a value out of range.
    """

    max_winner_rise: NotNegative = 0.01
    patience: Annotated[int, Range(1, 1000)] = 3
    max_logit: Positive = 4.0
    min_motion_ratio: NotNegative = 0.95

    def __post_init__(self) -> None:
        """See the class."""
        check_ranges(self, "{} of a guard".format)

    def __call__(self, history: Sequence[Values]) -> str | None:
        """Why to end after `history`, the previews so far with the oldest first; None: go on."""
        if not history:
            return None
        recent = history[-self.patience :]
        if len(recent) == self.patience and all(self._winner_harmed(values) for values in recent):
            return f"{self._winner_harmed(recent[-1])}, in {self.patience} evaluations in a row"
        return self._overshot(history[-1])

    def violation(self, values: Values) -> str | None:
        """What `values` of one preview break, or None."""
        return self._winner_harmed(values) or self._overshot(values)

    def score(self, values: Values, lower_is_better: float) -> float:
        """`lower_is_better`, but infinite where a limit is broken: for `best_metric`, so that the best
        checkpoint is one within all limits."""
        return lower_is_better if self.violation(values) is None else math.inf

    def _winner_harmed(self, values: Values) -> str | None:
        rise = _value(values, "winner_diff") / _value(values, "winner_reference")
        if rise <= self.max_winner_rise:
            return None
        return f"the held-out winner's error is {100 * rise:+.1f} % from the reference's"

    def _overshot(self, values: Values) -> str | None:
        logit = _value(values, "logit")
        if not logit <= self.max_logit:
            return f"the held-out logit is {logit:.2f}, above {self.max_logit}"
        if "motion_ratio" in values:
            ratio = _value(values, "motion_ratio")
            if not ratio >= self.min_motion_ratio:
                limit = 100 * self.min_motion_ratio
                return f"motion is {100 * ratio:.0f} % of the reference's, below {limit:.0f} %"
        return None


def _value(values: Values, name: str) -> float:
    """NaN where the log has None; InputError when the preview returns no such value."""
    if name not in values:
        raise InputError(f"The guard needs {name!r} of every preview; found {', '.join(sorted(values))}.")
    found = values[name]
    return math.nan if found is None else found
