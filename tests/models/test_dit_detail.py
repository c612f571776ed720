"""The detail head: where it looks, how tokens become cells, how it begins, and what a model of data says."""

import pytest
import torch
from test_dit import DETAIL_FORM, conditions, sample

from hallo4.errors import CheckpointError
from hallo4.models.dit import PortraitDiT
from hallo4.models.dit_detail import (
    GUESS_VARIANCE,
    DetailHead,
    sample_points,
    to_cells,
    velocity_of_guess,
)


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
def test_a_new_model_makes_the_reference_out_of_noise_and_leaves_clean_latents():
    model = PortraitDiT(**DETAIL_FORM).eval()
    given = conditions()
    latents = model.pin(sample(model), given)
    away = latents - given.reference_latents
    torch.testing.assert_close(model(latents, torch.full((2,), 1000.0), given), away)
    clean = -latents  # noise - data, of noise that is not known
    clean[:, :, 0] = 0
    torch.testing.assert_close(model(latents, torch.zeros(2), given), clean)
    half = latents - 0.5 * given.reference_latents  # what the noise would be, if the reference were right
    gain = 0.5 * GUESS_VARIANCE / (0.25 * GUESS_VARIANCE + 0.25)
    expected = (latents - given.reference_latents - gain * half) / 0.5
    expected[:, :, 0] = 0
    torch.testing.assert_close(model(latents, torch.full((2,), 500.0), given), expected)


@torch.no_grad()
def test_a_new_model_with_a_draft_makes_the_draft_out_of_noise():
    model = PortraitDiT(**DETAIL_FORM | {"draft": True}).eval()
    given = conditions()
    draft = given.control_latents[:, 16:32, 1:]
    latents = model.pin(sample(model), given)
    velocity = model(latents, torch.full((2,), 1000.0), given)
    torch.testing.assert_close(velocity[:, :, 1:], latents[:, :, 1:] - draft)
    cache = model.new_cache()
    for _ in range(2):  # filled, then used
        torch.testing.assert_close(model(latents, torch.full((2,), 1000.0), given, cache), velocity)


def test_a_head_with_a_draft_looks_at_it():
    """Beside the guess, what the blocks make depends on the draft of their own frame alone."""
    torch.manual_seed(0)
    head = DetailHead(dim=6, width=8, channels=4, patch=2, rho=4, skeleton=False, draft=True)
    reference, draft = torch.randn(1, 4, 1, 6, 6), torch.randn(1, 4, 3, 6, 6)
    _, before = head.conditions(reference, None, draft)
    draft[:, :, 1] += 1
    _, after = head.conditions(reference, None, draft)
    assert ((before != after).flatten(2).any(2) == torch.tensor([[False, True, False]])).all()


@pytest.mark.parametrize(("sigma", "variance"), [(0.9, 0.3), (0.5, 0.3), (0.1, 0.3), (0.5, 0.01), (0.5, 4.0)])
def test_the_estimate_from_guess_and_noise_is_the_best_linear_one(sigma, variance):
    """Against least squares on a sample; what is missing counts in units of the error that is left."""
    torch.manual_seed(0)
    data = torch.randn(200_000, dtype=torch.float64)
    guess = data + variance**0.5 * torch.randn_like(data)
    noisy = (1 - sigma) * data + sigma * torch.randn_like(data)
    seen = (noisy - (1 - sigma) * guess)[:, None]
    fitted = guess + (seen @ torch.linalg.lstsq(seen, (data - guess)[:, None]).solution)[:, 0]
    shape, precision = (1, 1, 1, -1), torch.tensor(1 / variance)

    def made(missing):
        parts = (guess.view(shape), missing, noisy.view(shape), torch.tensor([sigma]), precision)
        return (noisy - sigma * velocity_of_guess(*parts).double()).flatten()

    torch.testing.assert_close(made(torch.zeros(())), fitted, rtol=0.02, atol=0.02)
    error = (fitted - data).square().mean().sqrt()
    added = made(torch.ones(())) - made(torch.zeros(()))
    torch.testing.assert_close(added, error.expand_as(added), rtol=0.01, atol=0)


