"""From features of every video frame to condition tokens of every latent frame."""

from __future__ import annotations

import torch.nn.functional as F
from diffusers.models.normalization import FP32LayerNorm
from torch import Tensor, nn

from hallo4.errors import ShapeError
from hallo4.models.temporal_motion_modulation import Axis, kept_slots, redistribute


class AudioProjector(nn.Module):
    """Windows of audio features -> audio tokens at latent rate.

    Per frame: flatten window, blocks and channels, three Linear layers with ReLU between, reshape to
    tokens, LayerNorm; then `redistribute` over time. Layer names and order are those of Hallo 1-4
    (`AudioProjModel`; Hallo4 `audio_proj.py:36-67` repeats the first frame before the layers, which gives
    the same tokens).

    With axis "token" (released) a frame's token is `dim` wide and a latent frame gets `expansion` times as
    many tokens; with axis "channel" it is dim/rho wide and the frames of a group lie side by side in the
    channels, so that the model can distinguish them. Where `expansion` < rho makes those channels narrower
    than `dim`, a Linear brings them back. `causal` False: every rho steps are a group, T = rho*k
    (for backbones that do not compress time).
    """

    def __init__(
        self,
        window: int,
        blocks: int,
        channels: int,
        hidden_dim: int,
        tokens: int,
        dim: int,
        rho: int = 4,
        axis: Axis = "token",
        expansion: int | None = None,
        causal: bool = True,
    ) -> None:
        super().__init__()
        self.tokens, self.rho, self.axis, self.expansion = tokens, rho, axis, expansion
        self.causal = causal
        self.feature_shape = (window, blocks, channels)
        width = dim if axis == "token" else _folded_width(dim, rho, "audio")
        self.proj1 = nn.Linear(window * blocks * channels, hidden_dim)
        self.proj2 = nn.Linear(hidden_dim, hidden_dim)
        self.proj3 = nn.Linear(hidden_dim, tokens * width)
        self.norm = FP32LayerNorm(width, eps=1e-5)
        self.widen = _widen(width, dim, rho, axis, expansion)

    def forward(self, audio_windows: Tensor) -> Tensor:
        """`audio_windows` [B, T, window, blocks, channels] -> tokens [B, F, N, dim].

        N = expansion * tokens (axis "token") or tokens (axis "channel"). Raises ShapeError for other
        feature sizes or T not rho*k + 1 (rho*k if not causal).
        """
        if tuple(audio_windows.shape[2:]) != self.feature_shape:
            raise ShapeError(
                f"audio windows have (window, blocks, channels) = {tuple(audio_windows.shape[2:])} "
                f"but the model takes {self.feature_shape}: use the audio front end that belongs to the model"
            )
        hidden = F.relu(self.proj1(audio_windows.flatten(2)))
        hidden = F.relu(self.proj2(hidden))
        tokens = self.norm(self.proj3(hidden).unflatten(-1, (self.tokens, -1)))  # B T N width
        return self.widen(redistribute(tokens, self.rho, self.axis, self.expansion, self.causal))


class SkeletonProjector(nn.Module):
    """Skeleton latents of every frame -> skeleton tokens at latent rate, one per patch of the picture.

    Per frame: a strided convolution to dim/rho channels, one token per patch, LayerNorm; then the rho
    frames of a group lie side by side in the channels (`redistribute`, axis "channel"). Hallo4
    `pose_proj.py:49-118`. `expansion` < rho keeps fewer frames (ablation) and a Linear brings the width
    back to `dim`.
    """

    def __init__(
        self, channels: int, dim: int, patch: int = 2, rho: int = 4, expansion: int | None = None
    ) -> None:
        super().__init__()
        self.rho, self.expansion = rho, expansion
        width = _folded_width(dim, rho, "skeleton")
        self.proj = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)
        self.norm = FP32LayerNorm(width, eps=1e-5)
        self.widen = _widen(width, dim, rho, "channel", expansion)

    def forward(self, skeleton_latents: Tensor) -> Tensor:
        """`skeleton_latents` [B, C, T, h, w] -> tokens [B, F, h*w/patch^2, dim]; ShapeError for a bad T."""
        batch = skeleton_latents.shape[0]
        patches = self.proj(skeleton_latents.transpose(1, 2).flatten(0, 1))  # (B T) width h/2 w/2
        tokens = self.norm(patches.flatten(2).transpose(1, 2)).unflatten(0, (batch, -1))  # B T N width
        return self.widen(redistribute(tokens, self.rho, "channel", self.expansion))


def _folded_width(dim: int, rho: int, stream: str) -> int:
    if dim % rho:
        raise ShapeError(
            f"model width {dim} cannot hold {rho} {stream} frames side by side: choose a multiple of {rho}"
        )
    return dim // rho


def _widen(width: int, dim: int, rho: int, axis: Axis, expansion: int | None) -> nn.Module:
    folded = width * len(kept_slots(rho, expansion)) if axis == "channel" else width
    return nn.Identity() if folded == dim else nn.Linear(folded, dim)
