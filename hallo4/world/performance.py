"""What a person does during a clip: head, gaze, blinks, brows, smile, body, arms and hands, all at 25 fps.

Motion is made of slow sway, nods on stressed syllables, and gestures: hand targets reached by minimum-jerk
moves while speaking.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from hallo4.types import FPS
from hallo4.world.gestures import BRISK_SHARE, enlivened
from hallo4.world.look import DRAWN, LIT, WorldName
from hallo4.world.performance_curves import RELAXED, RIGHT_REST, Performance, neutral_performance, smooth

__all__ = ["BODY", "RIGHT_REST", "Performance", "neutral_performance", "paced", "perform"]


def perform(
    rng: np.random.Generator,
    mouth_open: np.ndarray,
    mouth_wide: np.ndarray,
    speaking: np.ndarray,
    world: WorldName = DRAWN,
    brisk_share: float = BRISK_SHARE,
) -> Performance:
    """Act out a speech whose mouth curves and speaking frames [T] are given; in the lit world with bending
    fingers, and with fast motion in `brisk_share` of the clips."""
    frames = len(mouth_open)
    liveliness = rng.uniform(0.6, 1.25)
    talk = smooth(speaking, 5)
    nods = smooth(np.diff(smooth(mouth_open, 4), prepend=mouth_open[:1]).clip(0), 4) * rng.uniform(0.2, 0.8)
    mood = rng.uniform(-0.2, 0.6)
    torso = np.stack([0.016 * _sway(rng, frames, 0.35), 0.006 * _sway(rng, frames, 0.3)], 1) * liveliness
    head = (
        torso * 1.1
        + np.stack([0.012 * _sway(rng, frames, 0.6), 0.010 * _sway(rng, frames, 0.7)], 1) * liveliness
    )
    gaze = np.stack([_saccades(rng, frames), 0.5 * _saccades(rng, frames)], 1)
    right_wrist, right_turn, right_spread = _gesture(rng, talk, liveliness, mirror=False)
    left_wrist, left_turn, left_spread = _gesture(rng, talk, liveliness, mirror=True)
    curves = Performance(
        mouth_open=mouth_open,
        mouth_wide=mouth_wide,
        blink=_blinks(rng, frames),
        brow=np.clip(0.45 * _sway(rng, frames, 0.5) + 2.0 * nods * rng.uniform(0.3, 1.5), -1, 1),
        smile=np.clip(mood + 0.25 * _sway(rng, frames, 0.25), -1, 1),
        yaw=liveliness * (0.17 * _sway(rng, frames, 0.35) + 0.05 * _sway(rng, frames, 1.1) * talk),
        pitch=liveliness * (0.08 * _sway(rng, frames, 0.4) + nods * 0.9),
        roll=liveliness * (0.065 * _sway(rng, frames, 0.4) + 0.02 * _sway(rng, frames, 1.0) * talk),
        head=head,
        torso=torso,
        gaze=gaze,
        right_wrist=right_wrist,
        left_wrist=left_wrist,
        right_turn=right_turn,
        left_turn=left_turn,
        right_spread=right_spread,
        left_spread=left_spread,
        right_curl=np.tile(RELAXED, (frames, 1)),
        left_curl=np.tile(RELAXED, (frames, 1)),
    )
    if world == LIT:
        curves = enlivened(rng, curves, speaking, brisk_share)
    return Performance(**{f.name: getattr(curves, f.name).astype(np.float32) for f in fields(curves)})


BODY = (
    "yaw", "pitch", "roll", "head", "torso",
    "right_wrist", "left_wrist", "right_turn", "left_turn", "right_spread", "left_spread",
    "right_curl", "left_curl",
)  # fmt: skip
"""What a skeleton shows; the face keeps its own pace."""


def paced(
    rng: np.random.Generator,
    calm: Performance,
    speaking: np.ndarray,
    tempo: float,
    rho: int = 1,
    world: WorldName = DRAWN,
) -> Performance:
    """`calm` [T] seen `rho` times a frame, [rho*T], with a body that moves `tempo` times as fast.

    Another body is acted out for so much longer and shown so much faster; at tempo 1 it is the calm one.
    What moves fast by itself is left out there. Lips, lids, brows and gaze keep their pace. Between the
    frames of what was acted out: straight lines.
    """
    frames = len(calm)
    body = calm
    if tempo != 1.0:
        long = np.linspace(0, frames - 1, round(frames * tempo))
        spoken = (calm.mouth_open, calm.mouth_wide, speaking)
        body = perform(rng, *(np.interp(long, np.arange(frames), curve) for curve in spoken), world, 0.0)
    places = np.arange(rho * frames) / rho
    shown = {f.name: _at(getattr(calm, f.name), places) for f in fields(calm)}
    return Performance(**shown | {name: _at(getattr(body, name), tempo * places) for name in BODY})


def _at(curve: np.ndarray, places: np.ndarray) -> np.ndarray:
    """A curve [T] or [T, 2] at `places` between its frames; its last value after them."""
    columns = curve.reshape(len(curve), -1).T
    found = np.stack([np.interp(places, np.arange(len(curve)), column) for column in columns], axis=1)
    return found.reshape(len(places), *curve.shape[1:]).astype(np.float32)


def _sway(rng: np.random.Generator, frames: int, frequency_hz: float) -> np.ndarray:
    """Band-limited noise of about unit amplitude around `frequency_hz`."""
    t = np.arange(frames) / FPS
    waves = [
        np.sin(2 * np.pi * (frequency_hz * rng.uniform(0.5, 1.6) * t + rng.random())) * rng.uniform(0.4, 1.0)
        for _ in range(3)
    ]
    return np.sum(waves, 0) / 1.6


def _saccades(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Gaze that rests on the viewer and now and then jumps aside; in [-1, 1]."""
    curve = np.zeros(frames)
    at = int(rng.integers(5, 40))
    while at < frames:
        length = int(rng.integers(8, 30))
        curve[at : at + length] = rng.uniform(-0.8, 0.8)
        at += length + int(rng.integers(10, 50))
    return smooth(curve, 0.8)


