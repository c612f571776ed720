from types import SimpleNamespace

import pytest
import torch

from hallo4.errors import ShapeError
from hallo4.models import window_conditions as conditioning
from hallo4.types import Backbone, WindowRules

RULES = conditioning.DiTWindows(SimpleNamespace(patch_size=(1, 2, 2), rho=4, text_dim=6, mask_rule="group"))


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
    portrait, known = torch.rand(2, 3, 16, 24), torch.rand(2, 3, 1, 16, 24)
    skeleton = torch.rand(2, 3, 5, 16, 24)
    return {
        "reference": conditioning.encode_portrait(encoder, portrait),
        "grey": conditioning.encode_grey(encoder, portrait, 5),
        "skeleton": conditioning.encode_frames(encoder, skeleton),
        "known": RULES.encode_known(encoder, known, 5),
        "text": conditioning.null_text(6),
        "audio": torch.rand(2, 5, 5, 3, 7),
        "skeleton_pm1": skeleton,
        "known_pm1": known,
        "encoder": encoder,
    }


def assemble(pieces, **more):
    scene = {name: pieces[name] for name in ("reference", "grey", "text")}
    return RULES.conditions(scene, pieces["audio"], pieces["skeleton"], **more)


def test_every_skeleton_frame_is_encoded_alone(pieces):
    frames = pieces["skeleton_pm1"]
    one_by_one = [Recorder().encode_video(frames[:, :, t : t + 1]) for t in range(5)]
    assert torch.equal(pieces["skeleton"], torch.cat(one_by_one, dim=2))


def test_the_known_frame_stands_first_and_grey_follows(pieces):
    video = pieces["encoder"].given[-1]
    assert torch.equal(video[:, :, :1], pieces["known_pm1"])
    assert not video[:, :, 1:].any()
    from_latents = RULES.known_from_latents(pieces["known"][:, :, :1], pieces)
    assert torch.equal(from_latents, pieces["known"])


def test_known_and_unknown_first_frames_can_share_a_batch(pieces):
    conditions = assemble(pieces, known_latents=pieces["known"], continues=torch.tensor([True, False]))
    control = conditions.control_latents
    assert control.shape == (2, 3 + 3 + 64, 1 + 2, 2, 3)
    reference, inactive, mask = control[:, :3, 0], control[:, :3, 1:], control[:, 6:, 1:]
    assert torch.equal(reference, pieces["reference"][:, :, 0])
    assert torch.equal(inactive[0], pieces["known"][0])
    assert torch.equal(inactive[1], pieces["grey"][0])
    assert not mask[0, :, 0].any()
    assert bool((mask[0, :, 1] == 1).all())
    assert bool((mask[1] == 1).all())


def test_without_known_latents_a_window_cannot_go_on(pieces):
    conditions = assemble(pieces)
    assert torch.equal(conditions.control_latents[:1, :3, 1:], pieces["grey"])
    with pytest.raises(ShapeError, match="encode_known"):
        assemble(pieces, continues=True)


def test_the_silent_side_differs_in_sound_alone(pieces):
    conditions = assemble(pieces)
    silent = RULES.unconditional(conditions)
    assert not silent.audio_windows.any()
    assert conditions.audio_windows.any()
    for name in ("reference_latents", "skeleton_latents", "control_latents", "text"):
        assert getattr(silent, name) is getattr(conditions, name)
    one = RULES.unconditional(conditions, torch.tensor([True, False])).audio_windows
    assert not one[0].any()
    assert torch.equal(one[1], conditions.audio_windows[1])


@pytest.mark.parametrize("frames", [0, 1, 4, 16, 18])
def test_a_window_that_is_not_4k_plus_1_is_refused(frames):
    with pytest.raises(ShapeError, match="4k\\+1"):
        RULES.check_length(frames)
    RULES.check_length(17)


def test_the_rules_are_those_of_the_model(tiny_parts):
    dit, autoencoder, _ = tiny_parts
    assert isinstance(dit, Backbone)
    assert isinstance(dit.windows, WindowRules)
    scene = dit.windows.encode_scene(autoencoder, torch.zeros(2, 3, 32, 32), 5)
    assert {name: tuple(t.shape) for name, t in scene.items()} == {
        "reference": (2, 4, 1, 4, 4), "grey": (1, 4, 2, 4, 4), "text": (1, 1, 8),
    }  # fmt: skip
