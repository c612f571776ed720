"""Hands whose fingers bend: 21 joints from the hand's direction, the spread of its fingers and the fold of
each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HAND_LENGTH = 0.185
"""From the wrist to the tip of the middle finger, in parts of the person's square."""

# In parts of the hand's length: along the hand, then towards the thumb. Proportions of an adult hand.
_KNUCKLES = np.array([(0.50, 0.165), (0.53, 0.035), (0.505, -0.09), (0.45, -0.20)])
_BONES = np.array([(0.215, 0.135, 0.105), (0.235, 0.150, 0.110), (0.220, 0.140, 0.105), (0.165, 0.10, 0.085)])
_FAN = np.array([0.13, 0.02, -0.09, -0.21])
_THUMB_OPEN = np.array([(0.12, 0.13), (0.27, 0.27), (0.40, 0.385), (0.505, 0.47)])
_THUMB_FOLDED = np.array([(0.12, 0.12), (0.29, 0.20), (0.43, 0.13), (0.46, -0.01)])
_BEND = np.array([1.40, 1.75, 0.85])
"""Radians by which the three joints of a folded finger bend."""


@dataclass(frozen=True)
class Hand:
    """21 joints [21, 2] of a hand in picture coordinates (wrist, then thumb to little finger, four each).

    `facing`: 1 where the palm is seen, -1 where the back is, 0 on edge; `curl` [5]: how far each finger is
    folded. Both are of hands whose fingers bend.
    """

    joints: np.ndarray
    facing: float = 1.0
    curl: np.ndarray | None = None


def jointed_hand(wrist: np.ndarray, turn: float, spread: float, curl: np.ndarray, side: float) -> Hand:
    """`turn` 0 hangs down, 1 points up; the thumb is on the inner side of a hand that points up or down.

    A hand that points up shows its palm, one that points to the middle or down its back, as arms allow it.
    `curl` [5] in [0, 1], thumb first: 0 stretched, 1 folded into the palm. `side` is -1 for the right hand.
    """
    axis = np.pi / 2 - np.pi * turn
    along = np.array([0.6 * -side * np.cos(axis), np.sin(axis)])
    along /= np.linalg.norm(along)
    facing = float(np.clip((turn - 0.66) / 0.08, -1.0, 1.0))
    # Towards the thumb: inwards where the palm is seen, and mirrored with it where the back is.
    towards_thumb = np.array([along[1], -along[0]]) * side
    flat, raised = _bent(spread, np.asarray(curl, float))
    # On edge the hand is seen from the side: its width vanishes, and what is folded stands out.
    across = flat[:, 1] * facing + raised * np.sqrt(1 - facing**2)
    placed = wrist + HAND_LENGTH * (flat[:, :1] * along + across[:, None] * towards_thumb)
    return Hand(np.concatenate([np.asarray(wrist, float)[None], placed]), facing, np.asarray(curl, float))


def _bent(spread: float, curl: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[20, 2] along the hand and towards the thumb, and [20] how far out of the palm."""
    angle = _FAN * (0.45 + 1.15 * spread)
    bend = np.cumsum(_BEND * curl[1:, None], axis=1)  # [4, 3]
    reach = np.cumsum(_BONES * np.cos(bend), axis=1)
    raised = np.cumsum(_BONES * np.sin(bend), axis=1)
    rays = np.stack([np.cos(angle), np.sin(angle)], 1)
    fingers = np.concatenate([_KNUCKLES[:, None], _KNUCKLES[:, None] + reach[..., None] * rays[:, None]], 1)
    thumb = _THUMB_OPEN + (_THUMB_FOLDED - _THUMB_OPEN) * curl[0]
    thumb[1:, 1] -= 0.05 * (1 - spread) * np.array([0.4, 0.8, 1.2]) * (1 - curl[0])
    flat = np.concatenate([thumb, fingers.reshape(16, 2)])
    heights = np.concatenate([np.zeros((4, 1)), raised], 1).ravel()
    return flat, np.concatenate([0.12 * curl[0] * np.array([0, 0.5, 1.0, 1.2]), heights])
