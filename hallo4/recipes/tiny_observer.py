"""Training of the observer, the instrument that measures generated videos of the world.

It sees rendered frames only, disturbed so that it stays honest on generated ones, and none of the people
it will judge.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from hallo4.data.clips import ClipStore, ClipStoreConfig, build_clips
from hallo4.models.observer import PortraitObserver
from hallo4.ranges import BatchSize, SidePx, Width
from hallo4.recipes.observer_data import ObserverData, observer_method
from hallo4.recipes.recipe import Recipe
from hallo4.training import OptimizerConfig, ScheduleConfig, TrainConfig, to_device_of, train
from hallo4.whole import whole_folder


@dataclass(frozen=True)
class ObserverSizes:
    """See `PortraitObserver`."""

    width: Width = 16
    frame_px: SidePx = 128
    mouth_patch_px: tuple[int, int] = (32, 32)
    eyes_patch_px: tuple[int, int] = (24, 48)


@dataclass(frozen=True)
class TinyObserverConfig:
    """Frames come from the clips of the training store; held-out people from a store of their own.
    `more_clips`: folders of clips that were rendered before, such as those of another world, which the
    observer sees too, so that one instrument serves models of both."""

    sizes: ObserverSizes = field(default_factory=ObserverSizes)
    clips: ClipStoreConfig = field(default_factory=lambda: ClipStoreConfig(episodes=2000))
    clips_folder: str = "runs/clips_train"
    more_clips: tuple[str, ...] = ()
    held_out: ClipStoreConfig = field(
        default_factory=lambda: ClipStoreConfig(episodes=25, first_seed=900_000)
    )
    batch_size: BatchSize = 48
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            name="tiny-observer",
            steps=6000,
            max_minutes=9,
            ema_decay=0.998,
            log_every=50,
            optimizer=OptimizerConfig(learning_rate=1.5e-3, weight_decay=0.01),
            schedule=ScheduleConfig(warmup_steps=100, anneal_fraction=0.8, final_fraction=0.02),
        )
    )


def run(config: TinyObserverConfig, folder: Path) -> Path:
    """Train and save `folder/observer`; returns that folder."""
    stores = [build_clips(config.clips_folder, config.clips), *map(ClipStore, config.more_clips)]
    held_out = build_clips(f"{config.clips_folder}_heldout", config.held_out)
    torch.manual_seed(config.train.seed)
    model = PortraitObserver(**asdict(config.sizes))
    clips = [store.clip(i) for store in stores for i in range(len(store))]
    data = ObserverData(clips, config.batch_size)
    judged = ObserverData([held_out.clip(i) for i in range(len(held_out))], 64, disturbance=None)

    def preview(step: int, averaged: PortraitObserver) -> dict[str, float]:
        sums: dict[str, float] = {}
        for k in range(4):
            batch = to_device_of(averaged, judged(k, torch.Generator().manual_seed(k)))
            _, metrics = observer_method(averaged, batch, step)
            for name, value in metrics.items():
                sums[name] = sums.get(name, 0.0) + float(value) / 4
        return sums

    result = train(config.train, observer_method, model, data, folder=folder, on_preview=preview)
    with result.ema.applied(model), whole_folder(folder / "observer") as building:
        model.save_pretrained(building)
    return folder / "observer"


def recipe() -> Recipe:
    """The instrument of `hallo4 evaluate world`."""
    return Recipe(
        "tiny-observer", "the observer that measures videos of the world", TinyObserverConfig(), run
    )
