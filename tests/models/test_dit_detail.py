"""The detail head: where it looks, how tokens become cells, how it begins, and what a model of data says."""

import pytest
import torch
from test_dit import DETAIL_FORM, conditions, make, sample

from hallo4.errors import CheckpointError
from hallo4.models.dit import LEAST_SIGMA, PortraitDiT
from hallo4.models.dit_detail import GUESS_VARIANCE, DetailHead, corrected, sample_points, to_cells


def test_a_whole_offset_is_a_shift_and_beyond_the_border_is_the_border():
    features = torch.randn(1, 16, 5, 6)
    offsets = torch.zeros(2, 16, 5, 6)  # two frames, eight points of (x, y)
    offsets[0, 0], offsets[0, 1] = 2, -1  # the first point of the first frame: two right, one up
    sampled = sample_points(features, offsets, slots=2)
    rows, columns = torch.arange(5).sub(1).clamp(0, 4), torch.arange(6).add(2).clamp(0, 5)
    torch.testing.assert_close(sampled[0, :2], features[0, :2][:, rows][:, :, columns])
    torch.testing.assert_close(sampled[0, 2:], features[0, 2:])
    torch.testing.assert_close(sampled[1], features[0])


def test_half_an_offset_is_the_mean_of_two_cells():
    features = torch.randn(1, 8, 3, 4)
    offsets = torch.zeros(1, 16, 3, 4)
    offsets[:, 0::2] = 0.5
    sampled = sample_points(features, offsets, slots=1)
    torch.testing.assert_close(sampled[..., :3], (features[..., :3] + features[..., 1:]) / 2)


