"""Windows of a UNet: known frames, patch-drop, and that a first window has the portrait before it."""

import pytest
import torch
from tiny_unets import conditions, make, predict

from hallo4.errors import ShapeError
from hallo4.models.unet_windows import assemble_unet_conditions, drop_patches, encode_frames


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_frames_are_encoded_alone():
    class Halves:
        def encode_video(self, video_pm1):
            return video_pm1[..., ::8, ::8] * len(video_pm1)

    frames = torch.randn(2, 3, 5, 16, 24)
    assert torch.equal(encode_frames(Halves(), frames), frames[..., ::8, ::8] * 10)


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
    given = conditions()
    first = torch.tensor([True, False])
    made = assemble_unet_conditions(
        given.reference_latents,
        given.audio_windows,
        2,
        motion_latents=given.motion_latents,
        first=first,
        face_embedding=given.face_embedding,
    )
    assert torch.equal(made.motion_latents[0], given.reference_latents[0].expand(-1, 2, -1, -1))
    assert torch.equal(made.motion_latents[1], given.motion_latents[1])
    assert predict(make(), made).shape == (2, 4, 3, 8, 8)
    alone = assemble_unet_conditions(given.reference_latents, given.audio_windows, 2, first=True)
    assert torch.equal(alone.motion_latents[0], made.motion_latents[0])
    with pytest.raises(ShapeError, match="encode the 2 frames before"):
        assemble_unet_conditions(given.reference_latents, given.audio_windows, 2)


def test_impossible_drops_are_refused():
    with pytest.raises(ShapeError, match=r"share is 1\.5"):
        drop_patches(torch.ones(1, 3, 1, 8, 8), generator(), share=1.5)
