"""Idle motion out of a single pose: breathing, a slowly moving head, restless shoulders and hands, blinks.

Everything is a function of (seed, frame number) alone: slow movements are sums of a few sines with random
phases, and blink k lies at a random place in the k-th span of four seconds. So a long sequence can be made in
any pieces, and they fit. Amplitudes are parts of the face's width and never exceed their bounds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hallo4.errors import InputError
from hallo4.motion import layout
from hallo4.types import FPS, Skeleton

# Bounds of the movements: shifts in face widths, angles in radians. Typical values are a third of these, and
# half to all of what people of the portrait world do while they speak (but hands, which do not gesture).
SWAY_X, SWAY_Y = 0.07, 0.035
ROLL = np.deg2rad(4.5)
TURN, NOD = 0.22, 0.12
"""How far the middle of the face moves against its rim in a turn or nod, in half face widths."""
BREATH = 0.009
SHOULDER_X, SHOULDER_Y = 0.04, 0.008
HAND = 0.08
FINGERS = 0.06
"""Opening and closing of the fingers, as a part of their length."""

BREATH_HZ = 0.27
RAMP_S = 1.0
"""The motion grows out of the rest pose, which frame 0 is, within this time."""

BLINK_SPAN_S = 4.0
BLINK_JITTER_S = 1.0
"""One blink per span, at most this far from its middle: neighbours are 2 to 6 seconds apart."""
BLINK_CLOSE_S, BLINK_SHUT_S, BLINK_OPEN_S = 0.06, 0.04, (0.08, 0.12)
"""Lids fall fast, stay shut for one frame, and rise slower: 4 to 6 frames in all."""
_LOWER_LID_SHARE = 0.15

_SINES_HZ = np.array([0.07, 0.13, 0.22, 0.37, 0.61])
_SINE_WEIGHTS = np.array([0.30, 0.28, 0.22, 0.13, 0.07])

_HEAD = [layout.NOSE, layout.LEFT_EYE, layout.RIGHT_EYE, layout.LEFT_EAR, layout.RIGHT_EAR]
_HEAD += [*range(layout.FACE.start, layout.FACE.stop)]
# Upper lid points with the lower ones below them, counted within an eye's six.
_LID_PAIRS = ((1, 5), (2, 4))
_CHANNELS = "sway_x sway_y roll turn nod breath shoulders left_x left_y right_x right_y left_curl right_curl"


def idle_motion(rest: Skeleton, frames: int, seed: int, start_frame: int = 0, fps: float = FPS) -> Skeleton:
    """`frames` frames at `fps`, from number `start_frame` on, of someone who rests in the pose of `rest`.

    `rest` is one frame; points it does not show stay unseen. Frame i depends on (seed, i / fps) alone, so
    any slice of a longer sequence is identical to that slice made by itself; frame 0 is `rest`. The mouth
    only moves with the head. Raises InputError for frames < 1, a negative start or seed, or more than one
    rest frame.
    """
    if len(rest) != 1:
        raise InputError(f"idle motion grows from one frame; got {len(rest)}. Pass the first frame only.")
    if frames < 1 or start_frame < 0 or seed < 0:
        raise InputError(
            f"idle motion of {frames} frames from frame {start_frame} with seed {seed}; "
            "use at least 1 frame, and no negative start or seed."
        )
    number = np.arange(start_frame, start_frame + frames)
    time_s = number / fps
    wave = {name: _slow_noise(seed, channel, time_s) for channel, name in enumerate(_CHANNELS.split())}
    grown = _smoothstep(time_s / RAMP_S)
    breath = grown * np.sin(2 * np.pi * BREATH_HZ * time_s + np.pi * wave["breath"])
    wave = {name: grown * value for name, value in wave.items()}

    unit = _face_width(rest)
    points = np.repeat(rest.points_px.astype(np.float64), frames, axis=0)
    _close_eyes(points, rest, grown * blink_closure(seed, number, fps))
    _move_head(points, rest, unit, wave)
    points[:, _HEAD, 1] -= unit * 0.5 * BREATH * breath[:, None]
    _move_arms(points, rest, unit, wave, breath)
    return replace(
        rest,
        points_px=points.astype(np.float32),
        confidence=np.repeat(rest.confidence, frames, axis=0),
        fps=float(fps),
    )


def blink_closure(seed: int, frame_numbers: np.ndarray, fps: float = FPS) -> np.ndarray:
    """How far the eyes are shut at each frame [T], in [0, 1]: 0 open, 1 shut."""
    time_s = np.asarray(frame_numbers) / fps
    # A blink never leaves its own span, so one per frame is all there is to know.
    spans, span_of_frame = np.unique(time_s // BLINK_SPAN_S, return_inverse=True)
    blinks = np.empty((len(spans), 2))
    for blink, span in zip(blinks, spans.tolist(), strict=True):
        random = np.random.default_rng((seed, 1, int(span)))
        onset_s = (span + 0.5) * BLINK_SPAN_S + random.uniform(-BLINK_JITTER_S, BLINK_JITTER_S)
        blink[:] = onset_s, random.uniform(*BLINK_OPEN_S)
    onset_s, opening_s = blinks[span_of_frame].T
    since_s = time_s - onset_s
    falling = _smoothstep(since_s / BLINK_CLOSE_S)
    rising = _smoothstep((since_s - BLINK_CLOSE_S - BLINK_SHUT_S) / opening_s)
    return falling - rising


def _slow_noise(seed: int, channel: int, time_s: np.ndarray) -> np.ndarray:
    """Smooth noise [T] in [-1, 1], zero in the long mean: sines between 0.07 and 0.61 Hz."""
    random = np.random.default_rng((seed, 0, channel))
    hz = _SINES_HZ * random.uniform(0.85, 1.15, len(_SINES_HZ))
    phase = random.uniform(0, 2 * np.pi, len(_SINES_HZ))
    return np.sin(2 * np.pi * hz * time_s[:, None] + phase) @ _SINE_WEIGHTS


def _smoothstep(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, and smooth between."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3 - 2 * x)


def _close_eyes(points: np.ndarray, rest: Skeleton, closure: np.ndarray) -> None:
    """Bring the lids together where both are seen; the upper one does most of the way."""
    seen = rest.confidence[0] >= layout.SEEN
    for eye in (layout.RIGHT_EYE_LIDS, layout.LEFT_EYE_LIDS):
        for upper, lower in _LID_PAIRS:
            if not (seen[eye.start + upper] and seen[eye.start + lower]):
                continue
            gap = points[:, eye.start + lower] - points[:, eye.start + upper]
            way = closure[:, None] * gap
            points[:, eye.start + upper] += (1 - _LOWER_LID_SHARE) * way
            points[:, eye.start + lower] -= _LOWER_LID_SHARE * way


def _move_head(points: np.ndarray, rest: Skeleton, unit: float, wave: dict[str, np.ndarray]) -> None:
    """Turn and nod (the middle of the face moves against its rim), roll about the neck, sway."""
    head = rest.points_px[0, _HEAD].astype(np.float64)
    seen = rest.confidence[0, _HEAD] >= layout.SEEN
    if not seen.any():
        return
    middle = head[seen].mean(axis=0)
    # Depth of the face above its rim: 1 at its middle, 0 at the jaw, the ears and beyond.
    off_centre = np.linalg.norm((head - middle) / (0.55 * unit), axis=1)
    depth = np.clip(1 - off_centre**2, 0, 1)
    turned = points[:, _HEAD]
    turned[..., 0] += 0.5 * unit * TURN * wave["turn"][:, None] * depth
    turned[..., 1] += 0.5 * unit * NOD * wave["nod"][:, None] * depth

    pivot = middle + np.array([0.0, 0.8 * unit])
    angle = ROLL * wave["roll"]
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    offset = turned - pivot
    points[:, _HEAD, 0] = pivot[0] + cos * offset[..., 0] - sin * offset[..., 1]
    points[:, _HEAD, 1] = pivot[1] + sin * offset[..., 0] + cos * offset[..., 1]
    points[:, _HEAD, 0] += unit * SWAY_X * wave["sway_x"][:, None]
    points[:, _HEAD, 1] += unit * SWAY_Y * wave["sway_y"][:, None]


def _move_arms(
    points: np.ndarray, rest: Skeleton, unit: float, wave: dict[str, np.ndarray], breath: np.ndarray
) -> None:
    """Shoulders rise with the breath, hands drift with their wrists, elbows go half of both; fingers curl."""
    rise = unit * np.stack(
        [SHOULDER_X * wave["shoulders"], -BREATH * breath - SHOULDER_Y * wave["shoulders"]], axis=-1
    )
    sides = (
        ("left", layout.LEFT_SHOULDER, layout.LEFT_ELBOW, layout.LEFT_WRIST, layout.LEFT_HAND),
        ("right", layout.RIGHT_SHOULDER, layout.RIGHT_ELBOW, layout.RIGHT_WRIST, layout.RIGHT_HAND),
    )
    for side, shoulder, elbow, wrist, hand in sides:
        drift = unit * HAND * np.stack([wave[f"{side}_x"], wave[f"{side}_y"]], axis=-1)
        if rest.confidence[0, hand.start] >= layout.SEEN:
            root = rest.points_px[0, hand.start].astype(np.float64)
            length = 1 + FINGERS * wave[f"{side}_curl"]
            points[:, hand] = root + (points[:, hand] - root) * length[:, None, None]
        points[:, shoulder] += rise
        points[:, elbow] += 0.5 * (rise + drift)
        points[:, wrist] += drift
        points[:, hand] += drift[:, None]


def _face_width(rest: Skeleton) -> float:
    """Width of the face in px: the jaw, or the ears, or 0.4 of the shoulders, or 0.3 of the picture."""
    pairs = (
        (layout.JAW.start, layout.JAW.stop - 1, 1.0),
        (layout.LEFT_EAR, layout.RIGHT_EAR, 1.0),
        (layout.LEFT_SHOULDER, layout.RIGHT_SHOULDER, 0.4),
    )
    for one, other, share in pairs:
        if min(rest.confidence[0, one], rest.confidence[0, other]) >= layout.SEEN:
            return share * float(np.linalg.norm(rest.points_px[0, one] - rest.points_px[0, other]))
    return 0.3 * min(rest.width_px, rest.height_px)
