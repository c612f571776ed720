"""Preference training through the loop: resume (group 7), over-optimisation and guards (group 14)."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from hallo4.diffusion import PairDrawConfig, PreferenceLossConfig, add_noise, pair_draws, velocity_target
from hallo4.errors import InputError
from hallo4.training import (
    AdapterConfig,
    AdapterOff,
    FrozenCopy,
    OptimizerConfig,
    PairBatch,
    PreferenceGuard,
    ScheduleConfig,
    TrainConfig,
    add_lora,
    batch_indices,
    batch_visits,
    dpo_objective,
    evaluate_pairs,
    load_weights,
    predict,
    read_log,
    train,
)


@pytest.fixture(autouse=True)
def _without_plots(monkeypatch):
    monkeypatch.setattr("hallo4.training.loop.plot_log", lambda folder: None)  # slow


# ---------------------------------------------------------------- group 7

RUN = TrainConfig(
    name="pairs",
    steps=6,
    accumulate=2,
    ema_decay=0.9,
    mixed_precision="no",
    log_every=1,
    optimizer=OptimizerConfig(learning_rate=1e-2, weight_decay=0.0),
    schedule=ScheduleConfig(warmup_steps=2, anneal_fraction=0.0),
)


def trained_adapter(toolbox, folder, steps: int, mode="batched"):
    model = add_lora(toolbox.make_dit(layers=1), AdapterConfig(rank=2))
    pairs = toolbox.make_pairs(5)

    def data(index, generator):
        return toolbox.make_batch(pairs, batch_indices(5, 2, 0, index), batch_visits(5, 2, index))

    method = dpo_objective(predict, AdapterOff(model), PreferenceLossConfig(beta=200.0), mode)
    result = train(replace(RUN, steps=steps), method, model, data, folder=folder)
    return model, result


@pytest.mark.parametrize("mode", ["batched", "split"])
def test_group_7_four_and_two_steps_are_six_bitwise(toolbox, tmp_path, mode):
    whole, one = trained_adapter(toolbox, tmp_path / "whole", 6, mode)
    trained_adapter(toolbox, tmp_path / "parts", 4, mode)
    torch.manual_seed(123)  # whatever the global generator is at
    parts, two = trained_adapter(toolbox, tmp_path / "parts", 6, mode)
    assert any(p.requires_grad for p in parts.parameters())
    for name, weight in whole.named_parameters():
        assert torch.equal(parts.get_parameter(name), weight), name
    assert all(torch.equal(two.ema.weights[name], mean) for name, mean in one.ema.weights.items())
    logs = [
        {r["step"]: (r["loss"], r["metrics"]) for r in read_log(tmp_path / name)}
        for name in ("whole", "parts")
    ]
    assert logs[0] == logs[1]
    assert list(logs[0]) == [1, 2, 3, 4, 5, 6]
    assert logs[0][1][0] == pytest.approx(math.log(2), abs=1e-6)
    assert logs[0][6][0] < 0.69
    untouched = toolbox.make_dit(layers=1)
    for name, weight in untouched.named_parameters():
        now = dict(whole.named_parameters()).get(name)
        assert now is None or torch.equal(now, weight)  # else it is below an adapter: `...base_layer.weight`


def test_visits_count_the_epochs():
    visits = torch.cat([batch_visits(5, 2, index) for index in range(5)])
    pairs = torch.cat([batch_indices(5, 2, 0, index) for index in range(5)])
    assert sorted(zip(pairs.tolist(), visits.tolist())) == [(p, v) for p in range(5) for v in range(2)]


# ---------------------------------------------------------------- group 14

DIMENSIONS = 16
LATENT = (DIMENSIONS, 1, 1, 1)


class FlowNet(nn.Module):
    """A velocity field on vectors."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(DIMENSIONS + 1, 64), nn.SiLU(), nn.Linear(64, DIMENSIONS))

    def forward(self, x, sigma):
        return self.net(torch.cat([x.flatten(1), sigma[:, None]], 1)).view_as(x)


def predict_vector(model, noisy, sigma, conditions):
    return model(noisy, sigma)


@pytest.fixture(scope="module")
def pretrained() -> FlowNet:
    """Knows where winners come from: N(0, 0.5^2)."""
    torch.manual_seed(0)
    net = FlowNet()
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(300):
        clean, noise = 0.5 * torch.randn(256, *LATENT), torch.randn(256, *LATENT)
        sigma = torch.rand(256)
        error = net(add_noise(clean, noise, sigma), sigma) - velocity_target(clean, noise)
        optimizer.zero_grad()
        error.square().mean().backward()
        optimizer.step()
    return net


def toy_batch(rows, visits) -> dict:
    """Winners have a larger first coordinate; losers come from another system, with other statistics."""
    draw = pair_draws(PairDrawConfig(strata=4), rows.tolist(), visits.tolist(), LATENT)
    clean = torch.stack(
        [torch.randn(2, *LATENT, generator=torch.Generator().manual_seed(int(row))) for row in rows]
    )
    winner, loser = 0.5 * clean[:, 0], 0.5 * clean[:, 1] + 0.2
    winner[:, 0] += 0.3
    loser[:, 0] -= 0.5
    empty = torch.zeros(len(rows))
    return {"winner": winner, "loser": loser, "noise": draw.noise, "sigma": draw.sigma, "conditions": empty}


