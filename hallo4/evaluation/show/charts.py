"""Small charts as inline SVG: intervals on a line, clips as dots, curves over time. No library, no
network.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

from hallo4.evaluation.statistics import interval_text

COLOURS = ("#2f6fde", "#d9622b", "#2a9d6f", "#9b4fc7", "#c2a20c", "#c43d6b")
"""One per system, in their order; the reference is grey."""
REFERENCE_COLOUR = "#8a8f98"


_ALONE = {"low": None, "high": None}  # of a value without an interval


def colour_of(index: int) -> str:
    """The colour of the system at that place."""
    return COLOURS[index % len(COLOURS)]


def interval_line(
    marks: Sequence[tuple[float, float | None, float | None, str]],
    width: int = 220,
    goal: float | None = None,
) -> str:
    """Means with their intervals, one under the other on a shared scale: (mean, low, high, colour) each.
    The scale holds the `goal`, such as 0 for differences, which is marked; without one, zero is.
    """
    finite = [
        v for mean, low, high, _ in marks for v in (mean, low, high) if v is not None and math.isfinite(v)
    ]
    if not finite:
        return ""
    finite += [] if goal is None else [goal]
    height = 12 * len(marks) + 4
    low, high = min(finite), max(finite)
    spread = (high - low) or max(abs(high), 1e-9)
    low, high = low - 0.06 * spread, high + 0.06 * spread

    def x(value: float) -> float:
        return 4 + (width - 8) * (value - low) / (high - low)

    parts = []
    if low < (marked := goal or 0.0) < high:
        parts.append(f'<line x1="{x(marked):.1f}" x2="{x(marked):.1f}" y1="0" y2="{height}" class="zero"/>')
    for row, (mean, left, right, colour) in enumerate(marks):
        y = height * (row + 0.5) / len(marks)
        if left is not None and right is not None:
            parts.append(
                f'<line x1="{x(left):.1f}" x2="{x(right):.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" '
                'stroke-width="3" stroke-linecap="round" opacity=".45"/>'
            )
        parts.append(f'<circle cx="{x(mean):.1f}" cy="{y:.1f}" r="3.6" fill="{colour}"/>')
    return _svg(width, height, "".join(parts))


def named_intervals(
    rows: Sequence[tuple[str, Mapping[str, float | None], str]], title: str, goal: float | None = None
) -> str:
    """`interval_line` with names and figures: (name, mean with low and high, colour) each."""
    rows = [row for row in rows if row[1]["mean"] is not None]
    marks = [(of["mean"], of["low"], of["high"], colour) for _, of, colour in rows]
    line = interval_line(marks, 150, goal).replace("<svg ", '<svg x="140" y="22" ', 1)
    parts = [f'<text x="8" y="15" class="title">{html.escape(title)}</text>', line]
    for place, (name, of, _) in enumerate(rows):
        shown = html.escape(name if len(name) <= 22 else name[:21] + "…")
        y = 22 + (12 * len(rows) + 4) * (place + 0.5) / len(rows) + 3.5
        parts.append(f'<text x="134" y="{y:.1f}" class="tick" text-anchor="end">{shown}</text>')
        parts.append(f'<text x="298" y="{y:.1f}" class="tick">{interval_text(of)}</text>')
    return _svg(420, 12 * len(rows) + 30, "".join(parts)) if rows else ""


def strip(
    columns: Sequence[tuple[str, Sequence[tuple[str, float]], str]], title: str, width: int = 250
) -> str:
    """Dots of clips side by side: (label, [(clip, value)], colour) per column, with their means."""
    values = [value for _, dots, _ in columns for _, value in dots if math.isfinite(value)]
    if not values:
        return ""
    height, top, bottom, left = 170, 26, 24, 44
    low, high = min(values), max(values)
    pad = 0.08 * ((high - low) or max(abs(high), 1e-3))
    low, high = low - pad, high + pad

    def y(value: float) -> float:
        return top + (height - top - bottom) * (1 - (value - low) / (high - low))

    parts = [f'<text x="8" y="15" class="title">{html.escape(title)}</text>']
    for tick in _ticks(low, high):
        parts.append(
            f'<line x1="{left}" x2="{width - 6}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" class="grid"/>'
            f'<text x="{left - 5}" y="{y(tick) + 3.5:.1f}" class="tick" text-anchor="end">{tick:.3g}</text>'
        )
    step = (width - left - 6) / len(columns)
    for place, (label, dots, colour) in enumerate(columns):
        centre = left + step * (place + 0.5)
        for i, (clip, value) in enumerate(dots):
            if math.isfinite(value):
                spread = centre + 0.5 * step * (((7 * i) % 11) / 10 - 0.5)
                parts.append(
                    f'<circle cx="{spread:.1f}" cy="{y(value):.1f}" r="3.4" fill="{colour}" opacity=".6">'
                    f"<title>{html.escape(clip)}: {value:.4g}</title></circle>"
                )
        known = [value for _, value in dots if math.isfinite(value)]
        if known:
            mean = sum(known) / len(known)
            parts.append(
                f'<line x1="{centre - 0.32 * step:.1f}" x2="{centre + 0.32 * step:.1f}" y1="{y(mean):.1f}" '
                f'y2="{y(mean):.1f}" stroke="{colour}" stroke-width="2.5"/>'
            )
        shown = html.escape(label if len(label) <= 14 else label[:13] + "…")
        parts.append(
            f'<text x="{centre:.1f}" y="{height - 8}" class="tick" text-anchor="middle">{shown}</text>'
        )
    return _svg(width, height, "".join(parts))


def curves(lines_: Mapping[str, tuple[Sequence[float | None], str]], title: str, fps: float = 25.0) -> str:
    """Curves over the frames of a video: label -> (values, colour); None is a gap."""
    series = [
        (
            label,
            [t / fps for t in range(len(line))],
            [{"mean": v, "low": None, "high": None} for v in line],
            colour,
        )
        for label, (line, colour) in lines_.items()
    ]
    return lines(series, title, "s", width=460, height=120)


def lines(
    series: Sequence[tuple[str, Sequence[float], Sequence[Mapping[str, float | None]], str]],
    title: str,
    unit: str,
    width: int = 340,
    height: int = 190,
) -> str:
    """Lines with their intervals: (label, places, mean with low and high at each, colour); None is a gap.
    `unit` of the places."""
    ends = ("mean", "low", "high")
    found = [of[end] for _, _, values, _ in series for of in values for end in ends]
    known = [value for value in found if value is not None]
    if not known:
        return ""
    top, bottom, left, right = 24, 20, 42, 18
    low, high = min(known), max(known)
    high = high if high > low else low + 1
    across = [x for _, places, _, _ in series for x in places]
    first, last = min(across), max(max(across), min(across) + 1e-6)

    def at(x: float) -> float:
        return left + (width - left - right) * (x - first) / (last - first)

    def point(x: float, value: float) -> str:
        return f"{at(x):.1f},{top + (height - top - bottom) * (1 - (value - low) / (high - low)):.1f}"

    parts = [f'<text x="{left}" y="15" class="title">{html.escape(title)}</text>']
    for tick in _ticks(low, high, 3):
        y = point(first, tick).split(",")[1]
        parts.append(
            f'<line x1="{left}" x2="{width - right}" y1="{y}" y2="{y}" class="grid"/>'
            f'<text x="{left - 5}" y="{float(y) + 3.5:.1f}" class="tick" text-anchor="end">{tick:.3g}</text>'
        )
    for tick in _ticks(first, last, 6):
        label = f'y="{height - 5}" class="tick" text-anchor="middle">{tick:g} {unit}</text>'
        parts.append(f'<text x="{at(tick):.1f}" {label}')
    for label, places, values, colour in series:
        for piece in _pieces(places, values):
            path = " ".join(point(x, of["mean"]) for x, of in piece)
            sure = [(x, of) for x, of in piece if of["low"] is not None and of["high"] is not None]
            if sure:
                back = [(x, of["low"]) for x, of in reversed(sure)]
                area = " ".join(point(*p) for p in [*((x, of["high"]) for x, of in sure), *back])
                parts.append(f'<polygon points="{area}" fill="{colour}" opacity=".16"/>')
            parts.append(
                f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.7">'
                f"<title>{html.escape(label)}</title></polyline>"
            )
    return _svg(width, height, "".join(parts))


def bar(
    rate: float, low: float | None, high: float | None, colours: tuple[str, str], width: int = 320
) -> str:
    """A win rate as a bar divided between two systems, with its interval and the middle marked."""
    x = 1 + (width - 2) * rate
    parts = [
        f'<rect x="1" y="4" width="{max(0.0, x - 1):.1f}" height="14" rx="3" fill="{colours[0]}"/>',
        f'<rect x="{x:.1f}" y="4" width="{max(0.0, width - 1 - x):.1f}" height="14" rx="3" '
        f'fill="{colours[1]}"/>',
        f'<line x1="{width / 2}" x2="{width / 2}" y1="0" y2="22" class="half"/>',
    ]
    if low is not None and high is not None:
        ends = [1 + (width - 2) * value for value in (low, high)]
        parts.append(f'<line x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="11" y2="11" class="whisker"/>')
        parts += [f'<line x1="{e:.1f}" x2="{e:.1f}" y1="7" y2="15" class="whisker"/>' for e in ends]
    return _svg(width, 22, "".join(parts))


def _pieces(
    places: Sequence[float], values: Sequence[Mapping[str, float | None]]
) -> list[list[tuple[float, Mapping[str, float | None]]]]:
    pieces: list[list[tuple[float, Mapping[str, float | None]]]] = [[]]
    for x, of in zip(places, values, strict=True):
        if of["mean"] is None:
            pieces.append([])
        else:
            pieces[-1].append((x, of))
    return [piece for piece in pieces if piece]


def _ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers between low and high."""
    raw = (high - low) / about
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 5, 10) if size * m >= raw)
    first = math.ceil(low / step)
    return [step * k for k in range(first, math.floor(high / step) + 1)]


def _svg(width: float, height: float, inside: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">{inside}</svg>'
