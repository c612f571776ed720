"""`preference_report`: what is in a store, how far it can be trusted, who wins; as JSON, a table, a picture.

::

    ratings --agreement.py--> alpha per axis, every rater        pairs --audit.py--> sources, motion, leaks
            --ranking.py----> strength of every source, win rates of every two sources

Sources are ranked on plain answers about two clips of one condition; intervals resample conditions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

from hallo4.evaluation.statistics import holm, rated_wins
from hallo4.preference.agreement import alpha_interval, left_share, rater_reports
from hallo4.preference.answers import all_asked, counted, votes
from hallo4.preference.audit import audit_pairs, source_of
from hallo4.preference.ranking import Comparison, rank
from hallo4.preference.schema import Clip, Rating
from hallo4.preference.store import PreferenceStore
from hallo4.preference.trust import ENOUGH_ALPHA, ENOUGH_GOLD
from hallo4.version import __version__

SCORE_TIE = 0.5
"""Scores of one rater that differ by less are a tie when sources are ranked."""


def preference_report(store: PreferenceStore) -> dict[str, Any]:
    """All that can be said about a store, ready for JSON; intervals are {"mean", "low", "high", "n"}."""
    everybody, clips, pairs = store.ratings(), store.clips(), list(store.pairs().values())
    raters, excluded = rater_reports(everybody, store.gold()), store.excluded()
    ratings = counted(store)
    asked = all_asked(ratings)
    report = {
        "store": store.folder.name,
        "version": __version__,
        "counts": _counts(store, ratings),
        "simulated_raters": sorted({r.rater_id for r in ratings if r.simulated}),
        "excluded_raters": {exclusion.rater_id: exclusion.reason for exclusion in excluded},
        "agreement": {name: _agreement(ratings, name, clips) for name in asked},
        "raters": [_plain(asdict(rater)) for rater in raters],
        "left_side_wins": left_share(ratings).as_json(),
        "ranking": {name: _ranking(ratings, name, clips) for name in asked},
        "win_rates": _win_rates(ratings, asked, clips),
        "pairs": _pairs(store) if pairs else None,
        "problems": store.problems,
    }
    report["notes"] = _notes(report)
    return report


# ---------------------------------------------------------------------- the numbers


def _counts(store: PreferenceStore, ratings: Sequence[Rating]) -> dict[str, Any]:
    return {
        "conditions": len(store.conditions()),
        "clips": dict(sorted(Counter(source_of(clip) for clip in store.clips().values()).items())),
        "ratings": dict(Counter(rating.kind for rating in ratings)),
        "roles": dict(Counter(rating.role for rating in ratings)),
        "flags": dict(Counter(flag for r in ratings for flags in r.flags.values() for flag in flags)),
        "machine_scores": len(store.scores()),
        "pairs": len(store.pairs()),
    }


def _agreement(ratings: Sequence[Rating], asked: str, clips: Mapping[str, Clip]) -> dict[str, Any]:
    """Alpha of scores and of comparisons, ordinal and nominal."""
    found: dict[str, Any] = {}
    for kind in ("score", "comparison"):
        units = votes(ratings, kind, asked)
        if units:
            values = [list(answers.values()) for answers in units.values()]
            groups = [clips[question.clips[0]].condition_id for question in units]
            found[kind] = {
                level: alpha_interval(values, level, groups).as_json()  # type: ignore[arg-type]
                for level in ("ordinal", "nominal")
            }
    return found


def source_comparisons(
    ratings: Sequence[Rating], asked: str, clips: Mapping[str, Clip]
) -> list[tuple[str, Comparison]]:
    """(rater, comparison) of the sources of two clips of a condition: compared, or scored by one rater."""
    found = []
    for question, answers in votes(ratings, "comparison", asked).items():
        a, b = question.clips
        for rater, vote in answers.items():
            found.append(
                (rater, Comparison(clips[a].condition_id, source_of(clips[a]), source_of(clips[b]), vote))
            )
    by_rater: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for question, answers in votes(ratings, "score", asked).items():
        (clip,) = question.clips
        for rater, score in answers.items():
            by_rater.setdefault((rater, clips[clip].condition_id), []).append((clip, score))
    for (rater, condition), scores in by_rater.items():
        for (a, of_a), (b, of_b) in combinations(scores, 2):
            outcome = 0.5 if abs(of_a - of_b) < SCORE_TIE else float(of_a > of_b)
            found.append((rater, Comparison(condition, source_of(clips[a]), source_of(clips[b]), outcome)))
    return [(rater, comparison) for rater, comparison in found if comparison.a != comparison.b]


def _ranking(ratings: Sequence[Rating], asked: str, clips: Mapping[str, Clip]) -> dict[str, Any]:
    comparisons = [comparison for _, comparison in source_comparisons(ratings, asked, clips)]
    if not comparisons:
        return {}
    return {name: interval.as_json() for name, interval in rank(comparisons).items()}


def _win_rates(
    ratings: Sequence[Rating], asked: Sequence[str], clips: Mapping[str, Clip]
) -> list[dict[str, Any]]:
    """Of every two sources and question: the first one's wins by clip; p values adjusted over the whole table
    (Holm)."""
    outcomes: dict[tuple[str, str, str], dict[Any, list[float]]] = {}
    for name in asked:
        for _, c in source_comparisons(ratings, name, clips):
            first, second, outcome = (c.a, c.b, c.outcome) if c.a < c.b else (c.b, c.a, 1 - c.outcome)
            outcomes.setdefault((first, second, name), {}).setdefault(c.clip, []).append(outcome)
    wins = {place: rated_wins(list(by_clip.values())) for place, by_clip in sorted(outcomes.items())}
    adjusted = holm({"\x1f".join(place): won.p_value for place, won in wins.items()})
    return [
        {
            "first": first,
            "second": second,
            "axis": name,
            "win_rate": won.win_rate.as_json(),
            "decisive_win_rate": won.decisive.as_json(),
            "tie_rate": won.tie_rate,
            "sign_test_p": won.p_value,
            "sign_test_p_holm": adjusted["\x1f".join((first, second, name))],
        }
        for (first, second, name), won in wins.items()
    ]


def _pairs(store: PreferenceStore) -> dict[str, Any]:
    pairs = list(store.pairs().values())
    audit = audit_pairs(pairs, store.clips(), store.conditions())
    return {
        "splits": dict(Counter(pair.split for pair in pairs)),
        "gaps": sorted(round(pair.gap, 4) for pair in pairs),
        "source": {
            "win_rate": {name: rate.as_json() for name, rate in audit.source.win_rate.items()},
            "guessed": audit.source.accuracy,
            "of_two_sources": audit.source.mixed,
            "shortcut": audit.source.shortcut,
        },
        "motion": {
            "stiller_wins": audit.motion.stiller_wins.as_json(),
            "log_ratio": audit.motion.log_ratio.as_json(),
            "biased": audit.motion.biased,
        },
        "leak": audit.leak,
    }


def _notes(report: Mapping[str, Any]) -> list[str]:
    """What a reader must know before believing the figures."""
    notes = []
    if report["simulated_raters"]:
        people = sum(not rater["simulated"] for rater in report["raters"])
        notes.append(
            f"{len(report['simulated_raters'])} of {len(report['raters'])} raters are SIMULATED, {people} "
            "are people: figures that include simulated ones say nothing about people."
        )
    for axis, kinds in report["agreement"].items():
        for kind, levels in kinds.items():
            alpha = levels["ordinal"]["mean"]
            if alpha is not None and alpha < ENOUGH_ALPHA:
                notes.append(f"{axis}, {kind}: alpha {alpha:.2f} is below {ENOUGH_ALPHA}: raters disagree.")
    for rater in report["raters"]:
        if rater["gold"]["mean"] is not None and rater["gold"]["mean"] < ENOUGH_GOLD:
            notes.append(f"{rater['rater_id']}: {rater['gold']['mean']:.0%} of gold questions right.")
    for rater, reason in report["excluded_raters"].items():
        notes.append(f"{rater} is excluded ({reason}): their answers are in no figure but their own.")
    pairs = report["pairs"]
    if pairs and pairs["source"]["shortcut"]:
        notes.append("The source of a clip predicts the winner: these pairs teach the system, not quality.")
    if pairs and pairs["motion"]["biased"]:
        notes.append("Winners move less than losers: these pairs teach stillness.")
    if pairs and pairs["leak"]:
        notes.append(f"Leak across the split: {pairs['leak']}")
    if report["problems"]:
        notes.append(f"{len(report['problems'])} rows of the store were left out.")
    return notes


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: {name: value[name] for name in ("mean", "low", "high", "n")}
        if isinstance(value, dict)
        else value
        for key, value in values.items()
    }
