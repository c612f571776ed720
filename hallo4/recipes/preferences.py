"""Preference optimization of any model on the pairs of a preference store, and its control.

    pairs.jsonl --PairData--> pair_method on an adapter or on all weights, against its reference
                              preview: held-out pairs at fixed draws, motion of made windows --> guard
                          --> the best of the previews --> folder/model

The control fine-tunes the same weights on the winners of the same pairs for as many steps: what DPO does
beyond it comes from the losers.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hallo4.data.latents import RegionWeights
from hallo4.data.pair_latents import encode_pairs
from hallo4.errors import InputError
from hallo4.pipelines.model_folder import LoadedModel
from hallo4.preference import Pair, PreferenceStore, StoreWarning
from hallo4.recipes.cards import preference_card
from hallo4.recipes.clip_sources import source_of
from hallo4.recipes.fine_tuning import FineTuneConfig, check_given, load_for_training
from hallo4.recipes.held_out_pairs import HeldOutConfig, HeldOutPairs
from hallo4.recipes.pair_data import PairData, pair_windows, usable_pairs, windows_of
from hallo4.recipes.recipe import counted
from hallo4.recipes.results import ResultKind, save_result
from hallo4.training import (
    PairConfig,
    PreferenceGuard,
    TrainConfig,
    TrainingMethod,
    TuningConfig,
    check_learning_rate,
    checkpoint,
    load_weights,
    pair_method,
    prediction_of,
    sft_method,
    trained_in_words,
    training_autocast,
    tuned,
)
from hallo4.training.pairs import check_reference, draws_of, make_reference
from hallo4.training.ranks import main_first
from hallo4.version import __version__

ADAPTER = "dpo"
"""Name of the adapter of preference training, where it makes one."""


@dataclass(frozen=True, kw_only=True)
class PreferencesConfig(PairConfig, TuningConfig):
    """One run on the pairs of `store` (`hallo4 prefer pairs` makes them), from the `model` that made them.

    `PairConfig` says how pairs become a loss, `TuningConfig` what is trained. `pairs_folder`: where the
    encoded pairs are kept; `regions`: weights of the loss, those of the fine-tuning before. `anchor`: the
    fine-tuning whose loss `anchor_weight` adds, with its clips. `model_name`, `result`: see `FineTuneConfig`.
    """

    train: TrainConfig
    model: str | None = None
    store: str | None = None
    pairs_folder: str = "runs/pair_latents"
    model_name: str = "my-model"
    result: ResultKind = "merged"
    regions: RegionWeights = field(default_factory=RegionWeights)
    held_out: HeldOutConfig = field(default_factory=HeldOutConfig)
    guard: PreferenceGuard = field(default_factory=PreferenceGuard)
    anchor: FineTuneConfig = field(
        default_factory=lambda: FineTuneConfig(train=TrainConfig(name="anchor", steps=1))
    )


def run(config: PreferencesConfig, folder: Path) -> Path:
    """Encode the pairs, train, save `folder/model`; returns it.

    The weights are the best of the run: of the previews within the guard's limits those with the largest
    held-out margin. InputError: no pairs, none held out, none for training, pairs that do not fit the model,
    or a configuration that does not.
    """
    check_given(config, model="FOLDER", store="STORE")
    check_reference(config.reference, config.tuning)
    start = load_for_training(config, prompts=(None, None))
    if prediction_of(start.backbone) != config.loss.prediction:
        raise InputError(
            f"{config.model} predicts {prediction_of(start.backbone)!r}, but the loss is of "
            f"{config.loss.prediction!r}: set loss.prediction, or take the recipe of that model."
        )
    model = tuned(start.backbone, config, config.train, ADAPTER, text=start.prompts is not None)
    with main_first("the encoded pairs"):
        data, pairs, clips = load_pairs(config, start)
    splits = torch.tensor([pairs[pair_id].split == "train" for pair_id, _ in data.rows])
    if splits.all() or not splits.any():
        found = "held out" if splits.all() else "for training"
        raise InputError(
            f"{config.store}: no pair is {found}; make them again with --held-out 0.1, from more people."
        )
    check_learning_rate(model, config.train.optimizer.learning_rate)
    autocast = partial(training_autocast, config.train, start.device.type)
    with main_first("the table of the reference"):
        table = folder / "reference.safetensors"
        pairs_and_table = (data.encoded.sha256, table, counted("rows of the reference's table"))
        reference = make_reference(model, config, len(data), data.batch, autocast, *pairs_and_table)
    training, seed = splits.nonzero()[:, 0], config.train.seed
    looked_at = (data, _spread(~splits, config.held_out.windows), clips, start, reference)
    held_out = HeldOutPairs(*looked_at, config.held_out, config.loss, config.guard, config.train)
    held_out.before_training(model)
    batches = data.training(training, config.batch_size, seed, draws_of(reference))
    guard = config.guard if config.learn == "preferences" else None
    parts = (model, batches, reference, config, held_out, guard, _anchor(config, start))
    result = pair_method(config.train.name, *parts).run(config.train, folder)
    if not checkpoint.exists(folder, "best"):
        raise InputError(
            f"{folder}: no preview of the run was within the guard's limits, so nothing is saved as a model. "
            "Take a lower train.optimizer.learning_rate, a larger loss.beta, or other limits (guard)."
        )
    step = load_weights(folder, model, "best")
    card = preference_card(
        *(config.model_name, config.train.name, config.model, trained_in_words(config, model)),
        *(Path(config.store).name, config.learn, config.loss, seed, len(training), config.batch_size),
        *(step, result.progress.step),
    )
    info = replace(start.info, name=config.model_name, version=__version__)
    kind = (config.result, ADAPTER, config.model)
    return save_result(folder / "model", start, model, info, card, config, *kind)


def load_pairs(
    config: PreferencesConfig, start: LoadedModel
) -> tuple[PairData, dict[str, Pair], Mapping[str, Any]]:
    """(encoded rows, pairs by id, clips of the store). Warns of pairs that cannot be used.

    InputError: no store, or no pairs in it yet.
    """
    store = PreferenceStore.open(config.store)
    kept, left_out = usable_pairs(store)
    for line in left_out:
        warnings.warn(f"{config.store}: left out, {line}", StoreWarning, stacklevel=2)
    if not kept:
        raise InputError(
            f"{config.store}: has no pairs to train on; make them: hallo4 prefer pairs {config.store}"
        )
    pairs = {pair.pair_id: pair for pair in kept}
    encoded = encode_pairs(
        list(pairs),
        lambda pair_id: pair_windows(store, pairs[pair_id], start),
        start.autoencoder,
        start.backbone.windows,
        windows_of(start),
        config.pairs_folder,
        counted("pairs encoded"),
    )
    data = PairData(encoded, pairs, config.draw, config.regions, start.info, start.backbone.windows)
    return data, pairs, store.clips()


def _anchor(config: PreferencesConfig, start: LoadedModel) -> TrainingMethod | None:
    """The fine-tuning that holds the model, with as many clips as pairs; None without a weight."""
    if not config.anchor_weight:
        return None
    anchor = replace(config.anchor, batch_size=config.batch_size)
    clips = source_of(anchor, start).clips
    return sft_method("anchor", start.backbone, start.autoencoder, clips, anchor, config.train.seed)


def _spread(chosen: Tensor, most: int) -> Tensor:
    """At most `most` of the chosen indices, evenly spread."""
    indices = chosen.nonzero()[:, 0]
    if len(indices) <= most:
        return indices
    return indices[torch.linspace(0, len(indices) - 1, most).round().long()]
