"""The number format of a run, for what computes with its model outside of the loop: previews, tables."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from hallo4.models.precision import has_bf16_units
from hallo4.training.config import TrainConfig

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def training_autocast(config: TrainConfig, device_type: str) -> AbstractContextManager:
    """The autocast under which `train` computes losses on `device_type`: `TrainConfig.mixed_precision`."""
    precision = config.mixed_precision
    if precision == "auto":
        precision = "bf16" if has_bf16_units(device_type) else "no"
    return nullcontext() if precision == "no" else torch.autocast(device_type, _DTYPES[precision])