def _blinks(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Lids shut fast and open slower, every 1.2 to 4 s."""
    shape = np.array([0.45, 1.0, 1.0, 0.6, 0.2])
    curve = np.zeros(frames + len(shape))
    at = int(rng.integers(3, 60))
    while at < frames:
        curve[at : at + len(shape)] = np.maximum(curve[at : at + len(shape)], shape)
        at += int(rng.uniform(1.2, 4.0) * FPS)
    return curve[:frames]


def _gesture(
    rng: np.random.Generator, talk: np.ndarray, liveliness: float, mirror: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wrist [T, 2], hand turn [T] (0 hangs down, 1 points up) and finger spread [T] of one arm (right;
    mirrored for left)."""
    frames = len(talk)
    active = rng.random() < 0.8
    wrist, turn, spread = np.empty((frames, 2)), np.empty(frames), np.empty(frames)
    at, here = 0, np.array([*RIGHT_REST, 0.6, 0.4])
    if active and rng.random() < 0.7:
        here = _hand_target(rng, liveliness)
    while at < frames:
        length = int(rng.integers(7, 20))
        raised = active and talk[min(at, frames - 1)] > 0.25
        there = (
            _hand_target(rng, liveliness)
            if raised
            else np.array([*RIGHT_REST, 0.6, 0.4]) + rng.normal(0, 0.01, 4)
        )
        if not raised:
            length = int(rng.integers(18, 30))
        if raised and rng.random() < 0.25:
            there = here + rng.normal(0, 0.012, 4)
        stop = min(at + length, frames)
        s = np.arange(1, stop - at + 1) / length
        path = here + (there - here) * (10 * s**3 - 15 * s**4 + 6 * s**5)[:, None]
        wrist[at:stop], turn[at:stop], spread[at:stop] = path[:, :2], path[:, 2], path[:, 3]
        at, here = stop, path[-1]
    if mirror:
        wrist[:, 0] = 1 - wrist[:, 0]
    return wrist, turn, np.clip(spread, 0, 1)


def _hand_target(rng: np.random.Generator, liveliness: float) -> np.ndarray:
    """(x, y, turn, spread) in front of the chest, on the right arm's side."""
    height = rng.uniform(0.0, 0.17) * min(liveliness, 1.1)
    return np.array([rng.uniform(0.13, 0.36), 0.96 - height, rng.uniform(0.55, 1.15), rng.uniform(0.25, 1.0)])
