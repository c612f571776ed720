"""Adapters on disk: a model that is another one plus low-rank changes, a tenth of its size.

    model.json                     as of any model
    adapter/config.json            {"adapter_of": NAME_OR_RELATIVE_PATH, "scale": s, "base_weights": HASH}
    adapter/adapter.safetensors    PATH.lora_A [rank, in], PATH.lora_B [out, rank]
    README.md                      the card

Loading adds s B A to the weights PATH.weight of the base model, which costs nothing when running and needs no
`peft`. The hash keeps an adapter from landing on another state of its base.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hallo4.errors import CheckpointError
from hallo4.json_file import read_json
from hallo4.models.fingerprint import weights_fingerprint
from hallo4.weights.tensors import open_safetensors, refuse_non_finite

FOLDER = "adapter"
WEIGHTS = "adapter.safetensors"


@dataclass(frozen=True)
class AdapterConfig:
    """`adapter/config.json`: of which model, times what, and the hash of its backbone."""

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # noqa: RUF012 - read by pydantic

    adapter_of: str
    scale: float
    base_weights: str


@dataclass(frozen=True)
class Adapter(AdapterConfig):
    """Low-rank changes `state` (as of the file above) of the model `adapter_of`, whose backbone has the hash
    `base_weights`."""

    state: Mapping[str, Tensor]


def write_adapter(folder: Path, adapter: Adapter) -> None:
    """Write both files into the new folder `folder`; weights are stored in bf16."""
    folder.mkdir(parents=True)
    tensors = {name: value.to(torch.bfloat16).contiguous() for name, value in adapter.state.items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config = {field.name: getattr(adapter, field.name) for field in fields(AdapterConfig)}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def read_adapter(folder: Path) -> Adapter:
    """CheckpointError: a file is missing or damaged, or a value is not what it must be."""
    config = read_json(folder / "config.json", AdapterConfig, error=CheckpointError, advice="Copy it again.")
    file = folder / WEIGHTS
    with open_safetensors(file) as opened:
        state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
    refuse_non_finite(state.items(), file)
    return Adapter(**asdict(config), state=state)


@torch.no_grad()
def add_changes(backbone: nn.Module, state: Mapping[str, Tensor], scale: float) -> None:
    """Add `scale` times the low-rank changes `state` to `backbone`, in place. KeyError: a weight is not
    there."""
    for path in sorted({name.rpartition(".")[0] for name in state}):
        weight = backbone.get_parameter(f"{path}.weight")
        change = state[f"{path}.lora_B"].float() @ state[f"{path}.lora_A"].float()
        weight.add_((scale * change).to(weight))


@torch.no_grad()
def add_adapter(backbone: nn.Module, adapter: Adapter, folder: Path) -> None:
    """Add the changes to `backbone`, in place; `folder` is named in errors.

    CheckpointError: other base weights than the adapter was made for; or a change without a partner, without
    a weight, or of another shape.
    """
    if weights_fingerprint(backbone) != adapter.base_weights:
        raise CheckpointError(
            f"{folder}: was made for another state of {adapter.adapter_of} than the one that is here. "
            "Use the base model it was trained on, or train it again."
        )
    weights = dict(backbone.named_parameters())
    for path in sorted({name.rpartition(".")[0] for name in adapter.state}):
        down, up = (adapter.state.get(f"{path}.lora_{side}") for side in "AB")
        weight = weights.get(f"{path}.weight")
        fits = down is not None and up is not None and weight is not None and weight.ndim == 2
        if (
            not fits
            or down.ndim != 2
            or up.shape != (len(weight), len(down))
            or down.shape[1] != weight.shape[1]
        ):
            raise CheckpointError(
                f"{folder}: the changes of {path} do not fit the base model {adapter.adapter_of}. "
                "Use files of the same model."
            )
    add_changes(backbone, adapter.state, adapter.scale)
