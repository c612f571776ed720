"""Noising and what a network is asked for, for flow, v and epsilon models alike.

    sigma       1 (noise) ........... 0 (data)            target
    flow        x = (1 - sigma) data + sigma noise        noise - data
    v           x = alpha data + sigma noise              alpha noise - sigma data
    epsilon     x = alpha data + sigma noise              noise

alpha = sqrt(1 - sigma^2). Flow goes along a straight line and its target is the velocity there, dx/dsigma;
v and epsilon go along a quarter circle, and the v target is the velocity there, dx/dangle with sigma the
sine of the angle. For models with discrete timesteps sigma is sqrt(1 - alphas_cumprod[t]).
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from hallo4.errors import InputError

Prediction = Literal["flow", "v", "epsilon"]
"""What a network predicts: rectified flow (arXiv 2209.03003), v (arXiv 2202.00512) or the noise
(arXiv 2006.11239)."""


def add_noise(latents: Tensor, noise: Tensor, sigma: Tensor, prediction: Prediction = "flow") -> Tensor:
    """alpha latents + sigma noise; `latents`, `noise` [B, ...] alike, `sigma` [B] in [0, 1]."""
    sigma = _per_clip(sigma, latents)
    return _signal(sigma, prediction) * latents + sigma * noise


def velocity_target(latents: Tensor, noise: Tensor) -> Tensor:
    """noise - latents: the velocity of every point on the line between the two."""
    return noise - latents


def target(latents: Tensor, noise: Tensor, sigma: Tensor, prediction: Prediction = "flow") -> Tensor:
    """What a network of kind `prediction` should say at `add_noise(latents, noise, sigma, prediction)`.

    Shapes as there. InputError for an unknown kind.
    """
    check_prediction(prediction)
    if prediction == "flow":
        return velocity_target(latents, noise)
    if prediction == "epsilon":
        return noise
    sigma = _per_clip(sigma, latents)
    return _signal(sigma, prediction) * noise - sigma * latents


def epsilon_error_factor(sigma: Tensor, prediction: Prediction) -> Tensor:
    """[B]: squared error of the noise over squared error of the native target, at one x and `sigma` [B].

    (1 - sigma)^2 for flow (Flow-DPO, arXiv 2501.13918, lemma B.1), alpha^2 = 1 - sigma^2 for v, 1 for
    epsilon.
    """
    check_prediction(prediction)
    if prediction == "epsilon":
        return sigma.new_ones(sigma.shape)
    return _signal(sigma, prediction).square()


def check_prediction(prediction: str) -> None:
    """InputError unless `prediction` is one of `Prediction`."""
    if prediction not in get_args(Prediction):
        raise InputError(f"A model predicts 'flow', 'v' or 'epsilon'; found {prediction!r}.")


def _signal(sigma: Tensor, prediction: Prediction) -> Tensor:
    return 1.0 - sigma if prediction == "flow" else ((1.0 - sigma) * (1.0 + sigma)).sqrt()


def _per_clip(sigma: Tensor, latents: Tensor) -> Tensor:
    return sigma.to(latents).reshape(-1, *[1] * (latents.ndim - 1))
