"""Where and how a run computes: its device, number format, and what the processes share of the model."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from hallo4.errors import InputError
from hallo4.models.devices import device_of
from hallo4.training.config import TrainConfig
from hallo4.training.number_format import chosen_precision
from hallo4.training.ranks import Group, current_group
from hallo4.training.sharding import ShardedModel


class PlacedModel:
    """A model on its device, as `config` wants it computed.

    `raw`: the object that was given, whose parameters are trained; `model`: what a method calls, which casts
    to the number format and, where every process has all parameters, brings gradients together. InputError:
    the device does not have the number format, or sharding has nothing to share.
    """

    def __init__(self, config: TrainConfig, model: nn.Module, group: Group) -> None:
        from accelerate import Accelerator, DistributedDataParallelKwargs
        from accelerate.state import AcceleratorState
        from accelerate.utils import AutocastKwargs

        sharding = chosen_sharding(config, group)
        if sharding == "full" and config.optimizer.adamw_state != "fp32":
            raise InputError(
                f"optimizer.adamw_state={config.optimizer.adamw_state} keeps momenta that cannot be shared "
                "out: use fp32 with sharding=full, or sharding=none."
            )
        launched_sharded = os.environ.pop("ACCELERATE_USE_FSDP", None)
        AcceleratorState._reset_state()  # else a second run in one process could not choose another precision
        try:
            self.accelerator = Accelerator(
                mixed_precision=chosen_precision(config, group.device),
                kwargs_handlers=[
                    DistributedDataParallelKwargs(
                        find_unused_parameters=_may_be_idle(model), gradient_as_bucket_view=True
                    ),
                    # Casts of weights that were let go would stay until the end of the forward.
                    AutocastKwargs(cache_enabled=sharding == "none"),
                ],
            )
        finally:
            if launched_sharded is not None:
                os.environ["ACCELERATE_USE_FSDP"] = launched_sharded
        self.raw = model.to(group.device)
        self.sharded = ShardedModel(self.raw, group) if sharding == "full" else None
        self.model = self.accelerator.prepare_model(self.raw, evaluation_mode=sharding == "full")

    def autocast(self) -> AbstractContextManager[Any]:
        """In which losses are computed."""
        return self.accelerator.autocast()

    def no_sync(self) -> AbstractContextManager[Any]:
        """In which gradients of a micro-batch stay with their process until the last of a step. Portions of
        gradients are summed at once, because no process has room for all of them."""
        return nullcontext() if self.sharded is not None else self.accelerator.no_sync(self.model)

    def give_back_forward(self) -> None:
        """The model's own `forward`, without the casts."""
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)

    def make_whole(self) -> None:
        """All weights on every process, by all together; see `ShardedModel.undo`."""
        if self.sharded is not None:
            self.sharded.undo()


def _may_be_idle(model: nn.Module) -> bool:
    """Whether something is trained that batches without text leave without gradients; looking for it costs a
    walk through the graph in every step."""
    idle = model.idle_parameters(False) if hasattr(model, "idle_parameters") else ()
    return any(model.get_parameter(name).requires_grad for name in idle)


def chosen_sharding(config: TrainConfig, group: Group) -> str:
    """The `sharding` of a run: full or none. InputError: a single process was asked to share."""
    if config.sharding == "auto":
        launched = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
        return "full" if launched and group.size > 1 else "none"
    if config.sharding == "full" and group.size == 1:
        raise InputError(
            "sharding=full needs several processes, and this is one: start them with accelerate launch "
            "--num_processes N -m hallo4 train ..., or leave it out."
        )
    return config.sharding


def training_device() -> torch.device:
    """The device that `train` moves its model to: of this process, as accelerate chooses it."""
    return current_group().device


def to_device_of(model: nn.Module, batch: Any) -> Any:
    """`batch`, a tree of tensors (mappings, sequences), on the device of `model`. What looks at a model with
    batches of its own, such as a preview, needs this; `train` has done it for a `Method`."""
    from accelerate.utils import send_to_device

    return send_to_device(batch, device_of(model))
