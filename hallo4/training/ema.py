"""Exponential moving average of the weights, with a warm-up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hallo4.training.sharding import local, whole


class EMA:
    """The running mean of a model's trainable parameters; frozen ones cost nothing.

    Of a model whose parameters are shared out among processes, each has the mean of its portions. At update
    n (from 0) the decay is min(decay, (1 + n) / (10 + n)): early means forget the random start quickly.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.updates = 0
        self.weights: dict[str, Tensor] = {
            name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad
        }

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the weights of `model`."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.decay else 0.0
        parameters = dict(model.named_parameters())
        current = [local(parameters[name]) for name in self.weights]
        torch._foreach_lerp_([local(mean) for mean in self.weights.values()], current, 1.0 - decay)
        self.updates += 1

    @contextmanager
    @torch.no_grad()
    def applied(self, model: nn.Module) -> Iterator[nn.Module]:
        """Within the block `model` has the mean weights and is in eval mode; afterwards it is as before."""
        parameters = dict(model.named_parameters())
        saved = {name: parameters[name].detach().clone() for name in self.weights}
        training = model.training
        try:
            for name, mean in self.weights.items():
                parameters[name].copy_(mean)
            yield model.eval()
        finally:
            for name, value in saved.items():
                parameters[name].copy_(value)
            model.train(training)

    def make_whole(self) -> None:
        """Gather the portions, by all processes together, where the mean is shared out."""
        for name, mean in self.weights.items():
            self.weights[name] = whole(mean)
