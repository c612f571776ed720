"""The words of preference data: one frozen record per row of a store, checked strictly.

::

    Condition --1:n--> Clip --1:n--> Rating, MachineScore     (what people and machines say)
                            --2:n--> GoldAnswer                (what an attentive rater must say)
                            --2:1--> Pair                      (what a model is trained on)

A record becomes one JSON object with `schema_version` in front (`to_json`) and back (`from_json`). Fields
follow dpo.md 3.1; `docs/preference_data.md` describes the files. Constructors check what belongs together;
types and ranges are checked by `from_json`, through which every row of a store has gone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, ConfigDict, Field

from hallo4.errors import InputError
from hallo4.json_file import checked, parse_json

SCHEMA_VERSION = 2
"""1 had ratings whose flags were of both clips together, and one question per axis; it is read too."""

Axis = Literal["alignment", "fidelity"]
Choice = Literal["a", "tie", "b", "cannot_judge"]
Flag = Literal["unsafe", "broken", "identity_lost"]
Role = Literal["plain", "gold", "repeat"]
AXES: tuple[Axis, ...] = get_args(Axis)
"""Motion-video alignment (lips and body follow), portrait fidelity (natural expression, same person)."""
CHOICES: tuple[Choice, ...] = get_args(Choice)
FLAGS: tuple[Flag, ...] = get_args(Flag)
LOWEST, HIGHEST = 1.0, 5.0
"""Ends of the scale of ratings and machine scores; 5 is best."""


def _inside(path: str) -> str:
    """A path that cannot leave the store, on any system."""
    parts = path.split("/")
    if (
        not path.isprintable()
        or "\\" in path
        or ":" in path
        or any(part in ("", ".", "..") for part in parts)
    ):
        raise ValueError("is not a plain path below the store (no '..', no absolute path)")
    return path


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Words = Annotated[str, Field(min_length=1, max_length=400)]
RelativePath = Annotated[str, Field(min_length=1, max_length=400), AfterValidator(_inside)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(strict=True, ge=1)]
Whole = Annotated[int, Field(strict=True, ge=0)]
Number = Annotated[float, Field(strict=True)]
Positive = Annotated[float, Field(strict=True, gt=0)]
AtLeastZero = Annotated[float, Field(strict=True, ge=0)]
OnScale = Annotated[float, Field(strict=True, ge=LOWEST, le=HIGHEST)]
Truth = Annotated[bool, Field(strict=True)]
Setting = Annotated[int, Field(strict=True)] | Number | str


@dataclass(frozen=True)
class _Record:
    """What all records share: one line of JSON, and back."""

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    def to_json(self) -> str:
        """One line without its line break; what `from_json` refuses is refused here too (InputError)."""
        line = json.dumps({"schema_version": SCHEMA_VERSION, **asdict(self)})
        type(self).from_json(line)
        return line

    @classmethod
    def from_json(cls, line: str) -> Self:
        """The record of a line; InputError, in one line, for a wrong version, key, type or range."""
        kind = cls.__name__.lower()
        found = parse_json(line, kind, advice=f"A {kind} is one JSON object per line.")
        if not isinstance(found, dict):
            raise InputError(f"a {kind} is a JSON object {{...}}; found {type(found).__name__}.")
        version = found.pop("schema_version", None)
        if version not in (1, SCHEMA_VERSION) or isinstance(version, bool):
            raise InputError(
                f"schema_version is {version!r}; this hallo4 reads 1 and {SCHEMA_VERSION}. Update hallo4."
            )
        if version == 1:
            found = cls._from_version_1(found)
        return checked(found, cls, kind, advice="See docs/preference_data.md.")

    @classmethod
    def _from_version_1(cls, found: dict[str, Any]) -> dict[str, Any]:
        """The fields as they are called now."""
        return found


@dataclass(frozen=True)
class Condition(_Record):
    """What was asked for. Portrait, audio and skeleton (None: idle motion) are paths below the store.

    Conditions with the same `identity_id` show the same person, with the same `audio_id` the same speech.
    """

    condition_id: Name
    identity_id: Name
    audio_id: Name
    portrait: RelativePath
    audio: RelativePath
    skeleton: RelativePath | None


@dataclass(frozen=True)
class Clip(_Record):
    """One candidate video of a condition: made by `source_system` from `checkpoint` with `seed` and
    `settings`.

    `path` below the store, `sha256` of that file, `frames` at `fps` of `width_px` x `height_px`. `consent`:
    on what ground the person may be shown. `motion_amplitude`: spread of body joints in pixels, or None.
    """

    clip_id: Name
    condition_id: Name
    source_system: Words
    seed: Whole
    checkpoint: Words
    settings: dict[str, Setting]
    path: RelativePath
    sha256: Digest
    fps: Positive
    frames: Count
    width_px: Count
    height_px: Count
    consent: Words
    motion_amplitude: AtLeastZero | None

    @property
    def shape(self) -> tuple[int, float, int, int]:
        """(frames, fps, width_px, height_px): alike for all clips of a condition."""
        return self.frames, self.fps, self.width_px, self.height_px


@dataclass(frozen=True)
class Rating(_Record):
    """One answer of one rater on one axis.

    `kind` "score": `clip_id` has `value` 1..5. "comparison": of `clip_a` and `clip_b`, "a" or "b" is better,
    or it is a "tie". Either kind may be "cannot_judge". `left_clip_id`: the clip on the left, where two were
    shown. `flags` of each clip that has any. `shown_ms`: from showing to answering. `role`: a "gold" question
    has a known answer (`GoldAnswer`), a "repeat" asks the question of the event `repeat_of` again, sides
    swapped. `simulated`: no person answered. `question`: which of several about this axis; None: the only
    one. `axis` may be one that nothing is trained on, such as "overall".
    """

    event_id: Name
    rater_id: Name
    axis: Name
    kind: Literal["score", "comparison"]
    clip_id: Name | None
    clip_a: Name | None
    clip_b: Name | None
    value: OnScale | Choice
    left_clip_id: Name | None
    flags: dict[Name, tuple[Flag, ...]]
    shown_ms: Whole
    answered_unix_ms: Whole
    ui_version: Words
    role: Role
    repeat_of: Name | None
    simulated: Truth
    question: Name | None = None

    def __post_init__(self) -> None:
        """InputError where fields contradict each other."""
        pair = (self.clip_a, self.clip_b)
        if self.kind == "score":
            _require(self.clip_id is not None and pair == (None, None), "a score names clip_id alone")
            _require(self.value not in ("a", "tie", "b"), "the value of a score is 1..5 or cannot_judge")
        else:
            _require(self.clip_id is None and None not in pair, "a comparison names clip_a and clip_b alone")
            _require(self.clip_a != self.clip_b, "clip_a and clip_b are two different clips")
            _require(self.value in CHOICES, f"the value of a comparison is {', '.join(CHOICES)}")
        _require(self.left_clip_id in (None, *self.clips), "left_clip_id is one of the clips that were shown")
        _require(set(self.flags) <= set(self.clips), "flags are of the clips that were shown")
        _require(
            (self.role == "repeat") == (self.repeat_of is not None), "a repeat, and only it, has repeat_of"
        )

    @property
    def clips(self) -> tuple[str, ...]:
        """The clips that were rated: one, or two in the order a, b."""
        return tuple(clip for clip in (self.clip_id, self.clip_a, self.clip_b) if clip is not None)

    @property
    def asked(self) -> str:
        """The name of what was asked: the question's, or the axis where there is one question about it."""
        return self.question or self.axis

    @classmethod
    def _from_version_1(cls, found: dict[str, Any]) -> dict[str, Any]:
        """Whose flags they were was not kept: both clips have them, which is on the safe side."""
        flags = found.get("flags")
        shown = [name for name in map(found.get, ("clip_id", "clip_a", "clip_b")) if isinstance(name, str)]
        return (
            {**found, "flags": {clip: flags for clip in shown if flags}} if isinstance(flags, list) else found
        )

    @property
    def judged(self) -> bool:
        """Whether there is an answer at all."""
        return self.value != "cannot_judge"


