"""A store of an older hallo4, kept as JSON lines -> one with a database, in place; nothing is lost.

::

    *.jsonl, studio/events.jsonl --read--> .hallo4-...part (a database) --one rename--> preferences.sqlite
                                                        then the old files move into `older/`

Ratings of that time did not say whose their flags were; where the page's events are there, they do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from hallo4.errors import InputError, OutputError
from hallo4.lock import sole_worker
from hallo4.outputs import OLDER_STORE_FILES, STORE_FILE
from hallo4.preference.foreign import Imported
from hallo4.preference.lines import import_lines, records_of_lines
from hallo4.preference.schema import TABLES, Rating
from hallo4.preference.store import EVENTS, PreferenceStore
from hallo4.studio.record import Answered, Event, EventLine, Given, about, key_of
from hallo4.whole import commit, discard, temporary_beside

OLDER = "older"
"""Folder of a store for the files that it was made from."""


@dataclass(frozen=True)
class Upgraded:
    """`records` that were upgraded, events among them; a line for each that could not be."""

    records: int
    dropped: tuple[str, ...]


def upgrade(folder: Path) -> Upgraded:
    """Upgrade a store; called again after a kill, it goes on. InputError: there is none to upgrade.

    OutputError: a server has it, or it cannot be written; then the old store is as it was.
    """
    older = all((folder / name).is_file() for name in OLDER_STORE_FILES)
    if not older and not (folder / STORE_FILE).is_file():
        raise InputError(f"{folder}: is not a preference store of an older hallo4. Name the folder of one.")
    with sole_worker(folder / "store.lock", folder, "Stop it first."):
        made = Upgraded(0, ()) if (folder / STORE_FILE).is_file() else _make(folder)
        _put_away(folder)
    return made


def _make(folder: Path) -> Upgraded:
    temporary = temporary_beside(folder / STORE_FILE)
    store = PreferenceStore(folder)
    store.database.path = temporary
    try:
        store.database.create()
        found = import_lines(store, folder)
        events = _take_over_events(store, folder / "studio" / "events.jsonl", found)
        store.close()  # moves everything from its log into the file
        commit(temporary, folder / STORE_FILE)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be upgraded ({error.strerror}); it is as it was.") from error
    finally:
        store.close()
        for path in (temporary, *(temporary.with_name(temporary.name + end) for end in ("-wal", "-shm"))):
            discard(path)
    return Upgraded(found.records + events, tuple(found.dropped))


def _take_over_events(store: PreferenceStore, file: Path, found: Imported) -> int:
    """The page's events, and with them whose the flags of its ratings are."""
    if not file.is_file():
        return 0
    events: list[Event] = [event for _, event in records_of_lines(file, EventLine, found.dropped)]
    with store.database.writing():
        added = len(store.table_of_events(EventLine, key_of, about).add(events))
        flags = _flags(events)
        ratings = [_with_flags(rating, flags) for rating in store.ratings()]
        store.replace_ratings(ratings)
    return added


def _flags(events: list[Event]) -> dict[str, dict[str, tuple]]:
    """Token -> the flags of each clip, as they were last given."""
    given = {event.token: event for event in events if isinstance(event, Given)}
    flags: dict[str, dict[str, tuple]] = {}
    for event in events:
        if isinstance(event, Answered) and event.token in given:
            clips, left = given[event.token].clips, given[event.token].left
            sides = clips if left == clips[0] else clips[::-1]
            both = zip(sides, (event.flags_left, event.flags_right), strict=False)
            flags[event.token] = {clip: of for clip, of in both if of}
    return flags


def _with_flags(rating: Rating, flags: dict[str, dict[str, tuple]]) -> Rating:
    token = rating.event_id.partition("-")[0]
    return replace(rating, flags=flags[token]) if token in flags else rating


def _put_away(folder: Path) -> None:
    old = [folder / f"{name}.jsonl" for name in TABLES]
    old += [*folder.glob("*.jsonl.torn"), *(folder / "studio").glob(f"{EVENTS}.jsonl*")]
    try:
        for path in old:
            if path.is_file():
                (folder / OLDER).mkdir(exist_ok=True)
                path.replace(folder / OLDER / path.name)
    except OSError as error:
        raise OutputError(
            f"{folder}: is upgraded, but its old files cannot be moved into {OLDER}/ ({error.strerror}). "
            "Move them there yourself."
        ) from error
