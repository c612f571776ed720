"""Foreign checkpoint files: read named tensors safely, compare them with what a model expects."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from hallo4.errors import CheckpointError, InputError

WRAPPERS = ("state_dict", "params_ema", "params")
"""Keys under which training tools put the tensors of a model."""


def read_tensors(path: Path, what: str) -> dict[str, Tensor]:
    """The named tensors of a safetensors or torch file, bare or under one of `WRAPPERS`; runs no code.

    `what` the file should hold ("DiT weights") is named in the errors. InputError: no such file.
    CheckpointError: more than tensors, damaged, another format.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise InputError(f"{path}: found {found}, not a checkpoint file: give the path of the {what}")
    with path.open("rb") as file:
        head = file.read(9)
    try:
        if head[8:9] == b"{":  # safetensors: eight bytes of length, then a header in JSON
            return load_file(path)
        is_zip = head.startswith(b"PK")
        if not is_zip and not head.startswith(b"\x80"):  # neither of torch.save's two forms
            raise ValueError("unknown file format")
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path.name} holds more than tensors (reading it could run code) or is damaged: it was not "
            "loaded; use a safetensors file, or save its state dict alone"
        ) from error
    except Exception as error:  # foreign bytes can fail in any way inside the readers
        raise CheckpointError(
            f"{path.name} is damaged or no checkpoint: use a .safetensors, .pth or .ckpt file"
        ) from error
    tensors = content
    if isinstance(content, Mapping):
        tensors = next((content[name] for name in WRAPPERS if name in content), content)
    if not isinstance(tensors, Mapping) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise CheckpointError(f"{path.name} holds no state dict: give a file of named tensors")
    return dict(tensors)


def misfits(
    expected: Mapping[str, Tensor],
    converted: Mapping[str, Tensor],
    unexpected: list[str],
    foreign_name: Callable[[str], str],
) -> str:
    """What does not fit, in words ("1 missing (a.b); 2 mis-shaped (...)"); empty if everything does.

    `expected` and `converted` under our names; `unexpected` names as they stand in the file.
    """
    missing = [foreign_name(name) for name in expected if name not in converted]
    wrong = [
        f"{foreign_name(name)} {tuple(converted[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in converted and converted[name].shape != tensor.shape
    ]
    return "; ".join(
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("mis-shaped", wrong))
        if names
    )
