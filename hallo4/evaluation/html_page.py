"""One HTML file that needs nothing else: styles and script are in it, videos as `data:` URLs."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hallo4.evaluation import charts

if TYPE_CHECKING:
    import numpy as np

    from hallo4.types import Audio

PLAYER_CRF = 27
Thing = TypeVar("Thing")
ARROWS = {
    "higher": "▲",
    "higher, to the reference": "▲ ref",
    "lower": "▼",
    "near 0": "→ 0",
    "near 1": "→ 1",
    "near the reference": "≈ ref",
}
"""Where good values of a metric lie, as a sign."""


def html_page(title: str, sections: Sequence[str]) -> str:
    """The whole file; `title` is text, `sections` are HTML."""
    parts = resources.files("hallo4.evaluation") / "page"
    style, script = ((parts / name).read_text() for name in ("report.css", "report.js"))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{style}</style></head><body><main>{''.join(sections)}</main><script>{script}</script></body></html>\n"
    )


def video_url(
    frames_u8: Iterable[np.ndarray],
    size_px: tuple[int, int],
    audio: Audio | None,
    label: Mapping[str, str] | None,
) -> str:
    """Frames [H, W, 3] at 25 fps, of (width, height) pixels, as H.264 with sound and provenance `label` in a
    `data:` URL."""
    from hallo4.media import VideoWriter

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "clip.mp4"
        provenance = None if label is None else dict(label)
        with VideoWriter(target, *size_px, audio=audio, crf=PLAYER_CRF, provenance=provenance) as writer:
            for frame in frames_u8:
                writer.write(frame)
        return "data:video/mp4;base64," + base64.b64encode(target.read_bytes()).decode()


def evenly(ranked: Sequence[Thing], count: int) -> list[Thing]:
    """`count` of `ranked` things, first and last among them, evenly between; all where there are no more."""
    if count >= len(ranked) or count < 2:
        return list(ranked[:count])
    return [ranked[round(i * (len(ranked) - 1) / (count - 1))] for i in range(count)]


def interval_cell(value: Mapping[str, Any] | None, clips: int) -> str:
    """Mean and interval, with the number of clips where these are not all `clips`, and of a set's samples;
    `failed` for a set that has a problem instead of a value."""
    if value is None:
        return "–"
    if value.get("problem"):
        return f'–<small title="{escape(value["problem"])}">failed</small>'
    lines = [] if value["low"] is None else [f"{value['low']:.3g} … {value['high']:.3g}"]
    if value["n"] < clips:
        lines.append(f"n = {value['n']} of {clips}")
    elif value["low"] is None or "samples" in value:
        lines.append(f"n = {value['n']}")
    if "samples" in value:
        lines.append(f"{value['samples']} samples against {value['reference_samples']}")
    mean = "–" if value["mean"] is None else f"{value['mean']:.3g}"
    return mean + "".join(f"<small>{line}</small>" for line in lines)


def every_clip_section(
    names: Sequence[str], rows: Iterable[tuple[str, str, str, Mapping[str, float | None]]]
) -> str:
    """A table that a click on a heading sorts: (clip, system, its colour, values of the metrics `names`) a
    row."""
    head = "<th>clip</th><th>system</th>" + "".join(f'<th title="{n}">{escape(n)}</th>' for n in names)
    body = []
    for clip, system, colour, values in rows:
        cells = "".join(
            f'<td class="num">{"–" if (v := values.get(n)) is None else f"{v:.3g}"}</td>' for n in names
        )
        body.append(
            f'<tr><td>{escape(clip)}</td><td><i style="background:{colour}"></i>{escape(system)}</td>'
            f"{cells}</tr>"
        )
    return (
        "<section><h2>Every clip</h2><p class='dim'>A click on a heading sorts.</p><div class='wide'>"
        f'<table class="sortable"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
        "</div></section>"
    )


def win_bars(rates: Mapping[str, Mapping[str, float]], colours: tuple[str, str]) -> str:
    """A table of axes with the share of clips that the first of two systems wins, as number and as bar."""
    rows = "".join(
        f'<tr><td>{escape(axis)}</td><td class="num">{rate["mean"]:.0%}</td>'
        f"<td>{charts.bar(rate['mean'], rate['low'], rate['high'], colours)}</td>"
        f'<td class="num dim">{rate["n"]} clips</td></tr>'
        for axis, rate in rates.items()
        if rate["mean"] is not None
    )
    return f"<table>{rows}</table>"


def definitions_section(definitions: Mapping[str, Mapping[str, str]]) -> str:
    """What each metric is, folded."""
    rows = "".join(
        f"<dt>{escape(name)} <span class='dim'>{escape(d['unit'])}, {escape(d['better'])}</span></dt>"
        f"<dd>{escape(d['definition'])}.<br><span class='dim'>Source: {escape(d['source'])}. "
        f"Here: {escape(d['protocol'])}.</span></dd>"
        for name, d in definitions.items()
    )
    summary = "<summary><h2>What each metric is</h2></summary>"
    return f"<section><details>{summary}<dl>{rows}</dl></details></section>"


def list_section(title: str, lines: Sequence[str]) -> str:
    """Lines of text under a heading."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<section><h2>{escape(title)}</h2><ul>{items}</ul></section>"
