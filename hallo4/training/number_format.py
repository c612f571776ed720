"""The number format of a run: bf16 under autocast, or fp32."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

import torch

from hallo4.errors import InputError
from hallo4.models.precision import has_bf16_units
from hallo4.training.config import TrainConfig


def chosen_precision(config: TrainConfig, device: torch.device) -> str:
    """The `mixed_precision` of a run on `device`: bf16 or no, from the configuration, else from `accelerate
    launch`, else what the device is fast in. InputError: fp16, or bf16 on a GPU without it."""
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if launched not in ("no", "bf16"):
        raise InputError(
            f"accelerate launch asks for --mixed_precision {launched}, in which training is not supported: "
            "use bf16, or no."
        )
    chosen = config.mixed_precision
    if chosen == "auto":
        chosen = "bf16" if launched == "bf16" or has_bf16_units(device.type) else "no"
    on_gpu = device.type == "cuda"
    if chosen == "bf16" and on_gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise InputError(
            f"{torch.cuda.get_device_name(device)} does not compute in bf16: use "
            "--set train.mixed_precision=no."
        )
    return chosen


def training_autocast(config: TrainConfig, device_type: str) -> AbstractContextManager:
    """The autocast under which `train` computes losses on `device_type`, for what computes with its model
    outside of the loop: previews, tables."""
    precision = chosen_precision(config, torch.device(device_type))
    return nullcontext() if precision == "no" else torch.autocast(device_type, torch.bfloat16)
