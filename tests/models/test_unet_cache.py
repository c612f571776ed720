"""What a UNet keeps of the conditions between steps: it saves work, fits its budget and changes no bit."""

from dataclasses import replace

import pytest
import torch
from tiny_unets import conditions, make, noise, predict

from hallo4.models.unet_attention import StepAttention

SWITCHES = pytest.mark.parametrize(
    "switch", [{}, {"reference_order": "interleaved", "motion_in_plain": False}]
)


def kept_bytes(cache):
    """Bytes of the keys and values that the layers really keep."""
    total = 0
    for layer in cache.window.layers:
        pairs = (layer.kept.face, layer.kept.reference, layer.kept.audio)
        parts = [part for pair in pairs if pair is not None for part in (pair.key, pair.value)]
        total += sum(part.numel() * part.element_size() for part in parts)
    return total


def filled(model, given, budget_bytes=None):
    """A cache after its first step."""
    cache = model.new_cache(budget_bytes)
    predict(model, given, cache=cache)
    return cache


@SWITCHES
@pytest.mark.parametrize("given", [None, [False, True], [False, False]])
def test_with_and_without_a_cache_every_bit_is_the_same(switch, given):
    model = make(**switch)
    flags = None if given is None else torch.tensor(given)
    wanted = replace(conditions(), portrait_given=flags)
    expected = predict(model, wanted)
    for budget in (0, 10**9, None):
        cache = model.new_cache(budget)
        for _ in range(3):
            assert torch.equal(predict(model, wanted, cache=cache), expected), budget


@SWITCHES
@pytest.mark.parametrize("seen", [True, False])
def test_keys_and_values_are_kept_if_all_of_them_fit(switch, seen):
    """What is counted beforehand is what is kept, to the byte; a byte less is too little for any."""
    model, given = make(**switch), conditions()
    everything = filled(model, given)
    counted = 4 * model.denoiser.key_value_count(everything.window.layers)
    assert kept_bytes(everything) == counted > 0
    assert kept_bytes(filled(model, given, counted)) == counted
    assert kept_bytes(filled(model, given, counted - 1)) == 0
    unseen = replace(given, portrait_given=torch.tensor([False, False]))
    assert 0 < kept_bytes(filled(model, unseen)) < counted, "a reference that is not used is not projected"


@torch.no_grad()
def test_what_is_kept_is_not_computed_again():
    model, given, calls = make(), conditions(), {"embed": 0, "project": 0}

    def watch(module, kind):
        module.register_forward_hook(lambda *_: calls.update({kind: calls[kind] + 1}))

    parts = (model.audio_proj, model.face_proj, model.face_locator, model.skeleton_guider)
    for module in (*parts, model.reference_net.conv_in):
        watch(module, "embed")
    readers = 0
    for name, module in model.denoiser.named_modules():
        face = ".attentions." in name and name.endswith("attn2")
        sound = ".audio_modules." in name and ".attn2_" in name
        if isinstance(module, StepAttention) and (face or sound):
            watch(module.to_k, "project")
            readers += 1
    layers = model.denoiser.sizes.attention_layers
    assert readers == 4 * layers, "the face, and three readings of the sound"
    for budget, again in ((None, 1), (0, 4)):
        calls.update(embed=0, project=0)
        cache = filled(model, given, budget)
        assert calls == {"embed": 5, "project": readers}
        for _ in range(3):
            predict(model, given, cache=cache)
        assert calls == {"embed": 5, "project": again * readers}
    calls.update(embed=0, project=0)
    for _ in range(2):
        predict(model, given)
    assert calls == {"embed": 10, "project": 2 * readers}


def test_every_window_has_a_cache_of_its_own():
    model, first, second = make(), conditions(), conditions(seed=5)
    cache, expected = filled(model, first), predict(model, second)
    assert not torch.equal(predict(model, first), expected)
    assert torch.equal(predict(model, second, cache=model.new_cache()), expected)
    assert torch.equal(predict(model, second, cache=cache), predict(model, first)), "this one was filled"


def test_parameters_that_embed_conditions_have_a_gradient_through_forward():
    model = make().train()
    model(noise(), torch.full((2,), 500.0), conditions()).square().mean().backward()
    for name, parameter in model.named_parameters():
        if not name.startswith("reference_net.up_blocks.2."):  # whose end is not read
            assert parameter.grad is not None, name
    for name in ("audio_proj.proj1", "face_proj.proj", "face_locator.conv_in", "skeleton_guider.conv_in"):
        assert model.get_submodule(name).weight.grad.any(), name
    assert model.reference_net.conv_in.weight.grad.any()
