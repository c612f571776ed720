"""What one window of a video passes on: its new frames, and the conditions of the next window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class WindowFrames:
    """New frames [n, H, W, 3] uint8, without the bars of the canvas, and, for the next window, the last of
    them on the whole canvas, [M, 3, H, W] in [-1, 1] (None: nothing is known)."""

    frames_u8: np.ndarray
    known_pm1: Tensor | None
