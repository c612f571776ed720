"""The difference of local sharpness: closed forms of chessboards, and what it does not ask for."""

import pytest
import torch
import torch.nn.functional as F

from hallo4.training.local_sharpness import (
    LEAST_RMS,
    LEAST_SIZE,
    local_sharpness,
    local_size,
    sharpness_difference,
    size_difference,
)


def chessboard(contrast: float) -> torch.Tensor:
    """[2, 3, 4, 32, 48] of -contrast and contrast by turns."""
    fields = (torch.arange(32)[:, None] + torch.arange(48)) % 2
    return (contrast * (2.0 * fields - 1.0)).expand(2, 3, 4, 32, 48).clone()


def test_a_chessboard_has_eight_times_its_contrast_everywhere():
    sharp = local_sharpness(chessboard(0.25))
    assert sharp.shape == (24, 6, 10)  # 30x46 without the border, in steps of four
    assert sharp.unique().item() == pytest.approx((2.0**2 + LEAST_RMS**2) ** 0.5)
    assert sharpness_difference(chessboard(0.25), chessboard(0.5)).item() == pytest.approx(2.0, rel=1e-3)


def test_the_phase_of_a_texture_is_free_and_its_place_is_not():
    board = chessboard(0.25)
    assert sharpness_difference(-board, board).item() == 0.0
    left, right = board.clone(), board.clone()
    left[..., 24:], right[..., :24] = 0.0, 0.0
    assert sharpness_difference(left, right).item() > 1.5


def test_a_slope_is_as_sharp_as_a_flat_picture():
    slope = torch.linspace(-1, 1, 48).expand(1, 3, 1, 32, 48)
    assert local_sharpness(slope).amax().item() == pytest.approx(LEAST_RMS, rel=1e-3)


def test_descending_it_sharpens_a_blurred_picture():
    torch.manual_seed(0)
    true = torch.rand(1, 3, 32, 32) * 2 - 1
    blurred = F.avg_pool2d(true, 3, stride=1, padding=1).requires_grad_(True)
    before = sharpness_difference(blurred, true)
    before.backward()
    assert blurred.grad.isfinite().all()
    assert sharpness_difference(blurred - 50 * blurred.grad, true) < 0.8 * before


def test_the_size_of_latents_is_measured_channel_by_channel_and_cell_by_cell():
    latents = torch.zeros(2, 3, 2, 5, 6)
    latents[1, 2, 0, 2, 3] = 3.0
    size = local_size(latents).view(2, 3, 2, 5, 6)
    assert size[1, 2, 0, 1, 2].item() == pytest.approx((9 / 9 + LEAST_SIZE**2) ** 0.5)
    size[1, 2, 0, 1:4, 2:5] = LEAST_SIZE
    assert (size - LEAST_SIZE).abs().max() < 1e-6
    corner = torch.zeros(1, 1, 1, 4, 4)
    corner[..., 0, 0] = 2.0
    assert local_size(corner)[0, 0, 0].item() == pytest.approx((4 / 4 + LEAST_SIZE**2) ** 0.5)


def test_a_mean_of_two_latents_is_too_small_and_either_is_not():
    torch.manual_seed(0)
    one = torch.randn(2, 8, 3, 8, 8)
    assert size_difference(-one, one).item() == 0.0
    assert size_difference(0.5 * one, one).item() == pytest.approx(
        0.5 * local_size(one).mean().item(), rel=0.02
    )
