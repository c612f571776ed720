import pytest
import torch

from hallo4.errors import ShapeError
from hallo4.models import window_conditions as conditioning


class Recorder:
    """An autoencoder of 8x8 means and one-in-four frames that keeps what it was given."""

    def __init__(self):
        self.given = []

    def encode_video(self, video_pm1):
        self.given.append(video_pm1)
        pooled = torch.nn.functional.avg_pool3d(video_pm1, (1, 8, 8))
        return pooled[:, :, ::4]


@pytest.fixture
def pieces():
    torch.manual_seed(1)
    encoder = Recorder()
    portrait, known = torch.rand(2, 3, 16, 24), torch.rand(2, 3, 16, 24)
    skeleton = torch.rand(2, 3, 5, 16, 24)
    return {
        "reference": conditioning.encode_portrait(encoder, portrait),
        "grey": conditioning.encode_grey(encoder, portrait, 5),
        "skeleton": conditioning.encode_skeleton(encoder, skeleton),
        "inactive": conditioning.encode_known(encoder, known, 5),
        "audio": torch.rand(2, 5, 5, 3, 7),
        "skeleton_pm1": skeleton,
        "known_pm1": known,
        "encoder": encoder,
    }


def assemble(pieces, **more):
    return conditioning.assemble_conditions(
        pieces["reference"],
        pieces["grey"],
        pieces["audio"],
        conditioning.null_text(6),
        pieces["skeleton"],
        **more,
    )


def test_every_skeleton_frame_is_encoded_alone(pieces):
    frames = pieces["skeleton_pm1"]
    one_by_one = [Recorder().encode_video(frames[:, :, t : t + 1]) for t in range(5)]
    assert torch.equal(pieces["skeleton"], torch.cat(one_by_one, dim=2))


def test_the_known_frame_stands_first_and_grey_follows(pieces):
    video = pieces["encoder"].given[-1]
    assert torch.equal(video[:, :, 0], pieces["known_pm1"])
    assert not video[:, :, 1:].any()


def test_known_and_unknown_first_frames_can_share_a_batch(pieces):
    control = assemble(
        pieces, inactive_latents=pieces["inactive"], first_frame_known=torch.tensor([True, False])
    ).control_latents
    assert control.shape == (2, 3 + 3 + 64, 1 + 2, 2, 3)
    reference, inactive, mask = control[:, :3, 0], control[:, :3, 1:], control[:, 6:, 1:]
    assert torch.equal(reference, pieces["reference"][:, :, 0])
    assert torch.equal(inactive[0], pieces["inactive"][0])
    assert torch.equal(inactive[1], pieces["grey"][0])
    assert not mask[0, :, 0].any()
    assert bool((mask[0, :, 1] == 1).all())
    assert bool((mask[1] == 1).all())


def test_a_still_fill_shows_the_newest_known_frame_everywhere(pieces):
    known = conditioning.encode_known(pieces["encoder"], pieces["known_pm1"], 5, "still")
    video = pieces["encoder"].given[-1]
    assert torch.equal(video, pieces["known_pm1"][:, :, None].expand(-1, -1, 5, -1, -1))
    control = assemble(
        pieces, inactive_latents=known, first_frame_known=torch.tensor([True, False]), fill="still"
    ).control_latents
    assert torch.equal(control[0, :3, 1:], known[0])
    assert torch.equal(control[1, :3, 1:], pieces["reference"][1].expand(-1, 2, -1, -1))
    mask = control[:, 6:, 1:]
    assert not mask[0, :, 0].any()
    assert bool((mask[0, :, 1] == 1).all()), "it is shown, but still to be made"


@pytest.mark.parametrize("fill", ["grey", "still"])
def test_latents_are_filled_as_videos_are(pieces, fill):
    encoded = conditioning.encode_known(pieces["encoder"], pieces["known_pm1"], 5, fill)
    filled = conditioning.filled_latents(encoded[:, :, :1], pieces["grey"], fill)
    assert torch.equal(filled, encoded)


def test_without_inactive_latents_nothing_can_be_known(pieces):
    conditions = assemble(pieces)
    assert torch.equal(conditions.control_latents[:1, :3, 1:], pieces["grey"])
    with pytest.raises(ShapeError, match="encode_known"):
        assemble(pieces, first_frame_known=True)


def test_the_silent_side_differs_in_sound_alone(pieces):
    conditions = assemble(pieces)
    silent = conditioning.without_sound(conditions)
    assert not silent.audio_windows.any()
    assert conditions.audio_windows.any()
    for name in ("reference_latents", "skeleton_latents", "control_latents", "text"):
        assert getattr(silent, name) is getattr(conditions, name)
