"""What was kept of the videos, what was dropped and why: as a table, and as a page of pictures."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import jinja2

from hallo4.data.index import IndexRow, Stamp, read_index, read_stamp
from hallo4.data.stages import FindingsStore
from hallo4.errors import OutputError
from hallo4.whole import write_whole

SHOWN = 60
"""Pictures of each part of the page, unless more are asked for."""
KEPT = "kept"


@dataclass
class Summary:
    """Counts over an index: `clips` by verdict (`KEPT`, or the first reason against), their `seconds`, and of
    the kept ones by licence; `videos` that gave at least one kept clip, of `all_videos`."""

    clips: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    also: Counter[str] = field(default_factory=Counter)
    videos: int = 0
    all_videos: int = 0


def summed_up(rows: Iterable[IndexRow]) -> Summary:
    """The counts; `also` has, for every reason, in how many rows it stands, first or not."""
    summary = Summary()
    kept, every = set(), set()
    for row in rows:
        verdict = verdict_of(row)
        summary.clips[verdict] += 1
        summary.seconds[verdict] += row.end_s - row.start_s
        summary.also.update(filter(None, row.reasons.split("; ")))
        every.add(row.source)
        if row.kept:
            kept.add(row.source)
            summary.licences[row.licence] += 1
    summary.videos, summary.all_videos = len(kept), len(every)
    return summary


def verdict_of(row: IndexRow) -> str:
    """`KEPT`, or the first reason against a row."""
    return KEPT if row.kept else row.reasons.split("; ")[0]


def table_of(rows: Iterable[IndexRow]) -> list[tuple[str, str, str, str]]:
    """(verdict, clips or videos, seconds, also for this reason among others) as text, the kept ones first."""
    summary = summed_up(rows)
    order = sorted(summary.clips, key=lambda verdict: (verdict != KEPT, -summary.clips[verdict]))
    lines = []
    for verdict in order:
        count, seconds = summary.clips[verdict], summary.seconds[verdict]
        more = summary.also[verdict] - count if verdict != KEPT else 0
        length = f"{seconds:.1f}" if seconds else "-"
        lines.append((verdict, str(count), length, f"+{more}" if more > 0 else ""))
    return lines


def write_contact_sheet(folder: Path, target: Path, shown: int = SHOWN) -> None:
    """Write the page: a part for the kept clips and for every reason, with at most `shown` clips each, spread
    over all of them. InputError: no prepared clips. OutputError: the page cannot be written."""
    stamp, rows = read_stamp(folder), list(read_index(folder))
    page = _page(stamp, rows, FindingsStore(folder / "findings"), shown)
    try:
        write_whole(target, page.encode())
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror}). Choose another name.") from error


def _page(stamp: Stamp, rows: list[IndexRow], findings: FindingsStore, shown: int) -> str:
    parts = []
    for verdict, *_ in table_of(rows):
        of_part = [row for row in rows if verdict_of(row) == verdict]
        step = max(1, -(-len(of_part) // shown))
        clips = [{"row": row, "picture": _picture(row, findings)} for row in of_part[::step]]
        parts.append({"verdict": verdict, "clips": clips, "all": len(of_part)})
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(
        (resources.files("hallo4.data") / "page" / "contact_sheet.html").read_text()
    )
    summary = summed_up(rows)
    return template.render(stamp=stamp, summary=summary, table=table_of(rows), parts=parts, path=Path)


def _picture(row: IndexRow, findings: FindingsStore) -> str | None:
    """The clip's picture as a `data:` address; None: there is none."""
    key, _, number = row.picture.partition("/")
    found = findings.stored("clips", key) if key else None
    picture = None if found is None else found.arrays.get(f"picture_{number}")
    if picture is None:
        return None
    return "data:image/jpeg;base64," + base64.b64encode(picture.tobytes()).decode()
