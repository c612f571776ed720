"""Figures and tables of Markdown pages that come from reports, so that text and JSON cannot disagree.

In a page, paths count from its folder::

    SSIM <!-- figure: results/a.json#metrics.ssim .3f -->0.780 [0.766, 0.792]<!-- /figure -->

    <!-- leaderboard: results/a.json results/b.json; ssim psnr_db -->
    | model | ... |                                          one row per report of `hallo4 evaluate world`
    <!-- /leaderboard -->

    <!-- comparison: results/c.json -->
    | | SFT | DPO | ... |                                    of `hallo4 evaluate compare`
    <!-- /comparison -->

    <!-- table:
    | gain | expansion 1 | 2 |
    | head, 2 Hz | $(results/d.json#responses.expansion-{1,2}.head.1.gain .2f) |
    -->
    | gain | expansion 1 | 2 |                               any figures: the rows of the mark, filled in,
    | --- | --- | --- |                                      with one cell for each name between braces
    | head, 2 Hz | 0.68 [0.51, 0.81] | 0.86 [0.70, 1.00] |
    <!-- /table -->

`fill_page` rewrites what stands between the marks; `check_page` refuses a page where it differs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hallo4.errors import InputError, OutputError
from hallo4.input_file import read_input
from hallo4.json_file import MAX_BYTES, read_json
from hallo4.whole import write_whole
from hallo4.world.look import named_world

_MARK = re.compile(
    r"(?P<open><!-- (?P<kind>figure|leaderboard|comparison|table):\s(?P<what>[^>]*?)\s-->)"
    r"(?P<text>.*?)(?P<close><!-- /(?P=kind) -->)",
    re.DOTALL,
)
_OPENED = re.compile(r"<!-- (figure|leaderboard|comparison|table):")
_FORMAT = re.compile(r"[+ -]?,?(\.\d{1,2})?[defgn%]?")
_IN_ROW = re.compile(r"\$\((?P<place>[^)]*)\)")
_BRACES = re.compile(r"\{([^{}]*)\}")
_PLACE = re.compile(r"(?P<file>[^#\s]+)#(?P<keys>\S+)(?: (?P<format>\S+))?")


def fill_page(page: str | Path) -> int:
    """Rewrite all marked figures and tables of `page`; returns how many there are.

    InputError: the page or a report cannot be read, a mark says nothing that is there, or is not closed.
    OutputError: the page cannot be written.
    """
    path = Path(page)
    text = _read(path)
    filled, count = _filled(path, text)
    if filled != text:
        try:
            write_whole(path, filled)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror}). Make it writable.") from error
    return count


def check_page(page: str | Path) -> int:
    """How many marked figures and tables `page` has; InputError, with the line, if one is not as reported."""
    path = Path(page)
    text = _read(path)
    filled, count = _filled(path, text)
    for number, (found, wanted) in enumerate(zip(text.splitlines(), filled.splitlines()), start=1):
        if found != wanted:
            raise InputError(
                f"{path} line {number} is not what the reports say. Update it: hallo4 evaluate page {path}; "
                f"the line should be: {wanted.strip()[:200]}"
            )
    if filled != text:
        raise InputError(
            f"{path}: a table has other rows than the reports. Update it: hallo4 evaluate page {path}"
        )
    return count


def _filled(path: Path, text: str) -> tuple[str, int]:
    found = list(_MARK.finditer(text))
    if len(found) != len(_OPENED.findall(text)):
        raise InputError(f"{path}: a mark is not closed, as by <!-- /figure -->. Close it.")

    def fill(mark: re.Match[str]) -> str:
        try:
            inside = _MAKERS[mark["kind"]](path.parent, mark["what"])
        except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
            line = text.count("\n", 0, mark.start()) + 1
            raise InputError(
                f"{path} line {line}: {mark['kind']} {mark['what']!r} asks for what the report does not "
                f"have ({error}). Correct the mark."
            ) from error
        return mark["open"] + inside + mark["close"]

    return _MARK.sub(fill, text), len(found)


def _figure(folder: Path, what: str) -> str:
    place = _PLACE.fullmatch(what)
    if place is None:
        raise ValueError("it must be FILE#KEY.KEY, with an optional format such as .3f")
    value: Any = read_json(folder / place["file"])
    for key in place["keys"].split("."):
        value = value[int(key)] if isinstance(value, list) else value[key]
    form = place["format"] or ".3g"
    if not _FORMAT.fullmatch(form):
        raise ValueError(f"{form[:20]!r} is not a format of a figure, such as .3f")
    return _text(value, form)


def _text(value: Any, form: str) -> str:
    """`mean [low, high]` of an interval, the value itself of anything else."""
    if isinstance(value, Mapping):
        ends = (value["low"], value["high"])
        mean = format(value["mean"], form)
        return mean if None in ends else f"{mean} [{', '.join(format(end, form) for end in ends)}]"
    return value if isinstance(value, str) else format(value, form)


SHOWN = {
    "lip_sync_correlation": ".3f",
    "lip_sync_abs_lag_frames": ".2f",
    "mouth_closed_in_silence": ".3f",
    "joint_error_fraction": ".4f",
    "blink_correlation": ".2f",
    "jitter_ratio": ".2f",
    "motion_amplitude_ratio": ".2f",
    "ssim": ".3f",
    "psnr_db": ".1f",
    "colour_overlap": ".3f",
    "sharpness_ratio": ".2f",
}
"""Metrics of the leaderboard, and how they are written."""


def _leaderboard(folder: Path, what: str) -> str:
    """One row per report, in the order given; a metric that a report has not is a dash.

    Columns are the metrics named behind a semicolon; without any, the clips and all of `SHOWN`.
    """
    files, _, named = what.partition(";")
    reports = [read_json(folder / name, dict) for name in files.split()]
    shown = {metric: SHOWN[metric] for metric in named.split() or SHOWN}
    header = ["model", *([] if named else ["clips"]), *map(_words, shown)]
    rows = []
    for report in reports:
        clips = f"{report['episodes']} x {report['settings']['seconds']:g} s"
        cells = [f"`{report['model']}`", *([] if named else [clips])]
        for metric, form in shown.items():
            value = report["metrics"].get(metric)
            cells.append("-" if value is None or value["mean"] is None else _text(value, form))
        rows.append(cells)
    worlds = {named_world(report["settings"])["world"] for report in reports}
    if len(worlds) > 1:
        raise ValueError(f"its reports are of several worlds, {' and '.join(sorted(worlds))}")
    if len({report["settings"].get("observer_weights") for report in reports} - {None}) > 1:
        raise ValueError("its reports were measured through several observers")
    better = [*[""] * (len(header) - len(shown)), *(_goal(metric, reports) for metric in shown)]
    return _table(header, [better, *rows])


def _words(metric: str) -> str:
    """The name of a metric as a heading that may be broken into lines."""
    return metric.replace("_", " ")


def _goal(metric: str, reports: Sequence[Mapping[str, Any]]) -> str:
    """Where good values of a metric lie, as the reports say that have it."""
    said = (report["definitions"].get(metric) for report in reports)
    return next((definition["better"] for definition in said if definition is not None), "")


def _comparison(folder: Path, what: str) -> str:
    """Win rates per axis and metrics of every system; what no score is made of is marked with *."""
    found = read_json(folder / what, dict)
    names = list(found["runs"])
    header = [
        "",
        *(name if found["runs"][name] == 1 else f"{name}, {found['runs'][name]} runs" for name in names),
    ]
    rows = []
    axes = dict.fromkeys(axis for pair in found["compared"].values() for axis in pair["win_rate"])
    for axis in axes:
        rates = [
            "" if name == found["against"] else _text(found["compared"][name]["win_rate"][axis], ".1%")
            for name in names
        ]
        rows.append([f"wins against {found['against']}, {axis}", *rates])
    for metric in found["metrics"][names[0]]:
        values = [found["metrics"][name].get(metric) for name in names]
        if all(value is not None and value["mean"] is not None for value in values):
            mark = " *" if metric in found["unscored"] else ""
            rows.append(
                [_words(metric) + mark, *(_text(value, SHOWN.get(metric, ".3f")) for value in values)]
            )
    return _table(header, rows)


def _figures(folder: Path, what: str) -> str:
    """The rows that stand in the mark, the first as header, with their figures filled in."""

    def cells(mark: re.Match[str]) -> str:
        return " | ".join(_figure(folder, place) for place in _alternatives(mark["place"]))

    rows = [_IN_ROW.sub(cells, row).strip().strip("|").split("|") for row in what.splitlines() if row.strip()]
    header, *body = [[cell.strip() for cell in row] for row in rows]
    for row in body:
        if len(row) != len(header):
            raise ValueError(f"the row of {row[0]!r} has {len(row)} cells, the header {len(header)}")
    return _table(header, body)


def _alternatives(place: str) -> list[str]:
    """`a.{b,c}.d` -> `a.b.d` and `a.c.d`; a place without braces is itself."""
    braces = _BRACES.search(place)
    if braces is None:
        return [place]
    return [place[: braces.start()] + name + place[braces.end() :] for name in braces[1].split(",")]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


_MAKERS: dict[str, Callable[[Path, str], str]] = {
    "figure": _figure,
    "leaderboard": _leaderboard,
    "comparison": _comparison,
    "table": _figures,
}


def _read(path: Path) -> str:
    try:
        return read_input(path, MAX_BYTES, "a page").decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read ({error}). Give the path of a text file.") from error
