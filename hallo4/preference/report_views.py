"""A preference report for people: a table, the same for the terminal and the page, and charts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hallo4.evaluation.show import charts
from hallo4.evaluation.show.page import page
from hallo4.evaluation.show.table import Grid
from hallo4.evaluation.statistics import interval_text
from hallo4.preference.trust import ENOUGH_ALPHA
from hallo4.version import __version__


def report_grid(report: Mapping[str, Any]) -> Grid:
    """The main figures: mean [95 % interval]."""
    clips = ", ".join(f"{n} {source}" for source, n in report["counts"]["clips"].items())
    rows = [["clips", "", clips]]
    for axis, kinds in report["agreement"].items():
        for kind, levels in kinds.items():
            rows.append([f"Krippendorff's alpha, {kind}s", axis, interval_text(levels["ordinal"])])
    rows.append(["wins of the left side", "", interval_text(report["left_side_wins"])])
    for axis, ranking in report["ranking"].items():
        for source, strength in ranking.items():
            rows.append([f"strength of {source}", axis, interval_text(strength)])
    for won in report["win_rates"]:
        figures = f"{interval_text(won['win_rate'])}, p {won['sign_test_p_holm']:.2g}"
        rows.append([f"{won['first']} beats {won['second']}", won["axis"], figures])
    for rater in report["raters"]:
        kappa = "-" if rater["kappa"] is None else f"{rater['kappa']:.2f}"
        figures = (
            f"{rater['answers']} answers, kappa {kappa}, gold {interval_text(rater['gold'])}, "
            f"repeats {interval_text(rater['consistency'])}, {rater['median_shown_s']:.0f} s each"
        )
        rows.append([f"rater {_name(rater)}", "", figures])
    if report["pairs"]:
        pairs = report["pairs"]
        rows.append(["pairs", "", ", ".join(f"{n} {split}" for split, n in pairs["splits"].items())])
        rows.append(["winner guessed from the source", "", f"{pairs['source']['guessed']:.2f}"])
        rows.append(["stiller clip wins", "", interval_text(pairs["motion"]["stiller_wins"])])
    caption = "mean [95 % interval]; p of sign tests, adjusted for all of them (Holm)"
    return Grid(f"preferences in {report['store']}", caption, ["figure", "axis", "value"], rows, left=2)


def report_page(report: Mapping[str, Any]) -> str:
    """One HTML page: agreement, strengths, sources, raters, gaps of the pairs, and the table."""
    colours = dict(zip(report["ranking"], map(charts.colour_of, range(len(report["ranking"])))))
    agreement = [
        (f"{axis}, {kind}s", levels["ordinal"], charts.colour_of(place))
        for place, (axis, kinds) in enumerate(report["agreement"].items())
        for kind, levels in kinds.items()
    ]
    strengths = [
        (f"{source}, {axis}", strength, colours[axis])
        for axis, ranking in report["ranking"].items()
        for source, strength in ranking.items()
    ]
    pairs, one = report["pairs"], charts.colour_of(0)
    sources = [(name, rate, one) for name, rate in pairs["source"]["win_rate"].items()] if pairs else []
    gaps = [(f"pair {i}", gap) for i, gap in enumerate(pairs["gaps"] if pairs else [])]
    raters = report["raters"]
    figures = [
        charts.named_intervals(agreement, "Krippendorff's alpha", ENOUGH_ALPHA),
        charts.named_intervals(strengths, "strength of each source"),
        charts.named_intervals(sources, "pairs with other sources that each wins", 0.5),
        charts.named_intervals([(_name(r), r["gold"], one) for r in raters], "gold questions right"),
        charts.named_intervals([(_name(r), r["consistency"], one) for r in raters], "repeats alike"),
        charts.named_intervals(
            [("all", report["left_side_wins"], one), *((_name(r), r["left"], one) for r in raters)],
            "wins of the left side", 0.5,
        ),
        charts.strip([("pairs", gaps, one)], "winner minus loser, points of 4"),
    ]  # fmt: skip
    simulated = " with SIMULATED raters" if report["simulated_raters"] else ""
    said = {"notes": report["notes"], "version": __version__}
    return page(
        "Preferences", report["store"] + simulated, said, grids=[report_grid(report)], figures=figures
    )


def _name(rater: Mapping[str, Any]) -> str:
    return rater["rater_id"] + (" (simulated)" if rater["simulated"] else "")
