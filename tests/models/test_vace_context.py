"""The arrangement of the control latents and the two mask rules."""

import pytest
import torch

from hallo4.errors import ShapeError
from hallo4.models.vace_context import vace_context


def latents(frames, fill):
    return torch.full((1, 16, frames, 2, 3), float(fill))


def flags(frames, known):
    generated = torch.ones(1, frames)
    generated[:, known] = 0
    return generated


def test_channels_and_reference_slot():
    context = vace_context(latents(3, 1), latents(3, 2), latents(1, 3), flags(9, []))
    assert context.shape == (1, 96, 4, 2, 3)
    assert (context[:, :16, 1:] == 1).all()
    assert (context[:, 16:32, 1:] == 2).all()
    assert (context[:, 32:, 1:] == 1).all()
    assert (context[:, :16, 0] == 3).all()
    assert (context[:, 16:, 0] == 0).all()


@pytest.mark.parametrize(
    ("known", "by_group"),
    [([0], [0, 1, 1]), ([0, 1, 2, 3], [0, 1, 1]), ([0, 1, 2, 3, 4], [0, 0, 1]), ([5, 6, 7, 8], [1, 1, 0])],
)
def test_group_rule_counts_a_latent_as_known_if_all_its_frames_are(known, by_group):
    context = vace_context(latents(3, 0), latents(3, 0), latents(1, 0), flags(9, known))
    assert context[0, 32:, 1:].amax((0, 2, 3)).tolist() == by_group
    assert context[0, 32:, 1:].amin((0, 2, 3)).tolist() == by_group


def test_nearest_rule_loses_one_known_frame_and_keeps_two():
    def mask(known, rule):
        context = vace_context(latents(21, 0), latents(21, 0), latents(1, 0), flags(81, known), rule)
        return context[0, 32, 1:, 0, 0]

    assert mask([0], "nearest").min() == 1
    assert mask([0, 1], "nearest")[0] == 0
    assert mask([0], "group")[0] == 0


def test_lengths_and_sizes_must_belong_together():
    with pytest.raises(ShapeError, match=r"8 frames .* 5 or 9"):
        vace_context(latents(3, 0), latents(3, 0), latents(1, 0), flags(9, [])[:, :8])
    with pytest.raises(ShapeError, match="mask has shape"):
        vace_context(latents(3, 0), latents(3, 0), latents(1, 0), flags(5, []))
    with pytest.raises(ShapeError, match="reactive_latents"):
        vace_context(latents(3, 0), latents(2, 0), latents(1, 0), flags(9, []))
    with pytest.raises(ShapeError, match="reference_latents"):
        vace_context(latents(3, 0), latents(3, 0), latents(2, 0), flags(9, []))
    with pytest.raises(ShapeError, match="mask rule 'soft'"):
        vace_context(latents(3, 0), latents(3, 0), latents(1, 0), flags(9, []), "soft")
