"""The released program's way onto a canvas, by loops: what the fast one is compared with."""

import math

import numpy as np


def slow_weights(size, new_size):
    """[new_size, size] fp64: bilinear with antialiasing. Each new pixel is the mean of the old ones under a
    triangle around its centre, as wide as the pixel that it shrinks to."""
    scale = size / new_size
    reach = max(scale, 1.0)
    weights = np.zeros((new_size, size))
    for new in range(new_size):
        centre = (new + 0.5) * scale
        for old in range(size):
            weights[new, old] = max(0.0, 1.0 - abs(old + 0.5 - centre) / reach)
        weights[new] /= weights[new].sum()
    return weights


def slow_fit_by_height(frame_u8, height, width):
    """[h, w, 3] uint8 -> [3, height, width] fp64 in [-1, 1], by its height, cut or with black beside."""
    old_height, old_width = frame_u8.shape[:2]
    new_width = max(1, math.floor(old_width * height / old_height))
    picture = frame_u8.astype(np.float64) / 127.5 - 1
    picture = np.einsum("yh,hwc->ywc", slow_weights(old_height, height), picture)
    picture = np.einsum("xw,ywc->cyx", slow_weights(old_width, new_width), picture)
    fitted = np.full((3, height, width), -1.0)
    if new_width <= width:
        left = (width - new_width) // 2
        fitted[:, :, left : left + new_width] = picture
    else:
        left = (new_width - width) // 2
        fitted[:] = picture[:, :, left : left + width]
    return fitted
