"""Safetensors files written tensor by tensor: the header first, then every tensor in pieces of bounded size.

The library's own `save_file` wants all tensors in memory at once. Format:
https://github.com/huggingface/safetensors (eight bytes of header length, a JSON header, the values). As in
the library's files, tensors of wider types come first, so every one of them starts at a multiple of its type.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

TYPE_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
PIECE_VALUES = 16 * 1024 * 1024
"""Values converted at a time: 64 MiB of fp32."""


@dataclass(frozen=True)
class StoredTensor:
    """What a tensor will be in the file: its `shape` and one of the types of `TYPE_NAMES`."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """Size of its values in the file."""
        return prod(self.shape) * self.dtype.itemsize


def write_tensors(
    path: Path,
    stored: Mapping[str, StoredTensor],
    read: Callable[[str], Tensor],
    on_bytes: Callable[[int], None] = lambda count: None,
) -> None:
    """Write `stored` to `path`; `read(name)` gives the values of one tensor in any of the types.

    `on_bytes` is called with the number of bytes after every piece. ValueError that names the tensor: values
    that are NaN or infinite in the stored type. OSError: the file cannot be written.
    """
    order = sorted(stored, key=lambda name: (-stored[name].dtype.itemsize, name))
    with path.open("wb") as file:
        file.write(_header(stored, order))
        for name in order:
            tensor = read(name)
            assert tuple(tensor.shape) == stored[name].shape, name
            for piece in _pieces(tensor, stored[name].dtype):
                extremes = torch.stack(torch.aminmax(piece))  # NaN is both the smallest and the largest
                if not torch.isfinite(extremes).all():
                    raise ValueError(name)
                on_bytes(file.write(piece.view(torch.uint8).numpy()))


def _header(stored: Mapping[str, StoredTensor], order: list[str]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name in order:
        tensor = stored[name]
        offsets = [start, start + tensor.bytes]
        entries[name] = {
            "dtype": TYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": offsets,
        }
        start = offsets[1]
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header


def _pieces(tensor: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
    """The values in `dtype`, row by row, as contiguous [n] with n <= PIECE_VALUES; none are empty."""
    values = tensor.detach().reshape(-1)
    for start in range(0, len(values), PIECE_VALUES):
        yield values[start : start + PIECE_VALUES].to(dtype)
