"""A part of a model folder, planned before anything is written: from names, shapes and configs alone.

Every tensor of the class is expected, found and has the right shape, or a CheckpointError names what does not
fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hallo4.errors import CheckpointError
from hallo4.pipelines.released_files import Wanted, check_kind, find_files, is_mapped, open_tensors
from hallo4.pipelines.safetensors_stream import StoredTensor
from hallo4.weights.module_folder import shapes_alone
from hallo4.weights.tensors import misfits


@dataclass(frozen=True)
class Part:
    """A folder of the model and what it is made of.

    `tensors`: name in the new file `weights` -> (name in `checkpoint`, what it becomes). `documents`: path in
    the folder -> JSON. `copies`: path in the folder -> file that is taken as it is.
    """

    folder: str
    what: str
    checkpoint: tuple[Path, ...]
    weights: str
    tensors: Mapping[str, tuple[str, StoredTensor]]
    documents: Mapping[str, Mapping[str, Any]]
    copies: Mapping[str, Path] = field(default_factory=dict)
    configs: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[Path, ...]:
        """Every file that the part is made of."""
        return (*self.checkpoint, *self.configs, *self.copies.values())

    @property
    def bytes(self) -> int:
        """Size of what will be written, but for small text."""
        copied = sum(path.stat().st_size for path in self.copies.values())
        return copied + sum(stored.bytes for _, stored in self.tensors.values())


def open_checkpoint(
    root: Path, wanted: Wanted, *kinds: str
) -> tuple[list[Path], dict[str, Tensor], str, list[str]]:
    """Files, their tensors without values, the kind of checkpoint, notes."""
    paths, notes = find_files(root, wanted)
    found = {name: tensor.to("meta") for name, tensor in open_tensors(paths, wanted.what).items()}
    kind = check_kind(found, paths, wanted, kinds)
    notes += [
        f"{path.name} is a torch file of the old format, which cannot be mapped: it is read whole "
        f"({path.stat().st_size / 1e9:.1f} GB of memory)"
        for path in paths
        if not is_mapped(path)
    ]
    return paths, found, kind, notes


def match_tensors(
    file: Path,
    found: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    new_name: Callable[[str], str | None],
    foreign_name: Callable[[str], str | None] = lambda name: name,
) -> dict[str, str]:
    """Every expected name -> the name in the file; CheckpointError: missing, unexpected, mis-shaped."""
    sources: dict[str, str] = {}
    shapes: dict[str, Sequence[int]] = {}  # under the names of the file, so that a person finds them there
    for name in found:
        ours = new_name(name)
        known = ours in expected and ours not in sources
        if known:
            sources[ours] = name
        shapes[(foreign_name(ours) or ours) if known else name] = tuple(found[name].shape)
    wanted = {foreign_name(name) or name: tuple(tensor.shape) for name, tensor in expected.items()}
    problems = misfits(wanted, shapes)
    if problems:
        raise CheckpointError(
            f"{file}: the tensors do not fit: {problems}; {len(expected)} are expected. "
            "Copy the published file again, with the config that belongs to it."
        )
    return sources


def stored_tensors(
    sources: Mapping[str, str], found: Mapping[str, Tensor], dtype: Callable[[str], torch.dtype | None]
) -> dict[str, tuple[str, StoredTensor]]:
    """`dtype(name)` None: as in the file."""
    return {
        ours: (name, StoredTensor(tuple(found[name].shape), dtype(ours) or found[name].dtype))
        for ours, name in sources.items()
    }


def build_on_meta(make: Callable[[], nn.Module], file: Path, tensors: int) -> nn.Module:
    """The module that `make` builds, without memory; CheckpointError: the sizes, from `file`, make none that
    could fit a file of so many tensors."""
    try:
        with shapes_alone(tensors):
            return make()
    except Exception as error:  # wrong types and sizes fail in many ways inside the classes
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{file}: no model has these sizes ({reason}). Use the file that belongs to the weights."
        ) from error
