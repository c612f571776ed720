"""A module in a folder, `config.json` and safetensors: read strictly, tensor by tensor, and written."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from hallo4.errors import CheckpointError, ShapeError
from hallo4.weights.tensors import misfits, refuse_non_finite, shapes_of

WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def load_strictly(module_class: type[nn.Module], config: dict[str, Any], folder: Path) -> nn.Module:
    """Build `module_class` (a diffusers model) from `config` and fill it from `folder/*.safetensors`.

    CheckpointError: unknown configuration keys, no weights, pickles instead, a damaged file, or tensors that
    are missing, unexpected or mis-shaped; the first few are named.
    """
    files = _weight_files(folder)
    found = _shapes_in(files)
    module = _build(module_class, config, folder)
    wanted = module.state_dict()
    problems = misfits(shapes_of(wanted), found)
    if problems:
        raise CheckpointError(
            f"{folder}: does not fit its config.json: tensors {problems}. Use weights and config.json of the "
            "same model."
        )
    state: dict[str, torch.Tensor] = {}
    for file in files:
        state.update(load_file(file))
    refuse_non_finite(state.items(), folder)
    state = {name: tensor.to(wanted[name].dtype) for name, tensor in state.items()}
    module.load_state_dict(state, assign=True)
    assert not any(tensor.is_meta for tensor in module.buffers()), "a buffer that is not saved is not filled"
    return module


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
        f"{folder}: holds no .safetensors file; the model folder is incomplete. Copy it anew."
    )


def _shapes_in(files: list[Path]) -> dict[str, tuple[int, ...]]:
    """Name -> shape from the headers alone, before anything large is read."""
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 - not a mapping
                    if name in shapes:
                        raise CheckpointError(
                            f"{file}: tensor {name} stands in two files of this folder. Remove one."
                        )
                    shapes[name] = tuple(opened.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{file}: damaged or no safetensors file ({error}). Copy it anew."
            ) from error
    return shapes


def _build(module_class: type[nn.Module], config: dict[str, Any], folder: Path) -> nn.Module:
    options = {name: value for name, value in config.items() if not name.startswith("_")}
    allowed = inspect.signature(module_class.__init__).parameters.keys() - {"self"}
    unknown = sorted(options.keys() - allowed)
    if unknown:
        raise CheckpointError(
            f"{folder / 'config.json'}: unknown key {unknown[0]!r}; {module_class.__name__} knows "
            f"{', '.join(sorted(allowed))}."
        )
    try:
        with torch.device(
            "meta"
        ):  # shapes without memory and without drawing weights that are replaced anyway
            return module_class(**options)
    except (TypeError, ValueError, ShapeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{folder / 'config.json'}: no model can be built from it ({reason})."
        ) from error
