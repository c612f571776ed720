"""Direct preference optimization of a tiny model on the pairs of a preference store, and its control.

    pairs.jsonl --PairData--> dpo_method on a LoRA adapter, reference: the adapter off --> adapter folder
                              preview: held-out pairs at fixed draws, motion of made windows --> guard

The control, `tiny-winners`, fine-tunes the same adapter on the winners of the same pairs for as many steps:
what DPO does beyond it comes from the losers.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hallo4.data.clips import build_clips
from hallo4.data.latents import RegionWeights, build_cache
from hallo4.data.pair_latents import encode_pairs
from hallo4.diffusion import PairDrawConfig, PreferenceLossConfig, clip_errors
from hallo4.errors import InputError
from hallo4.evaluation.look.instrument import measure
from hallo4.media.pixels import pm1_to_frames
from hallo4.models.precision import fast_autocast
from hallo4.pipelines.model_folder import LoadedModel, load_model, save_adapter_folder
from hallo4.pipelines.plan import window_noise
from hallo4.pipelines.window import decode_window, denoise_window
from hallo4.preference import Pair, PreferenceStore, StoreWarning
from hallo4.preference.watch import amplitude_px, observer
from hallo4.ranges import BatchSize, Episodes, NotNegative
from hallo4.recipes.cards import preference_card
from hallo4.recipes.fine_tuning import CachedClips, FineTuneConfig, fine_tuning_method
from hallo4.recipes.pair_data import PairData, pair_windows, usable_pairs, windows_of
from hallo4.recipes.recipe import Recipe, counted
from hallo4.recipes.tiny_dit import TinyDiTConfig
from hallo4.recipes.tiny_unet import TinyUNetConfig
from hallo4.training import (
    AdapterConfig,
    AdapterOff,
    OptimizerConfig,
    PairBatch,
    PreferenceGuard,
    ScheduleConfig,
    TrainConfig,
    adapter_state,
    add_lora,
    check_learning_rate,
    dpo_method,
    evaluate_pairs,
    found_and_wanted,
    load_weights,
    predict,
    prediction_of,
    to_device_of,
    train,
    training_device,
)
from hallo4.training.loop import Data, Method
from hallo4.training.pair_views import viewed
from hallo4.types import Autoencoder, MotionConditions
from hallo4.version import __version__

EVALUATED_AT_ONCE = 8


@dataclass(frozen=True)
class TinyDPOConfig:
    """One run on the pairs of `store` (`hallo4 prefer pairs` makes them), from the model `start_from`.

    `learn` "preferences" is DPO, "winners" the control. `draw` should have shift and distribution of the
    fine-tuning before; `regions` are its weights. `held_out_draws`: fixed draws for each held-out window; at
    most `held_out_windows` of those are looked at. `motion_windows`: how many windows a preview makes to
    compare their motion with the reference's; 0: none.

    `anchor_weight` above 0 adds so many times the loss of the fine-tuning run `anchor` on its own rendered
    clips, which holds a model that learns from videos of other systems to what is real. At the start a
    pair's loss has a gradient of beta / 4 with respect to an error: weights of 10 to 100 are felt.
    """

    store: str = "runs/preferences"
    model_name: str = "tiny-dit"
    start_from: str = "tiny-dit-sft"
    pairs_folder: str = "runs/pair_latents"
    learn: Literal["preferences", "winners"] = "preferences"
    loss: PreferenceLossConfig = field(default_factory=PreferenceLossConfig)
    adapter: AdapterConfig = field(default_factory=lambda: AdapterConfig(rank=16, alpha=16.0))
    draw: PairDrawConfig = field(default_factory=lambda: PairDrawConfig(shift=2.0))
    regions: RegionWeights = field(default_factory=RegionWeights)
    mode: Literal["batched", "split"] = "batched"
    batch_size: BatchSize = 8
    held_out_windows: Episodes = 32
    held_out_draws: Episodes = 2
    motion_windows: Episodes = 16
    anchor_weight: NotNegative = 0.0
    anchor: FineTuneConfig = field(
        default_factory=lambda: TinyDiTConfig(latents_folder="runs/latents_anchor")
    )
    guard: PreferenceGuard = field(default_factory=PreferenceGuard)
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            name="tiny-dpo",
            steps=150,
            ema_decay=0.0,
            log_every=10,
            preview_every=50,
            best_metric="score",
            optimizer=OptimizerConfig(learning_rate=5e-4, weight_decay=0.0),
            schedule=ScheduleConfig(warmup_steps=20, anneal_fraction=0.3, final_fraction=0.1),
        )
    )


def winners_method(config: PreferenceLossConfig):
    """Fine-tuning on the winners alone: the mean of their errors at the draws of the pairs."""

    def method(model: nn.Module, batch: Mapping[str, Any], step: int) -> tuple[Tensor, dict[str, float]]:
        pairs = PairBatch(**batch)
        draws = (pairs.winner, pairs.noise, pairs.sigma, pairs.conditions)
        found, wanted = found_and_wanted(predict, config.prediction, model, *draws)
        errors = clip_errors(found, wanted, pairs.loss_weights)
        return errors.mean(), {"winner_error": float(errors.detach().mean())}

    return method


def anchored(method: Method, anchor: FineTuneConfig, weight: float, autoencoder: Autoencoder) -> Method:
    """`method` plus `weight` times the fine-tuning loss on the clips in the batch's "real"."""
    fine_tuning = fine_tuning_method(anchor, autoencoder)

    def both(model: nn.Module, batch: Mapping[str, Any], step: int) -> tuple[Tensor, dict[str, float]]:
        pairs = {name: value for name, value in batch.items() if name != "real"}
        loss, values = method(model, pairs, step)
        real_loss, real_values = fine_tuning(model, batch["real"], step)
        return loss + weight * real_loss, {**values, "real_error": real_values["error"]}

    return both


