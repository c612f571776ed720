"""Optimizers: every trainable parameter in exactly one group, and Muon for the hidden matrices."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hallo4.errors import InputError
from hallo4.models.precision import has_bf16_units
from hallo4.training.adamw import build_adamw
from hallo4.training.config import OptimizerConfig, ScheduleConfig
from hallo4.training.sharding import local, shared_out_like, whole

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the odd quintic that pushes singular values towards one (Keller Jordan, "Muon", 2024)."""


def build_optimizers(model: nn.Module, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """One or two optimizers that together hold every parameter with `requires_grad` once.

    With Muon, tensors of two or more dimensions go to it, except embeddings and whatever `adamw_names` names.
    InputError when nothing is trainable or a name in `adamw_names` fits no parameter.
    """
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        raise InputError(f"{type(model).__name__} has no trainable parameter; nothing to optimize.")
    for word in config.adamw_names:
        if not any(word in name for name in trainable):
            raise InputError(
                f"optimizer.adamw_names: no parameter of {type(model).__name__} has {word!r} in its name."
            )
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    hidden, decayed, plain = [], [], []
    for name, parameter in trainable.items():
        named = any(word in name for word in config.adamw_names)
        if parameter.ndim < 2:
            plain.append(parameter)
        elif config.kind == "muon" and not named and id(parameter) not in embeddings:
            hidden.append(parameter)
        else:
            decayed.append(parameter)
    groups = [
        {"params": parameters, "weight_decay": decay}
        for parameters, decay in ((decayed, config.weight_decay), (plain, 0.0))
        if parameters
    ]
    optimizers: list[torch.optim.Optimizer] = []
    if groups:
        optimizers.append(build_adamw(groups, config))
    if hidden:
        optimizers.append(Muon(hidden, config.muon_learning_rate, config.muon_momentum, config.weight_decay))
    held = [id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in trainable.values()), "a parameter is in no group or in two"
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["peak_lr"] = group["lr"]
    return optimizers


def rate_factor(schedule: ScheduleConfig, step: int, fraction: float) -> float:
    """Learning rate over its peak at `step` (from 0) when `fraction` of the run in [0, 1] is over."""
    warmup = min(1.0, (step + 1) / schedule.warmup_steps) if schedule.warmup_steps else 1.0
    anneal = schedule.anneal_fraction
    if not anneal:
        return warmup
    over = min(1.0, max(0.0, (fraction - (1.0 - anneal)) / anneal))
    return warmup * (
        schedule.final_fraction + (1.0 - schedule.final_fraction) * (1.0 + math.cos(math.pi * over)) / 2
    )


def set_rate(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> float:
    """Set every group's rate to `factor` times its peak; the largest rate, for the log."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    for group in groups:
        group["lr"] = group["peak_lr"] * factor
    return max(group["lr"] for group in groups)


def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> float:
    """Scale the gradients so that their norm is at most `most`; the norm before, over all processes that
    share the parameters out."""
    return float(whole(nn.utils.clip_grad_norm_(parameters, most)))


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (Keller Jordan, "Muon", 2024), for tensors of two or more dimensions.

    Differs from `torch.optim.Muon`: takes convolution kernels too (as [out, in * kernel] matrices),
    handles all tensors of one shape in one batch, and works in fp32 where the hardware has no fast bf16. The
    step has the size of an AdamW step, 0.2 sqrt(max(rows, columns)) (arXiv 2502.16982, section 2.2), so
    rates are comparable. Of matrices that are shared out among processes each computes the whole direction
    and takes its rows of it.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update; parameters without a gradient are left alone."""
        assert closure is None, "Muon takes no closure"
        for group in self.param_groups:
            by_shape: dict[tuple, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    key = (parameter.shape, parameter.device, parameter.dtype)
                    by_shape.setdefault(key, []).append(parameter)
            for parameters in by_shape.values():
                self._step_same_shape(parameters, **{k: group[k] for k in ("lr", "momentum", "weight_decay")})

    def _step_same_shape(
        self, parameters: list[Tensor], lr: float, momentum: float, weight_decay: float
    ) -> None:
        updates = []
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(parameter)
            state["momentum"].lerp_(parameter.grad, 1.0 - momentum)
            nesterov = parameter.grad.lerp(state["momentum"], momentum)
            updates.append(whole(nesterov).flatten(1))
        directions = orthogonalize(torch.stack(updates))
        scale = 0.2 * math.sqrt(max(directions.shape[1:]))
        for parameter, direction in zip(parameters, directions, strict=True):
            step = shared_out_like(direction.reshape(parameter.shape).to(parameter.dtype), parameter)
            local(parameter).mul_(1.0 - lr * weight_decay).sub_(local(step), alpha=lr * scale)


def orthogonalize(matrices: Tensor, iterations: int = 5) -> Tensor:
    """[n, rows, columns] -> the same singular vectors with all singular values near one (0.7 to 1.2).

    In bf16 where the hardware computes with it, as the source does everywhere.
    """
    x = matrices.to(torch.bfloat16 if has_bf16_units(matrices.device.type) else torch.float32)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(iterations):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)
