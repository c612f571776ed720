"""Figures as tables, the same for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

from hallo4.evaluation.report import REFERENCE
from hallo4.evaluation.statistics import interval_text


@dataclass(frozen=True)
class Grid:
    """A table as text: its title, what stands under it, headings, and rows; columns but the first `left` are
    numbers."""

    title: str
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1


def rich_table(grid: Grid) -> Table:
    """For a terminal, in which long words are folded in the place of being cut."""
    table = Table(title=escape(grid.title), caption=escape(grid.caption), title_justify="left")
    for place, heading in enumerate(grid.head):
        justify = "left" if place < grid.left else "right"
        table.add_column(escape(heading), justify=justify, overflow="fold")
    for row in grid.rows:
        table.add_row(*map(escape, row))
    return table


def metrics_grid(found: Mapping[str, Any], title: str) -> Grid:
    """The figures of a `summary`: every metric of every system, the reference's own beside it, then who wins.

    A mean over fewer than all clips says how many; what counts towards no win is marked.
    """
    clips, systems = found["clips"], list(found["metrics"])
    sets = found.get("sets", {})
    rows = []
    for name, definition in found["definitions"].items():
        values = [found["metrics"][s].get(name) or sets.get(s, {}).get(name) for s in systems]
        own = found["reference_values"].get(name)
        label = name if definition["axis"] or name not in found["metrics"][systems[0]] else f"{name} *"
        cells = [counted_text(value, clips) for value in values]
        rows.append([label, definition["better"], *cells, counted_text(own, clips) if own else ""])
    for pair in found["pairs"]:
        for axis, rate in pair["win_rate"].items():
            cells = ["" for _ in systems]
            cells[systems.index(pair["a"])] = counted_text(rate, clips)
            rows.append([f"wins against {pair['b']}, {axis}", "above 0.5", *cells, ""])
    caption = (
        "mean [95 % interval over clips], (n=clips with a value) where these are not all; * is part of no win"
    )
    head = ["metric", "good is", *(system_heading(s, found) for s in (*systems, REFERENCE))]
    return Grid(title, caption, head, rows, left=2)


def system_heading(side: str, found: Mapping[str, Any]) -> str:
    """The name of a system, with how many clips of it were measured where these are not all."""
    missing, clips = found["unmeasured"].get(side, 0), found["clips"]
    return f"{side} ({clips - missing} of {clips} clips)" if 0 < missing < clips else side


def counted_text(interval: Mapping[str, Any] | None, clips: int) -> str:
    """`interval_text`, with the number of clips where these are not all; `failed` for a set without value."""
    if interval is not None and interval.get("problem"):
        return "failed"
    text = interval_text(interval)
    if interval is None or interval["low"] is None or interval["n"] >= clips:
        return text
    return f"{text} (n={interval['n']})"