@dataclass(frozen=True)
class GoldAnswer(_Record):
    """A question with a known answer, by which raters are checked: `answer` "a", "tie" or "b"."""

    clip_a: Name
    clip_b: Name
    axis: Name
    answer: Literal["a", "tie", "b"]

    @property
    def clips(self) -> tuple[str, str]:
        """Both clips."""
        return self.clip_a, self.clip_b

    def __post_init__(self) -> None:
        """InputError where both clips are the same."""
        _require(self.clip_a != self.clip_b, "clip_a and clip_b are two different clips")


@dataclass(frozen=True)
class MachineScore(_Record):
    """A clip's `score` 1..5 on one axis by `scorer` of `scorer_version`; `parts`: the measured values
    behind it."""

    clip_id: Name
    axis: Axis
    score: OnScale
    parts: dict[str, Number]
    scorer: Words
    scorer_version: Words


@dataclass(frozen=True)
class Pair(_Record):
    """Two clips of a condition to train on: `winner` is preferred to `loser`.

    `axes`: per axis (of `AXES`, or of a measure of yours) the mean ratings 1..5 of "winner" and "loser", the
    number "n" of ratings behind the smaller side, and the "spread" (standard deviation between raters, 0 for
    one). `gap`: winner minus loser, mean over the axes. `segment_labels`: who is better in each segment of
    one second, 1 (winner) to -1 (loser).
    """

    pair_id: Name
    condition_id: Name
    winner: Name
    loser: Name
    axes: dict[Name, dict[Literal["winner", "loser", "n", "spread"], Number]]
    gap: AtLeastZero
    weight: Positive
    split: Literal["train", "held_out"]
    segment_labels: tuple[Annotated[float, Field(strict=True, ge=-1, le=1)], ...] | None

    def __post_init__(self) -> None:
        """InputError where fields contradict each other."""
        _require(self.winner != self.loser, "winner and loser are two different clips")
        complete = all(set(of) == {"winner", "loser", "n", "spread"} for of in self.axes.values())
        _require(bool(self.axes) and complete, "each of the axes has winner, loser, n and spread")


@dataclass(frozen=True)
class Exclusion(_Record):
    """A rater whose answers do not count, and why; their "unsafe" flags count all the same."""

    rater_id: Name
    reason: Words


TABLES: dict[str, type[_Record]] = {
    "conditions": Condition,
    "clips": Clip,
    "ratings": Rating,
    "scores": MachineScore,
    "gold": GoldAnswer,
    "pairs": Pair,
    "excluded": Exclusion,
}
"""Name of a table -> class of its records, in the order in which they need each other."""


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise InputError(f"{rule}.")