def with_real_clips(data: Data, anchor: FineTuneConfig, start: LoadedModel, config: TinyDPOConfig) -> Data:
    """`data` with as many clips of the fine-tuning data as pairs under "real"."""
    store = build_clips(anchor.clips_folder, anchor.clips, on_progress=counted("shards of clips rendered"))
    cache = build_cache(store, start.autoencoder, anchor.latents_folder, counted("clips encoded"))
    real = CachedClips(cache, config.batch_size, config.train.seed)
    return lambda index, generator: {**data(index, generator), "real": real(index, generator)}


class HeldOut:
    """What a preview looks at: held-out windows at fixed draws, and the motion of windows made from them."""

    def __init__(
        self,
        data: PairData,
        rows: Tensor,
        clips: Mapping[str, Any],
        start: LoadedModel,
        config: TinyDPOConfig,
    ) -> None:
        self.data, self.start, self.config = data, start, config
        self.rows = rows.repeat_interleave(config.held_out_draws)
        self.visits = torch.arange(config.held_out_draws).repeat(len(rows))
        self.groups = data.groups(self.rows, clips)
        self.made_from = rows[: config.motion_windows]
        self.reference_motion: float | None = None

    def __call__(self, model: nn.Module, reference: AdapterOff) -> dict[str, float]:
        """Statistics of all rows and of their groups; `motion_ratio` where windows are made; `score`: minus
        the margin, infinite where the guard's limits are broken.

        (The held-out loss turns earlier: a few pairs that are wrong by much decide it, and the model it chose
        hardly differed from the reference.)
        """
        with fast_autocast(next(model.parameters()).device.type):
            stats = evaluate_pairs(model, self._batches(model), predict, reference, self.config.loss)
            values = stats.summary() | {"loss": float(stats.loss.mean())}
            if len(self.made_from):
                if self.reference_motion is None:
                    with reference.switched_off():
                        self.reference_motion = self._motion(model)
                values["motion_ratio"] = self._motion(model) / self.reference_motion
        score = self.config.guard.score(values, -values["margin"])
        return values | {"score": score} | viewed(stats, self.groups)

    def _batches(self, model: nn.Module) -> Iterator[PairBatch]:
        for start in range(0, len(self.rows), EVALUATED_AT_ONCE):
            part = slice(start, start + EVALUATED_AT_ONCE)
            yield PairBatch(**to_device_of(model, self.data.batch(self.rows[part], self.visits[part])))

    def _motion(self, model: nn.Module) -> float:
        """Mean amplitude of body joints, in pixels, over windows that `model` makes."""
        made_by, info = replace(self.start, backbone=model), self.start.info
        amplitudes = []
        for row in self.made_from.tolist():
            batch = to_device_of(model, self.data.batch(torch.tensor([row]), torch.tensor([0])))
            conditions = MotionConditions(**batch["conditions"])  # type: ignore[arg-type]
            cells = batch["winner"].shape[-2:]
            noise = window_noise(model.sample_shape(info.window_frames, *cells), 0, row)
            clean = denoise_window(made_by, conditions, noise, info.steps, 1.0, on_step=lambda done: None)
            amplitude = amplitude_px(measure(observer(), pm1_to_frames(decode_window(made_by, clean))))
            if amplitude is not None:
                amplitudes.append(amplitude)
        if not amplitudes:
            raise InputError("no made window shows enough of a body to measure motion; set motion_windows=0.")
        return sum(amplitudes) / len(amplitudes)


