"""The waves of a timestep against their formula, by loops in fp64."""

import math

import numpy as np
import pytest
import torch

from hallo4.models.timestep import timestep_waves


def slow_waves(timesteps, channels):
    """cos, then sin, of t / 10000^(2i/channels), number by number."""
    half = channels // 2
    rows = []
    for time in timesteps:
        angles = [time / 10000.0 ** (i / half) for i in range(half)]
        rows.append([math.cos(angle) for angle in angles] + [math.sin(angle) for angle in angles])
    return np.array(rows)


@pytest.mark.parametrize("channels", [16, 256, 320])
def test_waves_are_those_of_the_formula_to_the_last_bit_of_fp32(channels):
    times = [0.0, 1.0, 249.0, 731.25, 999.0, 1000.0]
    found = timestep_waves(torch.tensor(times), channels)
    assert found.dtype == torch.float32
    assert found.shape == (6, channels)
    np.testing.assert_allclose(found.numpy(), slow_waves(times, channels), atol=6.1e-8, rtol=0)


def test_timesteps_of_any_number_type_give_the_same_waves():
    whole = torch.tensor([0, 7, 999])
    expected = timestep_waves(whole.double(), 64)
    for kind in (torch.int64, torch.int32, torch.float32, torch.float16):
        assert torch.equal(timestep_waves(whole.to(kind), 64), expected), kind


def test_angles_in_fp32_would_be_visibly_wrong():
    """What fp64 is for: at timestep 999 the same formula in fp32 is off by more than a thousand roundings."""
    half = 128
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32) / half)
    angles = 999.0 * frequencies
    careless = torch.cat([angles.cos(), angles.sin()])
    exact = slow_waves([999.0], 256)[0]
    assert np.abs(careless.numpy() - exact).max() > 1e-5
    assert np.abs(timestep_waves(torch.tensor([999.0]), 256)[0].numpy() - exact).max() < 1e-7
