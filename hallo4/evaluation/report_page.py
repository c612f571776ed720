"""A report as one HTML page that needs nothing else: styles, plots (SVG) and videos (base64) are in the
file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import fmean
from typing import Any

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
from hallo4.evaluation.video_files import REFERENCE, ClipFiles
from hallo4.evaluation.video_metrics import VIDEO_METRICS
from hallo4.evaluation.video_scores import clip_scores
from hallo4.evaluation.video_sets import SET_METRICS

PLAYER_SIDE_PX, PLAYER_SECONDS = 256, 20.0
_PLOTTED = (
    *("mouth_correlation", "mouth_abs_lag_frames", "sync_c", "sync_d", "ssim", "psnr_db", "lpips", "csim"),
    *(
        "face_similarity",
        "keypoint_distance",
        "hand_keypoint_distance",
        "subject_dynamics",
        "temporal_flicker",
    ),
    *("sharpness_ratio",),
)
_SHOWN_UNDER_PLAYER = (
    "mouth_correlation",
    "mouth_lag_frames",
    "sync_c",
    "ssim",
    "psnr_db",
    "keypoint_distance",
)
_RANKED_BY = ("mouth_correlation", "ssim", "sync_c")
_NEARER = (
    "Where good values lie near a number or the reference's: how much nearer the first system's are, clip by "
    "clip; near 1 in natural logarithms of the ratio. Positive: the first is better"
)


def report_page(report: Mapping[str, Any], clips: Sequence[ClipFiles], players: int) -> str:
    """The page as text. `players`: how many clips are shown as videos, worst, best and between, by the
    first of mouth correlation, SSIM and Sync-C that exists.
    """
    colours = {system: colour_of(place) for place, system in enumerate(report["systems"])}
    rows = {row["clip"]: row for row in report["rows"]}
    shown = chosen_clips(report, min(players, len(clips)))
    files = {clip.name: clip for clip in clips}
    sections = [
        _header(report, colours),
        _problems(report),
        _summary(report, colours),
        *(_pair(pair, report, colours) for pair in report["pairs"]),
        _plots(report, colours),
        _players([(files[name], rows[name]) for name in shown], colours),
        _clip_table(report, colours),
        _sources(report),
        definitions_section(report["definitions"]),
        _notes(report),
    ]
    return html_page(" / ".join(report["systems"]) + " against references", sections)


def chosen_clips(report: Mapping[str, Any], count: int) -> list[str]:
    """`count` clips evenly from the worst to the best of the first system's, of those that every system
    has.
    """
    first = next(iter(report["systems"]))
    name = next((n for n in _RANKED_BY if (report["metrics"][first].get(n) or {}).get("n")), None)

    def value(row: Mapping[str, Any]) -> float:
        found = row["systems"].get(first, {}).get("values", {}).get(name)
        return float("-inf") if found is None else found

    playable = [row for row in report["rows"] if "problem" not in row[REFERENCE]]
    measured = [r for r in playable if all("values" in r["systems"].get(s, {}) for s in report["systems"])]
    playable = measured or playable
    ranked = [row["clip"] for row in sorted(playable, key=value)]
    return evenly(ranked, count)


def player_source(path: Path) -> str | None:
    """A video as a `data:` URL: H.264 of at most 256 px and 20 s, with sound and its AI label; None if it
    cannot be read.
    """
    import numpy as np
    from PIL import Image

    from hallo4.errors import Hallo4Error
    from hallo4.media import collect_notes, load_audio, probe_video, read_frames, read_provenance

    try:
        info = probe_video(path)
        with collect_notes([]):  # said already
            audio = load_audio(path, 44_100) if info.has_audio else None
            pictures = read_frames(path, 25.0, end_s=PLAYER_SECONDS)
        scale = min(1.0, PLAYER_SIDE_PX / max(info.width_px, info.height_px))
        size = tuple(max(2, 2 * round(side * scale / 2)) for side in (info.width_px, info.height_px))
        frames = (
            np.array(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)) for frame in pictures
        )
        return video_url(frames, size, audio, read_provenance(path))
    except Hallo4Error:
        return None


# ---------------------------------------------------------------------- sections


def _header(report: Mapping[str, Any], colours: Mapping[str, str]) -> str:
    chips = "".join(
        f'<span class="chip"><i style="background:{c}"></i>{escape(s)}</span>' for s, c in colours.items()
    )
    return (
        f"<header><h1>Video evaluation</h1><p>{report['clips']} clips against "
        f'<code>{escape(report["references"])}</code></p><p>{chips}<span class="chip">'
        f'<i style="background:{REFERENCE_COLOUR}"></i>reference</span></p><p class="dim">hallo4 '
        f"{escape(report['settings']['version'])} · means with 95 % intervals over clips</p>"
        "</header>"
    )


def _problems(report: Mapping[str, Any]) -> str:
    if not report["problems"]:
        return ""
    items = "".join(
        f"<li><b>{escape(p['clip'])}</b> ({escape(p['system'])}): {escape(p['what'])}</li>"
        for p in report["problems"]
    )
    count = len(report["problems"])
    return f'<section class="problems"><h2>Not measured ({count})</h2><ul>{items}</ul></section>'


def _groups(report: Mapping[str, Any]) -> dict[str, list[str]]:
    """Heading -> metrics, in the order of the tables."""
    groups: dict[str, list[str]] = {}
    for name in report["definitions"]:
        heading = "whole sets" if name in SET_METRICS else VIDEO_METRICS[name].axis or "described, not judged"
        groups.setdefault(heading, []).append(name)
    order = ["sync", "identity", "motion", "fidelity", "long video", "whole sets", "described, not judged"]
    return {heading: groups[heading] for heading in order if heading in groups}


def _summary(report: Mapping[str, Any], colours: Mapping[str, str]) -> str:
    clips = report["clips"]
    head = "".join(_heading(system, report) for system in colours)
    body = []
    for heading, names in _groups(report).items():
        body.append(f'<tr class="group"><td colspan="{len(colours) + 4}">{escape(heading)}</td></tr>')
        for name in names:
            definition = report["definitions"][name]
            values = {s: report["metrics"][s].get(name) or report["sets"][s].get(name) for s in colours}
            own = report["reference_values"].get(name)
            best = _best(name, report)
            cells = "".join(
                f'<td class="num{" best" if system == best else ""}">{interval_cell(value, clips)}</td>'
                for system, value in values.items()
            )
            marks = [(v, colours[s]) for s, v in values.items()] + ([(own, REFERENCE_COLOUR)] if own else [])
            drawn = [(v["mean"], v["low"], v["high"], c) for v, c in marks if v and v["mean"] is not None]
            body.append(
                f'<tr><td title="{escape(definition["definition"])}">{escape(name)}<small>'
                f"{escape(definition['unit'])}"
                f'</small></td><td class="dim arrow">{ARROWS[definition["better"]]}</td>{cells}'
                f'<td class="num dim">{interval_cell(own, clips) if own else ""}</td>'
                f"<td>{charts.interval_line(drawn)}</td></tr>"
            )
    return (
        '<section><h2>All metrics</h2><p class="dim">Marked: the best mean score over clips; where a metric '
        "has a goal, the score is the distance to it. Nothing is marked where systems do not have the same "
        "clips or, in whole sets, as many samples.</p>"
        f'<div class="wide"><table><thead><tr><th>metric</th><th></th>{head}{_heading(REFERENCE, report)}'
        f"<th>mean and interval</th></tr></thead><tbody>{''.join(body)}</tbody></table></div></section>"
    )


def _heading(side: str, report: Mapping[str, Any]) -> str:
    missing, clips = report["unmeasured"][side], report["clips"]
    note = f"<small>{clips - missing} of {clips} clips measured</small>" if missing else ""
    return f"<th>{escape(side)}{note}</th>"


def _best(name: str, report: Mapping[str, Any]) -> str | None:
    """The system with the best mean score over clips, where there is something to choose.

    None where systems have values of other clips, or sets of other sizes: such means do not compare, and
    Frechet distances are larger of fewer samples.
    """
    if name in SET_METRICS:
        sets = {system: values.get(name) for system, values in report["sets"].items()}
        sets = {system: value for system, value in sets.items() if value and value["mean"] is not None}
        basis = {(value["n"], value["samples"], value["reference_samples"]) for value in sets.values()}
        scores, tie = {system: -value["mean"] for system, value in sets.items()}, 0.0
    elif VIDEO_METRICS[name].axis is None:
        return None
    else:
        clips = {system: clip_scores(report["rows"], system, name) for system in report["systems"]}
        clips = {system: found for system, found in clips.items() if found}
        basis = {frozenset(found) for found in clips.values()}
        scores, tie = {s: fmean(found.values()) for s, found in clips.items()}, VIDEO_METRICS[name].tie
    if len(scores) < 2 or len(basis) > 1:
        return None
    first, second = sorted(scores, key=lambda system: -scores[system])[:2]
    return first if scores[first] - scores[second] > tie else None


def _pair(pair: Mapping[str, Any], report: Mapping[str, Any], colours: Mapping[str, str]) -> str:
    a, b = pair["a"], pair["b"]
    lines = []
    for name, p in sorted(pair["p_holm"].items(), key=lambda item: item[1]):
        difference, nearer = pair["difference"][name], pair["goal_difference"].get(name)
        tested = nearer or difference
        mark = (tested["mean"], tested["low"], tested["high"], colours[a])
        strong = ' class="sure"' if p < 0.05 else ""
        lines.append(
            f'<tr{strong}><td>{escape(name)}</td><td class="dim arrow">'
            f"{ARROWS[VIDEO_METRICS[name].better]}</td>"
            f'<td class="num">{interval_cell(difference, pair["clips"])}</td>'
            f'<td class="num">{interval_cell(nearer, pair["clips"]) if nearer else ""}</td>'
            f"<td>{charts.interval_line([mark], zero=True)}</td>"
            f'<td class="num">{pair["p_value"][name]:.2g}</td><td class="num">{p:.2g}</td></tr>'
        )
    tests = (
        '<div class="wide"><table><thead><tr><th>difference</th><th></th><th>mean</th>'
        f'<th title="{_NEARER}">nearer to the goal by</th><th>what p tests</th><th>p</th>'
        f"<th>p, adjusted</th></tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
        if lines
        else '<p class="dim">No tests: they need two clips or more.</p>'
    )
    bars = win_bars(pair["win_rate"], (colours[a], colours[b]))
    return (
        f"<section><h2>{escape(a)} against {escape(b)}</h2><p>Over the {pair['clips']} of {report['clips']} "
        f"clips that both have: share won by {escape(a)}; ties count half.</p>{bars}"
        f"<details open><summary>{escape(a)} minus {escape(b)}, clip by clip"
        f"</summary>{tests}</details></section>"
    )


def _plots(report: Mapping[str, Any], colours: Mapping[str, str]) -> str:
    figures = []
    for name in _PLOTTED:
        if name not in report["definitions"]:
            continue
        columns = []
        for system, colour in colours.items():
            entries = [
                (row["clip"], row["systems"].get(system, {}).get("values", {}).get(name))
                for row in report["rows"]
            ]
            columns.append((system, [(clip, v) for clip, v in entries if v is not None], colour))
        own = [(row["clip"], row[REFERENCE].get("values", {}).get(name)) for row in report["rows"]]
        if any(v is not None for _, v in own):
            columns.append(("reference", [(c, v) for c, v in own if v is not None], REFERENCE_COLOUR))
        figures.append(f"<figure>{charts.strip(columns, name)}</figure>")
    return f'<section><h2>Clip by clip</h2><div class="plots">{"".join(figures)}</div></section>'


def _players(clips: Sequence[tuple[ClipFiles, Mapping[str, Any]]], colours: Mapping[str, str]) -> str:
    if not clips:
        return ""
    blocks = []
    for files, row in clips:
        figures = [_player(REFERENCE, files.reference, row[REFERENCE], REFERENCE_COLOUR)]
        lines = {
            "mouth": [("reference", row[REFERENCE].get("curves", {}).get("mouth", []), REFERENCE_COLOUR)]
        }
        for system, path in files.videos.items():
            entry = row["systems"].get(system)
            if path is None or entry is None or "problem" in entry:
                figures.append(f'<figure class="none">{escape(system)}: not measured</figure>')
                continue
            figures.append(_player(system, path, entry, colours[system]))
            for curve, values in entry["curves"].items():
                lines.setdefault(curve, []).append((system, values, colours[system]))
        titles = {"mouth": "mouth opening", "psnr_db": "PSNR, dB"}
        plots = "".join(charts.curves(values, titles[curve]) for curve, values in lines.items())
        blocks.append(
            f'<div class="clip"><h3>{escape(files.name)} <button class="all">play all</button></h3>'
            f'<div class="videos">{"".join(figures)}</div><div class="plots">{plots}</div></div>'
        )
    order = "<p class='dim'>From the worst to the best clip.</p>"
    return f"<section><h2>Players</h2>{order}{''.join(blocks)}</section>"


def _player(side: str, path: Path, entry: Mapping[str, Any], colour: str) -> str:
    source = player_source(path)
    video = (
        f'<video controls loop playsinline preload="metadata" src="{source}"></video>'
        if source
        else "cannot be played"
    )
    shown = [
        (n, entry["values"].get(n)) for n in _SHOWN_UNDER_PLAYER if entry.get("values", {}).get(n) is not None
    ]
    values = "".join(f"<li>{escape(name)} <b>{value:.3g}</b></li>" for name, value in shown)
    return (
        f'<figure>{video}<figcaption><i style="background:{colour}"></i>{escape(side)}</figcaption>'
        f"<ul>{values}</ul></figure>"
    )


def _clip_table(report: Mapping[str, Any], colours: Mapping[str, str]) -> str:
    names = [n for n in report["definitions"] if n not in SET_METRICS]
    rows = [
        (row["clip"], system, colour, row["systems"][system]["values"])
        for row in report["rows"]
        for system, colour in colours.items()
        if "values" in row["systems"].get(system, {})
    ]
    return every_clip_section(names, rows)


def _sources(report: Mapping[str, Any]) -> str:
    """Of every clip and side: where its keypoints come from and what its faces are compared with, folded."""
    rows = "".join(
        f"<tr><td>{escape(row['clip'])}</td><td>{escape(side)}</td>"
        f"<td>{escape(entry['keypoints'] or '–')}</td>"
        f"<td>{escape(entry['identity_against'] or '–')}</td></tr>"
        for row in report["rows"]
        for side, entry in (*row["systems"].items(), (REFERENCE, row[REFERENCE]))
        if "values" in entry
    )
    head = "<th>clip</th><th>system</th><th>keypoints from</th><th>identity against</th>"
    return (
        "<section><details><summary><h2>Where keypoints and portraits come from</h2></summary>"
        f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        "</details></section>"
    )


def _notes(report: Mapping[str, Any]) -> str:
    lines = [*report["notes"], *report["not_measured"]]
    used = [f"{file}: SHA-256 {digest}" for file, digest in report["settings"]["weights"].items()]
    return list_section("Notes", [*lines, *used])
