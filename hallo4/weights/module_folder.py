"""A module in a folder, `config.json` and safetensors: read strictly, tensor by tensor, and written."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_type_hints

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from hallo4.errors import CheckpointError
from hallo4.json_file import checked
from hallo4.weights.tensors import (
    misfits,
    open_safetensors,
    read_headers,
    refuse_non_finite,
    refuse_other_kinds,
    shapes_of,
)

WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
STORED_TYPES = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"}
MAPPED_AT_ONCE_BYTES = 32_000_000
"""A file is mapped again after this many bytes; till then, pages that were read count as memory in use."""

Placing = Callable[[nn.Module], Callable[[str, Tensor], Tensor]]


def load_strictly(
    module_class: type[nn.Module], config: dict[str, Any], folder: Path, placing: Placing | None = None
) -> nn.Module:
    """Build `module_class` (a diffusers model) from `config` and fill it from `folder/*.safetensors`.

    `placing(module)(name, tensor)` brings one tensor of the file to its type and place (None: to the type
    that the class gives it, on the CPU), so the peak of memory is the model and a little more. A tensor that
    stays as it is in the file is mapped from there, not copied.

    CheckpointError: unknown configuration keys, no weights, pickles instead, a damaged file, or tensors that
    are missing, unexpected or mis-shaped; the first few are named.
    """
    module = build_strictly(module_class, config, folder)
    types = {name: tensor.dtype for name, tensor in module.state_dict().items()}
    place = (lambda name, tensor: tensor.to(types[name])) if placing is None else placing(module)
    state: dict[str, Tensor] = {}
    for name, tensor in _stored_tensors(_weight_files(folder)):
        refuse_non_finite([(name, tensor)], folder)
        state[name] = place(name, tensor if tensor.is_floating_point() else tensor.to(types[name]))
    module.load_state_dict(state, assign=True)
    assert not any(tensor.is_meta for tensor in module.buffers()), "a buffer that is not saved is not filled"
    return module


def build_strictly(module_class: type[nn.Module], config: dict[str, Any], folder: Path) -> nn.Module:
    """The module of `load_strictly` without its weights, on the meta device; the headers of the files are
    checked, so the errors are the same but for values that are not finite."""
    headers = read_headers(_weight_files(folder))
    refuse_other_kinds(headers, STORED_TYPES)
    module = _build(module_class, config, folder, len(headers))
    problems = misfits(shapes_of(module.state_dict()), shapes_of(headers))
    if problems:
        raise CheckpointError(
            f"{folder}: does not fit its config.json: tensors {problems}. Use weights and config.json of the "
            "same model."
        )
    return module


class StoredTensors:
    """The tensors of `folder/*.safetensors`, mapped from the files while they are used, never copied.

    `headers`: name -> what the files say of each. CheckpointError: no such files, or a damaged one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.headers = read_headers(_weight_files(folder))

    def read(self, names: Sequence[str]) -> dict[str, Tensor]:
        """The named tensors as stored, on the CPU; the mapping lives as long as they do."""
        tensors: dict[str, Tensor] = {}
        for file in self._files(names):
            with open_safetensors(file) as opened:
                here = (name for name in names if self.headers[name].file == file)
                tensors |= {name: opened.get_tensor(name) for name in here}
        return tensors

    def first_rows(self) -> list[tuple[str, Tensor]]:
        """The first row of every matrix and all of every vector, by name."""
        rows = []
        for file in self._files(self.headers):
            with open_safetensors(file) as opened:
                for name, header in self.headers.items():
                    if header.file == file:
                        part = opened.get_slice(name)
                        rows.append((name, part[:1] if len(header.shape) > 1 else part[:]))
        return sorted(rows, key=lambda row: row[0])

    def _files(self, names: Iterable[str]) -> list[Path]:
        return list(dict.fromkeys(self.headers[name].file for name in names))


def stored_bytes(folder: Path) -> int:
    """Size of `folder/*.safetensors`. CheckpointError: there are none."""
    return sum(file.stat().st_size for file in _weight_files(folder))


def save_weights(folder: Path, module: nn.Module, dtype: torch.dtype) -> None:
    """Write `config.json` and the weights of a diffusers model.

    Matrices and kernels are stored in `dtype`; vectors (biases, norms, statistics), which are small and
    sensitive, in fp32.
    """
    folder.mkdir(parents=True)
    module.save_config(folder)
    state = {
        name: tensor.detach().to("cpu", dtype if tensor.ndim > 1 else torch.float32).contiguous()
        for name, tensor in module.state_dict().items()
    }
    save_file(state, folder / WEIGHTS_NAME, metadata={"format": "pt"})


def _weight_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if files:
        return files
    pickles = sorted(path.name for path in folder.glob("*") if path.suffix in PICKLE_SUFFIXES)
    if pickles:
        raise CheckpointError(
            f"{folder / pickles[0]}: is a pickle, which can run code; only .safetensors is allowed. "
            "Convert it to safetensors on a machine where you trust it."
        )
    raise CheckpointError(
        f"{folder}: holds no .safetensors file; the model folder is incomplete. Copy it again."
    )


def _stored_tensors(files: list[Path]) -> Iterator[tuple[str, Tensor]]:
    """Name and values of every tensor, as they are in the files, mapped."""
    for file in files:
        with open_safetensors(file) as opened:
            left = list(opened.keys())
        while left:
            mapped_bytes = 0
            with open_safetensors(file) as opened:
                while left and mapped_bytes < MAPPED_AT_ONCE_BYTES:
                    name = left.pop()
                    tensor = opened.get_tensor(name)
                    mapped_bytes += tensor.nbytes
                    yield name, tensor
                    del tensor  # else it would hold the mapping


def _build(module_class: type[nn.Module], config: dict[str, Any], folder: Path, tensors: int) -> nn.Module:
    options = {name: value for name, value in config.items() if not name.startswith("_")}
    allowed = inspect.signature(module_class.__init__).parameters.keys() - {"self"}
    unknown = sorted(options.keys() - allowed)
    if unknown:
        raise CheckpointError(
            f"{folder / 'config.json'}: unknown key {unknown[0]!r}; {module_class.__name__} knows "
            f"{', '.join(sorted(allowed))}."
        )
    name = str(folder / "config.json")
    for key, hint in get_type_hints(module_class.__init__).items():
        if key in options:
            checked(options[key], hint, f"{name}: {key}", error=CheckpointError, advice="Copy it again.")
    try:
        with shapes_alone(tensors):
            return module_class(**options)
    except Exception as error:  # wrong types and sizes fail in many ways inside the classes
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{folder / 'config.json'}: no model can be built from it ({reason})."
        ) from error


@contextmanager
def shapes_alone(tensors: int) -> Iterator[None]:
    """Modules that are built in the block have shapes, but no memory and no weights drawn. ValueError: many
    more tensors than these, which a file holds, so its config is another's, or has no end."""
    left = 4 * tensors + 1000

    def count(_module: nn.Module, _name: str, _parameter: nn.Parameter) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError(f"it has many more tensors than the {tensors} of the files")

    counting = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            yield
    finally:
        counting.remove()
