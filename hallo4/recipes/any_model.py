"""Recipes for any model folder: fine-tuning on prepared videos, preference optimization, and its control.

    hallo4 train hallo4-sft --set model=FOLDER --set prepared=SHARDS
    hallo4 train hallo4-dpo --set model=FOLDER --set store=STORE
    hallo4 train hallo4-winners --set model=FOLDER --set store=STORE

The values are for the released size: adapters on attention in fp32 on a base in bf16, and of activations the
inputs of blocks alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hallo4.diffusion import PairDrawConfig
from hallo4.ranges import BatchSize, FlowShift, NotNegative, Share
from hallo4.recipes import fine_tuning, preferences
from hallo4.recipes.held_out_pairs import HeldOutConfig
from hallo4.recipes.recipe import Recipe
from hallo4.training import OptimizerConfig, ScheduleConfig, TrainConfig
from hallo4.training.preference_step import Mode
from hallo4.training.tuning import FrozenType, Tuning

SHIFT = 8.0
"""Of noise levels: as the released model is sampled with."""


def adamw_training(name: str, steps: int, learning_rate: float, warmup_steps: int, ema: float) -> TrainConfig:
    """AdamW at a rate that is constant after its warm-up, falling over the last tenth."""
    return TrainConfig(
        name=name,
        steps=steps,
        ema_decay=ema,
        log_every=10,
        save_minutes=15,
        optimizer=OptimizerConfig(learning_rate=learning_rate, weight_decay=0.0, betas=(0.9, 0.999)),
        schedule=ScheduleConfig(warmup_steps=warmup_steps, anneal_fraction=0.1, final_fraction=0.1),
    )


@dataclass(frozen=True, kw_only=True)
class ModelSFTConfig(fine_tuning.FineTuneConfig):
    """`FineTuneConfig` for a model of the released size: an adapter, or with tuning=full the parts named in
    `trainable`, or everything."""

    tuning: Tuning = "lora"
    frozen_dtype: FrozenType = "auto"
    gradient_checkpointing: bool = True
    batch_size: BatchSize = 1
    shift: FlowShift = SHIFT
    known_noise: NotNegative = 0.0
    held_out_share: Share = 0.05
    train: TrainConfig = field(
        default_factory=lambda: replace(
            adamw_training("hallo4-sft", 5000, 1e-4, 250, 0.999),
            accumulate=8,
            preview_every=250,
            best_metric="held_out_loss",
        )
    )


@dataclass(frozen=True, kw_only=True)
class ModelPreferencesConfig(preferences.PreferencesConfig):
    """`PreferencesConfig` for a model of the released size: an adapter, winner and loser one after the
    other."""

    tuning: Tuning = "lora"
    frozen_dtype: FrozenType = "auto"
    gradient_checkpointing: bool = True
    mode: Mode = "split"
    batch_size: BatchSize = 1
    draw: PairDrawConfig = field(default_factory=lambda: PairDrawConfig(shift=SHIFT))
    held_out: HeldOutConfig = field(default_factory=lambda: HeldOutConfig(motion_windows=2, motion="pixels"))
    train: TrainConfig = field(
        default_factory=lambda: replace(
            adamw_training("hallo4-dpo", 2000, 1e-5, 250, 0.0),
            accumulate=64,
            preview_every=50,
            best_metric="score",
        )
    )


def sft_recipe() -> Recipe:
    """A model folder and shards -> the model, fine-tuned."""
    return Recipe(
        "hallo4-sft", "fine-tuning of any model on prepared videos", ModelSFTConfig(), fine_tuning.run
    )


def dpo_recipe() -> Recipe:
    """A model folder and a preference store -> the model, aligned with what raters prefer."""
    config = ModelPreferencesConfig()
    return Recipe("hallo4-dpo", "preference optimization of any model", config, preferences.run)


def winners_recipe() -> Recipe:
    """The control of `hallo4-dpo`: the same weights, pairs and steps, but the winners alone."""
    config = ModelPreferencesConfig(learn="winners")
    config = replace(config, train=replace(config.train, name="hallo4-winners"))
    summary = "the control of hallo4-dpo: fine-tuning on the winners alone"
    return Recipe("hallo4-winners", summary, config, preferences.run)
