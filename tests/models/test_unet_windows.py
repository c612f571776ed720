"""Windows of a UNet: known frames, patch-drop, and that a first window has the portrait before it."""

from dataclasses import replace

import pytest
import torch
from tiny_unets import conditions, make, predict

from hallo4.errors import ShapeError
from hallo4.models.unet_windows import drop_patches
from hallo4.types import AutoencoderSpec, Backbone, StepSchedule, WindowRules


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("patch_px", [1, 4])
def test_a_quarter_of_the_patches_is_blanked_whole_and_the_rest_untouched(patch_px):
    known = torch.ones(2, 3, 2, 64, 64)
    dropped = drop_patches(known, generator(), patch_px=patch_px)
    gone = dropped == 0
    assert gone.float().mean().item() == pytest.approx(0.25, abs=0.05)
    assert torch.equal(gone[:, :1].expand_as(gone), gone)  # all colours of a pixel
    patches = gone.unflatten(4, (-1, patch_px)).unflatten(3, (-1, patch_px))
    assert torch.equal(patches.any(dim=(4, 6)), patches.all(dim=(4, 6)))
    assert torch.equal(dropped[~gone], known[~gone])
    assert not torch.equal(gone[:, :, 0], gone[:, :, 1])  # each frame has its own draw
    assert torch.equal(dropped, drop_patches(known, generator(), patch_px=patch_px))


def test_nothing_is_dropped_inside_the_face():
    face = torch.zeros(1, 64, 64)
    face[:, 20:40, 20:40] = 1.0
    dropped = drop_patches(torch.ones(1, 3, 2, 64, 64), generator(), kept=face)
    assert (dropped[..., 20:40, 20:40] == 1).all()
    assert (dropped == 0).any()


def test_the_first_window_knows_the_portrait_and_later_ones_the_frames_before():
    given, rules = conditions(), make().windows
    scene = {"reference": given.reference_latents}
    later = torch.tensor([False, True])
    made = rules.conditions(scene, given.audio_windows, None, given.motion_latents, later)
    made = replace(made, face_embedding=given.face_embedding)
    assert torch.equal(made.motion_latents[0], given.reference_latents[0].expand(-1, 2, -1, -1))
    assert torch.equal(made.motion_latents[1], given.motion_latents[1])
    assert predict(make(), made).shape == (2, 4, 3, 8, 8)
    alone = rules.conditions(scene, given.audio_windows)
    assert torch.equal(alone.motion_latents[0], made.motion_latents[0])
    with pytest.raises(ShapeError, match="encode the 2 frames before"):
        rules.conditions(scene, given.audio_windows, continues=True)


class Means:
    """An autoencoder of pictures: means of 8x8 pixels, every frame alone."""

    spec = AutoencoderSpec(3, 1, 8, True)

    def encode_frames(self, frames_pm1):
        return torch.nn.functional.avg_pool3d(frames_pm1, (1, 8, 8))


@pytest.mark.parametrize("dropped", [0.0, 0.25])
def test_known_frames_are_shown_with_the_share_blanked_that_the_config_says(dropped):
    rules = make(motion_dropped=dropped).windows
    known = rules.encode_known(Means(), torch.ones(2, 3, 2, 64, 64), {}, generator())
    assert known.shape == (2, 3, 2, 8, 8)
    assert known.mean().item() == pytest.approx(1 - dropped, abs=0.03)
    assert torch.equal(rules.known_from_latents(Means.spec, known, {}), known)
    with pytest.raises(ShapeError, match="use encode_known"):
        rules.known_from_latents(replace(Means.spec, independent_latents=False), known, {})


def test_a_text_for_a_model_without_is_refused():
    for texts in ({"text": torch.zeros(1, 1, 4)}, {"negative_text": torch.zeros(1, 1, 4)}):
        with pytest.raises(ShapeError, match="takes no text and got one"):
            make().windows.encode_scene(Means(), torch.zeros(1, 3, 64, 64), 3, **texts)


def test_the_other_side_of_guidance_can_be_of_some_clips():
    given, rules = conditions(), make().windows
    some = rules.unconditional(given, torch.tensor([True, False]))
    for name in ("portrait_given", "locator_given", "audio_given"):
        assert getattr(some, name).tolist() == [False, True]
        assert getattr(rules.unconditional(some), name).tolist() == [False, False]
        assert getattr(rules.unconditional(some, torch.tensor([False, True])), name).tolist() == [False] * 2
    whole, none = predict(make(), given), predict(make(), rules.unconditional(given))
    mixed = predict(make(), some)
    torch.testing.assert_close(mixed[0], none[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mixed[1], whole[1], rtol=1e-4, atol=1e-5)


def test_it_is_a_backbone_of_steps():
    model = make()
    assert isinstance(model, Backbone)
    assert isinstance(model.windows, WindowRules)
    assert model.schedule == StepSchedule()
    assert make(beta_schedule="linear").schedule == StepSchedule(beta_schedule="linear")
    assert make(audio_rate_hz=50.0).windows.audio_rho == 2
    assert model.windows.side_multiple_px == 32


def test_impossible_drops_are_refused():
    with pytest.raises(ShapeError, match=r"share is 1\.5"):
        drop_patches(torch.ones(1, 3, 1, 8, 8), generator(), share=1.5)