HELD_OUT = [PairBatch(**toy_batch(torch.arange(1000, 1064), torch.full((64,), visit))) for visit in range(4)]


def over_optimised(pretrained, folder, config: PreferenceLossConfig, guard: PreferenceGuard):
    """400 steps at a rate that is far too high. (steps done, previews, events)."""
    net = FlowNet()
    net.load_state_dict(pretrained.state_dict())
    reference = FrozenCopy(net)

    def preview(step, model):
        values = evaluate_pairs(model, HELD_OUT, predict_vector, reference, config).summary()
        return values | {"score": guard.score(values, -values["accuracy"])}

    def data(index, generator):
        return toy_batch(batch_indices(64, 32, 0, index), batch_visits(64, 32, index))

    run = TrainConfig(
        name="toy",
        steps=400,
        ema_decay=0.0,
        mixed_precision="no",
        preview_every=5,
        best_metric="score",
        log_every=100,
        optimizer=OptimizerConfig(learning_rate=2e-3, weight_decay=0.0),
        schedule=ScheduleConfig(warmup_steps=0, anneal_fraction=0.0),
    )
    method = dpo_objective(predict_vector, reference, config)
    result = train(run, method, net, data, folder=folder, on_preview=preview, guard=guard)
    log = read_log(folder)
    again = train(run, method, net, data, folder=folder, on_preview=preview, guard=guard)
    assert again.progress.step == result.progress.step  # an ended run stays ended
    return result.progress.step, [r for r in log if "preview" in r], [r for r in log if "event" in r]


def test_group_14_bare_dpo_harms_the_winner_and_trips_the_guard(pretrained, tmp_path):
    bare = PreferenceLossConfig(beta=20.0, dpop_lambda=0.0)
    steps, previews, events = over_optimised(pretrained, tmp_path, bare, PreferenceGuard(max_logit=1e9))
    assert steps < 400
    assert events[-1]["event"] == "ended"
    assert "winner's error" in events[-1]["reason"]
    last = previews[-1]["preview"]
    assert last["winner_diff"] > 0.01 * last["winner_reference"]
    assert last["accuracy"] > 0.75  # which sees nothing
    allowed = [r["step"] for r in previews if r["preview"]["score"] is not None]
    best = load_weights(tmp_path, FlowNet(), "best")
    assert best in allowed
    assert best < steps


def test_group_14_the_hinge_does_not(pretrained, tmp_path):
    hinged = PreferenceLossConfig(beta=20.0, dpop_lambda=5.0)
    steps, previews, events = over_optimised(pretrained, tmp_path, hinged, PreferenceGuard(max_logit=1e9))
    assert (steps, events) == (400, [])
    last = previews[-1]["preview"]
    assert last["winner_diff"] < 0.01 * last["winner_reference"]
    assert last["accuracy"] > 0.75


# ---------------------------------------------------------------- the guard alone


def values(rise=0.0, logit=0.0, **more):
    return {"winner_diff": rise * 0.4, "winner_reference": 0.4, "logit": logit} | more


def test_the_winner_may_rise_twice_but_not_three_times_in_a_row():
    guard = PreferenceGuard()
    high, low = values(0.02), values(0.005)
    assert guard([]) is None
    assert guard([high, high]) is None
    assert guard([high, high, low, high, high]) is None
    assert guard([low, high, high, high]).startswith("the held-out winner's error is +2.0 %")
    assert PreferenceGuard(patience=1)([low, high]) is not None


def test_logit_and_motion_end_a_run_at_once():
    guard = PreferenceGuard()
    assert guard([values(logit=3.9, motion_ratio=0.96)]) is None
    assert "logit is 4.20, above 4.0" in guard([values(), values(logit=4.2)])
    assert "motion is 94 % of the reference's, below 95 %" in guard([values(motion_ratio=0.94)])


@pytest.mark.parametrize("broken", ["winner_diff", "logit", "motion_ratio"])
@pytest.mark.parametrize("what", [None, math.nan])
def test_values_that_are_no_numbers_break_every_limit(broken, what):
    bad = values(motion_ratio=1.0) | {broken: what}
    assert PreferenceGuard(patience=1)([bad]) is not None
    assert PreferenceGuard().score(bad, 0.3) == math.inf


def test_only_what_keeps_the_limits_can_be_best():
    guard = PreferenceGuard()
    assert guard.score(values(), 0.3) == 0.3
    for bad in (values(0.02), values(logit=5.0), values(motion_ratio=0.9)):
        assert guard.score(bad, 0.3) == math.inf


def test_missing_values_and_impossible_limits_are_refused():
    with pytest.raises(InputError, match="needs 'winner_diff' of every preview; found accuracy"):
        PreferenceGuard(patience=1)([{"accuracy": 1.0}])
    with pytest.raises(InputError, match="patience of a guard is 0"):
        PreferenceGuard(patience=0)
