"""One preference step on a small PortraitDiT: start, checkpoints, split pairs, autocast, number formats."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch.utils.checkpoint import CheckpointError as BackwardError

from hallo4.diffusion import PairStats, PreferenceLossConfig, add_noise, clip_errors, dpo_loss, target
from hallo4.diffusion.pair_loss import PairErrors
from hallo4.errors import InputError, ShapeError
from hallo4.training import (
    AdapterConfig,
    AdapterOff,
    FrozenCopy,
    PairBatch,
    add_lora,
    check_learning_rate,
    dpo_objective,
    evaluate_pairs,
    pair_step,
    predict,
)
from hallo4.training.startup_checks import check_start

CONFIG = PreferenceLossConfig(beta=200.0)


def adapted(toolbox, trained: bool = True):
    model = add_lora(toolbox.make_dit(), AdapterConfig(rank=3, alpha=6.0))
    if trained:
        toolbox.disturb(model)
    return model


def gradients(model, batch, config=CONFIG, mode="batched", reference=None):
    reference = reference or AdapterOff(model)
    loss, stats = pair_step(model, batch, predict, reference, config, mode)
    model.zero_grad()
    loss.backward()
    return (
        loss.detach(),
        stats,
        {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None},
    )


def assert_same_gradients(found, expected, relative=1e-5):
    assert found.keys() == expected.keys()
    scale = max(float(g.abs().max()) for g in expected.values())
    assert scale > 0
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=relative, atol=relative * scale)


# ---------------------------------------------------------------- groups 1, 8, 11


@pytest.mark.parametrize("mode", ["batched", "split"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_group_1_at_the_start_model_and_reference_agree_bitwise(toolbox, mode, precision):
    batch = toolbox.batch()
    of_adapter, of_copy = adapted(toolbox, trained=False), toolbox.make_dit()
    for model, reference in ((of_adapter, AdapterOff(of_adapter)), (of_copy, FrozenCopy(of_copy))):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            loss, stats = pair_step(model, batch, predict, reference, CONFIG, mode)
        assert abs(float(loss.detach()) - math.log(2)) < 2e-7
        assert torch.equal(stats.winner_error, stats.winner_reference)
        assert torch.equal(stats.loser_error, stats.loser_reference)
        assert stats.summary()["accuracy"] == 0.5
        check_start(stats, CONFIG)


@pytest.mark.parametrize("kind", ["flow", "v", "epsilon"])
def test_the_step_is_the_loss_of_four_separate_passes(toolbox, kind):
    model, batch, config = adapted(toolbox), toolbox.batch(), replace(CONFIG, prediction=kind)
    plain = toolbox.make_dit()
    four = []
    with torch.no_grad():
        for net in (model, plain):
            for clean in (batch.winner, batch.loser):
                noisy = add_noise(clean, batch.noise, batch.sigma, kind)
                found = predict(net, noisy, batch.sigma, batch.conditions)
                four.append(clip_errors(found, target(clean, batch.noise, batch.sigma, kind)))
    expected, _ = dpo_loss(PairErrors(*four), config, batch.sigma)
    assert gradients(model, batch, config)[0] == pytest.approx(float(expected), rel=1e-4)


def test_group_8_swapping_the_clips_flips_the_logit(toolbox):
    model, batch = adapted(toolbox), toolbox.batch()
    bare = replace(CONFIG, dpop_lambda=0.0)
    swapped = replace(batch, winner=batch.loser, loser=batch.winner)
    logit = gradients(model, batch, bare)[1].logit
    torch.testing.assert_close(gradients(model, swapped, bare)[1].logit, -logit, rtol=1e-3, atol=1e-4)


def test_group_11_both_clips_see_one_sigma_one_noise_and_one_condition(toolbox):
    batch, seen = toolbox.batch(), []

    def spy(model, noisy, sigma, conditions):
        seen.append((noisy, sigma, conditions["audio_windows"]))
        return predict(model, noisy, sigma, conditions)

    model = adapted(toolbox)
    pair_step(model, batch, spy, AdapterOff(model), CONFIG)
    assert len(seen) == 2  # reference and model
    for noisy, sigma, audio in seen:
        assert torch.equal(sigma[:3], sigma[3:])
        assert torch.equal(audio[:3], audio[3:])
        weight = (1 - batch.sigma).view(-1, 1, 1, 1, 1)
        torch.testing.assert_close(noisy[3:] - noisy[:3], weight * (batch.loser - batch.winner))
    assert torch.equal(seen[0][0], seen[1][0])


# ---------------------------------------------------------------- group 5


def test_group_5_checkpointing_changes_no_gradient(toolbox):
    model, batch = adapted(toolbox), toolbox.batch()
    loss, _, plain = gradients(model, batch)
    model.enable_gradient_checkpointing()
    again, _, recomputed = gradients(model, batch)
    assert again == loss
    assert_same_gradients(recomputed, plain, 1e-6)


@pytest.mark.parametrize("mode", ["batched", "split"])
def test_group_5_an_adapter_that_is_off_at_backward_raises(toolbox, mode):
    model, batch = adapted(toolbox), toolbox.batch()
    if mode == "batched":
        model.enable_gradient_checkpointing()
    reference = AdapterOff(model)
    loss, _ = pair_step(model, batch, predict, reference, CONFIG, mode)
    with reference.switched_off(), torch.enable_grad(), pytest.raises(BackwardError):
        loss.backward()


# ---------------------------------------------------------------- group 6


@pytest.mark.parametrize(
    ("config", "dense", "checkpoints"),
    [
        (CONFIG, False, False),
        (CONFIG, False, True),
        (replace(CONFIG, sdpo_mu=0.5, dpop_lambda=0.0), False, False),
        (CONFIG, True, False),
    ],
)
def test_group_6_split_equals_batched(toolbox, config, dense, checkpoints):
    generator = torch.Generator().manual_seed(0)
    more = {"loss_weights": torch.rand(3, 1, 2, 4, 4, generator=generator) + 0.1}
    if dense:
        more["frame_labels"] = torch.tensor([[1, -1], [1, 1], [0, 1]])
    model, batch = adapted(toolbox), toolbox.batch(**more)
    if checkpoints:
        model.enable_gradient_checkpointing()
    loss, stats, whole = gradients(model, batch, config)
    split_loss, split_stats, split = gradients(model, batch, config, "split")
    torch.testing.assert_close(split_stats.logit, stats.logit, rtol=1e-4, atol=1e-4)
    # the loss moves at most as much as a logit, in which beta multiplies the rounding of the errors
    assert split_loss == pytest.approx(float(loss), abs=1e-4)
    assert_same_gradients(split, whole, relative=3e-5)


def test_group_6_split_equals_batched_when_all_weights_are_trained(toolbox):
    model, batch = toolbox.make_dit(), toolbox.batch()
    reference = FrozenCopy(model)
    toolbox.disturb(model, 0.01)
    whole = gradients(model, batch, CONFIG, "batched", reference)[2]
    assert_same_gradients(gradients(model, batch, CONFIG, "split", reference)[2], whole)


def test_group_6_split_equals_batched_under_autocast(toolbox):
    model, batch = adapted(toolbox), toolbox.batch()
    with torch.autocast("cpu", torch.bfloat16):
        losses = [
            pair_step(model, batch, predict, AdapterOff(model), CONFIG, mode)[0]
            for mode in ("batched", "split")
        ]
    found = []
    for loss in losses:  # outside autocast, as the loop goes back
        found.append(torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad]))
    flat = [torch.cat([g.flatten() for g in gradient]) for gradient in found]
    assert torch.cosine_similarity(*flat, dim=0) > 0.999  # other kernels may round otherwise


# ---------------------------------------------------------------- group 13 and the start


def test_group_13_a_reference_in_another_number_format_is_noticed(toolbox):
    model, batch = toolbox.make_dit(), toolbox.batch()

    class HalfPrecision:
        def errors(self, measure, batch):
            with torch.autocast("cpu", torch.bfloat16):
                return measure()

    config = replace(CONFIG, beta=5000.0)
    _, stats = pair_step(model, batch, predict, HalfPrecision(), config)
    with pytest.raises(InputError, match=r"loss of 0\.6931.*number format"):
        check_start(stats, config)
    method = dpo_objective(predict, HalfPrecision(), config)
    fields = {name: getattr(batch, name) for name in PairBatch.__annotations__}
    with pytest.raises(InputError, match="model and reference differ"):
        method(model, fields, 0)
    loss, metrics = method(model, fields, 1)  # afterwards they may differ
    assert loss.requires_grad
    assert {"accuracy", "winner_diff", "saturated"} <= metrics.keys()


def test_a_start_that_is_not_a_number_is_noticed():
    nan = torch.full((2,), math.nan)
    _, stats = dpo_loss(PairErrors(*[nan] * 4), CONFIG, torch.full((2,), 0.5))
    with pytest.raises(InputError, match=r"not a number.*zero everywhere"):
        check_start(stats, CONFIG)


def test_group_13_a_rate_below_the_resolution_of_the_weights_is_refused(toolbox):
    model = toolbox.make_dit().to(torch.bfloat16)
    with pytest.raises(InputError, match=r"step of 1e-08 changes .* % of the trained bfloat16"):
        check_learning_rate(model, 1e-8)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-8, weight_decay=0.0)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    moved = [
        (before[n] != p)[before[n] != 0].float().mean()
        for n, p in model.named_parameters()
        if before[n].any()
    ]
    assert max(moved) < 0.01  # the refusal is right: nothing would have happened
    check_learning_rate(model, 1e-2)
    check_learning_rate(toolbox.make_dit(), 1e-8)
    check_learning_rate(add_lora(model, AdapterConfig(rank=2)), 1e-5)  # adapters are float32


# ---------------------------------------------------------------- evaluation, refusals


def test_evaluation_joins_batches_and_leaves_no_graph(toolbox):
    model, batches = adapted(toolbox), [toolbox.batch(visit=v) for v in range(2)]
    reference = AdapterOff(model)
    stats = evaluate_pairs(model, batches, predict, reference, CONFIG)
    parts = [pair_step(model, b, predict, reference, CONFIG)[1] for b in batches]
    assert torch.equal(stats.logit, PairStats.joined(parts).logit)
    assert len(stats) == 6
    assert all(p.grad is None for p in model.parameters())
    split = evaluate_pairs(model, batches, predict, reference, CONFIG, "split")
    torch.testing.assert_close(split.logit, stats.logit, rtol=1e-3, atol=1e-3)


def test_clips_of_another_size_are_refused(toolbox):
    batch = toolbox.batch()
    with pytest.raises(ShapeError, match=r"loser of a pair is \[3, 4, 1, 4, 4\].*same length and size"):
        replace(batch, loser=batch.loser[:, :, :1])
    with pytest.raises(ShapeError, match=r"sigma must be \[3\]"):
        replace(batch, sigma=batch.sigma[:2])
    with pytest.raises(ShapeError, match=r"visits must be \[3\]"):
        replace(batch, visits=batch.visits[:1])
    with pytest.raises(ShapeError, match="loss_weights must have the 3 pairs"):
        replace(batch, loss_weights=torch.ones(1, 1, 2, 4, 4))
