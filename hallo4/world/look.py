"""The worlds by name, and what the lit one adds to a person: light, a place behind them, cloth.

`drawn-1` has flat colours and is what the embedded models were trained on. `lit-1` is the same people saying
the same words, with light and shade, a blurred place behind them, hands whose fingers bend, and faster motion
in a share of the clips. What a name shows never changes: another look gets another name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from hallo4.errors import InputError

WorldName = Literal["drawn-1", "lit-1"]
DRAWN: WorldName = "drawn-1"
LIT: WorldName = "lit-1"
PLACES = ("room", "window", "bokeh", "garden", "sky", "paper", "curtain", "bricks")
PATTERNS = ("none", "none", "knit", "stripes", "check", "dots", "twill")

_LIGHTS = (
    ((1.06, 1.03, 1.00), (0.50, 0.46, 0.50)),  # daylight
    ((1.12, 1.02, 0.88), (0.52, 0.43, 0.49)),  # a low sun
    ((1.06, 1.05, 1.03), (0.55, 0.49, 0.50)),  # a soft box
    ((1.08, 1.00, 0.91), (0.48, 0.39, 0.42)),  # a lamp in the evening
    ((1.01, 1.03, 1.06), (0.50, 0.46, 0.51)),  # a cloudy sky
)


@dataclass(frozen=True)
class Look:
    """Light on a person and what is behind them. `key`: unit vector to the key light (x right, y down, z to
    the viewer). `lit`, `shaded`: RGB factors of what faces the light, and of what is turned away from it."""

    key: tuple[float, float, float]
    lit: tuple[float, float, float]
    shaded: tuple[float, float, float]
    place: str
    pattern: str
    parting: float
    seed: int


def checked_world(world: str) -> WorldName:
    """The world of this name. InputError: there is none."""
    for known in get_args(WorldName):
        if world == known:
            return known
    raise InputError(f"world is {world!r}; there are {' and '.join(get_args(WorldName))}")


def named_world(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a store, a cache or a report says of itself, with its `world`: older ones know one, and do not
    name it."""
    return {"world": DRAWN, **record}


def named_beside(world: WorldName) -> dict[str, str]:
    """What a record says of its world so that `named_world` reads it, and older ones are as they were."""
    return {} if world == DRAWN else {"world": world}


def sample_look(seed: int) -> Look:
    """Light, place and cloth of the person of this seed in `lit-1`."""
    rng = np.random.default_rng([seed, 0x117])
    side = float(rng.choice((-1.0, 1.0)))
    key = np.array([side * rng.uniform(0.35, 0.85), -rng.uniform(0.3, 0.65), rng.uniform(0.6, 0.8)])
    lit, shaded = _LIGHTS[int(rng.integers(len(_LIGHTS)))]
    return Look(
        key=tuple(float(part) for part in key / np.linalg.norm(key)),
        lit=lit,
        shaded=shaded,
        place=PLACES[int(rng.integers(len(PLACES)))],
        pattern=PATTERNS[int(rng.integers(len(PATTERNS)))],
        parting=float(rng.uniform(-0.45, 0.45)),
        seed=int(rng.integers(1 << 30)),
    )
