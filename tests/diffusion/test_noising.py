"""Noising and targets of flow, v and epsilon models: their identities (group 10)."""

import math

import pytest
import torch

from hallo4.diffusion import add_noise, epsilon_error_factor, target, velocity_target
from hallo4.errors import InputError

KINDS = ("flow", "v", "epsilon")
SIGMA = torch.tensor([0.02, 0.3, 0.7, 0.98], dtype=torch.float64)


def normal(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 2, 3, 5, 5, generator=generator, dtype=torch.float64)


def column(sigma: torch.Tensor) -> torch.Tensor:
    return sigma.view(-1, 1, 1, 1, 1)


def noise_said_by(prediction: torch.Tensor, noisy: torch.Tensor, kind: str) -> torch.Tensor:
    """The noise that a network means by its native prediction, solved from the definitions."""
    sigma = column(SIGMA)
    if kind == "flow":  # x = (1-s) d + s e and p = e - d
        return noisy + (1 - sigma) * prediction
    if kind == "v":  # x = a d + s e and p = a e - s d
        return sigma * noisy + (1 - sigma**2).sqrt() * prediction
    return prediction


@pytest.mark.parametrize("kind", KINDS)
def test_group_10_native_and_noise_errors_differ_by_the_factor(kind):
    data, noise = normal(0), normal(1)
    noisy = add_noise(data, noise, SIGMA, kind)
    truth = target(data, noise, SIGMA, kind)
    torch.testing.assert_close(noise_said_by(truth, noisy, kind), noise, rtol=1e-9, atol=1e-9)
    wrong = truth + 0.1 * normal(2)
    native = (wrong - truth).square().flatten(1).sum(1)
    of_noise = (noise_said_by(wrong, noisy, kind) - noise).square().flatten(1).sum(1)
    torch.testing.assert_close(of_noise, epsilon_error_factor(SIGMA, kind) * native, rtol=1e-6, atol=0)


def test_the_factors_are_those_of_the_papers():
    sigma = torch.tensor([0.0, 0.25, 0.6, 1.0])
    torch.testing.assert_close(epsilon_error_factor(sigma, "flow"), torch.tensor([1.0, 0.5625, 0.16, 0.0]))
    torch.testing.assert_close(epsilon_error_factor(sigma, "v"), torch.tensor([1.0, 0.9375, 0.64, 0.0]))
    assert torch.equal(epsilon_error_factor(sigma, "epsilon"), torch.ones(4))


def test_v_is_the_velocity_along_the_circle_and_flow_along_the_line():
    data, noise = normal(0), normal(1)
    angle, step = torch.tensor([0.1, 0.5, 1.0, 1.5], dtype=torch.float64), 1e-6
    ahead, behind = (add_noise(data, noise, torch.sin(angle + s), "v") for s in (step, -step))
    v = target(data, noise, torch.sin(angle), "v")
    torch.testing.assert_close((ahead - behind) / (2 * step), v, rtol=1e-5, atol=1e-5)
    assert torch.equal(target(data, noise, SIGMA, "flow"), velocity_target(data, noise))
    assert torch.equal(target(data, noise, SIGMA, "epsilon"), noise)


def test_the_ends_are_data_and_noise_and_the_circle_keeps_the_variance():
    data, noise = normal(0), normal(1)
    for kind in KINDS:
        assert torch.equal(add_noise(data, noise, torch.zeros(4), kind), data)
        assert torch.equal(add_noise(data, noise, torch.ones(4), kind), noise)
    half = torch.full((4,), math.sqrt(0.5), dtype=torch.float64)
    torch.testing.assert_close(add_noise(data, noise, half, "v"), (data + noise) * math.sqrt(0.5))


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match="'flow', 'v' or 'epsilon'; found 'x0'"):
        target(normal(0), normal(1), SIGMA, "x0")
