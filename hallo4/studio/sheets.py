"""What a study leaves on paper: every answer, and what each rater is paid for, as CSV.

Cells that a spreadsheet would take for a formula begin with an apostrophe.
"""

from __future__ import annotations

import csv
import io
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hallo4.preference.agreement import RaterReport, rater_reports
from hallo4.preference.store import PreferenceStore
from hallo4.studio.record import EventLine, about, key_of
from hallo4.studio.state import State, fold

PAUSE_MS = 5 * 60_000
"""A longer gap between two answers is a pause, not work."""


@dataclass(frozen=True)
class RaterRow:
    """One rater, with all that is known: how they came, how they work, how they ended."""

    rater: str
    participant: Mapping[str, str]
    joined_unix_ms: int | None
    answered: int
    worked_s: float
    median_s: float | None
    ended: str
    code: str
    excluded: str | None
    report: RaterReport | None


def rater_rows(store: PreferenceStore, state: State | None = None) -> list[RaterRow]:
    """Everybody who joined or answered, by name; `state`: of a running studio, else from the store."""
    state = state or fold(store.table_of_events(EventLine, key_of, about).read().values())
    reports = {report.rater_id: report for report in rater_reports(store.ratings(), store.gold())}
    excluded = {exclusion.rater_id: exclusion.reason for exclusion in store.excluded()}
    rows = []
    for name in sorted({*state.joined, *reports}):
        joined, ended = state.joined.get(name), state.ended.get(name)
        done = [task.answered for task in state.history(name) if task.answered]
        shown = [answer.shown_ms / 1000 for answer in done]
        begun = [task.given.at_unix_ms for task in state.history(name)][:1]
        rows.append(
            RaterRow(
                rater=name,
                participant=joined.participant if joined else {},
                joined_unix_ms=joined.at_unix_ms if joined else None,
                answered=sum(
                    t.answered is not None and t.given.role != "practice" for t in state.history(name)
                ),
                worked_s=_worked_s(begun + sorted(answer.at_unix_ms for answer in done)),
                median_s=statistics.median(shown) if shown else None,
                ended=ended.reason if ended else "",
                code=ended.code if ended else "",
                excluded=excluded.get(name),
                report=reports.get(name),
            )
        )
    return rows


def _worked_s(times_ms: Sequence[int]) -> float:
    """Time between the first question and the last answer, without pauses."""
    gaps = (after - before for before, after in pairwise(times_ms))
    return sum(gap for gap in gaps if gap <= PAUSE_MS) / 1000


def payment_sheet(store: PreferenceStore) -> bytes:
    """A row per rater: the platform's identifiers, answers, minutes of work, checks, code. CSV in UTF-8."""
    rows = rater_rows(store)
    parameters = sorted({name for row in rows for name in row.participant})
    head = ["rater", *parameters, "joined", "answers", "minutes", "seconds_each", "gold_right", "gold_asked"]
    return _csv(
        [*head, "ended", "code", "excluded"],
        (
            [
                row.rater,
                *(row.participant.get(name, "") for name in parameters),
                "" if row.joined_unix_ms is None else _time(row.joined_unix_ms),
                row.answered,
                f"{row.worked_s / 60:.1f}",
                "" if row.median_s is None else f"{row.median_s:.1f}",
                "" if row.report is None or row.report.gold.mean is None else f"{row.report.gold.mean:.3f}",
                0 if row.report is None else row.report.gold.n,
                row.ended,
                row.code,
                row.excluded or "",
            ]
            for row in rows
        ),
    )


def answer_sheet(store: PreferenceStore) -> bytes:
    """A row per rating, with everything that it says. CSV in UTF-8."""
    head = ["event_id", "rater", "question", "axis", "role", "kind", "clip_id", "clip_a", "clip_b", "value"]
    return _csv(
        [*head, "left", "flags", "shown_ms", "answered", "repeat_of", "simulated"],
        (
            [
                *(r.event_id, r.rater_id, r.asked, r.axis, r.role, r.kind),
                *(r.clip_id or "", r.clip_a or "", r.clip_b or "", r.value, r.left_clip_id or ""),
                " ".join(f"{clip}:{flag}" for clip, flags in r.flags.items() for flag in flags),
                *(r.shown_ms, _time(r.answered_unix_ms), r.repeat_of or "", str(r.simulated).lower()),
            ]
            for r in store.ratings()
        ),
    )


def rating_lines(store: PreferenceStore) -> bytes:
    """Every rating as a JSON line."""
    return "".join(rating.to_json() + "\n" for rating in store.ratings()).encode()


EXPORTS: Mapping[str, tuple[str, Callable[[PreferenceStore], bytes]]] = {
    "answers.csv": ("text/csv; charset=utf-8", answer_sheet),
    "payment.csv": ("text/csv; charset=utf-8", payment_sheet),
    "ratings.jsonl": ("application/jsonl", rating_lines),
}
"""Files that the organiser's page hands out: their types, and what makes them."""


def _csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(head)
    table.writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue().encode()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _time(unix_ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_ms / 1000))
