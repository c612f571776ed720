"""AdamW with its two means in fp32, or in 8 bits (arXiv 2110.02861) through `bitsandbytes`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch

from hallo4.errors import InputError, MissingExtraError
from hallo4.training.config import OptimizerConfig


def build_adamw(groups: Sequence[dict[str, Any]], config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW for the parameter `groups`. MissingExtraError without bitsandbytes where it is asked for;
    InputError where it cannot run: means in shared memory need a GPU."""
    settings = {"lr": config.learning_rate, "betas": config.betas}
    if config.adamw_state == "fp32":
        return torch.optim.AdamW(groups, **settings)
    device = groups[0]["params"][0].device
    if config.adamw_state == "paged_8bit" and device.type != "cuda":
        raise InputError(
            "optimizer.adamw_state=paged_8bit shares memory between a GPU and its machine, and this run is "
            f"on {device.type}: use 8bit, or fp32."
        )
    quiet_bitsandbytes()
    try:
        from bitsandbytes import optim
    except ImportError as error:
        raise MissingExtraError(
            "AdamW in 8 bits needs bitsandbytes: pip install 'hallo4[eight-bit]'."
        ) from error
    kind = optim.PagedAdamW8bit if config.adamw_state == "paged_8bit" else optim.AdamW8bit
    optimizer = kind(groups, **settings)
    try:
        probe = torch.zeros(4096, device=device, requires_grad=True)
        probe.grad = torch.ones_like(probe)
        kind([probe], lr=0.0).step()
    except Exception as error:  # its kernels refuse devices in many ways
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"optimizer.adamw_state={config.adamw_state}: bitsandbytes does not run on {device.type} "
            f"({reason}). Use fp32."
        ) from error
    return optimizer


def quiet_bitsandbytes() -> None:
    """It warns at its import of kernels for 4 bits, which nothing here uses."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
