"""The sampling loop on velocity fields whose flow is known exactly."""

import math

import pytest
import torch

from hallo4.diffusion import denoise, flow_sigmas
from hallo4.errors import Cancelled, InputError


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def with_exact_sigma(field, steps: int, shift: float):
    """`velocity(x, timestep)` from `field(x, sigma)`: the timestep is cut to a whole number, sigma is not."""
    sigmas = iter(flow_sigmas(steps, shift))
    return lambda x, timestep: field(x, next(sigmas))


@pytest.mark.parametrize("steps", [1, 2, 5, 16])
def test_one_known_datum_is_recovered_exactly(steps):
    datum, start = torch.tensor([0.3, -2.0, 5.0], dtype=torch.float64), noise(4, 3)
    field = with_exact_sigma(lambda x, sigma: (x - datum) / sigma, steps, 8.0)
    found = denoise(field, start, steps, 8.0)
    torch.testing.assert_close(found, datum.expand(4, 3), rtol=1e-5, atol=1e-5)


def gaussian_error(steps: int, mean: float = 1.5, std: float = 0.4) -> float:
    """Distance from the exact flow map when data is N(mean, std^2).

    x(sigma) is N((1-sigma) mean, v) with v = (1-sigma)^2 std^2 + sigma^2, the velocity is
    E[noise - data | x] = -mean + (sigma - (1-sigma) std^2) / v * (x - (1-sigma) mean); its flow moves x with
    the distribution: x(0) = mean + std (x(s) - (1-s) mean) / sqrt(v(s)).
    """

    def field(x, sigma):
        variance = (1 - sigma) ** 2 * std**2 + sigma**2
        return -mean + (sigma - (1 - sigma) * std**2) / variance * (x - (1 - sigma) * mean)

    start, shift = noise(64, 1), 1.0
    found = denoise(with_exact_sigma(field, steps, shift), start, steps, shift)
    first = float(flow_sigmas(steps, shift)[0])
    variance = (1 - first) ** 2 * std**2 + first**2
    exact = mean + std * (start - (1 - first) * mean) / math.sqrt(variance)
    return float((found - exact).abs().max())


def test_the_flow_of_a_gaussian_is_followed_better_than_first_order():
    coarse, fine = gaussian_error(8), gaussian_error(64)
    assert fine < 2e-3
    assert math.log2(coarse / fine) / 3 > 1.5  # the first and the last step are of order one


def test_timesteps_are_those_of_the_released_code_for_every_clip():
    seen = []

    def velocity(x, timestep):
        assert timestep.dtype == torch.float32
        seen.append(timestep.tolist())
        return torch.zeros_like(x)

    found = denoise(velocity, torch.ones(2, 3), 5, 8.0)
    assert seen == [[t, t] for t in (999.0, 969.0, 922.0, 841.0, 666.0)]
    assert found.dtype == torch.float32
    assert found.shape == (2, 3)


def test_what_is_known_is_pinned_before_every_step():
    known = torch.tensor([7.0, 8.0])

    def pin(x):
        return torch.cat([known.expand(len(x), 2), x[:, 2:]], dim=1)

    seen = []

    def velocity(x, timestep):
        seen.append(x[:, :2].clone())
        return x * 0.1

    denoise(velocity, torch.zeros(3, 4), 6, 3.0, pin=pin)
    assert len(seen) == 6
    assert all(torch.equal(part, known.expand(3, 2)) for part in seen)


def test_progress_is_told_and_a_cancel_ends_the_loop():
    steps, calls = [], []

    def on_step(done):
        steps.append(done)
        if done == 3:
            raise Cancelled("enough")

    def velocity(x, timestep):
        calls.append(timestep)
        return x

    with pytest.raises(Cancelled):
        denoise(velocity, torch.ones(1, 2), 6, 3.0, on_step=on_step)
    assert steps == [1, 2, 3]
    assert len(calls) == 3
    with pytest.raises(InputError, match="at least 1"):
        denoise(velocity, torch.ones(1, 2), 0, 3.0)


def test_calls_do_not_know_of_each_other():
    start = noise(2, 3)
    first = denoise(lambda x, t: x * t[:, None] / 1000, start, 7, 8.0)
    denoise(lambda x, t: -x, start, 3, 2.0)
    assert torch.equal(denoise(lambda x, t: x * t[:, None] / 1000, start, 7, 8.0), first)
    assert not first.requires_grad
