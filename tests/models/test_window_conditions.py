from types import SimpleNamespace

import pytest
import torch

from hallo4.errors import ShapeError
from hallo4.models import window_conditions as conditioning
from hallo4.types import AutoencoderSpec, Backbone, WindowRules


def rules_of(**changes):
    config = {"patch_size": (1, 2, 2), "rho": 4, "text_dim": 6, "text_len": None, "mask_rule": "group"}
    config |= {"known_dropped": 0.0, "cell_px": 8, "draft": False}
    return conditioning.DiTWindows(SimpleNamespace(**(config | changes)))


RULES = rules_of()


class Recorder:
    """An autoencoder of 8x8 means and one-in-four frames that keeps what it was given."""

    def __init__(self, independent_latents=True):
        self.given, self.spec = [], AutoencoderSpec(3, 4, 8, independent_latents)

    def encode_video(self, video_pm1):
        self.given.append(video_pm1)
        pooled = torch.nn.functional.avg_pool3d(video_pm1, (1, 8, 8))
        return pooled[:, :, ::4]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pieces():
    torch.manual_seed(1)
    encoder = Recorder()
    portrait, known = torch.rand(2, 3, 16, 24), torch.rand(2, 3, 1, 16, 24)
    scene = {
        "reference": conditioning.encode_portrait(encoder, portrait),
        "grey": conditioning.encode_grey(encoder, portrait, 5),
        "text": conditioning.null_text(6),
    }
    return scene | {
        "skeleton": torch.rand(2, 3, 5, 2, 3),
        "known": RULES.encode_known(encoder, known, scene, generator()),
        "audio": torch.rand(2, 5, 5, 3, 7),
        "portrait_pm1": portrait,
        "known_pm1": known,
        "encoder": encoder,
    }


def assemble(pieces, **more):
    scene = {name: pieces[name] for name in ("reference", "grey", "text")}
    return RULES.conditions(scene, pieces["audio"], pieces["skeleton"], **more)


def test_the_known_frame_stands_first_and_grey_follows(pieces):
    """Where latents depend on each other, the whole video goes through the autoencoder; where they do not,
    the grey latents that are there already follow, and the code is the same."""
    whole = Recorder(independent_latents=False)
    by_video = RULES.encode_known(whole, pieces["known_pm1"], pieces, generator())
    (video,) = whole.given
    assert torch.equal(video[:, :, :1], pieces["known_pm1"])
    assert video.shape[2] == 5
    assert not video[:, :, 1:].any()
    assert pieces["encoder"].given[-1].shape[2] == 1, "the grey frames are not encoded again"
    assert torch.equal(by_video, pieces["known"])
    spec, known = pieces["encoder"].spec, pieces["known"][:, :, :1]
    assert torch.equal(RULES.known_from_latents(spec, known, pieces), pieces["known"])


def test_latents_that_depend_on_each_other_are_not_put_together(pieces):
    spec = Recorder(independent_latents=False).spec
    with pytest.raises(ShapeError, match="give the frames and use encode_known") as refused:
        RULES.known_from_latents(spec, pieces["known"][:, :, :1], pieces)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_share_of_the_known_frame_that_the_config_says_is_black(pieces, share):
    """floor(share * n) of its n = 8 * 12 patches of 2x2 pixels, all the rest bit for bit."""
    encoder = Recorder()
    rules_of(known_dropped=share).encode_known(encoder, pieces["known_pm1"], pieces, generator(3))
    given, known = encoder.given[-1], pieces["known_pm1"]
    black = (given == -1.0).all(dim=1)
    assert (given[:, :, 0][~black[:, None, 0].expand(-1, 3, -1, -1)] >= 0).all()
    assert torch.equal(given[given != -1.0], known[given != -1.0])
    patches = black[:, 0].unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # B rows 2 columns 2
    assert torch.equal(patches.any(dim=4).any(dim=2), patches.all(dim=4).all(dim=2)), "whole patches"
    assert black.sum(dim=(1, 2, 3)).tolist() == [4 * int(share * 96)] * 2


def test_black_patches_are_those_of_the_generator():
    frames = torch.rand(2, 3, 3, 16, 24)
    first, again, other = (conditioning.blacken_patches(frames, 0.3, generator(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    black = first == -1.0
    assert torch.equal(black[:, :, :1].expand_as(black), black), "the same in all frames of a clip"
    assert not torch.equal(black[0], black[1]), "each clip has its own draw"
    assert (frames >= 0).all(), "the frames that were given stay as they are"


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


def test_the_other_side_of_guidance_has_the_negative_text(pieces):
    rules, negative = rules_of(text_len=4), torch.rand(1, 2, 6)
    scene = rules.encode_scene(Recorder(), pieces["portrait_pm1"], 5, torch.rand(1, 3, 6), negative)
    assert scene["text"].shape == scene["negative_text"].shape == (1, 4, 6)
    assert not scene["text"][:, 3:].any()
    conditions = rules.conditions(scene, pieces["audio"], pieces["skeleton"])
    assert torch.equal(conditions.text, scene["text"].expand(2, -1, -1))
    other = rules.unconditional(conditions)
    assert torch.equal(other.text, scene["negative_text"].expand(2, -1, -1))
    some = rules.unconditional(conditions, torch.tensor([True, False])).text
    assert torch.equal(some, torch.stack([other.text[0], conditions.text[1]]))
    with pytest.raises(ShapeError, match="text has 5 tokens, the model takes 4"):
        rules.encode_scene(Recorder(), pieces["portrait_pm1"], 5, torch.rand(1, 5, 6))


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


def test_a_draft_stands_where_grey_does():
    rules = rules_of(draft=True)
    assert rules.drafts
    assert not RULES.drafts
    encoder, draft = Recorder(), torch.rand(2, 3, 2, 2, 3)
    portrait = torch.rand(2, 3, 16, 24)
    scene = {
        "reference": conditioning.encode_portrait(encoder, portrait),
        "grey": conditioning.encode_grey(encoder, portrait, 5),
        "text": conditioning.null_text(6),
    }
    sound = torch.rand(2, 5, 5, 3, 7)
    drafted = rules.conditions(scene, sound, draft_latents=draft).control_latents
    plain = RULES.conditions(scene, sound).control_latents
    torch.testing.assert_close(drafted[:, 3:6, 1:], draft)
    others = [0, 1, 2, *range(6, drafted.shape[1])]
    torch.testing.assert_close(drafted[:, others], plain[:, others])
    with pytest.raises(ShapeError, match="made for a draft of its frames, and none was given"):
        rules.conditions(scene, sound)
    with pytest.raises(ShapeError, match="takes no draft, and one was given"):
        RULES.conditions(scene, sound, draft_latents=draft)
