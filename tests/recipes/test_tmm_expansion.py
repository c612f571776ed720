"""A network told of fewer frames begins as the one told of those frames in place of the others."""

import pytest
import torch

from hallo4.models.temporal_motion_modulation import kept_slots
from hallo4.pipelines.model_folder import load_model
from hallo4.recipes.tmm_expansion import with_expansion


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
