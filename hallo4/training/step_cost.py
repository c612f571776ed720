"""What a training step of a `PortraitDiT` costs, counted on a model without memory, weights and blocks alike.

    backbone config --tuned, on the meta device--> forward and backward of one clip --> FLOPs, working memory
                                               '-> parameters, trained and frozen, and the largest block

Attention counts as one fused kernel, whose backward is two and a half forwards; of everything else the
backward is two, or one where weights are frozen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from hallo4.models.cost import Cost, count, count_training, fused_attention, on_meta
from hallo4.models.dit import PortraitDiT
from hallo4.models.dit_cost import WindowSize, forward_of
from hallo4.models.precision import final_dtype
from hallo4.training.config import TrainConfig
from hallo4.training.tuning import TuningConfig, tuned

PLANNED_RUN = TrainConfig(name="plan", steps=1, mixed_precision="bf16")
"""Whatever this machine is, what is planned computes in bf16."""
COUNTED_WHOLE = 6
"""Models of up to so many layers are counted as they are; deeper ones from two and three layers."""


@dataclass(frozen=True)
class PassCost:
    """One clip: FLOPs of a forward without gradient, and of forward and backward; `working_bytes`, the most
    that was alive of activations and what is made of them, per clip."""

    forward_flops: int
    training_flops: int
    working_bytes: int


@dataclass(frozen=True)
class WeightCounts:
    """`trained` parameters, which are in fp32, and the bytes of the frozen ones; the same of the `largest`
    block and of what is outside of blocks (`outer`), in whole bytes."""

    trained: int
    frozen_bytes: int
    largest_trained: int
    largest_bytes: int
    outer_trained: int
    outer_bytes: int

    @property
    def bytes(self) -> int:
        """Of all weights."""
        return 4 * self.trained + self.frozen_bytes


def count_weights(config: Any, tuning: TuningConfig) -> WeightCounts:
    """Of a backbone of this config, tuned so."""
    model = tuned_without_memory(config, tuning)
    kinds = set(model._no_split_modules)
    blocks = {path: m for path, m in model.named_modules() if type(m).__name__ in kinds}
    sizes: dict[str, list[int]] = {path: [0, 0] for path in ("", *blocks)}
    for name, parameter in model.named_parameters():
        home = next((path for path in blocks if name.startswith(f"{path}.")), "")
        trained = parameter.requires_grad
        sizes[home][0] += parameter.numel() if trained else 0
        sizes[home][1] += parameter.numel() * parameter.element_size()
    outer = sizes.pop("")
    largest = max(sizes.values(), key=lambda size: size[1])
    trained = outer[0] + sum(size[0] for size in sizes.values())
    everything = outer[1] + sum(size[1] for size in sizes.values())
    return WeightCounts(trained, everything - 4 * trained, *largest, *outer)


def count_pass(config: Any, tuning: TuningConfig, size: WindowSize, dtype: torch.dtype) -> PassCost:
    """Of one clip of `size`, computed in `dtype`."""
    layers, vace = config.num_layers, len(config.vace_layers)
    if layers <= COUNTED_WHOLE:
        return _counted(config, tuning, size, dtype)
    counts = [
        _counted(config, tuning, size, dtype, num_layers=main, vace_layers=tuple(range(side)))
        for main, side in ((2, 1), (3, 1), (3, 2))
    ]
    values = zip(*((c.forward_flops, c.training_flops, c.working_bytes) for c in counts), strict=True)
    return PassCost(*(a + (layers - 2) * (b - a) + (vace - 1) * (c - b) for a, b, c in values))


def _counted(
    config: Any, tuning: TuningConfig, size: WindowSize, dtype: torch.dtype, **changes: Any
) -> PassCost:
    model = tuned_without_memory(config, tuning, **changes)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        tensor.data = tensor.data.to(final_dtype(model, name, dtype))  # as autocast computes
    run: Callable[[], torch.Tensor] = forward_of(model, replace(size, batch=1), dtype)
    plain: Cost = count(run)
    with_backward = count_training(model, run)
    return PassCost(plain.flops, with_backward.flops, with_backward.peak_bytes)


def tuned_without_memory(config: Any, tuning: TuningConfig, **changes: Any) -> nn.Module:
    """A backbone of `config` on the meta device, `tuned`, whose attention is fused."""
    sizes = {name: value for name, value in dict(config).items() if not name.startswith("_")}
    with on_meta():
        model = PortraitDiT(**{**sizes, **changes})
        plain = replace(tuning, attention=None, compile_blocks=False)
        return fused_attention(tuned(model, plain, PLANNED_RUN, text=config.text_len is not None))
