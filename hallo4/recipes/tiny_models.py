"""Fine-tuning of the tiny models on the portrait world, or on prepared videos: `fine_tuning` with new parts.

autoencoder, audio projector, sizes --new--> LoadedModel --.
a finished model ------------------------load--------------+--fine_tune--> folder/model
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from hallo4.errors import InputError
from hallo4.models.log_mel import LogMelFrontEnd
from hallo4.pipelines.model_folder import LoadedModel, check_belonging, saved_autoencoder
from hallo4.pipelines.model_info import ModelInfo
from hallo4.ranges import FlowShift, Steps
from hallo4.recipes.cards import sft_card
from hallo4.recipes.clip_sources import WorldClipsConfig, source_of
from hallo4.recipes.fine_tuning import FineTuneConfig, fine_tune, load_for_training
from hallo4.training import OptimizerConfig, ScheduleConfig, TrainConfig, to_device_of, training_device
from hallo4.training.sft import Batch
from hallo4.types import AutoencoderSpec
from hallo4.version import __version__
from hallo4.weights.tensors import fill, read_tensors

TEXT_DIM = 16
MEASURED_CLIPS = 64
"""Clips that a new model looks at before its training, of the most frequent size."""
FRAME_LAYERS = (r"audio_proj\.proj[123]", r"audio_proj\.norm")
"""Layers of the audio projector that work on single frames. They know real recordings, which must not be
forgotten; how their tokens are joined stays free."""


def muon_training(
    name: str, steps: int, max_minutes: float | None, ema_decay: float, adamw_names: tuple[str, ...]
) -> TrainConfig:
    """How the tiny backbones are trained: Muon for hidden matrices and kernels, AdamW for what `adamw_names`
    names, a long anneal."""
    return TrainConfig(
        name=name,
        steps=steps,
        max_minutes=max_minutes,
        ema_decay=ema_decay,
        log_every=20,
        save_minutes=4,
        optimizer=OptimizerConfig(
            kind="muon",
            learning_rate=1e-3,
            muon_learning_rate=2.5e-3,
            weight_decay=0.02,
            adamw_names=adamw_names,
        ),
        schedule=ScheduleConfig(warmup_steps=60, anneal_fraction=0.7, final_fraction=0.02),
    )


@dataclass(frozen=True, kw_only=True)
class TinyModelConfig(FineTuneConfig, WorldClipsConfig):
    """`FineTuneConfig` on clips of the world (`WorldClipsConfig`), unless `prepared` names others.

    Without `model` a new one is made, of `autoencoder`, `audio_proj` and the sizes that the recipe adds,
    which is sampled in `sampling_steps` steps at `flow_shift`.
    """

    family: ClassVar[str] = "dit"
    autoencoder_recipe: ClassVar[str] = "tiny-autoencoder"
    autoencoder: str = "runs/tiny-autoencoder/autoencoder"
    audio_proj: str = "runs/tiny-audio/audio_proj.safetensors"
    sampling_steps: Steps = 4
    flow_shift: FlowShift = 3.0
    frozen: tuple[str, ...] = FRAME_LAYERS


def fine_tune_tiny(
    config: TinyModelConfig,
    folder: Path,
    new_backbone: Callable[[AutoencoderSpec], nn.Module],
    describe: Callable[[Any], str],
    adapt: Callable[[nn.Module], nn.Module] = lambda model: model,
    outer_layers: Callable[[Any], tuple[str, ...]] = lambda config: (),
    measure: Callable[[nn.Module, Batch], None] | None = None,
) -> Path:
    """Encode what is missing, train, save `folder/model`; returns it.

    `new_backbone`: for latents of such an autoencoder; `describe`: it, in a line of the card; `adapt`: what
    becomes of a model that is trained further; `outer_layers`: what else is for AdamW, by the backbone's
    config, where Muon trains; `measure`: sets what a new model takes from clips before its training, given a
    batch of at most `MEASURED_CLIPS`. InputError: the autoencoder or the audio projector has not been trained
    yet, or the model is of another family, or the clips are not for it.
    """
    if config.prepared is not None and config.model is None:
        raise InputError(
            "prepared clips are latents of one model's autoencoder: name it with --set model=FOLDER."
        )
    if config.model is None:
        torch.manual_seed(config.train.seed)
        start = _new_model(config, new_backbone)
    else:
        start = load_for_training(config)
        if start.info.family != config.family:
            raise InputError(
                f"{config.model} is a {start.info.family}, and this recipe trains a {config.family}: take "
                "the other recipe."
            )
        start = replace(start, backbone=adapt(start.backbone))
    optimizer = config.train.optimizer
    if optimizer.kind == "muon":
        names = (*optimizer.adamw_names, *outer_layers(start.backbone.config))
        config = replace(config, train=replace(config.train, optimizer=replace(optimizer, adamw_names=names)))
    source = source_of(config, start)
    if config.model is None and measure is not None:
        rows = max(source.clips.groups.values(), key=len)[:MEASURED_CLIPS]
        measure(start.backbone, to_device_of(start.backbone, source.clips.batch(rows)))

    def card(steps: int) -> str:
        made_of = (config.train.seed, len(source.clips), steps, config.batch_size)
        described = describe(start.backbone.config)
        return sft_card(config.model_name, described, start.autoencoder.spec, *made_of, source.licences)

    return fine_tune(config, folder, start, source, card)


def _new_model(config: TinyModelConfig, new_backbone: Callable[[AutoencoderSpec], nn.Module]) -> LoadedModel:
    for maker, path in ((config.autoencoder_recipe, config.autoencoder), ("tiny-audio", config.audio_proj)):
        if not Path(path).exists():
            raise InputError(f"{path} is missing; make it first: hallo4 train {maker}")
    autoencoder = saved_autoencoder(config.autoencoder).to(training_device())
    backbone = new_backbone(autoencoder.spec)
    tensors = read_tensors(Path(config.audio_proj), "audio projector")
    fill(backbone.audio_proj, tensors, config.audio_proj, "Train it again: hallo4 train tiny-audio.")
    flow = {"flow_shift": config.flow_shift} if config.family == "dit" else {}
    info = ModelInfo(
        *(config.model_name, __version__, config.family, config.clips.size_px),
        steps=config.sampling_steps,
        **flow,
    )
    front_end = LogMelFrontEnd()
    check_belonging(info, backbone, autoencoder, front_end, Path(config.autoencoder))
    return LoadedModel(info, backbone, autoencoder, front_end)
