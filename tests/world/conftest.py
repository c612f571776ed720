"""Episodes of the portrait world that many tests look at; made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest

pytest.importorskip("espeakng_loader", reason="the world speaks with espeak-ng: pip install 'hallo4[world]'")

from hallo4.world import Identity, make_episode, sample_identity
from hallo4.world.performance import Performance, neutral_performance

SEED = 7
"""An episode in which a person speaks, with sounds that close the lips."""


@pytest.fixture(scope="session")
def episode():
    """1.6 s of seed 7 at 96 px."""
    return make_episode(SEED, seconds=1.6, size_px=96)


@pytest.fixture(scope="session")
def plain_person() -> Identity:
    """A person whose face nothing covers, dressed in a T-shirt, of colours that are far from each other."""
    return replace(
        sample_identity(3),
        skin=(220, 170, 130), hair=(60, 40, 30), iris=(58, 110, 150), lip=(180, 70, 80), cloth=(60, 150, 90),
        cloth_accent=(150, 200, 160), wall=(120, 140, 220), wall_accent=(160, 170, 230),
        hair_style="short", clothes="tee", beard="none", glasses="none", background="plain",
        earrings=False, freckles=False, lashes=False, eye_tilt=0.0,
    )  # fmt: skip


@pytest.fixture(scope="session")
def pose() -> Callable[..., Performance]:
    """pose(mouth_open=[...], yaw=0.2): a person at rest, but for the curves given; as long as the longest."""

    def make(**curves) -> Performance:
        rest = neutral_performance()
        given = {name: np.asarray(curve, np.float32) for name, curve in curves.items()}
        ranks = {name: getattr(rest, name).ndim for name in given}
        given = {name: c[None] if c.ndim < ranks[name] else c for name, c in given.items()}
        frames = max((len(c) for c in given.values()), default=1)
        still = {f.name: np.repeat(getattr(rest, f.name), frames, axis=0) for f in fields(rest)}
        moved = {name: np.broadcast_to(c, still[name].shape) for name, c in given.items()}
        return Performance(**still | moved)

    return make
