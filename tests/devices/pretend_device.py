"""A device that is not there: tensors that say they are on it and refuse to meet those of the CPU.

Their values lie in ordinary memory, so whatever branches on a value runs as on a real device, and results can
be compared with those of the CPU, bit for bit. Only placement is checked: no kernel, stream or number format
of a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)


class _Backend(_DummyBackendModule):
    """What `torch.autocast` and others ask of a device."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


_setup_privateuseone_for_python_backend("pretended", _Backend())  # which may be done once in a process
DEVICE = torch.device("pretended:0")


class PretendTensor(Tensor):
    """A tensor on `DEVICE`; `held` has its values."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> PretendTensor:
        """Of `held`, on the CPU."""
        layout = (held.shape, held.stride(), held.storage_offset())
        with torch.inference_mode(False):  # views of ordinary tensors cannot be made of others
            made = torch.Tensor._make_wrapper_subclass(cls, *layout, dtype=held.dtype, device=DEVICE)
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(
        cls, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Every operation with such a tensor among its arguments."""
        return _run(operation, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """Makes new tensors where `device=` says so."""

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return _run(operation, args, kwargs or {})


@contextmanager
def pretend_device() -> Iterator[torch.device]:
    """Inside, `DEVICE` can be used as if there were one."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # `torch.tensor` makes a CPU tensor first, and moves it
    try:
        with _Factories():
            yield DEVICE
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
"""What may bring values from one device to another."""


def _run(operation: Any, args: tuple, kwargs: dict) -> Any:
    with _Factories():  # in inference mode, operations that consist of others come whole
        parts = operation.decompose(*args, **kwargs)
    if parts is not NotImplemented:
        return parts
    leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    pretended = [leaf for leaf in leaves if isinstance(leaf, PretendTensor)]
    strangers = [leaf for leaf in leaves if not isinstance(leaf, PretendTensor) and leaf.ndim]
    wanted = kwargs.get("device")
    if operation is torch.ops.aten._fused_sdp_choice.default and pretended:
        return 0  # attention as plain products: the fused ones are chosen by device
    if pretended and strangers and operation not in COPIES and not _indices_only(operation, args):
        raise RuntimeError(f"{operation}: tensors on {DEVICE} and on the CPU, {[t.shape for t in leaves]}")
    if wanted is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
        on_device = torch.device(wanted).type == DEVICE.type
    elif operation is torch.ops.aten.copy_.default:
        on_device = isinstance(args[0], PretendTensor)
    else:
        on_device = bool(pretended)
    result = operation(*_held(args), **_held(kwargs))
    if isinstance(result, Tensor) and any(result is leaf.held for leaf in pretended):
        return next(leaf for leaf in pretended if leaf.held is result)  # an operation in place
    return tree_map_only(Tensor, PretendTensor, result) if on_device else result


def _indices_only(operation: Any, args: tuple) -> bool:
    """Whether the strangers are indices, which may be on the CPU."""
    indexing = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default)
    values = [args[0], *args[2:]]
    return operation in indexing and all(
        isinstance(value, PretendTensor) for value in values if isinstance(value, Tensor) and value.ndim
    )


def _held(tree: Any) -> Any:
    return tree_map_only(PretendTensor, lambda tensor: tensor.held, tree)
