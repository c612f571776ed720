"""SyncNet: five face crops and 0.2 s of sound -> two vectors that lie close when the lips say the sound.

    faces [B, 3, 5, 224, 224] BGR, 0..255 --> netcnnlip --> 512 --> netfclip --> [B, 1024]
    cepstra [B, 1, 13, 20] --------------> netcnnaud --> 512 --> netfcaud --> [B, 1024]

Chung & Zisserman 2016 ("Out of time: automated lip sync in the wild"). The names are those of the published
`syncnet_v2.model`, so that it loads strictly. No normalisation of either input: the network learned on raw
values.
"""

from __future__ import annotations

import os
from pathlib import Path

from torch import Tensor, nn

from hallo4.errors import ShapeError
from hallo4.weights.check import find_weights
from hallo4.weights.published import with_published
from hallo4.weights.tensors import read_tensors

FACE_PX = 224
FRAMES, CEPSTRA = 5, 20
EMBEDDING = 1024


class SyncNet(nn.Module):
    """13.6 M weights; `embed_faces` and `embed_sound` are its two towers."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_block2d(1, 64, 3, padding=1),
            nn.MaxPool2d(1, stride=1),
            *_block2d(64, 192, 3, padding=1),
            nn.MaxPool2d(3, stride=(1, 2)),
            *_block2d(192, 384, 3, padding=1),
            *_block2d(384, 256, 3, padding=1),
            *_block2d(256, 256, 3, padding=1),
            nn.MaxPool2d(3, stride=2),
            *_block2d(256, 512, (5, 4)),
        )
        self.netcnnlip = nn.Sequential(
            *_block3d(3, 96, (5, 7, 7), stride=(1, 2, 2)),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2)),
            *_block3d(96, 256, (1, 5, 5), stride=(1, 2, 2), padding=(0, 1, 1)),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
            *_block3d(256, 256, (1, 3, 3), padding=(0, 1, 1)),
            *_block3d(256, 256, (1, 3, 3), padding=(0, 1, 1)),
            *_block3d(256, 256, (1, 3, 3), padding=(0, 1, 1)),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2)),
            *_block3d(256, 512, (1, 6, 6)),
        )
        self.netfcaud = _head()
        self.netfclip = _head()

    def embed_faces(self, faces_bgr: Tensor) -> Tensor:
        """[B, 3, 5, 224, 224] float, BGR 0..255 -> [B, 1024]. ShapeError for other shapes."""
        if faces_bgr.shape[1:] != (3, FRAMES, FACE_PX, FACE_PX):
            raise ShapeError(
                f"SyncNet takes five BGR faces [B, 3, 5, 224, 224]; found {list(faces_bgr.shape)}."
            )
        return self.netfclip(self.netcnnlip(faces_bgr).flatten(1))

    def embed_sound(self, cepstra: Tensor) -> Tensor:
        """[B, 1, 13, 20] float, as `cepstra.syncnet_mfcc` gives them -> [B, 1024]. ShapeError for other
        shapes.
        """
        if cepstra.shape[1:] != (1, 13, CEPSTRA):
            raise ShapeError(f"SyncNet takes cepstra [B, 1, 13, 20]; found {list(cepstra.shape)}.")
        return self.netfcaud(self.netcnnaud(cepstra).flatten(1))


def load_syncnet(folder: str | os.PathLike[str] | None = None) -> SyncNet:
    """SyncNet with the published weights. CheckpointError: not there, or not those."""
    return read_syncnet(find_weights("syncnet", folder))


def read_syncnet(path: Path) -> SyncNet:
    """SyncNet with the weights in a file. InputError: no such file. CheckpointError: not of SyncNet."""
    return with_published(SyncNet, read_tensors(path, "SyncNet weights"), path)


def _block2d(channels: int, out: int, kernel: int | tuple[int, int], padding: int = 0) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, kernel, padding=padding), nn.BatchNorm2d(out), nn.ReLU()]


def _block3d(
    channels: int,
    out: int,
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int] = (1, 1, 1),
    padding: tuple[int, int, int] = (0, 0, 0),
) -> list[nn.Module]:
    convolution = nn.Conv3d(channels, out, kernel, stride=stride, padding=padding)
    return [convolution, nn.BatchNorm3d(out), nn.ReLU()]


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, EMBEDDING))
