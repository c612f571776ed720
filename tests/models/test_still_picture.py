"""Velocity from the change of a still picture."""

import torch

from hallo4.diffusion import add_noise, velocity_target
from hallo4.models.still_picture import LEAST_SIGMA, velocity_from_change


def test_the_true_change_gives_the_true_velocity():
    torch.manual_seed(0)
    data, noise, still = (
        torch.randn(3, 2, 2, 4, 4).double(),
        torch.randn(3, 2, 2, 4, 4),
        torch.randn(3, 2, 2, 4, 4),
    )
    sigma, std = torch.tensor([0.1, 0.5, 1.0]), torch.tensor([0.3, 2.0])
    change = (data - still) / std.view(1, 2, 1, 1, 1)
    found = velocity_from_change(add_noise(data, noise, sigma), still, change, sigma, std)
    torch.testing.assert_close(found, velocity_target(data, noise), atol=1e-5, rtol=1e-5, check_dtype=False)


def test_no_change_leads_to_the_still_picture_and_no_sigma_is_divided_by():
    noisy, still = torch.randn(2, 3, 1, 2, 2), torch.randn(2, 3, 1, 2, 2)
    found = velocity_from_change(
        noisy, still, torch.zeros_like(noisy), torch.tensor([0.6, 0.0]), torch.ones(3)
    )
    torch.testing.assert_close(noisy[0] - 0.6 * found[0], still[0])
    torch.testing.assert_close(found[1], (noisy[1] - still[1]) / LEAST_SIGMA)
