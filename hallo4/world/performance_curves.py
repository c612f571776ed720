"""The curves that a performance consists of, and a person at rest."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class Performance:
    """Curves of one clip, each [T], [T, 2] or (curl) [T, 5] float32. Angles in radians; lengths in parts of
    the person's square.

    `mouth_open`, `mouth_wide`, `blink` in [0, 1]; `brow`, `smile` in [-1, 1]; yaw > 0 turns to the right
    of the picture,
    pitch > 0 looks down, roll > 0 tilts clockwise. `left` and `right` are the person's own (left hand:
    right of the picture).
    `right_curl` and `left_curl` in [0, 1] fold the fingers, thumb first; hands of `drawn-1` are fans of
    straight fingers, and do without.
    """

    mouth_open: np.ndarray
    mouth_wide: np.ndarray
    blink: np.ndarray
    brow: np.ndarray
    smile: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray
    roll: np.ndarray
    head: np.ndarray
    torso: np.ndarray
    gaze: np.ndarray
    right_wrist: np.ndarray
    left_wrist: np.ndarray
    right_turn: np.ndarray
    left_turn: np.ndarray
    right_spread: np.ndarray
    left_spread: np.ndarray
    right_curl: np.ndarray
    left_curl: np.ndarray

    def __len__(self) -> int:
        return len(self.mouth_open)

    def frame(self, t: int) -> dict[str, np.ndarray]:
        """All values of frame `t` by name."""
        return {f.name: getattr(self, f.name)[t] for f in fields(self)}


RIGHT_REST = (0.22, 1.06)
"""Where the right wrist rests (below the frame); the left one mirrors it."""


RELAXED = (0.10, 0.12, 0.14, 0.16, 0.20)
"""How far the fingers of a hand at rest are folded."""


def neutral_performance() -> Performance:
    """One frame: facing the viewer, mouth closed, eyes open, hands lowered into view."""
    zero, pair = np.zeros(1, np.float32), np.zeros((1, 2), np.float32)
    wrist = np.array([[0.29, 0.93]], np.float32)
    return Performance(
        zero, zero + 0.45, zero, zero, zero + 0.15, zero, zero, zero, pair, pair, pair,
        wrist, np.array([[1 - 0.29, 0.93]], np.float32), zero + 0.5, zero + 0.5, zero + 0.6, zero + 0.6,
        np.array([RELAXED], np.float32), np.array([RELAXED], np.float32),
    )  # fmt: skip


def smooth(curve: np.ndarray, sigma_frames: float) -> np.ndarray:
    """`curve` [T] under a Gaussian; its ends go on as they are."""
    reach = int(np.ceil(3 * sigma_frames))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_frames) ** 2)
    return np.convolve(np.pad(curve, reach, mode="edge"), kernel / kernel.sum(), mode="valid")
