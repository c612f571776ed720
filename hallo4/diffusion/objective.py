"""Losses on predictions; every loss is built from the error of each clip."""

from __future__ import annotations

from torch import Tensor

from hallo4.errors import ShapeError


def clip_errors(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """[B] float32: the mean squared error of each clip, over everything but the batch axis.

    `prediction`, `target` [B, ...] alike, in any float type (the arithmetic is float32). `weights`
    (broadcastable to them, not negative, with a positive sum in every clip) turns the mean into sum(w e^2)
    / sum(w), so that a constant factor in the weights changes nothing. ShapeError for shapes that differ.
    """
    if prediction.shape != target.shape:
        raise ShapeError(
            f"Prediction and target must have one shape; found {list(prediction.shape)} and "
            f"{list(target.shape)}."
        )
    squared = (prediction.float() - target.float()).square()
    if weights is None:
        return squared.flatten(1).mean(1)
    weights = weights.float().expand_as(squared)
    return (squared * weights).flatten(1).sum(1) / weights.flatten(1).sum(1)


def sft_loss(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Supervised fine-tuning: the mean of `clip_errors` over the batch, a float32 scalar. Every clip
    counts the same."""
    return clip_errors(prediction, target, weights).mean()