def load_pairs(
    config: TinyDPOConfig, start: LoadedModel
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
    tensors, rows = encode_pairs(
        list(pairs),
        lambda pair_id: pair_windows(store, pairs[pair_id], start),
        start.autoencoder,
        start.backbone.windows,
        windows_of(start),
        config.pairs_folder,
        counted("pairs encoded"),
    )
    data = PairData(tensors, rows, pairs, config.draw, config.regions, start.info, start.backbone.windows)
    return data, pairs, store.clips()


def run(config: TinyDPOConfig, folder: Path) -> Path:
    """Encode the pairs, train an adapter, save `folder/model`, an adapter on `start_from`; returns it.

    The adapter is the best of the run: of the previews within the guard's limits the one with the largest
    held-out margin. InputError: no pairs, none held out, or none for training.
    """
    torch.manual_seed(config.train.seed)
    start = load_model(config.start_from, training_device(), torch.float32)
    if prediction_of(start.backbone) != config.loss.prediction:
        raise InputError(
            f"{config.start_from} predicts {prediction_of(start.backbone)!r}, but the loss is of "
            f"{config.loss.prediction!r}: set loss.prediction, or take the recipe of that model."
        )
    model = add_lora(start.backbone, config.adapter)
    data, pairs, clips = load_pairs(config, start)
    splits = torch.tensor([pairs[pair_id].split == "train" for pair_id, _ in data.rows])
    if splits.all() or not splits.any():
        found = "held out" if splits.all() else "for training"
        raise InputError(
            f"{config.store}: no pair is {found}; make them again with --held-out 0.1, from more people."
        )
    reference = AdapterOff(model)
    check_learning_rate(model, config.train.optimizer.learning_rate)
    training = splits.nonzero()[:, 0]
    held_out = HeldOut(data, _spread(~splits, config.held_out_windows), clips, start, config)
    method = winners_method(config.loss)
    if config.learn == "preferences":
        method = dpo_method(predict, reference, config.loss, config.mode)
    batches = data.training(training, config.batch_size, config.train.seed)
    if config.anchor_weight:
        method = anchored(method, config.anchor, config.anchor_weight, start.autoencoder)
        batches = with_real_clips(batches, config.anchor, start, config)
    result = train(
        config.train,
        method,
        model,
        batches,
        folder=folder,
        on_preview=lambda step, averaged: held_out(averaged, reference),
        guard=config.guard if config.learn == "preferences" else None,
    )
    if not (folder / "best.pt").exists():
        raise InputError(
            f"{folder}: no preview of the run was within the guard's limits, so nothing is saved as a model. "
            "Take a lower train.optimizer.learning_rate, a larger loss.beta, or other limits (guard)."
        )
    step = load_weights(folder, model, "best")
    made_of = (len(training), config.batch_size, step, result.progress.step)
    who = (config.model_name, config.train.name, config.start_from)
    card = preference_card(*who, config.learn, config.loss, config.train.seed, *made_of)
    info = replace(start.info, name=config.model_name, version=__version__)
    state = adapter_state(model)
    return save_adapter_folder(folder / "model", info, config.start_from, state, config.adapter.scale, card)


def _spread(chosen: Tensor, most: int) -> Tensor:
    """At most `most` of the chosen indices, evenly spread."""
    indices = chosen.nonzero()[:, 0]
    if len(indices) <= most:
        return indices
    return indices[torch.linspace(0, len(indices) - 1, most).round().long()]


UNET_LAYERS = (
    r"denoiser\..*\.attn1",
    r"denoiser\..*\.audio_modules\..*\.attn2_\d",
    r"denoiser\..*\.motion_modules\..*\.attn2",
)
"""Attention of the denoiser but for that to the face, which the portrait world has not."""


def _of_unet(config: TinyDPOConfig) -> TinyDPOConfig:
    """The same run on `tiny-unet-sft`."""
    return replace(
        config,
        start_from="tiny-unet-sft",
        loss=replace(config.loss, prediction="v"),
        adapter=replace(config.adapter, layers=UNET_LAYERS),
        draw=replace(config.draw, shift=2.0, distribution="uniform"),
        anchor=TinyUNetConfig(latents_folder="runs/image_latents_anchor"),
    )


def _named(config: TinyDPOConfig, run_name: str, model_name: str) -> TinyDPOConfig:
    return replace(config, model_name=model_name, train=replace(config.train, name=run_name))


def recipe() -> Recipe:
    """`tiny-dit`: the fine-tuned tiny DiT, aligned with what raters prefer."""
    return Recipe("tiny-dpo", "preference optimization of the tiny DiT", TinyDPOConfig(), run)


def winners_recipe() -> Recipe:
    """The control: the same adapter, pairs and steps, but fine-tuning on the winners alone."""
    config = _named(TinyDPOConfig(learn="winners"), "tiny-winners", "tiny-winners")
    return Recipe("tiny-winners", "the control of tiny-dpo: fine-tuning on the winners alone", config, run)


def unet_recipe() -> Recipe:
    """`tiny-unet`: the fine-tuned tiny UNet, aligned with what raters prefer."""
    config = _named(_of_unet(TinyDPOConfig()), "tiny-unet-dpo", "tiny-unet")
    return Recipe("tiny-unet-dpo", "preference optimization of the tiny UNet", config, run)


def unet_winners_recipe() -> Recipe:
    """The control of `tiny-unet-dpo`."""
    config = _named(_of_unet(TinyDPOConfig(learn="winners")), "tiny-unet-winners", "tiny-unet-winners")
    return Recipe(
        "tiny-unet-winners", "the control of tiny-unet-dpo: fine-tuning on the winners alone", config, run
    )
