"""Livelier motion of the lit world: hands that point, count, close and open; and, in a share of the clips,
heads and hands that move up to four times a second."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hallo4.types import FPS
from hallo4.world.performance_curves import RELAXED, RIGHT_REST, Performance, smooth

BRISK_SHARE = 0.3
"""Share of the clips with fast motion."""
FASTEST_HZ = 4.0

_SHAPES = {
    "open": (0.0, 0.0, 0.0, 0.0, 0.0),
    "loose": (0.15, 0.18, 0.22, 0.26, 0.30),
    "point": (0.85, 0.0, 0.95, 1.0, 1.0),
    "two": (0.95, 0.0, 0.0, 1.0, 1.0),
    "three": (0.90, 0.0, 0.0, 0.0, 0.95),
    "fist": (0.95, 0.95, 1.0, 1.0, 1.0),
    "thumb": (0.0, 1.0, 1.0, 1.0, 1.0),
}
_CHANCES = np.array([0.46, 0.22, 0.10, 0.06, 0.04, 0.08, 0.04])
_AT_REST = np.array([*RIGHT_REST, 0.42, 0.4, *RELAXED])


def enlivened(
    rng: np.random.Generator, calm: Performance, speaking: np.ndarray, brisk_share: float = BRISK_SHARE
) -> Performance:
    """`calm` [T] with other hands, and, with that chance, with fast motion on top of its head's own."""
    talk, brisk = smooth(speaking, 5), rng.random() < brisk_share
    moved = {}
    for side in ("right", "left"):
        wrist, turn, spread, curl = _hand(rng, talk, brisk)
        if side == "left":
            wrist[:, 0] = 1 - wrist[:, 0]
        named = {"wrist": wrist, "turn": turn, "spread": spread, "curl": curl}
        moved |= {f"{side}_{name}": curve for name, curve in named.items()}
    if brisk:
        moved |= _brisk_head(rng, calm)
    return replace(calm, **{name: curve.astype(np.float32) for name, curve in moved.items()})


def _brisk_head(rng: np.random.Generator, calm: Performance) -> dict[str, np.ndarray]:
    """Nods, shakes and shifts of the head in bursts, at 1.5 to 4 Hz."""
    frames = len(calm)
    amplitudes = {"yaw": 0.15, "pitch": 0.11, "roll": 0.06}
    moved = {
        name: getattr(calm, name) + most * rng.uniform(0.2, 1.0) * _burst(rng, frames)
        for name, most in amplitudes.items()
    }
    shift = np.stack([0.026 * _burst(rng, frames), 0.018 * _burst(rng, frames)], 1)
    return moved | {"head": calm.head + rng.uniform(0.3, 1.0) * shift}


def _burst(rng: np.random.Generator, frames: int) -> np.ndarray:
    """An oscillation that comes and goes, each time at another rate; within [-1, 1]."""
    curve, at = np.zeros(frames), int(rng.integers(-15, 20))
    while at < frames:
        length = int(rng.integers(14, 45))
        hz = rng.uniform(1.5, FASTEST_HZ)
        t = np.arange(length)
        # Faster motion is smaller, as of anything with mass.
        wave = np.sin(np.pi * (t + 0.5) / length) ** 0.7 * np.sin(2 * np.pi * (hz * t / FPS + rng.random()))
        inside = slice(max(at, 0), min(at + length, frames))
        if inside.stop > inside.start:
            curve[inside] = (wave * (1.8 / hz) ** 0.8)[inside.start - at : inside.stop - at]
        at += length + int(rng.integers(0, 25))
    return curve


def _hand(
    rng: np.random.Generator, talk: np.ndarray, brisk: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Wrist [T, 2], turn [T], spread [T] and curl [T, 5] of the right hand: moves from target to target, with
    a beat in brisk clips."""
    frames, active = len(talk), rng.random() < 0.88
    path = np.empty((frames, 9))
    at, here = 0, _target(rng, brisk) if active and rng.random() < 0.75 else _AT_REST
    while at < frames:
        raised = active and talk[min(at, frames - 1)] > 0.25
        length = (
            int(rng.integers(4, 11) if brisk else rng.integers(7, 18))
            if raised
            else int(rng.integers(16, 28))
        )
        there = _target(rng, brisk) if raised else _AT_REST + rng.normal(0, 0.01, 9)
        if raised and rng.random() < 0.35:  # the hand stays, and stresses what is said
            there = here + np.r_[rng.normal(0, 0.022 if brisk else 0.012, 2), np.zeros(7)]
        stop = min(at + length, frames)
        s = np.arange(1, stop - at + 1) / length
        path[at:stop] = here + (there - here) * (10 * s**3 - 15 * s**4 + 6 * s**5)[:, None]
        at, here = stop, path[stop - 1]
    if brisk and active:
        path[:, 1] += 0.035 * _burst(rng, frames) * smooth(path[:, 1] < 1.0, 3)
        path[:, 2] += 0.10 * _burst(rng, frames)
    return path[:, :2], path[:, 2], np.clip(path[:, 3], 0, 1), np.clip(path[:, 4:], 0, 1)


def _target(rng: np.random.Generator, brisk: bool) -> np.ndarray:
    """(x, y, turn, spread, curl of five fingers) in front of the chest or beside the face, on the right arm's
    side; the palm or the back of the hand is seen, seldom its edge."""
    shape = list(_SHAPES)[int(rng.choice(len(_SHAPES), p=_CHANCES))]
    curl = np.array(_SHAPES[shape]) + rng.uniform(0, 0.06, 5)
    palm = shape in ("point", "two", "three") or rng.random() < 0.72
    turn = rng.uniform(0.78, 1.12) if palm else rng.uniform(0.32, 0.56)
    x = rng.uniform(0.06, 0.27) if palm else rng.uniform(0.14, 0.34)
    y = rng.uniform(0.70 if brisk else 0.76, 0.97) if palm else rng.uniform(0.84, 0.98)
    return np.array([x, y, turn, rng.uniform(0.2, 1.0), *curl])
