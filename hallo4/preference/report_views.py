"""A preference report for people: a table for the terminal, a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

from rich.table import Table

_COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")


def report_table(report: Mapping[str, Any]) -> Table:
    """The main figures: mean [95 % interval]."""
    table = Table(title=f"preferences in {report['store']}", title_justify="left")
    table.add_column("figure")
    table.add_column("axis")
    table.add_column("value", justify="right")
    counts = report["counts"]
    table.add_row("clips", "", ", ".join(f"{n} {source}" for source, n in counts["clips"].items()))
    for axis, kinds in report["agreement"].items():
        for kind, levels in kinds.items():
            table.add_row(f"Krippendorff's alpha, {kind}s", axis, _cell(levels["ordinal"]))
    table.add_row("wins of the left side", "", _cell(report["left_side_wins"]))
    for axis, ranking in report["ranking"].items():
        for source, strength in ranking.items():
            table.add_row(f"strength of {source}", axis, _cell(strength))
    for won in report["win_rates"]:
        figures = f"{_cell(won['win_rate'])}, p {won['sign_test_p_holm']:.2g}"
        table.add_row(f"{won['first']} beats {won['second']}", won["axis"], figures)
    for rater in report["raters"]:
        kappa = "-" if rater["kappa"] is None else f"{rater['kappa']:.2f}"
        table.add_row(
            f"rater {rater['rater_id']}{' (simulated)' if rater['simulated'] else ''}",
            "",
            f"{rater['answers']} answers, kappa {kappa}, gold {_cell(rater['gold'])}, "
            f"repeats {_cell(rater['consistency'])}, {rater['median_shown_s']:.0f} s each",
        )
    if report["pairs"]:
        pairs = report["pairs"]
        splits = ", ".join(f"{n} {split}" for split, n in pairs["splits"].items())
        table.add_row("pairs", "", splits)
        table.add_row("winner guessed from the source", "", f"{pairs['source']['guessed']:.2f}")
        table.add_row("stiller clip wins", "", _cell(pairs["motion"]["stiller_wins"]))
    return table


def draw_report(report: Mapping[str, Any], picture: BinaryIO) -> None:
    """Six panels: agreement, raters, strengths, wins of each source, gaps of the pairs, sides.

    ImportError without matplotlib.
    """
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(14, 8), layout="constrained")
    if report["simulated_raters"]:
        figure.suptitle("with SIMULATED raters")
    panels = figure.subplots(2, 3)
    _agreement(panels[0, 0], report)
    _raters(panels[0, 1], report)
    _strengths(panels[0, 2], report)
    _sources(panels[1, 0], report)
    _gaps(panels[1, 1], report)
    _sides(panels[1, 2], report)
    for axes in panels.flat:
        axes.grid(alpha=0.3)
    figure.savefig(picture, format="png", dpi=80)


def _agreement(axes: Any, report: Mapping[str, Any]) -> None:
    names = []
    for place, (axis, kinds) in enumerate(report["agreement"].items()):
        for kind, levels in kinds.items():
            _bar(axes, len(names), levels["ordinal"], _colour(place))
            names.append(f"{axis}\n{kind}s")
    axes.axhline(0.4, linestyle=":", color="black")
    axes.set_xticks(range(len(names)), names)
    axes.set(title="Krippendorff's alpha (0.4 to train on)", ylim=(min(0, axes.get_ylim()[0]), 1))


def _raters(axes: Any, report: Mapping[str, Any]) -> None:
    for offset, (key, label) in zip((-0.2, 0.0, 0.2), _RATER_FIGURES.items(), strict=True):
        values = [_mean(rater[key]) for rater in report["raters"]]
        places = [i + offset for i, value in enumerate(values) if value is not None]
        axes.plot(places, [value for value in values if value is not None], "o", label=label)
    names = [rater["rater_id"] for rater in report["raters"]]
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=7)
    axes.set(title="raters", ylim=(-0.05, 1.05))
    axes.legend(fontsize=7)


_RATER_FIGURES = {"kappa": "kappa with the rest", "gold": "gold right", "consistency": "repeats alike"}


def _strengths(axes: Any, report: Mapping[str, Any]) -> None:
    names = sorted({name for ranking in report["ranking"].values() for name in ranking})
    asked = list(report["ranking"])
    for at, (question, ranking) in enumerate(report["ranking"].items()):
        offset = 0.3 * (at - (len(asked) - 1) / 2)
        for place, name in enumerate(names):
            if name in ranking:
                _point(axes, place + offset, ranking[name], _colour(at))
        axes.plot([], [], "o", color=_colour(at), label=question)
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right", fontsize=7)
    axes.set_title("strength of each source", fontsize=10)
    if asked:
        axes.legend(fontsize=7)


def _colour(place: int) -> str:
    return _COLOURS[place % len(_COLOURS)]


def _sources(axes: Any, report: Mapping[str, Any]) -> None:
    rates = report["pairs"]["source"]["win_rate"] if report["pairs"] else {}
    for place, rate in enumerate(rates.values()):
        _bar(axes, place, rate, "tab:green")
    axes.axhline(0.5, linestyle=":", color="black")
    axes.set_xticks(range(len(rates)), list(rates), rotation=20, ha="right", fontsize=7)
    axes.set(title="share of pairs with other sources that each wins", ylim=(0, 1))


def _gaps(axes: Any, report: Mapping[str, Any]) -> None:
    gaps = report["pairs"]["gaps"] if report["pairs"] else []
    axes.hist(gaps, bins=20, range=(0, 4))
    axes.set(title=f"gap of {len(gaps)} pairs", xlabel="winner minus loser, points of 4")


def _sides(axes: Any, report: Mapping[str, Any]) -> None:
    shares = {"all": report["left_side_wins"]} | {r["rater_id"]: r["left"] for r in report["raters"]}
    for place, share in enumerate(shares.values()):
        _point(axes, place, share, "tab:purple")
    axes.axhline(0.5, linestyle=":", color="black")
    axes.set_xticks(range(len(shares)), list(shares), rotation=30, ha="right", fontsize=7)
    axes.set(title="wins of the left side", ylim=(0, 1))


def _bar(axes: Any, place: float, interval: Mapping[str, Any], colour: str) -> None:
    if interval["mean"] is not None:
        axes.bar(place, interval["mean"], color=colour, width=0.6, alpha=0.6)
        _point(axes, place, interval, "black")


def _point(axes: Any, place: float, interval: Mapping[str, Any], colour: str) -> None:
    if interval["mean"] is None:
        return
    axes.plot(place, interval["mean"], "o", color=colour, markersize=4)
    if interval["low"] is not None:
        axes.vlines(place, interval["low"], interval["high"], color=colour)


def _mean(value: Any) -> float | None:
    return value["mean"] if isinstance(value, Mapping) else value


def _cell(interval: Mapping[str, Any]) -> str:
    if interval["mean"] is None:
        return "-"
    if interval["low"] is None:
        return f"{interval['mean']:.2f} (n={interval['n']})"
    return f"{interval['mean']:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"
