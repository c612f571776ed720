"""A batch of preference pairs, as data functions make it and `pair_step` takes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from hallo4.errors import ShapeError


@dataclass(frozen=True)
class PairBatch:
    """B pairs on one device, and their draws (`hallo4.diffusion.pair_draws`).

    `winner`, `loser`, `noise` [B, C, F, h, w]: clean latents and the noise of both. `sigma` [B].
    `conditions`: a tree of tensors with the batch as axis 0, the same for both clips, with the draw's
    dropout applied; `loser_conditions`: where the loser goes on from its own last frame, the winner from
    another, a tree of the same form (see `hallo4.recipes.tiny_dpo`). `pairs`, `visits` [B] int64: row of the
    pair in its list, and how often it was used before; a Table needs them. `loss_weights` broadcastable to
    latents, as in `clip_errors`: mouth or skeleton region, no known frames. `pair_weights` [B],
    `axis_shares` [B, 2], `frame_labels` [B, F]: see
    `dpo_loss`. ShapeError when these do not fit each other.
    """

    winner: Tensor
    loser: Tensor
    noise: Tensor
    sigma: Tensor
    conditions: Any
    loser_conditions: Any = None
    pairs: Tensor | None = None
    visits: Tensor | None = None
    loss_weights: Tensor | None = None
    pair_weights: Tensor | None = None
    axis_shares: Tensor | None = None
    frame_labels: Tensor | None = None

    def __post_init__(self) -> None:
        """See the class."""
        shape = self.winner.shape
        for name in ("loser", "noise"):
            found = getattr(self, name).shape
            if found != shape:
                raise ShapeError(
                    f"The {name} of a pair is {list(found)}, the winner {list(shape)}: both clips must have "
                    "the same length and size. Leave such pairs out."
                )
        for name in ("sigma", "pairs", "visits"):
            value = getattr(self, name)
            if value is not None and value.shape != shape[:1]:
                raise ShapeError(f"{name} must be [{shape[0]}], one a pair; found {list(value.shape)}.")
        if self.loss_weights is not None and self.loss_weights.shape[:1] != shape[:1]:
            raise ShapeError(
                f"loss_weights must have the {shape[0]} pairs in front, as [{shape[0]}, 1, F, h, w]; "
                f"found {list(self.loss_weights.shape)}."
            )


def joined(first: Any, second: Any) -> Any:
    """Two trees of one form (mappings, sequences, dataclasses) with every tensor joined along axis 0."""
    if isinstance(first, Tensor):
        return torch.cat([first, second])
    if isinstance(first, Mapping):
        return {name: joined(value, second[name]) for name, value in first.items()}
    if isinstance(first, tuple | list):
        return type(first)(joined(one, other) for one, other in zip(first, second, strict=True))
    if is_dataclass(first):
        parts = {f.name: joined(getattr(first, f.name), getattr(second, f.name)) for f in fields(first)}
        return type(first)(**parts)
    return first
