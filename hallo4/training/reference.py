"""The reference of preference training, without a second model in memory.

    AdapterOff   the model itself, the adapter that is trained switched off     no extra memory
    FrozenCopy   the model itself, a copy of its first weights put in           a copy of what is trained
    Table        numbers computed beforehand (`reference_table.py`)             no pass through the model

The first two run the very module, kernels and number formats that training runs, so that both agree bit for
bit at the start. Switching is undone before anything else happens, so that a checkpoint recomputes what it
saw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from hallo4.errors import InputError
from hallo4.training.lora import adapter_layers, adapter_parameters
from hallo4.training.pair_batch import PairBatch
from hallo4.training.sharding import local, shared_out_like, whole


class Reference(Protocol):
    """Errors of the model as it was before preference training."""

    def errors(self, measure: Callable[[], Tensor], batch: PairBatch) -> Tensor:
        """[2, B] (or [2, B, F]): errors on winners and losers, without gradient.

        `measure()` computes them for `batch` with the model that is trained, in the state it is found in.
        """
        ...


class AdapterOff:
    """The reference is `model` without adapter `name`; other adapters stay on.

    InputError when there is no such adapter, when it is merged, when something outside it is trained (the
    reference would move along), and when there is dropout (model and reference would differ by chance).
    Only flags of the layers change, never `requires_grad`: `peft`'s own switches unfreeze frozen adapters.
    """

    def __init__(self, model: nn.Module, name: str = "dpo"):
        self.name = name
        self.layers = [layer for layer in adapter_layers(model) if name in layer.lora_A]
        if not self.layers:
            raise InputError(f"The model has no adapter {name!r} to switch off: add_lora first.")
        if any(layer.merged for layer in self.layers):
            raise InputError(f"Adapter {name!r} is merged and cannot be switched off: unmerge it first.")
        own = {id(p) for layer in self.layers for p in adapter_parameters(layer, name)}
        foreign = [path for path, p in model.named_parameters() if p.requires_grad and id(p) not in own]
        if foreign:
            raise InputError(
                f"{foreign[0]} and {len(foreign) - 1} more are trained but not part of adapter {name!r}: the "
                "reference would change with them. Freeze them, or use FrozenCopy."
            )
        refuse_dropout(model)

    def errors(self, measure: Callable[[], Tensor], batch: PairBatch) -> Tensor:
        """See `Reference`."""
        with self.switched_off():
            return measure()

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        """Within the block the adapter has no effect, and no graph is recorded; then all is as before."""
        before = [layer._active_adapter for layer in self.layers]
        try:
            for layer in self.layers:
                layer._active_adapter = [name for name in layer.active_adapters if name != self.name]
            with torch.no_grad():
                yield
        finally:
            for layer, active in zip(self.layers, before, strict=True):
                layer._active_adapter = active


class FrozenCopy:
    """The reference is `model` with the weights that it has now: for training all of them.

    Keeps a copy of what is trainable and puts it in place by exchanging pointers, so nothing is copied in a
    step. InputError when there is dropout.
    """

    def __init__(self, model: nn.Module):
        refuse_dropout(model)
        self.model = model
        self.kept = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    def errors(self, measure: Callable[[], Tensor], batch: PairBatch) -> Tensor:
        """See `Reference`."""
        with self.put_in():
            return measure()

    @contextmanager
    def put_in(self) -> Iterator[None]:
        """Within the block the model has the kept weights, and no graph is recorded; then all is as
        before."""
        for name, parameter in self._trained():  # which may have been moved, or shared out, or made whole
            kept = self.kept[name] if isinstance(parameter, DTensor) else whole(self.kept[name])
            self.kept[name] = shared_out_like(kept.to(parameter.device), parameter)
        self._exchange()
        try:
            with torch.no_grad():
                yield
        finally:
            self._exchange()

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.model.named_parameters() if name in self.kept]

    def _exchange(self) -> None:
        for name, parameter in self._trained():
            if isinstance(parameter, DTensor):  # gathered from memory that stays in its place
                mine, kept = local(parameter.detach()), local(self.kept[name])
                now = mine.clone()
                mine.copy_(kept)
                kept.copy_(now)
            else:
                parameter.data, self.kept[name] = self.kept[name], parameter.data
        torch.clear_autocast_cache()  # it knows weights by name, not by value


def refuse_dropout(model: nn.Module) -> None:
    """InputError when a module of `model` drops anything: the same input must give the same output twice."""
    for path, module in model.named_modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
            raise InputError(
                f"{path} has dropout {module.p}, which makes model and reference differ by chance: set it to "
                "0."
            )


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, where `model` shares it among processes (DistributedDataParallel)."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
