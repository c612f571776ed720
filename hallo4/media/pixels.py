"""Pixels <-> tensors: uint8 frames, channels last, and floats in [-1, 1], channels before H and W."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

Rounding = Literal["nearest", "down"]
"""How values become whole levels."""


def frames_to_pm1(frames_u8: np.ndarray | Tensor) -> Tensor:
    """[..., H, W, 3] uint8 -> [..., 3, H, W] float32 in [-1, 1]; numpy's memory is copied, never shared."""
    frames = frames_u8 if isinstance(frames_u8, Tensor) else torch.tensor(frames_u8)
    return frames.movedim(-1, -3).to(torch.float32, copy=True).div_(127.5).sub_(1)


def pm1_to_frames(video_pm1: Tensor, rounding: Rounding = "nearest") -> np.ndarray:
    """[..., 3, H, W] in [-1, 1], values beyond clipped -> [..., H, W, 3] uint8."""
    levels = video_pm1.float().clamp(-1, 1).add(1).mul(127.5)
    levels = levels.round() if rounding == "nearest" else levels.floor()
    return levels.to(torch.uint8).movedim(-3, -1).cpu().numpy()
