"""What a network says of noisy latents and what it should have said: fine-tuning and preference alike.

clean, noise, sigma --add_noise--> predict(model, noisy, sigma, conditions) --> found
                    '--target---------------------------------------------> wanted
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from hallo4.diffusion.discrete import model_timestep
from hallo4.diffusion.noising import Prediction, add_noise, target
from hallo4.training.reference import unwrapped
from hallo4.types import MotionConditions

Predict = Callable[[nn.Module, Tensor, Tensor, Any], Tensor]
"""(model, noisy latents [B, C, F, h, w], sigma [B], conditions) -> prediction, the same shape.

`model` may be shared among processes: call it, and call its other methods on `unwrapped(model)`.
"""


def prediction_of(model: nn.Module) -> Prediction:
    """What a `Backbone` predicts."""
    return "flow" if unwrapped(model).schedule is None else "v"


def predict(model: nn.Module, noisy: Tensor, sigma: Tensor, conditions: Mapping[str, Any]) -> Tensor:
    """A `Predict` for any `Backbone`; `conditions`: the fields of `MotionConditions`, as a mapping."""
    bare = unwrapped(model)
    given = MotionConditions(**conditions)
    timestep = model_timestep(sigma, bare.schedule)
    return bare.video_latents(model(bare.to_sample_layout(noisy, given), timestep, given))


def found_and_wanted(
    predict: Predict,
    prediction: Prediction,
    model: nn.Module,
    clean: Tensor,
    noise: Tensor,
    sigma: Tensor,
    conditions: Any,
) -> tuple[Tensor, Tensor]:
    """(found with gradient, wanted), both like `clean` [B, C, F, h, w]; `sigma` [B] in [0, 1]."""
    noisy = add_noise(clean, noise, sigma, prediction)
    return predict(model, noisy, sigma, conditions), target(clean, noise, sigma, prediction)
