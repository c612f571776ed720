"""I3D, the network of FVD: 16 frames -> the logits of 400 Kinetics actions, in its two published files.

    clip [B, 3, T, 224, 224] in [-1, 1] -> Inception blocks in space and time -> mean -> 400 logits

Carreira & Zisserman 2017. `InceptionI3d` has the names of `i3d_pretrained_400.pt` (the DisCo protocol,
which the Hallo papers follow); the other file, `i3d_torchscript.pt` (StyleGAN-V), brings its own graph.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hallo4.errors import CheckpointError, ShapeError
from hallo4.weights.check import find_weights
from hallo4.weights.published import with_published
from hallo4.weights.tensors import read_tensors

CLASSES = 400
_MIXED: dict[str, tuple[int, tuple[int, int, int, int, int, int]]] = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}


class Unit3D(nn.Module):
    """Convolution with TensorFlow's SAME padding, batch norm (eps 0.001) and ReLU; `plain`: bias instead."""

    def __init__(self, channels: int, out: int, kernel: int = 1, stride: int = 1, plain: bool = False):
        super().__init__()
        self.conv3d = nn.Conv3d(channels, out, kernel, stride=stride, bias=plain)
        if not plain:
            self.bn = nn.BatchNorm3d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> [B, out, ceil(T / stride), ...]."""
        x = self.conv3d(_same_pad(x, self.conv3d.kernel_size, self.conv3d.stride))
        return F.relu(self.bn(x)) if hasattr(self, "bn") else x


class Mixed3D(nn.Module):
    """Four branches: 1x1x1, two of 3x3x3 behind a bottleneck, and pooling."""

    def __init__(self, channels: int, out: tuple[int, int, int, int, int, int]):
        super().__init__()
        self.b0 = Unit3D(channels, out[0])
        self.b1a, self.b1b = Unit3D(channels, out[1]), Unit3D(out[1], out[2], 3)
        self.b2a, self.b2b = Unit3D(channels, out[3]), Unit3D(out[3], out[4], 3)
        self.b3b = Unit3D(channels, out[5])

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> [B, sum of branches, T, H, W]."""
        pooled = _max_pool(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], 1)


class InceptionI3d(nn.Module):
    """Clips [B, 3, T, 224, 224] in [-1, 1] -> logits [B, 400, T']; 12.7 M weights. T of 10 or more."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit3D(3, 64, 7, stride=2)
        self.Conv3d_2b_1x1 = Unit3D(64, 64)
        self.Conv3d_2c_3x3 = Unit3D(64, 192, 3)
        for name, (channels, out) in _MIXED.items():
            self.add_module(name, Mixed3D(channels, out))
        self.logits = Unit3D(1024, CLASSES, plain=True)

    def forward(self, clips_pm1: Tensor) -> Tensor:
        """Logits over time. ShapeError for other sizes or fewer than ten frames."""
        if clips_pm1.ndim != 5 or clips_pm1.shape[1] != 3 or clips_pm1.shape[3:] != (224, 224):
            raise ShapeError(f"I3D takes clips [B, 3, T, 224, 224]; found {list(clips_pm1.shape)}.")
        if clips_pm1.shape[2] < 10:
            raise ShapeError(f"I3D takes clips of ten frames or more; found {clips_pm1.shape[2]}.")
        x = _max_pool(self.Conv3d_1a_7x7(clips_pm1), (1, 3, 3), (1, 2, 2))
        x = _max_pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        for name in _MIXED:
            if name == "Mixed_4b":
                x = _max_pool(x, (3, 3, 3), (2, 2, 2))
            elif name == "Mixed_5b":
                x = _max_pool(x, (2, 2, 2), (2, 2, 2))
            x = self.get_submodule(name)(x)
        return self.logits(F.avg_pool3d(x, (2, 7, 7), stride=1))[:, :, :, 0, 0]


def load_i3d_disco(
    folder: str | os.PathLike[str] | None = None, device: str | torch.device = "cpu"
) -> Callable[[Tensor], Tensor]:
    """Clips [B, 3, 16, 224, 224] in [-1, 1] -> [B, 400], logits averaged over time. CheckpointError: no
    weights.
    """
    path = find_weights("i3d_disco", folder)
    network = with_published(InceptionI3d, read_tensors(path, "I3D weights"), path).to(device)
    return lambda clips: network(clips).mean(dim=2)


def load_i3d_stylegan_v(
    folder: str | os.PathLike[str] | None = None, device: str | torch.device = "cpu"
) -> Callable[[Tensor], Tensor]:
    """The same call, [B, 3, 16, 224, 224] -> [B, 400], by the TorchScript of StyleGAN-V. CheckpointError:
    none.
    """
    import warnings

    path = find_weights("i3d_stylegan_v", folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is old, and so is this file
            network = torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: cannot be read as TorchScript ({reason}). Copy it again.") from error
    return lambda clips: network(clips, rescale=False, resize=False, return_features=True)


def _same_pad(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Zeros so that the output has ceil(n / stride) cells, the odd one behind."""
    padding: list[int] = []
    for size, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        missing = max(k - (s if size % s == 0 else size % s), 0)
        padding += [missing // 2, missing - missing // 2]
    return F.pad(x, padding)


def _max_pool(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    return F.max_pool3d(_same_pad(x, kernel, stride), kernel, stride)
