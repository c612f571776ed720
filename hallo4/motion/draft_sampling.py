"""Fields over the pixels of a picture, and pictures between their pixels."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def pixel_centres(rows: int, columns: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) [rows, columns] of the middles of so many fields of a picture, in its pixels."""
    y = (np.arange(rows, dtype=np.float32) + 0.5) * np.float32(height / rows)
    x = (np.arange(columns, dtype=np.float32) + 0.5) * np.float32(width / columns)
    return np.broadcast_arrays(y[:, None], x)


def enlarged(field: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A smooth field at the size of the picture, between its values linearly."""
    zoom = [wanted / there for wanted, there in zip(shape, field.shape, strict=True)]
    return ndimage.zoom(field, zoom, order=1, mode="nearest", grid_mode=True)


def sampled(picture: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """[H, W, 3] at (y, x) [h, w], pixels counted from their corners -> [h, w, 3]; outside is what is at the
    border."""
    height, width, channels = picture.shape
    x, y = np.clip(x - 0.5, 0, width - 1), np.clip(y - 0.5, 0, height - 1)
    column, row = x.astype(np.int32), y.astype(np.int32)
    right, down = (x - column)[..., None], (y - row)[..., None]
    flat = picture.reshape(-1, channels)
    first = row * width + column
    beside = np.minimum(column + 1, width - 1) - column
    under = (np.minimum(row + 1, height - 1) - row) * width
    above = flat[first] + right * (flat[first + beside] - flat[first])
    below = flat[first + under] + right * (flat[first + under + beside] - flat[first + under])
    return above + down * (below - above)
