"""A model whose parameters are shared out among the processes (FSDP2), and made whole again.

    shard(model)   every block gathers its parameters when it runs and lets them go; gradients are summed in
                   the same portions. What is built of the parameters afterwards (optimizers, mean weights)
                   is shared out with them.
    undo()         the same object is an ordinary module again, with all its weights on every process

Portions are along the first axis, so a tensor with fewer rows than there are processes leaves some of them
without any.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from hallo4.training.ranks import Group

_HOOKS = (
    *("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs"),
    *("_forward_hooks_always_called", "_backward_hooks", "_backward_pre_hooks"),
    *("_state_dict_hooks", "_state_dict_pre_hooks"),
    *("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
)


class ShardedModel:
    """`model`, sharded in place: its blocks of the classes named in `_no_split_modules`, then the rest."""

    def __init__(self, model: nn.Module, group: Group) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        self.model = model
        self.before = [_Before(module) for module in model.modules()]
        # The velocity is a view of what the head makes, and is never changed in place.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        mesh = init_device_mesh(group.device.type, (group.size,))
        for block in [*_blocks(model), model]:
            fully_shard(block, mesh=mesh, reshard_after_forward=True)

    @torch.no_grad()
    def undo(self) -> None:
        """The model as it was, with its present weights whole; all processes call this together."""
        for before in self.before:
            before.restore()


def is_sharded(model: nn.Module) -> bool:
    """Whether its parameters are shared out now."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def local(tensor: Tensor) -> Tensor:
    """The portion of this process; of an ordinary tensor all of it. Changing it changes `tensor`."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of it, on every process, which call this together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shared_out_like(tensor: Tensor, like: Tensor) -> Tensor:
    """`tensor`, which all processes have whole and equal, shared out as `like` is; nothing is exchanged."""
    if not isinstance(like, DTensor) or isinstance(tensor, DTensor):
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def _blocks(model: nn.Module) -> Iterator[nn.Module]:
    names = set(getattr(model, "_no_split_modules", None) or ())
    return (module for module in model.modules() if type(module).__name__ in names)


class _Before:
    """What sharding changes of one module: its class, its parameters, its hooks, and what is noted on it."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.kind = module, type(module)
        self.parameters = {name: p for name, p in module._parameters.items() if p is not None}
        self.parameters = {name: p.requires_grad for name, p in self.parameters.items()}
        self.hooks = {name: module.__dict__[name].copy() for name in _HOOKS}
        self.notes = set(module.__dict__)

    def restore(self) -> None:
        module: Any = self.module
        for name, trained in self.parameters.items():
            value = whole(module._parameters[name].detach())
            module._parameters[name] = nn.Parameter(value, requires_grad=trained)
        module.__class__ = self.kind
        module.__dict__.update(self.hooks)
        for name in set(module.__dict__) - self.notes:
            del module.__dict__[name]
