"""Conditions of a portrait UNet: temporal motion modulation at rho 1 and 2, and what is refused."""

from dataclasses import replace

import pytest
import torch
from tiny_unets import CELLS, FRAMES, conditions, make, noise, predict

from hallo4.errors import CheckpointError, ShapeError
from hallo4.models.portrait_guides import pyramid_sizes, region_pyramid
from hallo4.models.unet_attention import MotionTransformer

# ---------------------------------------------------------------- temporal motion modulation


@pytest.mark.parametrize("axis", ["token", "channel"])
def test_rho_2_gives_every_frame_its_own_two_steps(axis):
    """With motion modules silent, sound step and skeleton frame j reach video frame j // 2 and no other."""
    model = make(audio_rate_hz=50.0, skeleton_fps=50.0, audio_axis=axis)
    for name, module in model.denoiser.named_modules():
        if isinstance(module, MotionTransformer):
            assert name
            torch.nn.init.zeros_(module.proj_out.weight)
    given = conditions(audio_rho=2, skeleton_rho=2)
    base = predict(model, given)
    for name, dim in (("audio_windows", 1), ("skeleton_latents", 2)):
        for step in range(2 * FRAMES):
            value = getattr(given, name).clone()
            value.select(dim, step).add_(1.0)
            change = (predict(model, replace(given, **{name: value})) - base).abs().amax(dim=(0, 1, 3, 4))
            assert (change > 0).nonzero().flatten().tolist() == [step // 2], (name, step)


def test_rho_1_is_the_identity_bit_for_bit():
    """The projector with redistribution at rho 1 is the projector without."""
    model, given = make(), conditions()
    projector = model.audio_proj
    hidden = torch.relu(projector.proj1(given.audio_windows.flatten(2)))
    hidden = torch.relu(projector.proj2(hidden))
    plain = projector.norm(projector.proj3(hidden).unflatten(-1, (4, -1)))
    assert model.windows.audio_rho == model.windows.skeleton_rho == 1
    assert torch.equal(projector(given.audio_windows), plain)
    guider = model.skeleton_guider
    frames = given.skeleton_latents.transpose(1, 2).flatten(0, 1)
    frames = frames.contiguous(memory_format=torch.channels_last)  # the layout decides the kernel
    by_hand = torch.nn.functional.silu(guider.conv_mid(torch.nn.functional.silu(guider.conv_in(frames))))
    plain = guider.conv_out(by_hand).unflatten(0, (2, -1)).transpose(1, 2)
    assert torch.equal(guider(given.skeleton_latents), plain)


@pytest.mark.parametrize("axis", ["token", "channel"])
def test_expansion_1_of_2_drops_the_first_of_every_two_steps(axis):
    """The ablation: of each pair the later step is kept."""
    changes = {"audio_rate_hz": 50.0, "skeleton_fps": 50.0, "audio_axis": axis}
    model = make(**changes, audio_expansion=1, skeleton_expansion=1)
    given = conditions(audio_rho=2, skeleton_rho=2)
    base = predict(model, given)
    for name, dim in (("audio_windows", 1), ("skeleton_latents", 2)):
        for first, changed in ((0, False), (1, True)):
            value = getattr(given, name).clone()
            value[(slice(None),) * dim + (slice(first, None, 2),)] += 1.0
            assert torch.equal(predict(model, replace(given, **{name: value})), base) != changed, (
                name,
                first,
            )


# ---------------------------------------------------------------- bad input


def test_windows_longer_than_the_positions_are_refused():
    model = make()
    with pytest.raises(
        ShapeError, match=r"11 frames after 2 motion frames.*12 positions.*use 1 to 10 frames"
    ):
        model.sample_shape(11, CELLS, CELLS)
    with pytest.raises(ShapeError, match="use 1 to 10 frames"):
        predict(model, conditions(frames=11))
    assert predict(model, conditions(frames=10), noise(frames=10)).shape[2] == 10


def test_conditions_of_another_rate_are_refused():
    model = make(audio_rate_hz=50.0)
    with pytest.raises(ShapeError, match=r"3 steps of sound at 50 Hz.*3 skeletons at 25 fps.*rate"):
        predict(model, conditions())
    lonely = conditions(frames=4, skeleton_latents=None, region_masks=None)
    with pytest.raises(ShapeError, match=r"4 frames.*conditions of 2 clips, 2 frames.*sound at 50 Hz"):
        predict(model, lonely, noise(frames=4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference_latents": torch.zeros(2, 3, 1, CELLS, CELLS)}, "reference_latents has shape"),
        ({"motion_latents": torch.zeros(2, 4, 1, CELLS, CELLS)}, "motion_latents has shape"),
        ({"face_embedding": torch.zeros(2, 7)}, "face_embedding has shape"),
        ({"locator_01": torch.zeros(2, 3, 2, 64, 64)}, "locator_01 has shape"),
        ({"region_masks": torch.zeros(2, FRAMES, 3, 64)}, "region_masks has shape"),
        ({"audio_given": torch.ones(3, dtype=torch.bool)}, "audio_given has shape"),
        ({"skeleton_latents": torch.zeros(2, 4, 5, CELLS, CELLS)}, "5 skeletons at 25 fps"),
        ({"face_embedding": None}, "needs a face and got none"),
    ],
)
def test_conditions_that_do_not_fit_are_named(change, message):
    with pytest.raises(ShapeError, match=message):
        predict(make(), conditions(**change), noise())


def test_a_skeleton_for_a_model_without_is_not_dropped_silently():
    with pytest.raises(ShapeError, match="takes no skeleton and got one"):
        predict(make(skeleton="none"), conditions())


def test_cells_that_cannot_be_halved_are_refused():
    with pytest.raises(ShapeError, match=r"10x8 cells cannot be halved 2 times.*multiples of 32 pixels"):
        make().sample_shape(3, 10, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"audio_rate_hz": 60.0}, "audio_rate_hz is 60 beside fps 25"),
        ({"skeleton_fps": 12.5}, "skeleton_fps is 12.5 beside fps 25"),
        ({"block_out_channels": [16, 18, 32]}, "block_out_channels has 18"),
        ({"num_attention_heads": [1, 2]}, "has 2 numbers for 3 levels"),
        ({"num_attention_heads": [2, 5, 2]}, r"has 24, no multiple of num_attention_heads \(5\)"),
        ({"reference_order": "random"}, "reference_order is 'random'"),
        ({"motion_frames": 12}, "12 motion frames and 12 positions"),
    ],
)
def test_impossible_configs_are_refused(change, message):
    with pytest.raises(CheckpointError, match=message):
        make(**change)


def test_region_pyramid_keeps_the_share_of_each_region():
    masks = torch.rand(2, FRAMES, 3, CELLS, CELLS)
    pyramid = region_pyramid(masks, 3)
    levels = pyramid.split(pyramid_sizes(CELLS, CELLS, 3), dim=-1)
    assert [part.shape[-1] for part in levels] == [64, 16, 4]
    assert torch.equal(levels[0], masks.flatten(3))
    for level in levels:
        assert torch.allclose(level.mean(-1), masks.mean((-1, -2)), atol=1e-6)
    with pytest.raises(ShapeError, match="multiples of 4 cells"):
        region_pyramid(torch.rand(1, 1, 3, 6, 8), 3)


def test_heads_can_differ_by_level():
    """One number for all levels is that number for each; another number is another attention."""
    models = (make(), make(num_attention_heads=[2, 2, 2]), make(num_attention_heads=[2, 4, 2]))
    same, listed, other = (predict(model, conditions()) for model in models)
    assert torch.equal(same, listed)
    assert not torch.allclose(same, other)
    blocks = models[2].denoiser.down_blocks[:2]
    assert [block.attentions[0].transformer_blocks[0].attn1.heads for block in blocks] == [2, 4]
