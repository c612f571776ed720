"""The preference loss from four errors a pair: hand values, gradients, symmetries, refusals.

Groups 1 to 3, 8 and 9.
"""

import math
from dataclasses import replace

import pytest
import torch

from hallo4.diffusion import PairErrors, PreferenceLossConfig, clip_errors, dpo_loss, frame_errors
from hallo4.diffusion.pair_loss import PRESETS, loser_gradient_scale
from hallo4.diffusion.pair_stats import PairStats
from hallo4.errors import InputError, ShapeError

BARE = PreferenceLossConfig(beta=100.0, dpop_lambda=0.0)
HALF = torch.tensor([0.5])


def errors(winner, loser, winner_reference, loser_reference, **more) -> PairErrors:
    values = (winner, loser, winner_reference, loser_reference)
    return PairErrors(*(torch.as_tensor(v, dtype=torch.float32).reshape(-1) for v in values), **more)


def some(batch: int = 6, seed: int = 0) -> PairErrors:
    generator = torch.Generator().manual_seed(seed)
    return PairErrors(*(0.4 + 0.05 * torch.rand(batch, generator=generator) for _ in range(4)))


def loss_of(pairs: PairErrors, config=BARE, **more) -> tuple[float, PairStats]:
    loss, stats = dpo_loss(pairs, config, torch.full((len(pairs.winner),), 0.5), **more)
    return float(loss), stats


# ---------------------------------------------------------------- groups 1 to 3


