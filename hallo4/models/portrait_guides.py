"""What guides a portrait UNet beside sound: face tokens, where the face is, the skeleton, regions."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hallo4.errors import ShapeError
from hallo4.models.temporal_motion_modulation import kept_slots, redistribute

LOCATOR_WIDTHS = (16, 32, 64, 128)
"""Channels of the face locator at 1, 1/2, 1/4 and 1/8 of the frame size."""


class FaceProjector(nn.Module):
    """Embedding of a face [B, E] -> face tokens [B, N, D]: Linear, reshape, LayerNorm.

    Hallo 1 `image_proj.py:51-54`. An embedding of zeros gives the tokens of "no face given".
    """

    def __init__(self, embedding_dim: int, tokens: int, dim: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.proj = nn.Linear(embedding_dim, tokens * dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, embedding: Tensor) -> Tensor:
        """[B, E] -> [B, N, D]."""
        return self.norm(self.proj(embedding).unflatten(-1, (self.tokens, -1)))


class FaceLocator(nn.Module):
    """Picture of where the face is -> features at latent size, zero at initialisation.

    Convolutions with SiLU between, halving three times (Hallo 1 `face_locator.py`; names as there).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, LOCATOR_WIDTHS[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for narrow, wide in pairwise(LOCATOR_WIDTHS):
            self.blocks.append(nn.Conv2d(narrow, narrow, 3, padding=1))
            self.blocks.append(nn.Conv2d(narrow, wide, 3, padding=1, stride=2))
        self.conv_out = nn.Conv2d(LOCATOR_WIDTHS[-1], width, 3, padding=1)

    def forward(self, locator_01: Tensor) -> Tensor:
        """[B, 3, T, H, W] in [0, 1], T = 1 for a region that stays -> [B, D, T, h, w]."""
        batch = locator_01.shape[0]
        picture = F.silu(self.conv_in(locator_01.transpose(1, 2).flatten(0, 1)))
        for convolution in self.blocks:
            picture = F.silu(convolution(picture))
        return self.conv_out(picture).unflatten(0, (batch, -1)).transpose(1, 2)


class SkeletonGuider(nn.Module):
    """Skeleton latents of every skeleton frame -> features of every video frame, zero at initialisation.

    rho skeleton frames belong to a video frame; `redistribute` lays them side by side in the channels
    (rho = 1: unchanged), three convolutions follow, the last one zero. Ours: the released UNets have no
    skeleton. `expansion` < rho keeps fewer of the frames (ablation).
    """

    def __init__(
        self, channels: int, hidden: int, width: int, rho: int, expansion: int | None = None
    ) -> None:
        super().__init__()
        self.rho, self.expansion = rho, expansion
        folded = channels * len(kept_slots(rho, expansion))
        self.conv_in = nn.Conv2d(folded, hidden, 3, padding=1)
        self.conv_mid = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.conv_out = nn.Conv2d(hidden, width, 3, padding=1)

    def reset(self) -> SkeletonGuider:
        """New weights, zero at the end."""
        self.conv_in.reset_parameters()
        self.conv_mid.reset_parameters()
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)
        return self

    def forward(self, skeleton_latents: Tensor) -> Tensor:
        """[B, C, rho*T, h, w] -> [B, D, T, h, w]."""
        batch, size = skeleton_latents.shape[0], skeleton_latents.shape[-2:]
        cells = skeleton_latents.flatten(3).permute(0, 2, 3, 1)  # B rho*T n C
        folded = redistribute(cells, self.rho, "channel", self.expansion, causal=False)  # B T n e*C
        picture = folded.flatten(0, 1).transpose(1, 2).unflatten(2, size)
        picture = F.silu(self.conv_in(picture))
        picture = F.silu(self.conv_mid(picture))
        return self.conv_out(picture).unflatten(0, (batch, -1)).transpose(1, 2)


def region_pyramid(masks: Tensor, levels: int) -> Tensor:
    """Masks [B, T, 3, h, w] of (full, face, lip) in [0, 1] -> [B, T, 3, n]: all levels, finest first.

    Each level has half the height and width of the one before, by averages, so a small region fades rather
    than vanishes. ShapeError if h or w cannot be halved so often.
    """
    height, width = masks.shape[-2:]
    step = 2 ** (levels - 1)
    if height % step or width % step:
        raise ShapeError(
            f"region masks of {height}x{width} cells cannot be halved {levels - 1} times: "
            f"use multiples of {step} cells"
        )
    rows, parts = masks.flatten(0, 2)[:, None], []
    for _ in range(levels):
        parts.append(rows.flatten(1))
        rows = F.avg_pool2d(rows, 2) if len(parts) < levels else rows
    return torch.cat(parts, dim=1).unflatten(0, masks.shape[:3])


def pyramid_sizes(height: int, width: int, levels: int) -> list[int]:
    """Number of cells of each level that `region_pyramid` makes."""
    return [(height >> level) * (width >> level) for level in range(levels)]