class Alone:
    """A new head for tokens of 2x2 cells, on one frame of 3x3 tokens, by itself."""

    def __init__(self):
        torch.manual_seed(0)
        self.head = DetailHead(dim=6, width=8, channels=4, patch=2, rho=4, skeleton=False)
        self.head.initialize()
        self.head.out.bias.zero_()
        self.latents = torch.randn(1, 4, 2, 6, 6)  # the reference and noise
        self.tokens = torch.zeros(1, 1, 9, 6)

    def data(self, sigma=1.0):
        features, _ = self.head.conditions(self.latents[:, :, :1], None)
        velocity = self.head(
            self.tokens, self.latents, torch.tensor([sigma]), torch.zeros(1, 6), features, None
        )
        return (self.latents[:, :, 1:] - sigma * velocity)[:, :, 0]


@torch.no_grad()
def test_the_points_follow_the_tokens():
    """What a cell takes from the reference is decided by its own token alone."""
    alone = Alone()
    alone.head.offsets.weight.normal_()
    alone.head.out.weight.zero_()
    alone.head.out.weight[:, :4, 1, 1] = torch.eye(4)
    alone.tokens.normal_()
    before = alone.data()
    alone.tokens[:, :, 4] += 1  # the middle one
    changed = (alone.data() != before).any(1)[0]
    expected = torch.zeros(6, 6, dtype=torch.bool)
    expected[2:4, 2:4] = True
    assert torch.equal(changed, expected)


@torch.no_grad()
def test_a_token_that_trusts_its_guess_takes_none_of_the_noise():
    alone = Alone()
    alone.head.copied.weight[:, 0] = torch.tensor([0.0, 0.0, 0.0, -20.0]).repeat(4)
    alone.tokens[0, 0, 3, 0] = 1  # rows 2 and 3, columns 0 and 1
    wrong = (alone.data(0.5) - alone.latents[:, :, 0]).abs()
    assert wrong[..., 2:4, :2].max() < 2e-3
    assert wrong[..., :2, :].mean() > 0.1


@torch.no_grad()
def test_a_token_copies_from_where_it_says_and_as_much_as_it_says():
    """With silent blocks: the cells of one token take twice the reference two cells to the right."""
    alone = Alone()
    alone.head.copied.weight[:, 0] = torch.tensor([2.0, 0.0, 1.0, 0.0]).repeat(4)
    alone.tokens[0, 0, 3, 0] = 1
    picture = alone.latents[:, :, 0]
    expected = picture.clone()
    expected[..., 2:4, 0:2] = 2 * picture[..., 2:4, 2:4]
    torch.testing.assert_close(alone.data(), expected)


@torch.no_grad()
def test_a_fitted_guess_knows_how_far_the_reference_is_from_the_video():
    head = DetailHead(dim=6, width=8, channels=3, patch=2, rho=4, skeleton=False)
    head.initialize()
    torch.testing.assert_close(head.guess_log_variance.exp(), torch.full((3,), GUESS_VARIANCE))
    away = torch.tensor([0.5, 2.0, 0.0]).view(3, 1, 1, 1) * torch.tensor([1.0, -1.0]).view(2, 1, 1, 1, 1)
    reference = torch.randn(2, 3, 1, 4, 4)
    head.fit_guess(reference + away.expand(2, 3, 5, 4, 4), reference)
    torch.testing.assert_close(head.guess_log_variance.exp(), torch.tensor([0.25, 4.0, 1e-4]))


def test_impossible_heads_are_refused():
    with pytest.raises(CheckpointError, match="detail_width is 12"):
        PortraitDiT(**{**DETAIL_FORM, "detail_width": 12})
