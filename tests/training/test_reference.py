"""The reference without a second model: exact, safe against the traps of switching adapters (group 4)."""

import copy

import pytest
import torch
from torch import nn

from hallo4.diffusion import PreferenceLossConfig
from hallo4.errors import InputError
from hallo4.training import AdapterConfig, AdapterOff, FrozenCopy, add_lora, pair_step, predict

CONFIG = PreferenceLossConfig(beta=200.0)
SMALL = AdapterConfig(rank=3, alpha=6.0)


def output(model, batch):
    with torch.no_grad():
        return predict(model, batch.winner, batch.sigma, batch.conditions)


def five_steps(model, reference, toolbox) -> None:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for visit in range(5):
        loss, _ = pair_step(model, toolbox.batch(visit=visit), predict, reference, CONFIG)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def flags(model):
    layers = [m for m in model.modules() if hasattr(m, "lora_A")]
    return [(m._disable_adapters, m._active_adapter) for m in layers], [
        p.requires_grad for p in model.parameters()
    ]


def test_group_4_the_adapter_off_is_the_first_model_bitwise_before_and_after_training(toolbox):
    plain = toolbox.make_dit()
    model = add_lora(copy.deepcopy(plain), SMALL)
    reference, batch = AdapterOff(model), toolbox.batch()
    first = output(plain, batch)
    measure = lambda: output(model, batch)  # noqa: E731
    assert torch.equal(reference.errors(measure, batch), first)
    five_steps(model, reference, toolbox)
    assert not torch.allclose(output(model, batch), first)
    assert torch.equal(reference.errors(measure, batch), first)


def test_group_4_the_frozen_copy_is_the_first_model_bitwise_before_and_after_training(toolbox):
    model = toolbox.make_dit()
    plain = copy.deepcopy(model)
    reference, batch = FrozenCopy(model), toolbox.batch()
    first = output(plain, batch)
    measure = lambda: output(model, batch)  # noqa: E731
    assert torch.equal(reference.errors(measure, batch), first)
    five_steps(model, reference, toolbox)
    trained = output(model, batch)
    assert not torch.allclose(trained, first)
    assert torch.equal(reference.errors(measure, batch), first)
    assert torch.equal(output(model, batch), trained)


def test_group_4_with_two_adapters_only_the_trained_one_goes_off(toolbox):
    model = add_lora(toolbox.make_dit(), SMALL, "sft")
    toolbox.disturb(model)
    tuned = copy.deepcopy(model)
    add_lora(model, SMALL, "dpo")
    reference, batch, before = AdapterOff(model, "dpo"), toolbox.batch(), flags(model)
    first = output(tuned, batch)
    assert not torch.allclose(first, output(toolbox.make_dit(), batch))
    five_steps(model, reference, toolbox)
    assert torch.equal(reference.errors(lambda: output(model, batch), batch), first)
    assert flags(model) == before
    of_sft = [p for name, p in tuned.named_parameters() if ".sft." in name]
    now = [p for name, p in model.named_parameters() if ".sft." in name]
    assert all(torch.equal(a, b) for a, b in zip(of_sft, now, strict=True))
    assert all(p.grad is None for p in now)


@pytest.mark.parametrize("kind", [AdapterOff, FrozenCopy])
def test_group_4_an_exception_inside_restores_everything(toolbox, kind):
    model = toolbox.make_dit()
    if kind is AdapterOff:
        add_lora(model, SMALL)
    reference, batch = kind(model), toolbox.batch()
    toolbox.disturb(model)
    trained, before = output(model, batch), flags(model)
    places = [p.data_ptr() for p in model.parameters()]

    def fails():
        assert not torch.allclose(output(model, batch), trained)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reference.errors(fails, batch)
    assert torch.equal(output(model, batch), trained)
    assert flags(model) == before
    assert [p.data_ptr() for p in model.parameters()] == places
    assert torch.is_grad_enabled()


def test_the_reference_records_no_graph(toolbox):
    model = add_lora(toolbox.make_dit(), SMALL)
    batch = toolbox.batch()

    def measure():
        assert not torch.is_grad_enabled()
        return predict(model, batch.winner, batch.sigma, batch.conditions)

    assert not AdapterOff(model).errors(measure, batch).requires_grad


@pytest.mark.parametrize("kind", [AdapterOff, FrozenCopy])
def test_under_autocast_the_pass_before_does_not_take_the_gradient_away(toolbox, kind):
    """Autocast keeps its half-precision weights; made without a graph they would serve training too."""
    gradients = []
    for reference_runs in (True, False):
        model = toolbox.make_dit()
        if kind is AdapterOff:
            add_lora(model, SMALL)
        reference, batch = kind(model), toolbox.batch()
        toolbox.disturb(model)
        with torch.autocast("cpu", torch.bfloat16):
            if reference_runs:
                reference.errors(lambda m=model: output(m, batch), batch)  # noqa: B023
            predict(model, batch.winner, batch.sigma, batch.conditions).sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    before, alone = gradients
    assert before.keys() == alone.keys()
    assert len(alone) > 50
    assert all(torch.equal(before[name], gradient) for name, gradient in alone.items())


def test_what_would_make_the_reference_drift_is_refused(toolbox):
    model = add_lora(toolbox.make_dit(), SMALL)
    with pytest.raises(InputError, match="no adapter 'sft'"):
        AdapterOff(model, "sft")
    with pytest.raises(InputError, match="no adapter 'dpo'"):
        AdapterOff(toolbox.make_dit())
    model.audio_proj.requires_grad_(True)
    with pytest.raises(InputError, match=r"audio_proj.* are trained but not part of adapter 'dpo'"):
        AdapterOff(model)
    model.audio_proj.requires_grad_(False)
    AdapterOff(model)
    model.blocks[0].attn1.to_q.merge()
    with pytest.raises(InputError, match="merged"):
        AdapterOff(model)


def test_dropout_is_refused(toolbox):
    model = add_lora(toolbox.make_dit(), SMALL)
    model.blocks[1].ffn.net[1] = nn.Dropout(0.1)
    for kind in (AdapterOff, FrozenCopy):
        with pytest.raises(InputError, match=r"blocks\.1\.ffn\.net\.1 has dropout 0\.1"):
            kind(model)
