"""What happens on the rating page, as rows of the store's table of events.

::

    joined -> sound_checked -> given -> answered -> (sealed: ratings in the store) ... -> ended
                                  ^        |
                                  +-undone-+  given -> withdrawn (it cannot be shown)

The table is the whole memory of the server: after a restart the state is folded from it again. Raters see
only opaque tokens; which clip was on which side is written here and nowhere else until the answer is sealed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field

from hallo4.errors import InputError
from hallo4.json_file import checked, parse_json
from hallo4.preference.schema import AXES, SCHEMA_VERSION, Flag, Name, Whole, Words
from hallo4.studio.assign import Shown as Role

RATER_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{1,31}$"
"""A pseudonym: 2 to 32 letters, digits, `-` or `_`."""

RaterId = Annotated[str, Field(pattern=RATER_PATTERN)]
Token = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Side = Literal["left", "tie", "right", "cannot_judge"]
Answer = Side | Annotated[int, Field(strict=True, ge=1, le=9)]
Given_by_platform = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,128}$")]


@dataclass(frozen=True)
class _Line:
    """What all events share: one line of JSON."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    def to_json(self) -> str:
        """One line without its line break."""
        return json.dumps({"schema_version": SCHEMA_VERSION, **asdict(self)})


@dataclass(frozen=True)
class Joined(_Line):
    """A rater read the consent note of `consent_version` in `language` and agreed; `key_sha256` of the key
    that their page keeps. `participant`: what the platform's link said, by parameter."""

    rater_id: RaterId
    key_sha256: Digest
    at_unix_ms: Whole
    event: Literal["joined"] = "joined"
    study: str = ""
    consent_version: str = ""
    language: str = ""
    participant: dict[str, Given_by_platform] = field(default_factory=dict)


@dataclass(frozen=True)
class SoundChecked(_Line):
    """The rater counted the tones of the sound check."""

    rater_id: RaterId
    at_unix_ms: Whole
    event: Literal["sound_checked"] = "sound_checked"


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
    """What a rater said, by the sides they saw, to each question of the study; `axes`: what each counts for.

    `submit_id` tells a second try from a second answer. `shown_ms`: of the page's clock, but no longer than
    the server's says.
    """

    token: Token
    submit_id: Token
    answers: dict[Name, Answer]
    axes: dict[Name, Name]
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


@dataclass(frozen=True)
class Ended(_Line):
    """The rater is done, has seen `code`, and is asked no more."""

    rater_id: RaterId
    code: str
    reason: Literal["complete", "nothing left", "stopped", "excluded"]
    at_unix_ms: Whole
    event: Literal["ended"] = "ended"


Event = Joined | SoundChecked | Given | Answered | Undone | Withdrawn | Ended


def key_of(event: Event) -> tuple[str | int, ...]:
    """What an event is known by; a second event of the same key is the same event again."""
    if isinstance(event, Joined | SoundChecked | Ended):
        return event.event, event.rater_id
    if isinstance(event, Answered):
        return event.event, event.submit_id
    return (event.event, event.token, event.at_unix_ms if isinstance(event, Undone) else 0)


def about(event: Event) -> str:
    """What an event is about: the question that it belongs to, or else the rater."""
    return event.rater_id if isinstance(event, Joined | SoundChecked | Ended) else event.token


class EventLine:
    """The reader of a row, for `hallo4.preference.database.Table`."""

    @staticmethod
    def from_json(line: str) -> Event:
        """The event of a line; InputError for a wrong version, key, type or range."""
        found = parse_json(line, "event", dict, advice="An event is one JSON object per row.")
        version = found.pop("schema_version", None)
        if version not in (1, SCHEMA_VERSION):
            raise InputError(f"schema_version is {version!r}; this hallo4 reads 1 and {SCHEMA_VERSION}.")
        kinds = {kind.__dataclass_fields__["event"].default: kind for kind in get_args(Event)}
        if found.get("event") == "heard":  # as it was called at first
            found["event"] = "sound_checked"
        if found.get("event") not in kinds:
            raise InputError(f"event is {found.get('event')!r}; there are {', '.join(kinds)}.")
        if version == 1 and found["event"] == "answered":
            found = _from_version_1(found)
        return checked(found, kinds[found["event"]], "event", advice="Leave it out.")


def _from_version_1(found: dict[str, Any]) -> dict[str, Any]:
    """An answer of the time when there were two questions, one about each axis."""
    answers = {axis: found.pop(axis) for axis in AXES if axis in found}
    return {**found, "answers": answers, "axes": {axis: axis for axis in answers}}
