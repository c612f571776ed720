"""How much detail a picture, or its latents, have around every place: what the mean error does not ask for.

The least mean error between several sharp pictures that may be true is their mean, which is blurred.
Matching the size of the Laplacian in every small neighbourhood, not its values, asks for as much contrast as
the truth has there, and leaves the place of every edge to the other terms of a loss.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBOURHOOD_CELLS = 3
LEAST_SIZE = 0.05
"""Differences in size of latents below this count less and less."""
NEIGHBOURHOOD_PX = 8
LEAST_RMS = 0.02
"""Differences of sharpness below this (of values in [-1, 1]) count less and less: flat places are flat."""


def local_sharpness(frames_pm1: Tensor) -> Tensor:
    """[n, ..., H, W] -> [N, h, w]: root mean square of the Laplacian around every place, N the product of the
    other axes.

    Neighbourhoods of 8x8 pixels that overlap by half; H and W must be at least 10.
    """
    planes = frames_pm1.flatten(0, -3).float()
    inner = planes[:, 1:-1, 1:-1]
    around = planes[:, :-2, 1:-1] + planes[:, 2:, 1:-1] + planes[:, 1:-1, :-2] + planes[:, 1:-1, 2:]
    energy = F.avg_pool2d((around - 4 * inner).square(), NEIGHBOURHOOD_PX, NEIGHBOURHOOD_PX // 2)
    return torch.sqrt(energy + LEAST_RMS**2)


def sharpness_difference(made_pm1: Tensor, true_pm1: Tensor) -> Tensor:
    """Mean absolute difference of `local_sharpness` of two batches [..., H, W]: a scalar, zero for equal
    ones."""
    return (local_sharpness(made_pm1) - local_sharpness(true_pm1)).abs().mean()


def local_size(latents: Tensor) -> Tensor:
    """[..., h, w] -> [N, h, w]: root mean square over 3x3 cells, N the product of the other axes. A channel
    that stands for detail within a cell is as large as there is detail."""
    planes = latents.flatten(0, -3).float()
    around = NEIGHBOURHOOD_CELLS // 2
    energy = F.avg_pool2d(planes.square(), NEIGHBOURHOOD_CELLS, 1, around, count_include_pad=False)
    return torch.sqrt(energy + LEAST_SIZE**2)


def size_difference(made: Tensor, true: Tensor) -> Tensor:
    """Mean absolute difference of `local_size` of two batches of latents [..., h, w]: a scalar, zero for
    equal ones."""
    return (local_size(made) - local_size(true)).abs().mean()
