"""Losses on predictions; every loss is built from the error of each clip."""

from __future__ import annotations

import torch
from torch import Tensor

from hallo4.errors import ShapeError


def clip_errors(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """[B] float32: the mean squared error of each clip, over everything but the batch axis.

    `prediction`, `target` [B, ...] alike, in any float type (the arithmetic is float32). `weights`
    (broadcastable to them, not negative) turns the mean into sum(w e^2) / sum(w), so that a constant factor
    in the weights changes nothing; a clip whose weights are all 0 has error 0. ShapeError for shapes that
    differ.
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
    total = weights.flatten(1).sum(1)
    return (squared * weights).flatten(1).sum(1) / torch.where(total > 0, total, 1.0)


def frame_errors(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """[B, F] float32: `clip_errors` of each latent frame of `prediction`, `target` [B, C, F, ...].

    `weights` as in `clip_errors`; a latent frame without any has error 0.
    """
    if weights is not None:
        weights = weights.expand_as(prediction).transpose(1, 2).flatten(0, 1)
    frames, batch = prediction.shape[2], prediction.shape[0]
    prediction, target = (part.transpose(1, 2).flatten(0, 1) for part in (prediction, target))
    return clip_errors(prediction, target, weights).unflatten(0, (batch, frames))


def sft_loss(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Supervised fine-tuning: the mean of `clip_errors` over the batch, a float32 scalar. Every clip
    counts the same."""
    return clip_errors(prediction, target, weights).mean()
