"""Adapters: where they sit, what they train, what they change, and how they go."""

import copy
import re

import pytest
import torch

from hallo4.errors import CheckpointError, InputError
from hallo4.training import AdapterConfig, add_lora, merge_lora
from hallo4.training.lora import relative_change

SMALL = AdapterConfig(rank=3, alpha=6.0)


def run(model, toolbox):
    from hallo4.training import predict

    batch = toolbox.batch(2)
    with torch.no_grad():
        return predict(model, batch.winner, batch.sigma, batch.conditions)


def test_only_attention_and_motion_attention_are_trained(toolbox):
    model = add_lora(toolbox.make_dit(), SMALL)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    pattern = (
        r"(vace_)?blocks\.\d\.(attn1|attn_audio|attn_skeleton)\.(to_[qkv]|to_out\.0)\.lora_[AB]\.dpo\.weight"
    )
    assert all(re.fullmatch(pattern, name) for name in trained)
    assert len(trained) == 2 * 4 * (
        2 * 3 + 1
    )  # A and B, four layers, two blocks of three and a VACE block of one
    assert not any(m.training != model.training for m in model.modules())


def test_a_new_adapter_changes_nothing_and_a_trained_one_is_the_low_rank_sum(toolbox):
    plain = toolbox.make_dit()
    model = add_lora(copy.deepcopy(plain), SMALL)
    before = run(plain, toolbox)
    assert torch.equal(run(model, toolbox), before)
    assert relative_change(model) == 0.0
    toolbox.disturb(model)
    by_hand = copy.deepcopy(plain)
    changed = weighed = 0.0
    for name, layer in model.named_modules():
        if hasattr(layer, "lora_A"):
            delta = 2.0 * layer.lora_B["dpo"].weight.data @ layer.lora_A["dpo"].weight.data
            weight = by_hand.get_submodule(name).weight.data
            changed, weighed = changed + float((delta**2).sum()), weighed + float((weight**2).sum())
            weight.add_(delta)
    after = run(model, toolbox)
    assert not torch.allclose(after, before)
    torch.testing.assert_close(after, run(by_hand, toolbox), rtol=1e-4, atol=1e-5)
    assert relative_change(model) == pytest.approx((changed / weighed) ** 0.5, rel=1e-4)


def test_merging_leaves_the_plain_model_with_the_same_output(toolbox):
    plain = toolbox.make_dit()
    model = add_lora(copy.deepcopy(plain), SMALL)
    toolbox.disturb(model)
    adapted = run(model, toolbox)
    merge_lora(model)
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert vars(model).keys() == vars(plain).keys()
    torch.testing.assert_close(run(model, toolbox), adapted, rtol=1e-4, atol=1e-5)


def test_a_second_adapter_leaves_the_first_on_and_frozen(toolbox):
    model = add_lora(toolbox.make_dit(), AdapterConfig(rank=2), "sft")
    toolbox.disturb(model)
    tuned = run(model, toolbox)
    add_lora(model, AdapterConfig(rank=2), "dpo", ["attn1", "attn_audio"])
    assert torch.equal(run(model, toolbox), tuned)
    assert all((".dpo." in name) == p.requires_grad for name, p in model.named_parameters())
    with pytest.raises(CheckpointError, match="sft"):
        merge_lora(model, "dpo")


def test_adapters_of_a_half_precision_model_are_float32(toolbox):
    model = add_lora(toolbox.make_dit().to(torch.bfloat16), SMALL)
    kinds = {(p.dtype, p.requires_grad) for p in model.parameters()}
    assert kinds == {(torch.float32, True), (torch.bfloat16, False)}
    assert run(model, toolbox).isfinite().all()


def test_impossible_adapters_are_refused(toolbox):
    with pytest.raises(InputError, match="no Linear layer of PortraitDiT lies in a part called 'attn9'"):
        add_lora(toolbox.make_dit(), parts=["attn1", "attn9"])
    with pytest.raises(InputError, match="rank"):
        add_lora(toolbox.make_dit(), AdapterConfig(rank=0))
    model = add_lora(toolbox.make_dit(), SMALL)
    with pytest.raises(InputError, match="'dpo' already"):
        add_lora(model, SMALL)
    with pytest.raises(CheckpointError, match="has none"):
        merge_lora(toolbox.make_dit())
