"""What happens on the rating page, as rows of the store's table of events.

::

    given -> answered -> (sealed: ratings in the store)
       ^        |
       +-undone-+          given -> withdrawn (its video cannot be shown)

The table is the whole memory of the server: after a restart the state is folded from it again. Raters see
only opaque tokens; which clip was on which side is written here and nowhere else until the answer is sealed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Literal, get_args

from pydantic import ConfigDict, Field

from hallo4.errors import InputError
from hallo4.json_file import checked, parse_json
from hallo4.preference.schema import SCHEMA_VERSION, Flag, Name, Role, Whole, Words

RATER_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{1,31}$"
"""A pseudonym: 2 to 32 letters, digits, `-` or `_`."""

RaterId = Annotated[str, Field(pattern=RATER_PATTERN)]
Token = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Shown = Literal["left", "tie", "right", "cannot_judge"]
Answer = Shown | Annotated[int, Field(strict=True, ge=1, le=5)]


class _Line:
    """What all events share: one line of JSON."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    def to_json(self) -> str:
        """One line without its line break."""
        return json.dumps({"schema_version": SCHEMA_VERSION, **asdict(self)})  # type: ignore[call-overload]


@dataclass(frozen=True)
class Joined(_Line):
    """A rater read the consent note and agreed; `key_sha256` of the key that their page keeps."""

    rater_id: RaterId
    key_sha256: Digest
    at_unix_ms: Whole
    event: Literal["joined"] = "joined"


@dataclass(frozen=True)
class Given(_Line):
    """A question was handed to a rater: `clips` in sorted order, of which `left` was shown on the left."""

    token: Token
    rater_id: RaterId
    condition_id: Name
    clips: tuple[Name, ...]
    left: Name
    role: Role
    repeat_of: Token | None
    at_unix_ms: Whole
    event: Literal["given"] = "given"


@dataclass(frozen=True)
class Answered(_Line):
    """What a rater said, by the sides they saw; `submit_id` tells a second try from a second answer."""

    token: Token
    submit_id: Token
    alignment: Answer
    fidelity: Answer
    flags_left: tuple[Flag, ...]
    flags_right: tuple[Flag, ...]
    shown_ms: Whole
    ui_version: Words
    at_unix_ms: Whole
    event: Literal["answered"] = "answered"


@dataclass(frozen=True)
class Undone(_Line):
    """The rater took the answer back and will give another."""

    token: Token
    at_unix_ms: Whole
    event: Literal["undone"] = "undone"


@dataclass(frozen=True)
class Withdrawn(_Line):
    """The question cannot be shown; `reason` is for the organiser."""

    token: Token
    reason: Words
    at_unix_ms: Whole
    event: Literal["withdrawn"] = "withdrawn"


Event = Joined | Given | Answered | Undone | Withdrawn


def key_of(event: Event) -> tuple[str | int, ...]:
    """What an event is known by; a second event of the same key is the same event again."""
    if isinstance(event, Joined):
        return event.event, event.rater_id
    if isinstance(event, Answered):
        return event.event, event.submit_id
    return (event.event, event.token, event.at_unix_ms if isinstance(event, Undone) else 0)


def about(event: Event) -> str:
    """What an event is about: the question that it belongs to, or else the rater."""
    return event.rater_id if isinstance(event, Joined) else event.token


class EventLine:
    """The reader of a row, for `hallo4.preference.database.Table`."""

    @staticmethod
    def from_json(line: str) -> Event:
        """The event of a line; InputError for a wrong version, key, type or range."""
        found = parse_json(line, "event", dict, advice="An event is one JSON object per row.")
        version = found.pop("schema_version", None)
        if version not in (1, SCHEMA_VERSION):
            raise InputError(f"schema_version is {version!r}; this hallo4 reads 1 and {SCHEMA_VERSION}.")
        kinds = {kind.event: kind for kind in get_args(Event)}
        if found.get("event") not in kinds:
            raise InputError(f"event is {found.get('event')!r}; there are {', '.join(kinds)}.")
        return checked(found, kinds[found["event"]], "event", advice="Leave it out.")
