"""Safetensors files that are mapped: of what is drawn the pages are read, and of the rest nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from hallo4.weights.tensors import open_safetensors

OPEN_FILES = 128
"""Files that a data set keeps open."""


class MappedTensors:
    """The file `path` and the `names` in it. CheckpointError: it is gone, damaged or cut short."""

    def __init__(self, path: Path) -> None:
        self.file = open_safetensors(path)
        self.names = frozenset(self.file.keys())

    def __getitem__(self, name: str) -> Tensor:
        """The tensor `name`, on the mapped pages."""
        return self.file.get_tensor(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of the tensor `name`, from the header alone."""
        return tuple(self.file.get_slice(name).get_shape())


def stacked(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Rows with the same names as one batch, float32 or bool. Halves are made floats first: autocast on the
    CPU stacks none."""
    floats = [{name: t if t.dtype == torch.bool else t.float() for name, t in row.items()} for row in rows]
    return {name: torch.stack([row[name] for row in floats]) for name in floats[0]}
