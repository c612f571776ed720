"""Where a run computes, and batches brought there."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hallo4.errors import MissingExtraError
from hallo4.models.devices import device_of


def training_device() -> torch.device:
    """The device that `train` moves its model to: of this process, as accelerate chooses it."""
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise MissingExtraError("Training needs accelerate: pip install 'hallo4[train]'.") from error
    return PartialState().device


def to_device_of(model: nn.Module, batch: Any) -> Any:
    """`batch`, a tree of tensors (mappings, sequences), on the device of `model`. What looks at a model with
    batches of its own, such as a preview, needs this; `train` has done it for a `Method`."""
    from accelerate.utils import send_to_device

    return send_to_device(batch, device_of(model))
