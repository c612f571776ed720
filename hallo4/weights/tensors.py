"""Named tensors: one strict reader of foreign files, one report of what does not fit a module."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from hallo4.errors import CheckpointError, InputError
from hallo4.input_file import check_regular, open_input

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
    with open_input(path, f"the {what}") as file:
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
    for name, tensor in tensors.items():
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise CheckpointError(
                f"{path.name}: tensor {name} has more elements than the file has numbers: save it again"
            )
    return dict(tensors)


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of a tensor: its `shape`, and the `kind` of its numbers ("BF16", ...)."""

    file: Path
    shape: tuple[int, ...]
    kind: str


def open_safetensors(file: Path) -> Any:
    """An open safetensors file, whose tensors are mapped. CheckpointError: it is damaged or cut short."""
    check_regular(file, "a safetensors file", CheckpointError)
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{file}: damaged or no safetensors file ({reason}). Copy it again.") from error


def read_headers(files: Iterable[Path]) -> dict[str, Header]:
    """Name -> header of all tensors in the safetensors `files` of one module, before anything large is read.

    CheckpointError: a damaged file, or a tensor that stands in two of them.
    """
    headers: dict[str, Header] = {}
    for file in files:
        with open_safetensors(file) as opened:
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                if name in headers:
                    raise CheckpointError(
                        f"{file}: tensor {name} stands in two files of this folder. Remove one."
                    )
                part = opened.get_slice(name)
                headers[name] = Header(file, tuple(part.get_shape()), part.get_dtype())
    return headers


def refuse_other_kinds(headers: Mapping[str, Header], allowed: Collection[str]) -> None:
    """CheckpointError that names the first tensor whose kind is not among the `allowed`."""
    for name, header in headers.items():
        if header.kind not in allowed:
            raise CheckpointError(
                f"{header.file}: tensor {name} is stored as {header.kind}; allowed are F32, F16 and BF16. "
                "Use weights that are not quantized."
            )


def shapes_of(tensors: Mapping[str, Tensor | Header]) -> dict[str, Sequence[int]]:
    """Name -> shape."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def misfits(expected: Mapping[str, Sequence[int]], found: Mapping[str, Sequence[int]]) -> str:
    """What does not fit, in words: "1 missing (a.b); 2 mis-shaped (c [3] instead of [64], ...)".

    Both are name -> shape, under the names that the person sees, those of the file. Empty if all fits.
    """
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    mis_shaped = [
        f"{name} {list(found[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    return "; ".join(
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("mis-shaped", mis_shaped))
        if names
    )


def refuse_non_finite(tensors: Iterable[tuple[str, Tensor]], source: object) -> None:
    """CheckpointError that names the first of these named tensors which holds NaN or infinite values."""
    for name, tensor in tensors:
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        values = tensor.float() if tensor.element_size() == 1 else tensor  # torch cannot ask all kinds of fp8
        extremes = torch.stack(torch.aminmax(values))  # NaN is both the smallest and the largest
        if not torch.isfinite(extremes).all():
            raise CheckpointError(f"{source}: tensor {name} holds NaN or infinite values. Copy it again.")


def fill(
    module: nn.Module, tensors: Mapping[str, Tensor], source: object, advice: str, may_lack: str | None = None
) -> nn.Module:
    """Copy `tensors` into `module`, every one by its name, and return it.

    Names that end with `may_lack` may be missing. CheckpointError for tensors that are missing, unexpected,
    mis-shaped or not finite; it names `source` (a path) and ends with `advice`, a sentence.
    """
    expected = shapes_of(module.state_dict())
    if may_lack is not None:
        expected = {
            name: shape for name, shape in expected.items() if name in tensors or not name.endswith(may_lack)
        }
    problems = misfits(expected, shapes_of(tensors))
    if problems:
        raise CheckpointError(f"{source} does not fit {type(module).__name__}: tensors {problems}. {advice}")
    refuse_non_finite(tensors.items(), source)
    module.load_state_dict(dict(tensors), strict=may_lack is None)
    return module
