"""Whose answers count, and whether they agree well enough to train on.

::

    ratings --excluded by name, or gold answered wrongly--> those that count --alpha per question--> a gate

Targets of dpo.md 3.3: at least 0.8 of the gold questions right, alpha of at least 0.4 on each axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hallo4.errors import InputError
from hallo4.evaluation.statistics import Interval
from hallo4.preference.agreement import alpha_interval, rater_reports
from hallo4.preference.answers import votes
from hallo4.preference.schema import Clip, Rating
from hallo4.preference.store import PreferenceStore

ENOUGH_ALPHA, ENOUGH_GOLD = 0.4, 0.8
"""Below these, ratings should not train a model."""

FEWEST_GOLD = 2
"""Gold answers of a rater, before their share says something."""


@dataclass(frozen=True)
class Trusted:
    """The ratings that count, and why the other raters' do not."""

    ratings: tuple[Rating, ...]
    left_out: Mapping[str, str]


def trusted(
    store: PreferenceStore, min_gold: float | None = ENOUGH_GOLD, exclude: Iterable[str] = ()
) -> Trusted:
    """The ratings of a store but for those of excluded raters, of `exclude`, and of raters with less than
    `min_gold` of their gold answers right, of `FEWEST_GOLD` or more (None: not looked at).

    InputError: no rater of a name in `exclude`.
    """
    everybody = store.ratings()
    left_out = {exclusion.rater_id: exclusion.reason for exclusion in store.excluded()}
    names = {rating.rater_id for rating in everybody}
    for name in exclude:
        if name not in names:
            raise InputError(f"{store.folder}: has no rater {name}. See `hallo4 prefer raters`.")
        left_out.setdefault(name, "excluded here")
    if min_gold is not None:
        for report in rater_reports(everybody, store.gold()):
            share, n = report.gold.mean, report.gold.n
            if share is not None and n >= FEWEST_GOLD and share < min_gold:
                left_out.setdefault(report.rater_id, f"{share:.0%} of {n} gold answers right")
    counting = tuple(rating for rating in everybody if rating.rater_id not in left_out)
    return Trusted(counting, {name: why for name, why in sorted(left_out.items()) if name in names})


def agreement(
    ratings: Sequence[Rating], kind: str, axes: Sequence[str], clips: Mapping[str, Clip]
) -> dict[str, Interval]:
    """Alpha of every question about these axes, with the interval over conditions."""
    found = {}
    for name in dict.fromkeys(rating.asked for rating in ratings if rating.axis in axes):
        units = votes(ratings, kind, name)
        values = [list(answers.values()) for answers in units.values()]
        groups = [clips[question.clips[0]].condition_id for question in units]
        found[name] = alpha_interval(values, "ordinal", groups)
    return found


def require_agreement(alphas: Mapping[str, Interval], min_alpha: float = ENOUGH_ALPHA) -> list[str]:
    """A line for each question whose agreement is not known. InputError: raters agree too little."""
    unknown = []
    for name, alpha in alphas.items():
        if alpha.mean is None:
            unknown.append(f"{name}: agreement is not known: no two raters gave different answers")
        elif alpha.mean < min_alpha:
            raise InputError(
                f"{name}: raters agree too little to train on (alpha {alpha.mean:.2f}, at least "
                f"{min_alpha:g}). Look at `hallo4 prefer raters`, make the question clearer, or lower "
                "--min-alpha."
            )
    return unknown