def test_a_token_is_laid_out_over_its_own_cells():
    head = DetailHead(dim=6, width=8, channels=4, patch=2, rho=4, skeleton=False)
    tokens = torch.randn(2, 3, 6, 6)  # 2 x 3 tokens of 2 x 2 cells
    cells = to_cells(head.from_tokens(tokens).flatten(0, 1), (2, 3), 2)
    assert cells.shape == (6, 8, 4, 6)
    for row, column in ((0, 0), (3, 5), (2, 1)):
        token = tokens[1, 2, (row // 2) * 3 + column // 2]
        place = (row % 2) * 2 + column % 2
        torch.testing.assert_close(cells[5, :, row, column], head.from_tokens(token).view(4, 8)[place])


@torch.no_grad()
def test_a_new_model_makes_the_reference_and_its_velocity_follows():
    model = PortraitDiT(**DETAIL_FORM).eval()
    given = conditions()
    latents = model.pin(sample(model), given)
    away = latents - given.reference_latents
    torch.testing.assert_close(model(latents, torch.full((2,), 1000.0), given), away)  # out of pure noise
    assert model(latents, torch.zeros(2), given).abs().max() < 1e-4  # clean latents are right
    half = latents - 0.5 * given.reference_latents  # what the noise would be, if the reference were right
    gain = 0.5 * GUESS_VARIANCE / (0.25 * GUESS_VARIANCE + 0.25)
    expected = (latents - given.reference_latents - gain * half) / 0.5
    expected[:, :, 0] = 0
    torch.testing.assert_close(model(latents, torch.full((2,), 500.0), given), expected)


def test_the_estimate_from_guess_and_noise_is_the_best_linear_one():
    """Against least squares on a sample, at several noise levels."""
    torch.manual_seed(0)
    data = torch.randn(200_000, dtype=torch.float64)
    for sigma, variance in ((0.9, 0.3), (0.5, 0.3), (0.1, 0.3), (0.5, 0.01), (0.5, 4.0)):
        guess = data + variance**0.5 * torch.randn_like(data)
        noisy = (1 - sigma) * data + sigma * torch.randn_like(data)
        seen = torch.stack([noisy - (1 - sigma) * guess], 1)
        gain = torch.linalg.lstsq(seen, (data - guess)[:, None]).solution
        fitted = guess + (seen @ gain)[:, 0]
        shape = (1, 1, 1, -1)
        made, error = corrected(
            guess.view(shape), noisy.view(shape), torch.tensor([sigma]), torch.tensor(1 / variance)
        )
        torch.testing.assert_close(made.double(), fitted.view(shape), rtol=0.02, atol=0.02)
        assert error.item() == pytest.approx((fitted - data).square().mean().sqrt().item(), rel=0.01)


@torch.no_grad()
def test_a_step_down_to_no_noise_lands_on_the_data_that_was_predicted():
    """At every level: latents - sigma * velocity is what the head made."""
    model, given = make(DETAIL_FORM), conditions()
    latents = model.pin(sample(model), given)
    made = {}
    model.detail_head.register_forward_hook(lambda _m, _i, out: made.update(data=out))
    for sigma in (1.0, 0.6, LEAST_SIGMA):
        velocity = model(latents, torch.full((2,), 1000 * sigma), given)
        landed = model.video_latents(latents - sigma * velocity)
        torch.testing.assert_close(landed, made["data"], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_points_follow_the_tokens():
    """What a cell takes from the reference is decided by its own token alone."""
    torch.manual_seed(0)
    head = DetailHead(dim=6, width=8, channels=4, patch=2, rho=4, skeleton=False)
    head.initialize()
    head.offsets.weight.normal_()
    head.out.weight.zero_()
    head.out.weight[:, :4, 1, 1] = torch.eye(4)
    tokens, noisy, embedding = torch.randn(1, 1, 9, 6), torch.zeros(1, 4, 1, 6, 6), torch.zeros(1, 6)
    reference, _ = head.conditions(torch.randn(1, 4, 1, 6, 6), None)
    before = head(tokens, noisy, torch.ones(1), embedding, reference, None)
    tokens[:, :, 4] += 1  # the middle one
    changed = (head(tokens, noisy, torch.ones(1), embedding, reference, None) != before).any(1)[0, 0]
    expected = torch.zeros(6, 6, dtype=torch.bool)
    expected[2:4, 2:4] = True
    assert torch.equal(changed, expected)


@torch.no_grad()
def test_a_token_that_trusts_its_guess_hears_no_noise():
    head = DetailHead(dim=6, width=8, channels=4, patch=2, rho=4, skeleton=False)
    head.initialize()
    head.out.bias.zero_()
    head.copied.weight[:, 0] = torch.tensor([0.0, 0.0, 0.0, -20.0]).repeat(4)
    tokens, noisy, embedding = torch.zeros(1, 1, 9, 6), torch.randn(1, 4, 1, 6, 6), torch.zeros(1, 6)
    tokens[0, 0, 3, 0] = 1  # rows 2 and 3, columns 0 and 1
    picture = torch.randn(1, 4, 1, 6, 6)
    made = head(tokens, noisy, torch.tensor([0.5]), embedding, head.conditions(picture, None)[0], None)
    wrong = (made - picture).abs()
    assert wrong[..., 2:4, :2].max() < 2e-3
    assert wrong[..., :2, :].mean() > 0.1


@torch.no_grad()
def test_a_fitted_guess_knows_how_far_the_reference_is_from_the_video():
    head = DetailHead(dim=6, width=8, channels=3, patch=2, rho=4, skeleton=False)
    head.initialize()
    torch.testing.assert_close(head.guess_log_variance.exp(), torch.full((3,), GUESS_VARIANCE))
    away = torch.tensor([0.5, 2.0, 0.0]).view(3, 1, 1, 1) * torch.tensor([1.0, -1.0]).view(2, 1, 1, 1, 1)
    reference = torch.randn(2, 3, 1, 4, 4)
    head.fit_guess(reference + away.expand(2, 3, 5, 4, 4), reference)
    torch.testing.assert_close(head.guess_log_variance.exp(), torch.tensor([0.25, 4.0, 1e-4]))


@torch.no_grad()
def test_a_token_copies_from_where_it_says_and_as_much_as_it_says():
    """With silent blocks: the cells of one token take twice the reference two cells to the right."""
    head = DetailHead(dim=6, width=8, channels=4, patch=2, rho=4, skeleton=False)
    head.initialize()
    head.out.bias.zero_()
    head.copied.weight[:, 0] = torch.tensor([2.0, 0.0, 1.0, 0.0]).repeat(4)
    tokens, noisy, embedding = torch.zeros(1, 1, 9, 6), torch.randn(1, 4, 1, 6, 6), torch.zeros(1, 6)
    tokens[0, 0, 3, 0] = 1  # rows 2 and 3, columns 0 and 1
    picture = torch.randn(1, 4, 1, 6, 6)
    made = head(tokens, noisy, torch.ones(1), embedding, head.conditions(picture, None)[0], None)
    expected = picture.clone()
    expected[..., 2:4, 0:2] = 2 * picture[..., 2:4, 2:4]
    torch.testing.assert_close(made, expected)


def test_impossible_heads_are_refused():
    with pytest.raises(CheckpointError, match="detail_width is 12"):
        PortraitDiT(**{**DETAIL_FORM, "detail_width": 12})
