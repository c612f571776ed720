"""Direct preference optimization of the tiny models on the pairs of a preference store, and its control."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hallo4.diffusion import PairDrawConfig
from hallo4.recipes.fine_tuning import FineTuneConfig
from hallo4.recipes.preferences import PreferencesConfig, run
from hallo4.recipes.recipe import Recipe
from hallo4.recipes.results import ResultKind
from hallo4.recipes.tiny_dit import TinyDiTConfig
from hallo4.recipes.tiny_unet import TinyUNetConfig
from hallo4.training import AdapterConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from hallo4.training.tuning import Tuning


@dataclass(frozen=True, kw_only=True)
class TinyDPOConfig(PreferencesConfig):
    """`PreferencesConfig` of an adapter on `tiny-dit-sft`; its anchor are clips of the world."""

    model: str | None = "tiny-dit-sft"
    store: str | None = "runs/preferences"
    model_name: str = "tiny-dit"
    tuning: Tuning = "lora"
    result: ResultKind = "adapter"
    adapter: AdapterConfig = field(default_factory=lambda: AdapterConfig(rank=16, alpha=16.0))
    draw: PairDrawConfig = field(default_factory=lambda: PairDrawConfig(shift=2.0))
    anchor: FineTuneConfig = field(
        default_factory=lambda: TinyDiTConfig(latents_folder="runs/latents_anchor")
    )
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
        model="tiny-unet-sft",
        loss=replace(config.loss, prediction="v"),
        trainable=UNET_LAYERS,
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
