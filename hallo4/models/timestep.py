"""The sinusoidal embedding of a timestep, as both backbones begin with it."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def timestep_waves(timestep: Tensor, channels: int) -> Tensor:
    """`timestep` [B] of any number type -> [B, channels] float32: cosines, then sines, of channels/2 waves.

    Wave i has the frequency 10000^(-i / (channels/2)). Computed in fp64, as the released code does (Wan2.1
    `model.py:14-25`): in fp32 the angle at timestep 999 is wrong by up to 3e-5. On a device without fp64 it
    is computed on the CPU.
    """
    device = timestep.device
    place = torch.device("cpu") if device.type == "mps" else device
    half = channels // 2
    exponents = torch.arange(half, dtype=torch.float64, device=place) / half
    angles = timestep.to(place, torch.float64)[:, None] * torch.exp(-math.log(10000.0) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=1).float().to(device)
