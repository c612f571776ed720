"""A network with its published tensors, ready to measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from hallo4.weights.tensors import fill

Network = TypeVar("Network", bound=nn.Module)


def with_published(make: Callable[[], Network], tensors: Mapping[str, Tensor], path: Path) -> Network:
    """The network that `make` builds with the `tensors` of the file `path`: no gradients, evaluation mode.

    Only counters of batch normalisation (`num_batches_tracked`), which old files lack, may be missing.
    CheckpointError for anything missing, unexpected, of another shape, or not finite.
    """
    with torch.device("meta"):  # no random weights are drawn that are replaced anyway
        network = make()
    network = network.to_empty(device="cpu")
    fill(network, tensors, path, "Give the file that is published.", may_lack="num_batches_tracked")
    return network.eval().requires_grad_(False)
