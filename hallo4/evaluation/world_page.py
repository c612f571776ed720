"""The report of an evaluation in the portrait world as one HTML page: table, tests, plots, players, rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from hallo4.evaluation import charts
from hallo4.evaluation.charts import REFERENCE_COLOUR, colour_of
from hallo4.evaluation.html_page import (
    ARROWS,
    definitions_section,
    evenly,
    every_clip_section,
    html_page,
    interval_cell,
    list_section,
    video_url,
    win_bars,
)

if TYPE_CHECKING:
    import numpy as np

    from hallo4.types import Audio

SIDES = ("model", "against")
_RANKED_BY = ("lip_sync_correlation", "ssim")
_SHOWN_UNDER_PLAYER = ("lip_sync_correlation", "ssim", "joint_error_fraction", "blink_correlation")

Report = Mapping[str, Any]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Shown:
    """A clip to look at: its row, its sound, and the frames [T, H, W, 3] uint8 of "truth" and each side."""

    row: Row
    audio: Audio
    frames_u8: Mapping[str, np.ndarray]


def chosen_rows(report: Report, count: int) -> list[Row]:
    """`count` rows evenly from the worst to the best clip of the model, by lip sync, or by SSIM where
    nobody speaks."""
    rows = report["rows"]
    name = next((n for n in _RANKED_BY if report["metrics"][n]["n"]), _RANKED_BY[-1])
    ranked = sorted(
        (row for row in rows if row["model"][name] is not None), key=lambda row: row["model"][name]
    )
    return evenly(ranked, count)


def world_page(report: Report, clips: Sequence[Shown]) -> str:
    """The page as text, with a player for each of `clips`."""
    sides = {side: str(report[side]) for side in SIDES if report[side] is not None}
    colours = {side: colour_of(place) for place, side in enumerate(sides)}
    sections = [
        _header(report, sides, colours),
        _summary(report, sides, colours),
        _tests(report, sides, colours),
        _plots(report, sides, colours),
        _players(clips, sides, colours),
        _every_clip(report, sides, colours),
        definitions_section(report["definitions"]),
        list_section("Notes", report["notes"]),
    ]
    return html_page(" / ".join(sides.values()) + " in the portrait world", sections)


def _header(report: Report, sides: Mapping[str, str], colours: Mapping[str, str]) -> str:
    names = {**{sides[side]: colour for side, colour in colours.items()}, "rendered truth": REFERENCE_COLOUR}
    chips = "".join(
        f'<span class="chip"><i style="background:{colour}"></i>{escape(name)}</span>'
        for name, colour in names.items()
    )
    settings = report["settings"]
    version = escape(settings["version"])
    return (
        f"<header><h1>Evaluation in the portrait world</h1><p>{report['episodes']} unseen episodes of "
        f"{settings['seconds']:g} s, seed {report['seed']}, tempo {settings['tempo']:g}</p><p>{chips}</p>"
        f'<p class="dim">hallo4 {version} · means with 95 % intervals over clips</p></header>'
    )


def _section_of(side: str) -> str:
    return "metrics" if side == "model" else "against_metrics"


def _summary(report: Report, sides: Mapping[str, str], colours: Mapping[str, str]) -> str:
    body = []
    for name, definition in report["definitions"].items():
        values = {side: report[_section_of(side)].get(name) for side in sides}
        own = report["instrument"].get(name)
        marks = [(v, colours[s]) for s, v in values.items()] + [(own, REFERENCE_COLOUR)]
        drawn = [(v["mean"], v["low"], v["high"], c) for v, c in marks if v and v["mean"] is not None]
        cells = "".join(
            f'<td class="num">{interval_cell(value, report["episodes"])}</td>' for value in values.values()
        )
        body.append(
            f'<tr><td title="{escape(definition["definition"])}">{escape(name)}'
            f"<small>{escape(definition['unit'])}</small></td>"
            f'<td class="dim arrow">{ARROWS[definition["better"]]}</td>{cells}'
            f'<td class="num dim">{interval_cell(own, report["episodes"])}</td>'
            f"<td>{charts.interval_line(drawn)}</td></tr>"
        )
    head = "".join(f"<th>{escape(name)}</th>" for name in sides.values())
    return (
        '<section><h2>All metrics</h2><p class="dim">Grey: what the instrument says of the rendered truth.'
        f'</p><div class="wide"><table><thead><tr><th>metric</th><th></th>{head}'
        "<th>instrument on the truth</th><th>mean and interval</th></tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div></section>"
    )


def _tests(report: Report, sides: Mapping[str, str], colours: Mapping[str, str]) -> str:
    """Win rates and paired tests of two models; nothing for one."""
    if "against" not in sides:
        return ""
    pair = (colours["model"], colours["against"])
    lines = []
    for name, p in sorted(report["p_holm"].items(), key=lambda item: item[1]):
        difference = report["difference"][name]
        mark = (difference["mean"], difference["low"], difference["high"], colours["model"])
        strong = ' class="sure"' if p < 0.05 else ""
        lines.append(
            f"<tr{strong}><td>{escape(name)}</td>"
            f'<td class="dim arrow">{ARROWS[report["definitions"][name]["better"]]}</td>'
            f'<td class="num">{interval_cell(difference, report["episodes"])}</td>'
            f"<td>{charts.interval_line([mark], zero=True)}</td>"
            f'<td class="num">{report["p_value"][name]:.2g}</td><td class="num">{p:.2g}</td></tr>'
        )
    a, b = (escape(name) for name in sides.values())
    tests = (
        '<div class="wide"><table><thead><tr><th>difference</th><th></th><th>mean</th><th></th>'
        f"<th>p</th><th>p, adjusted</th></tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
        if lines
        else '<p class="dim">No tests: they need two clips or more.</p>'
    )
    return (
        f"<section><h2>{a} against {b}</h2><p>Share of clips won by {a}; ties count half.</p>"
        f"{win_bars(report['win_rate'], pair)}<details open><summary>{a} minus {b}, clip by clip</summary>"
        f'<p class="dim">p: sign flips of how much nearer to good values {a} is; adjusted for the number of '
        f"metrics (Holm).</p>{tests}</details></section>"
    )


def _plots(report: Report, sides: Mapping[str, str], colours: Mapping[str, str]) -> str:
    figures = []
    for name in report["metrics"]:
        columns = []
        for side, label in sides.items():
            dots = [(f"clip {row['clip']}", row[side].get(name)) for row in report["rows"]]
            columns.append((label, [(clip, v) for clip, v in dots if v is not None], colours[side]))
        figures.append(f"<figure>{charts.strip(columns, name)}</figure>")
    return f'<section><h2>Clip by clip</h2><div class="plots">{"".join(figures)}</div></section>'


def _players(clips: Sequence[Shown], sides: Mapping[str, str], colours: Mapping[str, str]) -> str:
    if not clips:
        return ""
    blocks = []
    for clip in clips:
        row = clip.row
        figures = []
        for side, frames_u8 in clip.frames_u8.items():
            name = sides.get(side, "rendered truth")
            label = {"generator": f"hallo4, {name} in the portrait world", "seed": str(row["episode_seed"])}
            height, width = frames_u8.shape[1:3]
            source = video_url(frames_u8, (width, height), clip.audio, label)
            values = row.get(side, {})
            shown = [(n, values[n]) for n in _SHOWN_UNDER_PLAYER if values.get(n) is not None]
            items = "".join(f"<li>{escape(n)} <b>{v:.3g}</b></li>" for n, v in shown)
            figures.append(
                f'<figure><video controls loop playsinline preload="metadata" src="{source}"></video>'
                f'<figcaption><i style="background:{colours.get(side, REFERENCE_COLOUR)}"></i>{escape(name)}'
                f"</figcaption><ul>{items}</ul></figure>"
            )
        curves = [("true", row["curves"]["true"], REFERENCE_COLOUR)]
        curves += [(label, row["curves"][side], colours[side]) for side, label in sides.items()]
        blocks.append(
            f'<div class="clip"><h3>clip {row["clip"]} <button class="all">play all</button></h3>'
            f'<div class="videos">{"".join(figures)}</div>'
            f'<div class="plots">{charts.curves(curves, "mouth opening")}</div></div>'
        )
    order = f"<p class='dim'>From the worst to the best clip of {escape(sides['model'])}.</p>"
    return f"<section><h2>Players</h2>{order}{''.join(blocks)}</section>"


def _every_clip(report: Report, sides: Mapping[str, str], colours: Mapping[str, str]) -> str:
    rows = [
        (str(row["clip"]), label, colours[side], row[side])
        for row in report["rows"]
        for side, label in sides.items()
    ]
    return every_clip_section(list(report["metrics"]), rows)
