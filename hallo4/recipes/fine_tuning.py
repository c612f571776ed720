"""Supervised fine-tuning of any model: its parts from a folder, or new, and clips of either kind.

    LoadedModel --tuned--> backbone --.
    SourceOfClips --------------------+--sft_method--> train --> folder/model, complete

What a recipe of a new model adds (sizes, parts that were trained before) is in `tiny_models`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hallo4.errors import InputError
from hallo4.pipelines.model_folder import LoadedModel, load_model
from hallo4.ranges import Episodes, Share
from hallo4.recipes.cards import further_card
from hallo4.recipes.clip_sources import SourceOfClips, source_of
from hallo4.recipes.results import ResultKind, check_result, save_result
from hallo4.training import (
    SFTConfig,
    TrainConfig,
    TuningConfig,
    sft_method,
    trained_in_words,
    training_device,
    tuned,
)
from hallo4.training.held_out_clips import HeldOutClips
from hallo4.training.sft import SFTBatches
from hallo4.training.tuning import frozen_in_bf16
from hallo4.version import __version__

ADAPTER = "sft"
"""Name of the adapter of a fine-tuning, where it makes one."""


@dataclass(frozen=True, kw_only=True)
class FineTuneConfig(SFTConfig, TuningConfig):
    """One run: `SFTConfig` says how clips become a loss, `TuningConfig` what is trained.

    `model`: the folder or name of the model that is trained further, with its own parts. `prepared`: a folder
    of `hallo4 data prepare`, made for that model. `held_out_share` of its videos, at least one, are not
    trained on (0: none); every `train.preview_every` steps their loss is measured at `held_out_draws` fixed
    draws.
    `model_name`: what the result is called. `result`, where an adapter is trained: "merged", a complete
    model, or "adapter", the changes alone, which need the model beside them.
    """

    train: TrainConfig
    model: str | None = None
    prepared: str | None = None
    held_out_share: Share = 0.0
    held_out_draws: Episodes = 2
    model_name: str = "my-model"
    result: ResultKind = "merged"


def run(config: FineTuneConfig, folder: Path) -> Path:
    """Fine-tune `config.model` on `config.prepared`; returns the model folder `folder/model`.

    InputError: one of them is not said, or they do not fit each other.
    """
    check_given(config, model="FOLDER", prepared="SHARDS")
    start = load_for_training(config)
    return fine_tune(config, folder, start, source_of(config, start))


def check_given(config: Any, **examples: str) -> None:
    """InputError: a value that the run needs is not set; `examples` name such values."""
    for name, example in examples.items():
        if getattr(config, name) is None:
            raise InputError(f"{name} is not set: say which with --set {name}={example}.")


def load_for_training(config: FineTuneConfig | Any, prompts: tuple[None, None] | None = None) -> LoadedModel:
    """`config.model` on the device of the training, in fp32, or frozen weights in bf16 at once on a GPU.

    InputError: what `config` makes of it cannot be kept.
    """
    torch.manual_seed(config.train.seed)
    device = training_device()
    halved = (
        device.type == "cuda" and config.tuning == "lora" and frozen_in_bf16(config, config.train, device)
    )
    start = load_model(config.model, device, torch.bfloat16 if halved else torch.float32, prompts)
    check_result(start, config, config.result)
    return start


def fine_tune(
    config: FineTuneConfig,
    folder: Path,
    start: LoadedModel,
    source: SourceOfClips,
    card: Callable[[int], str] | None = None,
) -> Path:
    """Train the backbone of `start` on `source`, save the model folder `folder/model` (mean weights).

    `card`: its README after so many steps (None: that of a model trained further). InputError: nothing to
    hold out, or `TuningConfig` does not fit the backbone.
    """
    model = tuned(start.backbone, config, config.train, ADAPTER, text=start.prompts is not None)
    rules, seed = start.backbone.windows, config.train.seed
    rows, held_out = source.split(config.held_out_share, seed)
    preview = None
    if len(held_out):
        data = SFTBatches(source.clips, config, rules, seed, held_out)
        preview = HeldOutClips(data, config, start.autoencoder, config.train, config.held_out_draws)
    name, parts = config.train.name, (source.clips, config, seed, rows)
    method = sft_method(name, model, start.autoencoder, *parts, preview=preview)
    result = method.run(config.train, folder)
    made = source.frames - rules.known_frames + rules.repeated_frames
    described = start.info.description if start.folder is None else f"{start.info.name}, trained further."
    info = replace(
        start.info,
        name=config.model_name,
        version=__version__,
        window_frames=made,
        description=described,
    )
    if source.rendered is not None:
        info = replace(info, size_px=source.rendered.size_px, world=source.rendered.world)
    if start.info.trained_on is not None:
        info = replace(info, trained_on=source.extends(start.info.trained_on))
    steps = result.progress.step
    text = card(steps) if card is not None else further_card(
        *(config.model_name, name, start.info.name, trained_in_words(config, model), source.what),
        *(source.licences, source.measured(), seed, config.batch_size, steps),
    )  # fmt: skip
    with result.ema.applied(model):
        kind = (config.result, ADAPTER, config.model)
        return save_result(folder / "model", start, model, info, text, config, *kind)
