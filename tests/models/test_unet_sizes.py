"""The tiny UNet stays small enough for two cores, and its cost is counted right."""

import pytest
import torch
from tiny_unets import SIZES

from hallo4.models.portrait_unet import PortraitUNet
from hallo4.models.unet_sizes import tiny_unet_config, unet_cost


@pytest.mark.parametrize("rho", [1, 2])
def test_the_tiny_unet_fits_its_budget(rho):
    """Stored in bf16 (two bytes) under 15 MB; a training example of 14 frames under 30 GFLOP."""
    cost = unet_cost(tiny_unet_config(8, rho), 14, 16, 16)
    assert 2 * sum(cost.parameters.values()) < 15e6
    assert cost.training_gflop < 30


def test_the_tiny_unet_can_be_built_and_takes_any_rho():
    models = [PortraitUNet(**tiny_unet_config(8, rho)) for rho in (1, 2)]
    assert [model.windows.audio_rho for model in models] == [1, 2]
    assert all(model.sample_shape(14, 16, 16) == (8, 14, 16, 16) for model in models)


def test_cost_is_counted_by_hand_for_the_first_convolution():
    """One more input channel costs conv_in of the denoiser (T pictures) and conv_out likewise."""
    small = SIZES | {"skeleton": "none"}
    costs = [unet_cost(small | {"in_channels": channels}, 3, 8, 8) for channels in (4, 5)]
    extra = (
        2 * 2 * 9 * 16 * 64 * 3 / 1e9
    )  # two convolutions, multiply and add, 3x3, 16 wide, 64 cells, 3 frames
    assert costs[1].step_gflop - costs[0].step_gflop == pytest.approx(extra, rel=1e-6)
    model = PortraitUNet(**small)
    assert sum(costs[0].parameters.values()) == sum(p.numel() for p in model.parameters())
    assert torch.get_default_device() == torch.device("cpu")
