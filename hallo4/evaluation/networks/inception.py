"""Inception-v3 as FID uses it: TensorFlow's network of 2015 with its two peculiarities of pooling.

    frames [B, 3, H, W] uint8 -> 299 x 299 -> stem -> Mixed_5b .. Mixed_7c -> mean over space -> [B, 2048]

Names as in `pt_inception-2015-12-05-6726825d.pth`. Differences from the ImageNet model: average pools do
not count the padding, and the last block pools by maximum (Mixed_7c).
"""

from __future__ import annotations

import os

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hallo4.errors import ShapeError
from hallo4.weights.check import find_weights
from hallo4.weights.published import with_published
from hallo4.weights.tensors import read_tensors

INPUT_PX, FEATURES = 299, 2048


class ConvBN(nn.Module):
    """Convolution without bias, batch norm (eps 0.001), ReLU: [B, C, h, w] -> [B, out, h', w']."""

    def __init__(self, channels: int, out: int, kernel: int | tuple[int, int], stride: int = 1):
        super().__init__()
        same = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (0, 0) if stride > 1 else (same[0] // 2, same[1] // 2)
        self.conv = nn.Conv2d(channels, out, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the three."""
        return F.relu(self.bn(self.conv(x)))


class MixedA(nn.Module):
    """35 x 35: branches 1x1, 5x5, double 3x3, pool."""

    def __init__(self, channels: int, pool: int):
        super().__init__()
        self.branch1x1 = ConvBN(channels, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = ConvBN(channels, 48, 1), ConvBN(48, 64, 5)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = ConvBN(channels, 64, 1), ConvBN(64, 96, 3)
        self.branch3x3dbl_3 = ConvBN(96, 96, 3)
        self.branch_pool = ConvBN(channels, pool, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, 35, 35] -> [B, 224 + pool, 35, 35]."""
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(_mean_pool(x))], 1)


class MixedB(nn.Module):
    """35 x 35 -> 17 x 17."""

    def __init__(self, channels: int):
        super().__init__()
        self.branch3x3 = ConvBN(channels, 384, 3, stride=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = ConvBN(channels, 64, 1), ConvBN(64, 96, 3)
        self.branch3x3dbl_3 = ConvBN(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 288, 35, 35] -> [B, 768, 17, 17]."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)], 1)


class MixedC(nn.Module):
    """17 x 17: 7x7 convolutions split into rows and columns."""

    def __init__(self, channels: int, middle: int):
        super().__init__()
        row, column = (1, 7), (7, 1)
        self.branch1x1 = ConvBN(channels, 192, 1)
        self.branch7x7_1, self.branch7x7_2 = ConvBN(channels, middle, 1), ConvBN(middle, middle, row)
        self.branch7x7_3 = ConvBN(middle, 192, column)
        self.branch7x7dbl_1 = ConvBN(channels, middle, 1)
        self.branch7x7dbl_2, self.branch7x7dbl_3 = ConvBN(middle, middle, column), ConvBN(middle, middle, row)
        self.branch7x7dbl_4, self.branch7x7dbl_5 = ConvBN(middle, middle, column), ConvBN(middle, 192, row)
        self.branch_pool = ConvBN(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 768, 17, 17] -> same."""
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(_mean_pool(x))], 1)


class MixedD(nn.Module):
    """17 x 17 -> 8 x 8."""

    def __init__(self, channels: int):
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = ConvBN(channels, 192, 1), ConvBN(192, 320, 3, stride=2)
        self.branch7x7x3_1, self.branch7x7x3_2 = ConvBN(channels, 192, 1), ConvBN(192, 192, (1, 7))
        self.branch7x7x3_3, self.branch7x7x3_4 = ConvBN(192, 192, (7, 1)), ConvBN(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 768, 17, 17] -> [B, 1280, 8, 8]."""
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, stride=2)], 1)


class MixedE(nn.Module):
    """8 x 8: 3x3 convolutions that fork into rows and columns; `largest`: pool by maximum, not mean."""

    def __init__(self, channels: int, largest: bool):
        super().__init__()
        row, column = (1, 3), (3, 1)
        self.branch1x1 = ConvBN(channels, 320, 1)
        self.branch3x3_1 = ConvBN(channels, 384, 1)
        self.branch3x3_2a, self.branch3x3_2b = ConvBN(384, 384, row), ConvBN(384, 384, column)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = ConvBN(channels, 448, 1), ConvBN(448, 384, 3)
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = ConvBN(384, 384, row), ConvBN(384, 384, column)
        self.branch_pool = ConvBN(channels, 192, 1)
        self.largest = largest

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, 8, 8] -> [B, 2048, 8, 8]."""
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        forks = [
            *(self.branch3x3_2a(three), self.branch3x3_2b(three)),
            *(self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)),
        ]
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.largest else _mean_pool(x)
        return torch.cat([self.branch1x1(x), *forks, self.branch_pool(pooled)], 1)


class FidInception(nn.Module):
    """Frames [B, 3, H, W] uint8 -> features [B, 2048]; 23.9 M weights, `fc` among them, which FID does not
    use.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvBN(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = ConvBN(32, 32, 3)
        self.Conv2d_2a_3x3.conv.padding = (0, 0)
        self.Conv2d_2b_3x3 = ConvBN(32, 64, 3)
        self.Conv2d_3b_1x1 = ConvBN(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvBN(80, 192, 3)
        self.Conv2d_4a_3x3.conv.padding = (0, 0)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = MixedA(192, 32), MixedA(256, 64), MixedA(288, 64)
        self.Mixed_6a = MixedB(288)
        self.Mixed_6b, self.Mixed_6c = MixedC(768, 128), MixedC(768, 160)
        self.Mixed_6d, self.Mixed_6e = MixedC(768, 160), MixedC(768, 192)
        self.Mixed_7a = MixedD(768)
        self.Mixed_7b, self.Mixed_7c = MixedE(1280, largest=False), MixedE(2048, largest=True)
        self.fc = nn.Linear(FEATURES, 1008)

    def forward(self, frames_u8: Tensor) -> Tensor:
        """[B, 3, H, W] uint8 -> [B, 2048] float32. ShapeError for anything else."""
        if frames_u8.dtype != torch.uint8 or frames_u8.ndim != 4 or frames_u8.shape[1] != 3:
            raise ShapeError(
                f"Inception takes frames uint8 [B, 3, H, W]; found {frames_u8.dtype} {list(frames_u8.shape)}."
            )
        x = resized_299(frames_u8)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2)))
        x = F.max_pool2d(x, 3, stride=2)
        for name, block in self.named_children():
            x = block(x) if name.startswith("Mixed") else x
        return x.mean(dim=(2, 3))


def resized_299(frames_u8: Tensor) -> Tensor:
    """[B, 3, H, W] uint8 -> [B, 3, 299, 299] float32 in [-1, 1], as pytorch-fid: bilinear, half-pixel
    centres, no antialias. (TensorFlow's kernel, of torch-fidelity, gives other values by points of FID.)"""
    x = frames_u8.float() / 255
    return F.interpolate(x, (INPUT_PX, INPUT_PX), mode="bilinear", align_corners=False) * 2 - 1


def load_inception(folder: str | os.PathLike[str] | None = None) -> FidInception:
    """The network with the published weights. CheckpointError: not there, or not those."""
    path = find_weights("inception", folder)
    return with_published(FidInception, read_tensors(path, "Inception weights"), path)


def _mean_pool(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
