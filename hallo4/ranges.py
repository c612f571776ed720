"""Numbers carry their ranges in their types: one check for command lines, files and settings.

    steps: Steps = 16            Steps is Annotated[int, Range(1, 10_000)]

pydantic checks such fields of what it reads (`hallo4.json_file`, `--set` of a training), `check_ranges` those
of a dataclass that exists. NaN and infinity are in no range.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from hallo4.errors import Hallo4Error, InputError


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, the ends included, but for `low` if `above`."""

    low: float
    high: float = math.inf
    above: bool = False

    def __contains__(self, value: float) -> bool:
        inside = self.low < value if self.above else self.low <= value
        return inside and value <= self.high and value < math.inf  # NaN is in no comparison

    def __str__(self) -> str:
        low, high = _number(self.low), _number(self.high)
        if math.isinf(self.high):
            return f"above {low}" if self.above else f"at least {low}"
        return f"above {low}, up to {high}" if self.above else f"{low} to {high}"

    def check(self, value: float) -> float:
        """`value`. ValueError: it lies outside."""
        if value not in self:
            raise ValueError(f"must be {self}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic import AfterValidator

        return AfterValidator(self.check).__get_pydantic_core_schema__(source, handler)


Steps = Annotated[int, Range(1, 10_000)]
"""Denoising steps of a video."""
TrainingSteps = Annotated[int, Range(1, 1_000_000_000)]
"""Steps of an optimizer, and of what happens every so many of them."""
Seed = Annotated[int, Range(0, 2**53)]
"""Seeds of videos, people and trainings; what JSON keeps exactly."""
Workers = Annotated[int, Range(1, 256)]
"""Processes that share a work."""
Episodes = Annotated[int, Range(1, 1_000_000)]
"""Clips, people, episodes: how many of them."""
Whole = Annotated[int, Range(0, 1_000_000_000)]
"""How many, where none is a choice."""
BatchSize = Annotated[int, Range(1, 65_536)]
"""Samples or pairs at once."""
Width = Annotated[int, Range(1, 65_536)]
"""Channels, tokens or ranks of a layer."""
Frames = Annotated[int, Range(1, 10_000)]
"""Frames of a window or clip of a model."""
SidePx = Annotated[int, Range(16, 16_384)]
"""Side of a frame in pixels."""
Seconds = Annotated[float, Range(0.04, 14_400)]
"""Length of a clip: one frame to four hours."""
Scale = Annotated[int, Range(1, 8)]
"""How many times frames are enlarged."""
Track = Annotated[int, Range(1, 1000)]
"""A sound track of a file, from 1."""
FrameRate = Annotated[float, Range(1, 1000)]
"""Frames a second."""
Alpha = Annotated[float, Range(-1, 1)]
"""Agreement beyond chance."""
Share = Annotated[float, Range(0, 1)]
"""A part of a whole, or a probability."""
HeldOut = Annotated[float, Range(0, 0.9)]
"""A part that is kept from training."""
PartBelowHalf = Annotated[float, Range(0, 0.499_999_999)]
"""A share that is less than the rest."""
Momentum = Annotated[float, Range(0, 0.999_999_999)]
"""Decay of a moving average: at least 0, below 1."""
Rate = Annotated[float, Range(0, 1000, above=True)]
"""A learning rate."""
FlowShift = Annotated[float, Range(0, 1000, above=True)]
"""Shift of the schedule of a flow model; 1 is none."""
Guidance = Annotated[float, Range(0, 1_000)]
"""Guidance scale; 1 is without."""
Port = Annotated[int, Range(0, 65_535)]
"""A port of a network address; 0 is any free one."""
Raters = Annotated[int, Range(1, 1_000)]
"""People who answer questions."""
Points = Annotated[float, Range(0, 4)]
"""A difference on the scale of 1 to 5."""
Deviation = Annotated[float, Range(0, 10)]
"""A standard deviation on the scale of 1 to 5."""
Pull = Annotated[float, Range(-10, 10)]
"""By how many points one of two sides looks better."""
Level = Annotated[float, Range(0, 255)]
"""Brightness of a pixel."""
Pixels = Annotated[float, Range(0, 16_384)]
"""A length in a picture."""
Tempo = Annotated[float, Range(1, 8)]
"""How many times as fast as usual bodies move."""
Positive = Annotated[float, Range(0, above=True)]
"""Rates, scales, minutes: any number above 0."""
NotNegative = Annotated[float, Range(0)]
"""Decays and weights of terms, where 0 turns something off."""


def check_rising(
    record: Any, *names: str, named: Callable[[str], str] = str, error: type[Hallo4Error] = InputError
) -> None:
    """An `error` in one line for the first field among `names`, a pair of numbers, whose first is not below
    its second."""
    for name in names:
        low, high = getattr(record, name)
        if not low < high:
            raise error(f"{named(name)} is {low} to {high}; the first number must be below the second.")


def check_ranges(
    record: Any, named: Callable[[str], str] = str, error: type[Hallo4Error] = InputError
) -> None:
    """An `error` in one line for the first field of the dataclass `record` that lies outside of its range.

    `named` makes the name in the message of that of the field. None is in every range that allows it.
    """
    hints = get_type_hints(type(record), include_extras=True)
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        values = value if isinstance(value, tuple) else (value,)
        for allowed in _ranges(hints[field.name]):
            wrong = [one for one in values if _is_number(one) and one not in allowed]
            if wrong:
                raise error(f"{named(field.name)} is {wrong[0]}; it must be {allowed}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _ranges(hint: Any) -> Iterator[Range]:
    """Every range in a type."""
    if get_origin(hint) is Annotated:
        yield from (part for part in hint.__metadata__ if isinstance(part, Range))
        hint = hint.__origin__
    for part in get_args(hint):
        yield from _ranges(part)


def _number(value: float) -> str:
    return f"{value:,}".replace(",", " ") if isinstance(value, int) and value >= 10_000 else f"{value:.12g}"
