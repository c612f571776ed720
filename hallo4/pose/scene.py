"""What tells the frames of one shot from those of another: their coarse colours."""

from __future__ import annotations

import numpy as np
from PIL import Image

_THUMBNAIL_PX = 24
_SAME_SCENE = 0.5
"""Least correlation of the thumbnails of two frames of one shot."""


def thumbnail(frame_u8: np.ndarray) -> np.ndarray:
    """The coarse colours of a frame, less their mean."""
    height, width = frame_u8.shape[:2]
    step = max(1, min(height, width) // (4 * _THUMBNAIL_PX))  # every so many pixels are enough, and fast
    small = Image.fromarray(np.ascontiguousarray(frame_u8[::step, ::step]))
    small = small.resize((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.BOX)
    levels = np.asarray(small, np.float64)
    return levels - levels.mean(axis=(0, 1))


def alike(scene: np.ndarray, other: np.ndarray) -> bool:
    """Whether two thumbnails correlate as frames of one shot do."""
    length = np.linalg.norm(scene) * np.linalg.norm(other)
    return bool(length > 0 and (scene * other).sum() / length >= _SAME_SCENE)
