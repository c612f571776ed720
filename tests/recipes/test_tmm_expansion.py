"""A network given fewer or more conditions begins as the one it was made of."""

from copy import deepcopy

import pytest
import torch

from hallo4.models.temporal_motion_modulation import kept_slots
from hallo4.pipelines.model_folder import load_model
from hallo4.recipes.tiny_unet import UNetSizes, build_unet
from hallo4.recipes.tmm_expansion import ExpansionConfig, adapted, with_expansion
from hallo4.recipes.unet_rate import with_skeleton_rho
from hallo4.types import AutoencoderSpec


@pytest.fixture(scope="module")
def told_of_all():
    """The embedded DiT."""
    return load_model("tiny-dit-sft").backbone


@pytest.mark.parametrize("expansion", [1, 2, 3, 4])
def test_frames_that_are_left_stand_in_for_those_before_them(told_of_all, expansion):
    changed = with_expansion(told_of_all, expansion)
    frames = 9
    kept = kept_slots(4, expansion)
    seen = [0] + [4 * group + next(k for k in kept if k >= slot) + 1 for group in (0, 1) for slot in range(4)]
    generator = torch.Generator().manual_seed(0)
    sound = torch.randn(1, frames, 5, 4, 40, generator=generator)
    skeleton = torch.randn(1, told_of_all.config.in_channels, frames, 16, 16, generator=generator)
    with torch.no_grad():
        assert torch.equal(changed.audio_proj(sound), told_of_all.audio_proj(sound[:, seen]))
        assert torch.equal(changed.skeleton_proj(skeleton), told_of_all.skeleton_proj(skeleton[:, :, seen]))
        if expansion < 4:  # what is left out is not heard at all
            left_out = next(slot for slot in range(4) if slot not in kept)
            other = sound.clone()
            other[:, 1 + left_out] += 1
            assert torch.equal(changed.audio_proj(other), changed.audio_proj(sound))


def test_variants_have_as_many_parameters_to_a_hundredth(told_of_all):
    counts = [sum(p.numel() for p in with_expansion(told_of_all, e).parameters()) for e in (1, 2, 4)]
    assert max(counts) / min(counts) < 1.01


def test_all_variants_with_new_modulation_begin_equally_ignorant(told_of_all):
    trained = told_of_all.state_dict()
    starts = []
    for expansion in (1, 2, 4):
        config = ExpansionConfig(expansion=expansion, modulation="new")
        starts.append(adapted(deepcopy(told_of_all), config).state_dict())
    shared = [name for name in trained if all(name in start for start in starts)]
    assert shared == list(trained)
    motion = ("attn_audio", "attn_skeleton", "norm_audio", "norm_skeleton", "skeleton_proj")
    for name in shared:
        assert all(torch.equal(start[name], starts[0][name]) for start in starts), name
        same = torch.equal(starts[0][name], trained[name])
        if any(part in name for part in motion):
            assert not same or name.endswith("bias") or "norm" in name, name
        else:
            assert same, f"{name}: pictures and audio frames stay as trained"


def test_trained_modulation_is_kept_as_it_is(told_of_all):
    kept = adapted(deepcopy(told_of_all), ExpansionConfig(expansion=4)).state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in told_of_all.state_dict().items())


def test_a_unet_told_of_more_skeletons_begins_with_the_first_and_can_learn_of_the_second():
    torch.manual_seed(0)
    model = build_unet(UNetSizes(widths=(16, 32), heads=(1, 2)), AutoencoderSpec(4, 1, 8, True))
    twice = with_skeleton_rho(model, 2)
    late = with_skeleton_rho(model, 2, expansion=1)
    skeleton = torch.randn(1, 4, 6, 8, 8)
    with torch.no_grad():
        own = [model.skeleton_guider(skeleton[:, :, first::2]) for first in (0, 1)]
        assert torch.allclose(twice.skeleton_guider(skeleton), own[0], atol=1e-6)
        assert torch.allclose(late.skeleton_guider(skeleton), own[1], atol=1e-6)
    assert not torch.allclose(own[0], own[1]), "the guider must not be silent for this to say anything"
    twice.skeleton_guider(skeleton).square().sum().backward()
    assert twice.skeleton_guider.conv_in.weight.grad[:, 4:].abs().max() > 0
    assert (twice.windows.skeleton_rho, late.windows.skeleton_rho) == (2, 2)
