"""What a training leaves: a complete model folder, or an adapter on another one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import nn

from hallo4.errors import InputError
from hallo4.pipelines.adapter import add_changes
from hallo4.pipelines.model_folder import (
    LoadedModel,
    is_adapter,
    load_model,
    save_adapter_folder,
    save_model_folder,
    save_trained_folder,
)
from hallo4.pipelines.model_info import ModelInfo
from hallo4.training import TuningConfig, adapter_state
from hallo4.training.ranks import on_main

ResultKind = Literal["merged", "adapter"]


def check_result(start: LoadedModel, tuning: TuningConfig, result: ResultKind) -> None:
    """InputError: the result cannot be an adapter on that model. Said before the training."""
    if tuning.tuning == "lora" and result == "adapter" and is_adapter(start.folder):
        raise InputError(
            f"{start.info.name} is an adapter itself, and an adapter on an adapter cannot be kept: use "
            "result=merged."
        )


def save_result(
    target: Path,
    start: LoadedModel,
    model: nn.Module,
    info: ModelInfo,
    card: str,
    tuning: TuningConfig,
    result: ResultKind = "merged",
    adapter: str = "",
    base: str | None = None,
) -> Path:
    """Write the trained `model`, the backbone of `start` (called `base`) or of its class, as the folder
    `target`.

    All other parts are those of `start`, byte for byte; a new model's are written in bf16. Of an adapter
    `adapter`, the changes are added to the weights of the model in fp32, or kept as they are.
    """

    def write() -> Path:
        if tuning.tuning == "full":
            if start.folder is None:
                parts = (start.autoencoder, start.audio_front_end.to_config())
                return save_model_folder(target, info, model, *parts, card)
            return save_trained_folder(target, start.folder, info, model, card)
        state, scale = adapter_state(model, adapter), tuning.adapter.scale
        assert start.folder is not None, "an adapter changes a model that is there"
        if result == "adapter":
            return save_adapter_folder(target, info, base or start.folder, state, scale, card)
        backbone = load_model(start.folder, "cpu", torch.float32).backbone
        add_changes(backbone, state, scale)
        return save_trained_folder(target, start.folder, info, backbone, card)

    return on_main("the model folder", write)
