"""What a run learns, as one object: the loop is given this and a `TrainConfig`, and nothing else.

    data(index) -> batch, draws included -> loss(model, batch) -> numbers
                                            preview(model) -> numbers of what is held out

A loss is a pure function of model and batch: what is random about it (noise, noise levels, what is known,
what is dropped) was drawn by key when the batch was made. It calls the model it is given, wrapped or not,
through its `forward` alone, so that sharding, several processes and compilation see every parameter.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from hallo4.training.config import TrainConfig
from hallo4.training.loop import Data, Guard, Method, Preview, TrainResult, train


@dataclass(frozen=True)
class TrainingMethod:
    """`model`: what is trained, its trainable parameters with `requires_grad`. `loss`: see `Method`; `data`:
    batch number `index`, counted over all processes, from the index alone; `preview`: validation on what is
    held out (None: nothing is); `guard`: when its values end the run."""

    name: str
    model: nn.Module
    loss: Method
    data: Data
    preview: Preview | None = None
    guard: Guard | None = None

    def run(self, config: TrainConfig, folder: Path) -> TrainResult:
        """Train in `folder`, or go on there; see `train`."""
        looks = {"on_preview": self.preview, "guard": self.guard}
        return train(config, self.loss, self.model, self.data, folder=folder, **looks)
