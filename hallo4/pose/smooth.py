"""Points over time: jitter taken out, without lag.

The One-Euro filter (Casiez, Roussel and Vogel, CHI 2012): a low pass whose cutoff rises with speed. It is run
forwards and backwards in time and the two are averaged: what one is late the other is early, so that
reversing time reverses the result and no motion comes late or early on average.
"""

from __future__ import annotations

import numpy as np

from hallo4.motion import layout

CUTOFF_HZ = 1.5
"""Of a point at rest; in the face, where lids and lips are fast, `FACE_CUTOFF_HZ`."""
FACE_CUTOFF_HZ = 3.0
CUTOFF_PER_SPEED = 8.0
"""How much the cutoff rises, in Hz, at a speed of one head a second."""
SPEED_CUTOFF_HZ = 2.0
"""Of the low pass of the speed itself."""


def smoothed(
    points_px: np.ndarray, confidence: np.ndarray, shot: np.ndarray, fps: float, head_px: float
) -> np.ndarray:
    """Points [T, 133, 2] without jitter; a point that is not seen is left as it is, and the filter begins
    again behind it and behind a cut. head_px: the size of the head, in which speed is measured.
    """
    seen = confidence >= layout.SEEN
    going = np.zeros_like(seen)
    going[1:] = seen[1:] & seen[:-1] & (shot[1:] == shot[:-1])[:, None]
    backwards = np.zeros_like(seen)
    backwards[:-1] = going[1:]
    forth = _one_euro(points_px, going, fps, head_px)
    back = _one_euro(points_px[::-1], backwards[::-1], fps, head_px)[::-1]
    return (forth + back) / 2


def _one_euro(points_px: np.ndarray, going: np.ndarray, fps: float, head_px: float) -> np.ndarray:
    """One pass; a point that does not go on from the frame before (`going` [T, 133]) is taken as it is."""
    rest_hz = np.full(points_px.shape[1], CUTOFF_HZ)
    rest_hz[: layout.LEFT_SHOULDER] = rest_hz[layout.FACE] = FACE_CUTOFF_HZ
    result = np.array(points_px, np.float64)
    speed = np.zeros(points_px.shape[1:])
    for frame in range(1, len(points_px)):
        goes = going[frame][:, None]
        step = (points_px[frame] - points_px[frame - 1]) * fps
        speed = np.where(goes, speed + _share(SPEED_CUTOFF_HZ, fps) * (step - speed), 0.0)
        heads_a_second = np.linalg.norm(speed, axis=1) / head_px
        share = _share(rest_hz + CUTOFF_PER_SPEED * heads_a_second, fps)[:, None]
        low = result[frame - 1] + share * (points_px[frame] - result[frame - 1])
        result[frame] = np.where(goes, low, points_px[frame])
    return result


def _share(cutoff_hz: np.ndarray | float, fps: float) -> np.ndarray | float:
    """Of a new value in a first-order low pass."""
    turn = 2 * np.pi * np.asarray(cutoff_hz) / fps
    return turn / (turn + 1)
