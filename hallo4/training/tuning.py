"""What of a model is trained, and in which form: all of it or parts, directly or by an adapter.

model folder --load--> backbone --tuned--> trainable parameters in fp32, the rest frozen (bf16 if wished)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from hallo4.errors import InputError
from hallo4.models.attention_backend import choose_attention
from hallo4.models.devices import device_of
from hallo4.models.precision import final_dtype
from hallo4.training.config import TrainConfig
from hallo4.training.lora import ATTENTION, AdapterConfig, add_lora, parts_pattern
from hallo4.training.number_format import chosen_precision

Tuning = Literal["full", "lora"]
FrozenType = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class TuningConfig:
    """`tuning` "full": parameters themselves; "lora": low-rank changes of layers, see `AdapterConfig`.

    `trainable`: names of parts of the backbone (regular expressions over whole names between dots, such as
    `attn_audio`); empty: everything, or, of an adapter, self, audio and skeleton attention. `frozen`: parts
    that stay as they are all the same. `frozen_dtype`: of weights that are not trained, "auto": bf16 where
    the hardware computes with it; those that are trained stay in fp32. `gradient_checkpointing` keeps the
    inputs of blocks alone and computes the rest twice. `attention`: a backend of diffusers (None: PyTorch's
    own). `compile_blocks` saves a fifth of the time after a minute of compilation; it needs a C++ compiler
    and a backbone whose blocks are alike (the DiT).
    """

    tuning: Tuning = "full"
    trainable: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    frozen_dtype: FrozenType = "fp32"
    gradient_checkpointing: bool = False
    attention: str | None = None
    compile_blocks: bool = False


def tuned(
    backbone: nn.Module, config: TuningConfig, run: TrainConfig, adapter: str = "dpo", text: bool = True
) -> nn.Module:
    """`backbone`, in place, as `config` says, for `run`; an adapter gets the name `adapter`.

    Parameters that no clip reaches (`idle_parameters` of the backbone, where it says them; `text`: whether
    prompts are given) are never trained: without a gradient they stop training on several processes.
    InputError: a pattern that fits nothing, nothing left to train, or an attention backend that does not run.
    """
    if config.tuning == "lora":
        add_lora(backbone, config.adapter, adapter, config.trainable or ATTENTION)
    else:
        backbone.requires_grad_(not config.trainable)
        for name in names_of(backbone, config.trainable):
            backbone.get_parameter(name).requires_grad_(True)
    idle = backbone.idle_parameters(text) if hasattr(backbone, "idle_parameters") else ()
    for name in [*names_of(backbone, config.frozen), *(idle if config.tuning == "full" else ())]:
        backbone.get_parameter(name).requires_grad_(False)
    if not any(parameter.requires_grad for parameter in backbone.parameters()):
        raise InputError(
            f"trainable={config.trainable}, frozen={config.frozen}: nothing of the model is left to train."
        )
    if frozen_in_bf16(config, run, device_of(backbone)):
        cast_frozen(backbone, torch.bfloat16)
    if config.gradient_checkpointing:
        enable_checkpointing(backbone)
    if config.attention is not None:
        choose_attention(backbone, config.attention, device_of(backbone), torch.bfloat16)
    if config.compile_blocks:
        backbone.compile_repeated_blocks(dynamic=False)
    return backbone


def frozen_in_bf16(config: TuningConfig, run: TrainConfig, device: torch.device) -> bool:
    """Whether weights that are not trained are kept in bf16. InputError: layers of both types would meet
    without autocast."""
    if config.frozen_dtype == "auto":
        return chosen_precision(run, device) == "bf16"
    if config.frozen_dtype == "bf16" and config.tuning == "full" and chosen_precision(run, device) == "no":
        raise InputError(
            "frozen_dtype=bf16 beside trained weights in fp32 needs train.mixed_precision=bf16; set it, or "
            "frozen_dtype=fp32."
        )
    return config.frozen_dtype == "bf16"


def trained_in_words(config: TuningConfig, model: nn.Module) -> str:
    """What of the `tuned` model is trained, for its card."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    parts = ", ".join(config.trainable) or ("all of it" if config.tuning == "full" else ", ".join(ATTENTION))
    how = f"low-rank changes (rank {config.adapter.rank}) of " if config.tuning == "lora" else ""
    return f"{how}{parts}; {trained:,} parameters"


def names_of(backbone: nn.Module, parts: Sequence[str]) -> list[str]:
    """Names of the parameters in any of `parts`. InputError for a part that has none."""
    names = [name for name, _ in backbone.named_parameters()]
    for part in parts:
        pattern = parts_pattern([part])
        if not any(pattern.fullmatch(name) for name in names):
            raise InputError(
                f"no parameter of {type(backbone).__name__} lies in a part called {part!r}; parts are called "
                f"{', '.join(_example_parts(names))} and so on."
            )
    if not parts:
        return []
    pattern = parts_pattern(parts)
    return [name for name in names if pattern.fullmatch(name)]


@torch.no_grad()
def cast_frozen(backbone: nn.Module, dtype: torch.dtype) -> None:
    """Bring what is not trained to `dtype`, but for what the class keeps in fp32 (`final_dtype`)."""
    for name, parameter in backbone.named_parameters():
        if not parameter.requires_grad and parameter.is_floating_point():
            parameter.data = parameter.data.to(final_dtype(backbone, name, dtype))


def enable_checkpointing(backbone: Any) -> None:
    """Keep the inputs of blocks alone. InputError: the backbone has no blocks that can be computed twice."""
    if not getattr(backbone, "_supports_gradient_checkpointing", False):
        raise InputError(
            f"{type(backbone).__name__} cannot compute its blocks twice; use gradient_checkpointing=false."
        )
    backbone.enable_gradient_checkpointing()


def _example_parts(names: Iterable[str]) -> list[str]:
    """A few words between the dots of parameter names, those first that name most."""
    counts: dict[str, int] = {}
    for name in names:
        for word in name.split(".")[:-1]:
            if not re.fullmatch(r"\d+|to_\w+|net|proj", word):
                counts[word] = counts.get(word, 0) + 1
    return sorted(counts, key=lambda word: -counts[word])[:8]
