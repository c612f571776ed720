"""Validation of a fine-tuning: the loss on clips that are held out, at the same draws every time."""

from __future__ import annotations

import torch
from torch import nn

from hallo4.diffusion.keyed import keyed_generator
from hallo4.models.devices import device_of
from hallo4.training.config import TrainConfig
from hallo4.training.number_format import training_autocast
from hallo4.training.placement import to_device_of
from hallo4.training.sft import SFTBatches, SFTConfig, sft_objective
from hallo4.types import Autoencoder


class HeldOutClips:
    """A `Preview`: `held_out_loss`, `held_out_error` and `held_out_mouth_error`, means over all clips of
    `data` at `draws` draws each."""

    def __init__(
        self, data: SFTBatches, config: SFTConfig, autoencoder: Autoencoder, run: TrainConfig, draws: int
    ) -> None:
        self.data, self.run, self.draws = data, run, draws
        self.objective = sft_objective(config, autoencoder)

    @torch.no_grad()
    def __call__(self, step: int, model: nn.Module) -> dict[str, float]:
        """See the class."""
        sums, count = {"loss": 0.0, "error": 0.0, "mouth_error": 0.0}, 0
        for group in self.data.groups:
            for number, rows in enumerate(group.split(self.data.config.batch_size)):
                for draw in range(self.draws):
                    key = keyed_generator("held out clips", self.data.seed, int(rows[0]), number, draw)
                    batch = to_device_of(model, self.data.drawn(rows, key))
                    with training_autocast(self.run, device_of(model).type):
                        loss, values = self.objective(model, batch, step)
                    count += len(rows)
                    for name, value in {"loss": float(loss), **values}.items():
                        sums[name] += value * len(rows)
        return {f"held_out_{name}": value / count for name, value in sums.items()}
