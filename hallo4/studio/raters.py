"""What an organiser does about raters: look at them, leave them out, delete what they said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from hallo4.errors import InputError
from hallo4.preference.agreement import rater_reports
from hallo4.preference.store import PreferenceStore
from hallo4.preference.trust import FEWEST_GOLD
from hallo4.studio.record import EventLine, Given, about, key_of
from hallo4.studio.sheets import RaterRow, rater_rows


def delete_rater(store: PreferenceStore, name: str) -> int:
    """Delete all that is kept of a rater: answers, events, identifiers of a platform; returns the ratings.

    Nothing is left in the files of the store. A server that runs takes notice. InputError: no rater of that
    name.
    """
    events = store.table_of_events(EventLine, key_of, about)
    found = [event for event in events.read().values() if getattr(event, "rater_id", None) == name]
    tokens = [event.token for event in found if isinstance(event, Given)]
    if not found and not store.has_answers_of(name):
        raise InputError(f"{store.folder}: has no rater {name}. See `hallo4 prefer raters`.")
    with store.database.writing():
        events.delete([name, *tokens])
        gone = store.delete_ratings_of(name)
    store.database.leave_no_trace()
    return gone


def exclude_raters(
    store: PreferenceStore, names: Sequence[str], below_gold: float | None, reason: str
) -> Iterator[str]:
    """Exclude raters by name, and all whose share of right gold answers is below; a line for each.

    InputError: no rater of a name.
    """
    known = {row.rater for row in rater_rows(store)}
    for name in names:
        if name not in known:
            raise InputError(f"{store.folder}: has no rater {name}. See `hallo4 prefer raters`.")
        store.exclude(name, reason)
        yield f"{name}: excluded, {reason}"
    for report in rater_reports(store.ratings(), store.gold()) if below_gold is not None else ():
        if report.gold.n >= FEWEST_GOLD and report.gold.mean < below_gold:
            why = f"{report.gold.mean:.0%} of {report.gold.n} gold answers right"
            store.exclude(report.rater_id, why)
            yield f"{report.rater_id}: excluded, {why}"


def raters_table(store: PreferenceStore) -> Table:
    """Every rater with checks, agreement, pace and state."""
    table = Table(
        title=f"raters of {store.folder.name}", title_justify="left", box=None, padding=(0, 1, 0, 0)
    )
    table.add_column("rater", no_wrap=True)  # whole, for --delete
    for head in ("answers", "min", "s each", "gold", "repeats", "kappa", "left", "can't judge"):
        longest = max(map(len, head.split()))
        table.add_column(head, justify="right", overflow="fold", min_width=longest)
    table.add_column("state", overflow="fold", min_width=len("simulated"))
    for row in rater_rows(store):
        report = row.report
        table.add_row(
            row.rater,
            str(row.answered or (report.answers if report else 0)),
            f"{row.worked_s / 60:.0f}" if row.answered else "-",
            _number(row.median_s if row.median_s is not None else report and report.median_shown_s, "{:.1f}"),
            f"{_number(report.gold.mean, '{:.0%}')} of {report.gold.n}" if report else "-",
            f"{_number(report.consistency.mean, '{:.0%}')} of {report.consistency.n}" if report else "-",
            _number(report and report.kappa, "{:.2f}"),
            _number(report and report.left.mean, "{:.0%}"),
            _number(report and report.cannot_judge, "{:.0%}"),
            _state(row),
        )
    return table


def _state(row: RaterRow) -> str:
    state = f"excluded: {row.excluded}" if row.excluded else row.ended or "open"
    return f"{state}, simulated" if row.report and row.report.simulated else state


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
