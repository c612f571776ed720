"""What must stand in a report, and in a row kept beside one, to be used again; more may stand there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from hallo4.ranges import Episodes, Seconds, Seed, Whole


@dataclass(frozen=True)
class WorldRow:
    """A clip of `hallo4 evaluate world`: the values of the `model` by metric; null: not measured."""

    clip: Whole
    episode_seed: Seed
    model: dict[str, float | str | dict[str, Any] | list[Any] | None]


@dataclass(frozen=True)
class ComparedRow:
    """A clip of a report that is compared."""

    clip: Whole
    episode_seed: Seed
    model: dict[str, float | None]


@dataclass(frozen=True)
class WorldReport:
    """A report of `hallo4 evaluate world`."""

    episodes: Episodes
    seed: Seed
    model: str
    settings: dict[str, Any]
    rows: Annotated[tuple[ComparedRow, ...], Field(min_length=1)]
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Standing:
    """What a leaderboard says of a report."""

    model: str
    episodes: Episodes
    settings: StandingSettings
    metrics: dict[str, MeanInterval | None]


@dataclass(frozen=True)
class StandingSettings:
    """Of the settings of a report, what a leaderboard says."""

    seconds: Seconds


@dataclass(frozen=True)
class MeanInterval:
    """A mean with its interval; null where there is none."""

    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """What `hallo4 evaluate compare` writes, as far as a page shows it."""

    against: str
    runs: dict[str, Episodes]
    metrics: dict[str, dict[str, MeanInterval | None]]
    compared: dict[str, WinRates]
    unscored: tuple[str, ...]


@dataclass(frozen=True)
class WinRates:
    """Win rates of a system by axis."""

    win_rate: dict[str, MeanInterval]


@dataclass(frozen=True)
class VideosRow:
    """A clip of `hallo4 evaluate videos`, with the stamp of its files."""

    clip: str
    stamp: str
    systems: dict[str, dict[str, Any]]
    reference: dict[str, Any]


@dataclass(frozen=True)
class KeptValue:
    """One measured item of `evaluate motion` or `drift`."""

    of: str
    item: str
    value: Any
