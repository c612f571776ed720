"""What a computation costs, counted by running it on tensors that have sizes but no memory (device meta).

::

    modules and inputs on "meta" --run under a dispatch mode--> every aten operation --> FLOPs, bytes, kernels
                                                             '-> storages alive      --> peak of live bytes

Nothing is computed, so a model of any size is counted in a second on any machine. What is counted is the
program as it is written, one kernel per operation: kernels that a compiler would fuse are counted one by one,
and attention as one fused kernel (`fused_attention`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

META = torch.device("meta")


@dataclass(frozen=True)
class Cost:
    """What one run costs: `flops` of matrix products, convolutions and attention (a multiply-add is two),
    `moved_bytes` read and written by all operations, their number `kernels`, and `peak_bytes`, the most that
    was alive at once of what the run itself made (neither inputs nor parameters)."""

    flops: int
    moved_bytes: int
    kernels: int
    peak_bytes: int


@torch.no_grad()
def count(run: Callable[[], Any]) -> Cost:
    """The cost of `run()`, which works on meta tensors."""
    counter = _Counter()
    with counter:
        result = run()
    del result
    return Cost(counter.flops, counter.moved_bytes, counter.kernels, counter.peak_bytes)


def count_training(model: nn.Module, run: Callable[[], Tensor]) -> Cost:
    """The cost of `run()`, a forward of `model`, with its backward; gradients of weights are let go as they
    come, so that `peak_bytes` are those of activations."""

    def let_go(parameter: Tensor) -> None:
        parameter.grad = None

    trained = [p for p in model.parameters() if p.requires_grad]
    hooks = [p.register_post_accumulate_grad_hook(let_go) for p in trained]
    counter = _Counter()
    with counter, torch.enable_grad():
        run().float().square().mean().backward()
    for hook in hooks:
        hook.remove()
    return Cost(counter.flops, counter.moved_bytes, counter.kernels, counter.peak_bytes)


class FusedAttention:
    """Attention as the one kernel that accelerators have for it, in place of `dit_block.SelectedBackend`.

    On the meta device PyTorch would choose the form that holds all scores.
    """

    _attention_backend = None
    _parallel_config = None

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """[batch, L, heads, head_dim] each -> the same."""
        heads_first = (part.transpose(1, 2) for part in (query, key, value))
        return torch.ops.aten._scaled_dot_product_flash_attention(*heads_first)[0].transpose(1, 2)


def fused_attention(module: nn.Module) -> nn.Module:
    """`module`, of which every attention now runs as `FusedAttention`; for counting only."""
    for part in module.modules():
        if hasattr(part, "processor"):
            part.processor = FusedAttention()
    return module


@contextmanager
def on_meta() -> Iterator[None]:
    """Modules and tensors made inside the block have no memory."""
    with META:
        yield


class _Counter(TorchDispatchMode):
    """Counts what is done to meta tensors; tensors of other devices are bookkeeping of the program."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.moved_bytes = self.kernels = self.peak_bytes = 0
        self._alive_bytes = 0
        self._alive: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        made = _meta_tensors(result)
        given = _meta_tensors((args, kwargs))
        if made and not _is_view(func):
            self.kernels += 1
            self.moved_bytes += sum(map(_bytes, given)) + sum(map(_bytes, made))
            formula = flop_registry.get(func._overloadpacket)
            if formula is not None:
                self.flops += formula(*args, **kwargs, out_val=result)
        known = {id(tensor.untyped_storage()) for tensor in given}
        for tensor in made:
            self._follow(tensor, known)
        self.peak_bytes = max(self.peak_bytes, self._alive_bytes)
        return result

    def _follow(self, tensor: Tensor, known: set[int]) -> None:
        """Count a new storage as alive until it is freed."""
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._alive or key in known:
            return
        size = storage.nbytes()

        def freed(_: weakref.ref) -> None:
            del self._alive[key]
            self._alive_bytes -= size

        self._alive[key] = weakref.ref(storage, freed)
        self._alive_bytes += size


def _meta_tensors(values: Any) -> list[Tensor]:
    leaves = tree_leaves(values)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.device.type == "meta"]


def _is_view(func: Any) -> bool:
    """Whether an operation only looks at memory in another way."""
    aliases = [returned.alias_info for returned in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


def _bytes(tensor: Tensor) -> int:
    """The values of an expanded tensor that exist in memory."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
