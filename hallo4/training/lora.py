"""Low-rank adapters (LoRA, arXiv 2106.09685) on the attention layers of a backbone, through `peft`.

    y = W x + (alpha / rank) B A x      W frozen, in whatever type; A, B trained, in fp32; B starts at 0

Several adapters may lie on one layer, each under its name: that of the fine-tuning ("sft", say), frozen,
and "dpo".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hallo4.errors import CheckpointError, InputError, MissingExtraError
from hallo4.ranges import Positive, Width, check_ranges
from hallo4.training.adamw import quiet_bitsandbytes


@dataclass(frozen=True)
class AdapterConfig:
    """Size of an adapter. There is no dropout: it would make model and reference differ (dpo.md section
    2.3). InputError for a value out of range."""

    rank: Width = 64
    alpha: Positive = 64.0

    def __post_init__(self) -> None:
        """See the class."""
        check_ranges(self)

    @property
    def scale(self) -> float:
        """The factor of B A."""
        return self.alpha / self.rank


ATTENTION = ("attn1", "attn_audio", "attn_skeleton")
"""Parts of the DiT that an adapter changes by default. Not the text attention: with a single null token most
of it has no effect, and weights without a gradient stop training on several processes."""


def add_lora(
    model: nn.Module,
    config: AdapterConfig | None = None,
    name: str = "dpo",
    parts: Sequence[str] = ATTENTION,
) -> nn.Module:
    """Put an adapter `name` on every Linear layer in `parts` of `model` (`parts_pattern`), in place.

    Freezes everything else; adapters that are there stay active. The output is unchanged, bit for bit,
    until the first step. InputError when no layer lies in one of the parts, or the name is taken;
    MissingExtraError.
    """
    peft = _peft()
    config = config or AdapterConfig()
    if any(name in _names(layer) for layer in adapter_layers(model)):
        raise InputError(f"The model has an adapter {name!r} already; merge it, or choose another name.")
    active = {id(layer): list(layer.active_adapters) for layer in adapter_layers(model)}
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=0.0,
        target_modules="|".join(map(re.escape, linear_layers(model, parts))),
    )
    training = {id(module): module.training for module in model.modules()}
    peft.inject_adapter_in_model(settings, model, name)
    del model.peft_config  # what counts is on the layers; with it, the next adapter makes peft warn
    for module in model.modules():
        module.training = training.get(id(module), model.training)
    model.requires_grad_(False)
    for layer in adapter_layers(model):
        layer._active_adapter = [*active.get(id(layer), []), *([name] if name in _names(layer) else [])]
        for parameter in adapter_parameters(layer, name):
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
    return model


def parts_pattern(parts: Sequence[str]) -> re.Pattern[str]:
    """Fits the dotted names of all that lies in modules called one of `parts`, wherever they are, and the
    modules' own. Parts are regular expressions; InputError for one that is none."""
    try:
        return re.compile(rf"(.*\.)?({'|'.join(f'(?:{part})' for part in parts)})(\..*)?")
    except re.error as error:
        raise InputError(
            f"{list(parts)}: is not a pattern of parts of a model ({error}). Correct it."
        ) from error


def linear_layers(model: nn.Module, parts: Sequence[str]) -> list[str]:
    """Names of the Linear layers in `parts` of `model`, without adapters'. InputError for a part that has
    none."""
    layers = [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and not re.search(r"\.(base_layer$|lora_[AB]\.)", path)
    ]
    layers += [path for path, module in model.named_modules() if _names(module)]
    for part in parts:
        if not any(parts_pattern([part]).fullmatch(path) for path in layers):
            raise InputError(
                f"no Linear layer of {type(model).__name__} lies in a part called {part!r}; an adapter can "
                "change nothing else. Name attention or feed-forward modules, such as attn1."
            )
    pattern = parts_pattern(parts)
    return [path for path in layers if pattern.fullmatch(path)]


def adapter_layers(model: nn.Module) -> Iterator[Any]:
    """All layers of `model` that `peft` has put adapters on."""
    layer_class = _peft().tuners.tuners_utils.BaseTunerLayer
    return (module for module in model.modules() if isinstance(module, layer_class))


def adapter_parameters(layer: Any, name: str) -> Iterator[nn.Parameter]:
    """The weights of adapter `name` on `layer`; none when it is not there."""
    for kind in layer.adapter_layer_names:
        weights = getattr(layer, kind)
        if name in weights:
            found = weights[name]
            yield from found.parameters() if isinstance(found, nn.Module) else [found]


def adapter_state(model: nn.Module, name: str = "dpo") -> dict[str, torch.Tensor]:
    """The weights of adapter `name`: `PATH.lora_A` [rank, in] and `PATH.lora_B` [out, rank] of every layer
    that has
    it, PATH as in the model without adapters. CheckpointError when there is none."""
    state = {}
    for path, layer in model.named_modules():
        if name in _names(layer):
            state[f"{path}.lora_A"] = layer.lora_A[name].weight.detach().cpu().clone()
            state[f"{path}.lora_B"] = layer.lora_B[name].weight.detach().cpu().clone()
    if not state:
        raise CheckpointError(f"The model has no adapter {name!r} to save: add_lora first.")
    return state


@torch.no_grad()
def merge_lora(model: nn.Module, name: str = "dpo") -> nn.Module:
    """Add adapter `name` to the weights below it and put the plain layers back, in place.

    CheckpointError when it is not there, or another adapter is: merge that one first.
    """
    layers = [(path, layer) for path, layer in model.named_modules() if name in _names(layer)]
    others = {other for layer in adapter_layers(model) for other in _names(layer)} - {name}
    if not layers or others:
        raise CheckpointError(
            f"Cannot merge adapter {name!r}: the model has {', '.join(sorted(others)) or 'none'}. Merge what "
            "is there, one after the other."
        )
    for path, layer in layers:
        weight = layer.get_base_layer().weight
        weight.copy_((weight.float() + _change(layer, name)).to(weight.dtype))
        parent, _, attribute = path.rpartition(".")
        setattr(model.get_submodule(parent), attribute, layer.get_base_layer())
    return model


@torch.no_grad()
def relative_change(model: nn.Module, name: str = "dpo") -> float:
    """|change of the weights| / |weights|, Frobenius norms over all layers with adapter `name`; 0 at
    first."""
    changed = weighed = 0.0
    for layer in adapter_layers(model):
        if name in _names(layer):
            changed += float(_change(layer, name).square().sum())
            weighed += float(layer.get_base_layer().weight.float().square().sum())
    return (changed / weighed) ** 0.5 if weighed else 0.0


def _change(layer: Any, name: str) -> torch.Tensor:
    return layer.scaling[name] * layer.lora_B[name].weight.float() @ layer.lora_A[name].weight.float()


def _names(layer: Any) -> set[str]:
    return set(getattr(layer, "lora_A", ()))


def _peft() -> Any:
    quiet_bitsandbytes()  # which peft imports where it is installed
    try:
        import peft
    except ImportError as error:
        raise MissingExtraError("Adapters need peft: pip install 'hallo4[train]'.") from error
    return peft
