"""The tiny video autoencoder: frame rule, causality, linear start, normalisation, round trips, bad input."""

import math

import pytest
import torch
import torch.nn.functional as F

from hallo4.errors import ShapeError
from hallo4.models import autoencoder as module
from hallo4.models.autoencoder import TinyVideoAutoencoder
from hallo4.models.autoencoder_widening import widened
from hallo4.types import Autoencoder

SMALL = {"latent_channels": 4, "fine_width": 16, "coarse_width": 32}


@pytest.fixture
def model() -> TinyVideoAutoencoder:
    """A small model in which every parameter is random, also those that start as zero."""
    torch.manual_seed(0)
    model = TinyVideoAutoencoder(**SMALL).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.1)
        model.latent_mean.copy_(torch.randn(4))
        model.latent_std.copy_(torch.rand(4) + 0.5)
    return model


def video(frames: int, batch: int = 2, height: int = 16, width: int = 24) -> torch.Tensor:
    generator = torch.Generator().manual_seed(frames)
    return torch.rand(batch, 3, frames, height, width, generator=generator) * 2 - 1


@torch.no_grad()
def test_shapes_follow_the_frame_rule(model):
    assert isinstance(model, Autoencoder)
    for frames, latent_frames in [(1, 1), (5, 2), (9, 3)]:
        latents = model.encode_video(video(frames))
        assert latents.shape == (2, 4, latent_frames, 2, 3)
        assert model.decode_video(latents).shape == (2, 3, frames, 16, 24)


@torch.no_grad()
def test_a_code_of_16x16x4_has_one_level_more():
    torch.manual_seed(0)
    model = TinyVideoAutoencoder(
        4, 16, 32, encoder_blocks=(1, 1, 1), decoder_blocks=(1, 2, 1), finest_width=8
    ).eval()  # fmt: skip
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.1)
    assert model.spec.cell_px == 16
    clip = video(5, height=32, width=48)
    latents = model.encode_video(clip)
    assert latents.shape == (2, 4, 2, 2, 3)
    assert model.decode_video(latents).shape == clip.shape
    groups = clip[:, :, :1].repeat(1, 1, 4, 1, 1)
    torch.testing.assert_close(model.encode_groups(groups), model.encode_frames(clip[:, :, :1])[:, :, 0])
    widths = [module.in_channels for module in model.encoder.modules() if isinstance(module, torch.nn.Conv2d)]
    assert widths == [192, 8, 8, 8, 16, 16, 16, 32, 32, 32]
    with pytest.raises(ShapeError, match="multiples of 16; found 24x32"):
        model.encode_video(torch.zeros(1, 3, 5, 24, 32))
    with pytest.raises(
        ShapeError, match=r"encoder_blocks must have a number for each of the 3 levels.*\[2, 1\]"
    ):
        TinyVideoAutoencoder(4, 16, 32, finest_width=8)