@pytest.mark.parametrize(("objective", "first"), [("sigmoid", math.log(2)), ("ipo", 0.25), ("hinge", 1.0)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_group_1_equal_models_have_the_first_loss_and_half_accuracy(objective, first, smoothing):
    config = PreferenceLossConfig(objective=objective, label_smoothing=smoothing)
    same = some()
    loss, stats = loss_of(PairErrors(same.winner, same.loser, same.winner, same.loser), config)
    assert loss == pytest.approx(first, abs=1e-7)
    assert config.initial_loss == pytest.approx(first)
    assert stats.summary()["accuracy"] == 0.5
    assert torch.equal(stats.logit, torch.zeros(6))


@pytest.mark.parametrize("dpop_lambda", [0.0, 1.0])
def test_group_2_gradients_at_the_start_are_a_quarter_of_beta(dpop_lambda):
    start = some()
    winner, loser = start.winner.clone().requires_grad_(), start.loser.clone().requires_grad_()
    config = replace(BARE, dpop_lambda=dpop_lambda)
    loss, _ = dpo_loss(PairErrors(winner, loser, start.winner, start.loser), config, torch.full((6,), 0.5))
    loss.backward()
    torch.testing.assert_close(6 * winner.grad, torch.full((6,), 25.0))
    torch.testing.assert_close(6 * loser.grad, torch.full((6,), -25.0))


def test_group_3_a_value_computed_by_hand():
    loss, stats = loss_of(errors(0.30, 0.42, 0.33, 0.40))
    assert stats.logit.item() == pytest.approx(2.5, rel=1e-5)
    assert loss == pytest.approx(0.0788897, rel=1e-4)
    assert stats.winner_reward.item() == pytest.approx(1.5, rel=1e-5)
    assert stats.loser_reward.item() == pytest.approx(-1.0, rel=1e-5)


def test_group_3_other_objectives_by_hand():
    pair = errors(0.30, 0.42, 0.33, 0.40)
    assert loss_of(pair, replace(BARE, objective="ipo"))[0] == pytest.approx(4.0, rel=1e-4)
    assert loss_of(pair, replace(BARE, objective="hinge"))[0] == 0.0
    assert loss_of(pair, replace(BARE, objective="hinge", beta=20.0))[0] == pytest.approx(0.5, rel=1e-4)
    smooth = 0.8 * 0.0788897 + 0.2 * 2.5788897
    assert loss_of(pair, replace(BARE, label_smoothing=0.2))[0] == pytest.approx(smooth, rel=1e-4)
    half = loss_of(pair, replace(BARE, loser_scale=0.5))[1]
    assert half.logit.item() == pytest.approx(2.0, rel=1e-5)


def test_ipo_is_the_papers_up_to_a_constant():
    pair, beta = errors(0.30, 0.42, 0.33, 0.40), 100.0
    margin = -((0.30 - 0.33) - (0.42 - 0.40)) / 2
    assert loss_of(pair, replace(BARE, objective="ipo"))[0] == pytest.approx(
        beta**2 * (margin - 1 / (2 * beta)) ** 2, rel=1e-4
    )


def test_beta_without_its_half_is_twice_as_large():
    assert PreferenceLossConfig.from_unhalved_beta(2500.0).beta == 5000.0
    unhalved = PreferenceLossConfig.from_unhalved_beta(50.0, dpop_lambda=0.0)
    logit = loss_of(errors(0.30, 0.42, 0.33, 0.40), unhalved)[1].logit
    assert logit.item() == pytest.approx(-50.0 * ((0.30 - 0.33) - (0.42 - 0.40)), rel=1e-5)


def test_presets_say_what_is_published():
    assert (PRESETS["default"].beta, PRESETS["default"].dpop_lambda) == (2000.0, 1.0)
    assert (PRESETS["paper"].beta, PRESETS["paper"].dpop_lambda) == (2500.0, 0.0)


# ---------------------------------------------------------------- hinge, SDPO, timesteps


def test_the_hinge_counts_only_a_winner_that_got_worse():
    better, worse = errors(0.30, 0.42, 0.33, 0.40), errors(0.36, 0.50, 0.33, 0.40)
    hinged = replace(BARE, dpop_lambda=2.0)
    assert loss_of(better, hinged)[0] == loss_of(better)[0]
    u = -50.0 * (0.03 - 0.10 + 2.0 * 0.03)
    stats = loss_of(worse, hinged)[1]
    assert stats.logit.item() == pytest.approx(u, rel=1e-4)
    summary = stats.summary()
    assert (summary["hinge_active"], summary["loser_dominant"], summary["accuracy"]) == (1.0, 1.0, 1.0)
    assert summary["margin"] == pytest.approx(3.5, rel=1e-4)  # without the hinge


def test_sdpo_keeps_the_value_and_scales_the_losers_gradient():
    pairs = some()
    loser = pairs.loser.clone().requires_grad_()
    factor = torch.tensor([0.0, 0.25, 0.5, 1.0, 1.0, 0.1])
    safe = replace(pairs, loser=loser, loser_gradient=factor)
    plain_loss, _ = loss_of(pairs)
    loss, stats = dpo_loss(safe, replace(BARE, sdpo_mu=0.5), torch.full((6,), 0.5))
    assert float(loss.detach()) == pytest.approx(plain_loss, rel=1e-6)
    (scaled,) = torch.autograd.grad(loss, loser)
    other = pairs.loser.clone().requires_grad_()
    loss, _ = dpo_loss(replace(pairs, loser=other), BARE, torch.full((6,), 0.5))
    (plain,) = torch.autograd.grad(loss, other)
    torch.testing.assert_close(scaled, factor * plain)
    assert stats.summary()["loser_gradient"] == pytest.approx(float(factor.mean()))
    with pytest.raises(InputError, match="loser_gradient_scale"):
        loss_of(pairs, replace(BARE, sdpo_mu=0.5))


def test_the_sdpo_factor_is_the_largest_that_lets_the_winner_fall_enough():
    winner = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    loser = torch.tensor([[4.0, 3.0], [-4.0, 3.0], [0.1, 0.2], [0.0, 9.0]])
    mu = 0.4
    factor = loser_gradient_scale(winner, loser, mu)
    torch.testing.assert_close(factor, torch.tensor([0.6 / 4.0, 1.0, 1.0, 1.0]))
    step = -winner + factor[:, None] * loser  # descent on the winner, ascent on the loser
    change = (winner * step).sum(1)
    own = winner.square().sum(1)
    assert (change <= -mu * own + 1e-6).all()
    assert change[0] == pytest.approx(-mu * 1.0)
    masked = loser_gradient_scale(winner, loser, mu, weights=torch.tensor([0.0, 1.0]))
    assert masked[2] == pytest.approx(1.0)
    assert torch.isfinite(masked).all()


def test_beta_may_follow_the_error_of_the_noise():
    pair, sigma = errors([0.30] * 2, [0.42] * 2, [0.33] * 2, [0.40] * 2), torch.tensor([0.2, 0.9])
    config = replace(BARE, timestep_weight="epsilon")
    logit = dpo_loss(pair, config, sigma)[1].logit
    torch.testing.assert_close(logit, 2.5 * (1 - sigma) ** 2)
    logit = dpo_loss(pair, replace(config, prediction="v"), sigma)[1].logit
    torch.testing.assert_close(logit, 2.5 * (1 - sigma**2))


def test_an_axis_counts_in_its_window_of_noise_only():
    config = replace(BARE, alignment_window=(0.5, 1.0), fidelity_window=(0.0, 0.6))
    sigma = torch.tensor([0.1, 0.55, 0.9])
    pairs = some(3)
    shares = torch.tensor([[0.7, 0.3]] * 3)
    _, stats = dpo_loss(pairs, config, sigma, axis_shares=shares, weights=torch.tensor([1.0, 1.0, 2.0]))
    torch.testing.assert_close(stats.weight, torch.tensor([0.3, 1.0, 1.4]))
    with pytest.raises(InputError, match="axis_shares"):
        dpo_loss(pairs, config, sigma)


# ---------------------------------------------------------------- group 8


def test_group_8_swapping_sides_flips_the_logit():
    pairs = some()
    swapped = PairErrors(pairs.loser, pairs.winner, pairs.loser_reference, pairs.winner_reference)
    torch.testing.assert_close(loss_of(swapped)[1].logit, -loss_of(pairs)[1].logit)


def test_group_8_permuting_the_batch_permutes_the_losses():
    pairs, order = some(), torch.tensor([3, 0, 5, 1, 4, 2])
    moved = PairErrors(*(value[order] for value in pairs.all()))
    config = PreferenceLossConfig()
    assert torch.equal(loss_of(moved, config)[1].loss, loss_of(pairs, config)[1].loss[order])


def test_group_8_a_pair_twice_is_a_pair_of_weight_two():
    pairs = some(3)
    twice = PairErrors(*(torch.cat([value, value[:1]]) for value in pairs.all()))
    weighted, _ = loss_of(pairs, weights=torch.tensor([2.0, 1.0, 1.0]))
    assert 4 * loss_of(twice)[0] == pytest.approx(3 * weighted, rel=1e-6)


def test_group_8_padding_under_the_mask_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    prediction, target = (torch.randn(2, 3, 4, 5, 5, generator=generator) for _ in range(2))
    weights = torch.rand(2, 1, 4, 5, 5, generator=generator) + 0.1
    junk = torch.full((2, 3, 2, 5, 5), 1e3)
    padded = (torch.cat([prediction, junk], 2), torch.cat([target, -junk], 2))
    mask = torch.cat([weights, torch.zeros(2, 1, 2, 5, 5)], 2)
    torch.testing.assert_close(clip_errors(*padded, mask), clip_errors(prediction, target, weights))


def test_group_8_labels_per_frame_swap_the_sides_of_their_frame():
    generator = torch.Generator().manual_seed(0)
    pairs = PairErrors(*(0.4 + 0.05 * torch.rand(3, 4, generator=generator) for _ in range(4)))
    labels = torch.tensor([[1, 1, 1, 1], [1, -1, 0, 0], [0, 0, 0, 0]])
    sigma = torch.full((3,), 0.5)
    _, stats = dpo_loss(pairs, BARE, sigma, frame_labels=labels)
    winner, loser, winner_reference, loser_reference = pairs.all()
    gain = (winner - winner_reference) - (loser - loser_reference)
    slow = []
    for b in range(3):
        scores = [int(labels[b, f]) * -50.0 * float(gain[b, f]) for f in range(4) if labels[b, f]]
        slow.append(sum(scores) / len(scores) if scores else 0.0)
    torch.testing.assert_close(stats.logit, torch.tensor(slow), rtol=1e-4, atol=1e-5)
    assert stats.weight.tolist() == [1.0, 1.0, 0.0]
    _, flipped = dpo_loss(pairs, BARE, sigma, frame_labels=-labels)
    torch.testing.assert_close(flipped.logit, -stats.logit)


def test_errors_of_frames_average_to_those_of_the_clip():
    generator = torch.Generator().manual_seed(0)
    prediction, target = (torch.randn(2, 3, 4, 5, 5, generator=generator) for _ in range(2))
    by_frame = frame_errors(prediction, target)
    assert by_frame.shape == (2, 4)
    torch.testing.assert_close(by_frame.mean(1), clip_errors(prediction, target))
    weights = torch.rand(2, 1, 4, 5, 5, generator=generator) + 0.1
    one = clip_errors(prediction[:, :, 2], target[:, :, 2], weights[:, :, 2])
    torch.testing.assert_close(frame_errors(prediction, target, weights)[:, 2], one)


def test_a_frame_without_weight_has_no_error_and_no_gradient():
    prediction = torch.randn(1, 3, 2, 4, 4, requires_grad=True)
    weights = torch.ones(1, 1, 2, 4, 4)
    weights[:, :, 0] = 0.0
    errors = frame_errors(prediction, torch.zeros_like(prediction), weights)
    assert errors[0, 0] == 0
    errors.sum().backward()
    assert torch.isfinite(prediction.grad).all()
    assert not prediction.grad[:, :, 0].any()


# ---------------------------------------------------------------- group 9


def test_group_9_a_clip_has_one_error_and_image_style_means_are_refused():
    prediction = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    target = torch.zeros_like(prediction)
    assert clip_errors(prediction, target).shape == (2,)
    image_style = (prediction - target).square().mean(dim=[1, 2, 3])  # leaves the width: [2, 6]
    per_clip = clip_errors(prediction, target)
    sigma = torch.full((2,), 0.5)
    with pytest.raises(ShapeError, match=r"must be \[2\].*found \[2, 6\]"):
        dpo_loss(PairErrors(*[image_style] * 4), BARE, sigma)
    with pytest.raises(ShapeError, match=r"found \[\]"):
        dpo_loss(PairErrors(per_clip.mean(), *[per_clip] * 3), BARE, sigma)
    with pytest.raises(ShapeError, match="sigma must be"):
        dpo_loss(PairErrors(*[per_clip] * 4), BARE, sigma[:, None])
    with pytest.raises(ShapeError, match="Pair weights"):
        dpo_loss(PairErrors(*[per_clip] * 4), BARE, sigma, weights=torch.ones(2, 1))
    with pytest.raises(ShapeError, match=r"axis_shares must be \[2, 2\]"):
        dpo_loss(PairErrors(*[per_clip] * 4), BARE, sigma, axis_shares=torch.ones(2, 3))
    with pytest.raises(ShapeError, match=r"must be \[2, 4\]"):
        dpo_loss(PairErrors(*[per_clip] * 4), BARE, sigma, frame_labels=torch.ones(2, 4))


# ---------------------------------------------------------------- statistics, refusals


def test_reference_errors_have_no_gradient():
    pairs = some()
    reference = pairs.winner_reference.clone().requires_grad_()
    winner = pairs.winner.clone().requires_grad_()
    with_gradient = replace(pairs, winner=winner, winner_reference=reference)
    loss, stats = dpo_loss(with_gradient, BARE, torch.full((6,), 0.5))
    assert torch.autograd.grad(loss, reference, allow_unused=True) == (None,)
    assert not stats.logit.requires_grad


def test_statistics_by_hand_and_by_group():
    pairs = errors([0.30, 0.50, 0.40], [0.42, 0.60, 0.40], [0.33, 0.40, 0.40], [0.40, 0.40, 0.40])
    _, stats = loss_of(pairs)
    assert stats.logit.tolist() == pytest.approx([2.5, 5.0, 0.0], abs=1e-4)
    summary = stats.summary()
    expected = {
        "accuracy": 2.5 / 3,
        "winner_diff": (-0.03 + 0.10) / 3,
        "loser_diff": 0.22 / 3,
        "saturated": 1 / 3,
        "hinge_active": 1 / 3,
        "loser_dominant": 1 / 3,
    }
    assert {name: summary[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    chosen = stats.of(torch.tensor([True, False, True]))
    assert len(chosen) == 2
    assert chosen.summary()["accuracy"] == 0.75
    joined = PairStats.joined([chosen, stats.of(torch.tensor([1]))])
    assert joined.summary()["logit"] == pytest.approx(summary["logit"], rel=1e-5)


@pytest.mark.parametrize(
    "bad",
    [
        {"beta": 0.0},
        {"beta": math.nan},
        {"objective": "simpo"},
        {"prediction": "x0"},
        {"dpop_lambda": -1.0},
        {"label_smoothing": 0.5},
        {"loser_scale": 1.5},
        {"sdpo_mu": 2.0},
        {"timestep_weight": "snr"},
        {"alignment_window": (0.6, 0.4)},
    ],
)
def test_impossible_settings_are_refused(bad):
    with pytest.raises(InputError):
        PreferenceLossConfig(**bad)


def test_sdpo_has_no_meaning_for_labels_per_frame():
    frames = PairErrors(*[torch.ones(2, 3)] * 4, loser_gradient=torch.ones(2))
    with pytest.raises(InputError, match="labels per frame"):
        dpo_loss(frames, replace(BARE, sdpo_mu=0.1), torch.ones(2) / 2, frame_labels=torch.ones(2, 3))
