"""Latents as large as what they show: closed forms on a linear code, and what stays as it was."""

import pytest
import torch

from hallo4.models.autoencoder import TinyVideoAutoencoder
from hallo4.models.autoencoder_emphasis import emphasize, shown_by_channel


@pytest.fixture
def linear():
    """A code of three channels on its linear path alone, and latents [2, 3, 4, 4]."""
    torch.manual_seed(0)
    model = TinyVideoAutoencoder(3, 8, 16, (0, 0), (0, 0), motion_gain=1.0).eval()
    torch.nn.init.normal_(model.linear_decoder.weight)
    return model, torch.randn(2, 3, 4, 4)


@torch.no_grad()
def test_what_a_channel_of_a_linear_code_shows_is_the_size_of_its_picture(linear):
    model, latents = linear
    model.linear_decoder.weight[:, 1] *= 5
    of_one = []
    for channel in range(3):
        impulse = torch.zeros(1, 3, 1, 1)
        impulse[:, channel] = 1
        apart = model.decode_groups(impulse) - model.decode_groups(0 * impulse)
        of_one.append(apart.square().mean())
    expected = torch.stack(of_one) / sum(of_one)
    torch.testing.assert_close(shown_by_channel(model, latents), expected, rtol=1e-4, atol=1e-5)
    assert shown_by_channel(model, latents).argmax() == 1


@torch.no_grad()
@pytest.mark.parametrize("emphasis", [0.0, 0.5, 1.0])
def test_variances_are_what_is_shown_to_the_power_of_the_emphasis(linear, emphasis):
    model, _ = linear
    model.linear_decoder.weight[:, 0] *= 4
    frames = torch.rand(3, 3, 4, 32, 32) * 2 - 1
    model.fit_latent_statistics(model.encode_groups(frames))
    before, latents = model.decode_groups(model.encode_groups(frames)), model.encode_groups(frames)
    shown = shown_by_channel(model, latents)
    emphasize(model, [latents[:1], latents[1:]], emphasis)
    after = model.encode_groups(frames)
    variances = after.transpose(0, 1).flatten(1).var(1)
    torch.testing.assert_close(variances, shown**emphasis / (shown**emphasis).mean(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(model.decode_groups(after), before, rtol=1e-4, atol=1e-4)
    if emphasis == 1.0:  # now every channel shows the same
        torch.testing.assert_close(shown_by_channel(model, after), torch.full((3,), 1 / 3), rtol=1e-3, atol=0)