def test_the_linear_start_of_16x16x4_is_the_best_linear_code_of_its_cells():
    torch.manual_seed(0)
    sources = torch.randn(3, 3, 4, 16, 16)  # all cells are mixtures of three
    mixtures = torch.randn(40, 3)
    cells = torch.einsum("nk,kcrhw->ncrhw", mixtures, sources)
    model = TinyVideoAutoencoder(
        3, 16, 32, encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1), finest_width=8
    ).eval()  # fmt: skip
    assert model.initialize_linear_path(cells) == pytest.approx(1.0, abs=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(model.decode_groups(model.encode_groups(cells)), cells, rtol=0, atol=1e-3)


@torch.no_grad()
def test_latent_k_is_the_code_of_frames_4k_minus_3_to_4k(model):
    clip = video(9)
    groups = [clip[:, :, :1].repeat(1, 1, 4, 1, 1), clip[:, :, 1:5], clip[:, :, 5:9]]
    slow = torch.stack([model.encode_groups(group) for group in groups], dim=2)
    torch.testing.assert_close(model.encode_video(clip), slow, rtol=1e-5, atol=1e-5)

    decoded = [model.decode_groups(slow[:, :, k]) for k in range(3)]
    slow_video = torch.cat([decoded[0][:, :, 3:], decoded[1], decoded[2]], dim=2)
    torch.testing.assert_close(model.decode_video(slow), slow_video, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("frame", "latent"), [(0, 0), (1, 1), (4, 1), (5, 2), (8, 2)])
def test_a_frame_changes_its_own_latent_only(model, frame, latent):
    clip = video(9)
    changed = clip.clone()
    changed[:, :, frame] += 0.5
    difference = (model.encode_video(changed) - model.encode_video(clip)).abs().amax(dim=(0, 1, 3, 4))
    assert difference[latent] > 1e-3
    assert difference[[k for k in range(3) if k != latent]].max() < 1e-6


@torch.no_grad()
def test_chunks_do_not_change_the_values(model, monkeypatch):
    clip = video(13)
    whole = model.encode_video(clip)
    decoded = model.decode_video(whole)
    monkeypatch.setattr(module, "MAX_GROUPS", 3)
    torch.testing.assert_close(model.encode_video(clip), whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model.decode_video(whole), decoded, rtol=1e-5, atol=1e-6)


def low_rank_groups(count: int = 12, rank: int = 4) -> torch.Tensor:
    """Groups whose 8x8x4 patches are a mean plus `rank` directions."""
    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(rank, 768, generator=generator) * 0.1
    weights = torch.randn(count * 6, rank, generator=generator) * torch.tensor([4.0, 3.0, 2.0, 1.0])[:rank]
    patches = (0.3 + weights @ directions).reshape(count, 2, 3, 768).permute(0, 3, 1, 2)
    return F.pixel_shuffle(patches, 8).unflatten(1, (3, 4))


@torch.no_grad()
def test_linear_start_is_the_best_linear_code():
    model = TinyVideoAutoencoder(**SMALL)
    groups = low_rank_groups()
    explained = model.initialize_linear_path(groups)
    reconstruction, latents = model(groups)
    assert explained > 0.9999
    torch.testing.assert_close(reconstruction, groups, rtol=1e-3, atol=1e-3)
    flat = latents.transpose(0, 1).flatten(1)
    torch.testing.assert_close(torch.cov(flat), torch.eye(4), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(flat.mean(1), torch.zeros(4), rtol=0, atol=1e-3)


@torch.no_grad()
def test_linear_start_loses_exactly_the_variance_it_reports():
    model = TinyVideoAutoencoder(latent_channels=2, fine_width=16, coarse_width=32)
    groups = low_rank_groups()
    explained = model.initialize_linear_path(groups)
    residual = (module.fold(model(groups)[0], 3.0) - module.fold(groups, 3.0)).pow(2).sum()
    patches = F.pixel_unshuffle(module.fold(groups, 3.0), 8).movedim(1, -1).flatten(0, -2)
    total = (patches - patches.mean(0)).pow(2).sum()
    assert 0.5 < explained < 0.99
    torch.testing.assert_close(residual / total, 1 - explained, rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_an_autoencoder_of_pictures_codes_every_frame_alone():
    torch.manual_seed(0)
    model = TinyVideoAutoencoder(latent_channels=4, fine_width=8, coarse_width=16, frames_per_latent=1)
    video = torch.rand(2, 3, 6, 16, 24) * 2 - 1
    model.initialize_linear_path(video.transpose(1, 2).flatten(0, 1)[:, :, None])
    latents = model.encode_video(video)
    assert latents.shape == (2, 4, 6, 2, 3)
    torch.testing.assert_close(latents[:, :, 3:4], model.encode_video(video[:, :, 3:4]))
    assert model.decode_video(latents).shape == video.shape
    groups = torch.randn(2, 3, 1, 5, 6)
    assert torch.equal(module.unfold(module.fold(groups, 3.0), 1, 3.0), groups)
    with pytest.raises(ShapeError, match="frames_per_latent must be 1"):
        TinyVideoAutoencoder(frames_per_latent=2)


def test_folding_tells_mean_and_changes_apart_and_back():
    """By the definition of the Haar wavelet, frame by frame; a gain of 1 keeps the energy of the changes."""
    groups = torch.randn(2, 3, 4, 5, 6)
    mean, halves, early, late = module.fold(groups, 1.0).unflatten(1, (3, 4)).unbind(2)
    a, b, c, d = groups.unbind(2)
    torch.testing.assert_close(mean, groups.mean(2))
    torch.testing.assert_close(halves, ((c + d) - (a + b)) / 2)
    torch.testing.assert_close(early, (b - a) / math.sqrt(2))
    torch.testing.assert_close(late, (d - c) / math.sqrt(2))
    energy = (groups - groups.mean(2, keepdim=True)).square().sum()
    torch.testing.assert_close(halves.square().sum() + early.square().sum() + late.square().sum(), energy)
    torch.testing.assert_close(module.unfold(module.fold(groups, 3.0), 4, 3.0), groups)


@torch.no_grad()
def test_motion_has_a_channel_from_the_start():
    """Of one large still direction and two small moving ones, two channels must keep motion if it counts."""
    groups = low_rank_groups(rank=4).mean(2, keepdim=True).repeat(1, 1, 4, 1, 1)
    ramp = torch.tensor([-0.03, -0.01, 0.01, 0.03]).view(1, 1, 4, 1, 1)
    groups = groups + ramp * torch.randn(len(groups), 1, 1, 1, 1)
    kept = {}
    for gain in (0.1, 30.0):
        model = TinyVideoAutoencoder(latent_channels=2, fine_width=16, coarse_width=32, motion_gain=gain)
        model.initialize_linear_path(groups)
        changes = groups.diff(dim=2)
        kept[gain] = 1 - (model(groups)[0].diff(dim=2) - changes).square().sum() / changes.square().sum()
    assert kept[0.1] < 0.1
    assert kept[30.0] > 0.99


@torch.no_grad()
def test_the_shortcuts_alone_go_up_and_down_without_loss():
    down, up = module.Downsample(16, 32), module.Upsample(32, 16)
    for part in (down, up):
        part.convolution.weight.zero_()
        part.convolution.bias.zero_()
    x = torch.randn(2, 32, 3, 5)
    torch.testing.assert_close(down(up(x)), x)
    assert up(x).shape == (2, 16, 6, 10)


@torch.no_grad()
def test_a_widened_code_keeps_the_channels_and_explains_some_of_what_was_missing(model):
    torch.manual_seed(1)
    groups = low_rank_groups() + 0.1 * torch.randn(12, 3, 4, 16, 24)
    before = model.decode_groups(model.encode_groups(groups))
    wide, explained = widened(model, 7, groups)
    latents = wide.encode_groups(groups)
    torch.testing.assert_close(latents[:, :4], model.encode_groups(groups))
    torch.testing.assert_close(latents[:, 4:].std((0, 2, 3)), torch.ones(3), rtol=1e-3, atol=1e-3)
    # without the new channels only the mean of the error is taken away
    missed = module.fold(groups - before, 3.0)
    old = wide.decode_groups(torch.cat([latents[:, :4], torch.zeros(12, 3, 2, 3)], 1))
    change = F.pixel_unshuffle(module.fold(old - before, 3.0), 8)
    expected = F.pixel_unshuffle(missed, 8).mean((0, 2, 3), keepdim=True)
    torch.testing.assert_close(change, expected.expand_as(change), rtol=1e-3, atol=1e-3)
    # and with them as much of its variance as is said
    left = module.fold(groups - wide.decode_groups(latents), 3.0)
    cells = [F.pixel_unshuffle(error, 8) for error in (left, missed)]
    variance = [(error - error.mean((0, 2, 3), keepdim=True)).square().sum() for error in cells]
    assert 0.1 < explained < 1
    torch.testing.assert_close(1 - variance[0] / variance[1], explained, rtol=1e-3, atol=1e-3)


def test_a_code_is_widened_to_more_channels_only(model):
    with pytest.raises(ShapeError, match="4 channels is widened to more; found 4"):
        widened(model, 4, torch.zeros(1, 3, 4, 16, 16))


def test_every_parameter_learns_after_the_linear_start():
    torch.manual_seed(0)
    model = TinyVideoAutoencoder(**SMALL)
    groups = low_rank_groups() + 0.1 * torch.randn(12, 3, 4, 16, 24)
    model.initialize_linear_path(groups)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(3):
        optimizer.zero_grad()
        (model(groups)[0] - groups).pow(2).mean().backward()
        optimizer.step()
    assert [name for name, p in model.named_parameters() if not p.grad.abs().max() > 0] == []


@torch.no_grad()
def test_fitted_statistics_normalise_and_leave_reconstructions_alone(model):
    clips = video(9, batch=4)
    before = model.decode_video(model.encode_video(clips))
    for _ in range(2):  # fitting twice is fitting once
        model.fit_latent_statistics(model.encode_video(clips))
        latents = model.encode_video(clips).transpose(0, 1).flatten(1)
        torch.testing.assert_close(latents.mean(1), torch.zeros(4), rtol=0, atol=1e-4)
        torch.testing.assert_close(latents.std(1), torch.ones(4), rtol=1e-4, atol=1e-4)
    after = model.decode_video(model.encode_video(clips))
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_saved_model_is_the_same_model(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = TinyVideoAutoencoder.from_pretrained(tmp_path).eval()
    clip = video(5)
    assert torch.equal(loaded.latent_std, model.latent_std)
    latents = loaded.encode_video(clip)
    torch.testing.assert_close(latents, model.encode_video(clip))
    torch.testing.assert_close(loaded.decode_video(latents), model.decode_video(latents))


def test_decoding_is_not_clamped(model):
    latents = torch.full((1, 4, 1, 2, 2), 30.0, requires_grad=True)
    decoded = model.decode_video(latents)
    assert decoded.abs().max() > 1
    decoded.sum().backward()
    assert latents.grad.abs().min() > 0


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 3, 4, 16, 16), "4k+1"),
        ((1, 3, 0, 16, 16), "4k+1"),
        ((1, 3, 5, 12, 16), "multiples of 8"),
        ((1, 3, 5, 16, 0), "multiples of 8"),
        ((1, 1, 5, 16, 16), "[B, 3, T, H, W]"),
        ((3, 5, 16, 16), "[B, 3, T, H, W]"),
    ],
)
def test_bad_videos_are_refused_in_one_line(model, shape, words):
    with pytest.raises(ShapeError) as caught:
        model.encode_video(torch.zeros(shape))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_latents_and_configs_are_refused(model):
    with pytest.raises(ShapeError, match=r"\[B, 4, F, h, w\]"):
        model.decode_video(torch.zeros(1, 5, 1, 2, 2))
    with pytest.raises(ShapeError, match="F at least 1"):
        model.decode_video(torch.zeros(1, 4, 0, 2, 2))
    with pytest.raises(ShapeError, match="coarse_width"):
        TinyVideoAutoencoder(fine_width=96, coarse_width=256)
    with pytest.raises(ShapeError, match="more than 4 patches"):
        model.initialize_linear_path(torch.zeros(1, 3, 4, 16, 16))


def test_frames_alone_are_encoded_as_groups_that_stand_still():
    """What does not change needs the weights of the mean alone; five frames are more than one group."""
    torch.manual_seed(0)
    for frames_per_latent in (4, 1):
        autoencoder = TinyVideoAutoencoder(4, 8, 16, frames_per_latent=frames_per_latent)
        for weights in autoencoder.encoder.parameters():
            torch.nn.init.normal_(weights, std=0.1)
        frames = torch.rand(1, 3, 5, 16, 24) * 2 - 1
        with torch.no_grad():
            stills = autoencoder.encode_frames(frames)
            groups = frames[0].transpose(0, 1)[:, :, None].expand(-1, -1, frames_per_latent, -1, -1)
            torch.testing.assert_close(stills[0].transpose(0, 1), autoencoder.encode_groups(groups))
