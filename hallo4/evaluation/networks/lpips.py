"""LPIPS: how differently two frames look, by AlexNet's features with learned weights per channel.

Zhang et al. 2018, version 0.1, AlexNet: unit-normalised features after each of five ReLUs, squared
differences weighted by channel, mean over space, sum over layers. Two files: the network and the weights of
its channels.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from hallo4.errors import ShapeError
from hallo4.weights.check import find_weights
from hallo4.weights.published import with_published
from hallo4.weights.tensors import read_tensors

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_CHANNELS = (64, 192, 384, 256, 256)
MIN_SIDE_PX = 32


class Lpips(nn.Module):
    """Two batches of frames [B, 3, H, W] in [-1, 1] -> distances [B], 0 for equal frames.

    `features` has the names of torchvision's AlexNet, `lin0` .. `lin4` those of the published channel
    weights.
    """

    def __init__(self) -> None:
        super().__init__()
        c1, c2, c3, c4, c5 = _CHANNELS
        self.features = nn.Sequential(
            *(nn.Conv2d(3, c1, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2)),
            *(nn.Conv2d(c1, c2, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2)),
            *(nn.Conv2d(c2, c3, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(c3, c4, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(c4, c5, 3, padding=1), nn.ReLU()),
        )
        for layer, channels in enumerate(_CHANNELS):
            self.add_module(f"lin{layer}", _ChannelWeights(channels))

    def forward(self, a_pm1: Tensor, b_pm1: Tensor) -> Tensor:
        """Distance of each pair. ShapeError for frames of different or too small size."""
        if a_pm1.shape != b_pm1.shape or a_pm1.ndim != 4 or min(a_pm1.shape[2:]) < MIN_SIDE_PX:
            raise ShapeError(
                f"LPIPS compares frames [B, 3, H, W] of one size, sides of {MIN_SIDE_PX} px or more; found "
                f"{list(a_pm1.shape)} and {list(b_pm1.shape)}."
            )
        total = a_pm1.new_zeros(len(a_pm1))
        for layer, (a, b) in enumerate(zip(self._layers(a_pm1), self._layers(b_pm1), strict=True)):
            total = total + self.get_submodule(f"lin{layer}")((a - b) ** 2).mean(dim=(1, 2, 3))
        return total

    def _layers(self, frames_pm1: Tensor) -> list[Tensor]:
        shift, scale = (frames_pm1.new_tensor(values).view(1, 3, 1, 1) for values in (_SHIFT, _SCALE))
        x, found = (frames_pm1 - shift) / scale, []
        for module in self.features:
            x = module(x)
            if isinstance(module, nn.ReLU):
                found.append(x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10))
        return found


class _ChannelWeights(nn.Module):
    """[B, C, h, w] -> weighted sum of channels [B, 1, h, w]; place 0 was a dropout in training."""

    def __init__(self, channels: int):
        super().__init__()
        self.model = nn.Sequential(nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


def load_lpips(folder: str | os.PathLike[str] | None = None) -> Lpips:
    """LPIPS with both published files. CheckpointError: one is not there, or is not it."""
    backbone, channels = find_weights("alexnet", folder), find_weights("lpips", folder)
    network = read_tensors(backbone, "AlexNet weights")
    state = {name: value for name, value in network.items() if name.startswith("features.")}
    return with_published(Lpips, state | read_tensors(channels, "LPIPS weights"), channels)


def frame_pairs_lpips(network: Lpips, a_u8: Tensor, b_u8: Tensor) -> Tensor:
    """[B, 3, H, W] uint8 twice -> [B]."""
    with torch.no_grad():
        return network(a_u8.float() / 127.5 - 1, b_u8.float() / 127.5 - 1)
