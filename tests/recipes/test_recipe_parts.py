"""Losses, weights and scores of the recipes against closed forms."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hallo4.diffusion.discrete import step_sigma
from hallo4.errors import InputError
from hallo4.models.dit import PortraitDiT
from hallo4.models.portrait_unet import PortraitUNet
from hallo4.models.unet_windows import UNetWindows
from hallo4.models.window_conditions import DiTWindows
from hallo4.recipes.recipe import counted
from hallo4.recipes.tiny_audio import SpeechBatches, held_out_correlation, mouth_method
from hallo4.recipes.tiny_dit import TinyDiTConfig
from hallo4.recipes.tiny_unet import TinyUNetConfig
from hallo4.training.own_frames import own_known_latents
from hallo4.training.sft import draw_batch, excerpt, sft_objective
from hallo4.types import AutoencoderSpec, ConditionSpec, StepSchedule


@pytest.fixture(scope="module")
def sounds():
    """Six recordings of 40 frames; feature 0 of each frame is the mouth opening."""
    rng = np.random.default_rng(0)
    curves = rng.random((6, 40, 3)).astype(np.float32)
    features = rng.normal(size=(6, 40, 4, 40)).astype(np.float16)
    features[:, :, 0, 0] = curves[:, :, 0]
    return {"features": features, "curves": curves}


def test_speech_windows_are_cut_from_the_sounds(sounds):
    batch = SpeechBatches(sounds, 5)(0, torch.Generator().manual_seed(3))
    assert batch["windows"].shape == (5, 17, 5, 4, 40)
    assert batch["curves"].shape == (5, 17, 3)
    np.testing.assert_allclose(batch["windows"][:, :, 2, 0, 0], batch["curves"][:, :, 0], atol=1e-3)
    np.testing.assert_allclose(batch["windows"][:, 1:, 1, 0, 0], batch["curves"][:, :-1, 0], atol=1e-3)


def test_the_loss_of_the_audio_projector_weighs_the_opening_most():
    windows, curves = torch.zeros(2, 17, 5, 4, 40), torch.tensor([0.5, 1.0, 2.0]).expand(2, 17, 3)
    loss, metrics = mouth_method(lambda w: torch.zeros(2, 17, 3), {"windows": windows, "curves": curves}, 0)
    assert float(loss) == pytest.approx(4 * 0.25 + 1.0 + 0.5 * 4.0)
    assert metrics["mouth_open_rmse"] == pytest.approx(0.5)


def test_correlation_is_one_for_a_model_that_reads_the_opening(sounds):
    class Reading(torch.nn.Module):
        def forward(self, windows):
            return windows[:, :, 2, 0, :3]

    reading = Reading()
    assert held_out_correlation(reading, sounds) == pytest.approx(
        {"correlation_clean": 1.0, "correlation_degraded": 1.0, "one_minus_correlation": 0.0}, abs=1e-3
    )
    features = sounds["features"].copy()
    features[[1, 2, 4, 5], :, 0] *= -1  # all but every third recording, which is the clean one
    scores = held_out_correlation(reading, sounds | {"features": features})
    assert scores == pytest.approx(
        {"correlation_clean": 1.0, "correlation_degraded": -1.0, "one_minus_correlation": 2.0}, abs=1e-3
    )


AUTOENCODER = SimpleNamespace(spec=AutoencoderSpec(16, 4, 8, True))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def step_of(config, autoencoder, model, clips, seed=0):
    batch = draw_batch(clips, config, model.windows, seeded(seed))
    return sft_objective(config, autoencoder)(model, batch, 0)


class Oracle(torch.nn.Module):
    """Knows the video and says the velocity that flow matching wants; writes down what it is given."""

    def __init__(self, video):
        super().__init__()
        self.video, self.seen = video, {}

    schedule = None
    condition_spec = ConditionSpec(16, "required", 4, 40, "required", text_dim=16)
    windows = DiTWindows(
        SimpleNamespace(
            patch_size=(1, 2, 2), rho=4, text_dim=16, mask_rule="group", known_dropped=0.0, cell_px=8
        )
    )
    to_sample_layout, video_latents = PortraitDiT.to_sample_layout, PortraitDiT.video_latents

    def new_cache(self):
        return None

    def __call__(self, sample, timestep, conditions, cache=None):
        self.seen |= {"sample": sample, "conditions": conditions}
        sigma = timestep.view(-1, 1, 1, 1, 1) / 1000
        noise = (sample[:, :, 1:] - (1 - sigma) * self.video) / sigma
        return torch.cat([torch.full_like(sample[:, :, :1], 99.0), noise - self.video], 2)


def test_fine_tuning_asks_for_noise_minus_data_behind_a_clean_reference():
    torch.manual_seed(0)
    batch = {
        "video": torch.randn(8, 16, 3, 4, 4), "reference": torch.randn(8, 16, 1, 4, 4),
        "skeleton": torch.randn(8, 16, 9, 4, 4), "audio_windows": torch.randn(8, 9, 5, 4, 40),
        "grey": torch.randn(1, 16, 3, 4, 4), "regions": torch.rand(8, 3, 3, 4, 4) > 0.7,
    }  # fmt: skip
    config = replace(TinyDiTConfig(), known_share=0.5, known_noise=0.0, silent_share=0.5)
    oracle = Oracle(batch["video"])
    loss, metrics = step_of(config, AUTOENCODER, oracle, batch)
    assert float(loss) < 1e-4, "the reference slot, where the answer is 99, has no loss"
    assert metrics["mouth_error"] < 1e-4
    sample, conditions = oracle.seen["sample"], oracle.seen["conditions"]
    assert torch.equal(sample[:, :, :1], batch["reference"])
    assert torch.equal(conditions.skeleton_latents, batch["skeleton"])
    inactive = conditions.control_latents[:, :16, 1:]  # behind the reference slot
    known = [torch.equal(i[:, 0], v[:, 0]) for i, v in zip(inactive, batch["video"])]
    assert 0 < sum(known) < 8
    for clip, goes_on in zip(inactive, known):
        expected = batch["grey"][0, :, int(goes_on) :]
        torch.testing.assert_close(clip[:, -expected.shape[1] :], expected)
    silent = (conditions.audio_windows == 0).flatten(1).all(1)
    assert 0 < silent.sum() < 8
    assert torch.equal(conditions.audio_windows[~silent], batch["audio_windows"][~silent])


class StepOracle(Oracle):
    """The same of a v model that knows two frames before its window."""

    schedule, condition_spec = StepSchedule(), ConditionSpec(4, "required", 4, 40, "required")
    windows = UNetWindows(
        SimpleNamespace(
            motion_frames=2, motion_positions=32, block_out_channels=[8, 8], audio_rate_hz=25, fps=25,
            skeleton_fps=25, motion_dropped=0.0,
        )
    )  # fmt: skip
    to_sample_layout, video_latents = PortraitUNet.to_sample_layout, PortraitUNet.video_latents

    def __call__(self, sample, timestep, conditions, cache=None):
        self.seen |= {"timestep": timestep, "conditions": conditions}
        sigma = step_sigma(timestep, self.schedule).view(-1, 1, 1, 1, 1)
        alpha = (1 - sigma**2).sqrt()
        noise = (sample - alpha * self.video) / sigma
        return alpha * noise - sigma * self.video


def test_fine_tuning_of_a_v_model_makes_the_frames_behind_the_known_ones():
    torch.manual_seed(0)
    batch = {
        "video": torch.randn(8, 4, 7, 4, 4), "reference": torch.randn(8, 4, 1, 4, 4),
        "skeleton": torch.randn(8, 4, 7, 4, 4), "audio_windows": torch.randn(8, 7, 5, 4, 40),
        "grey": torch.randn(1, 4, 7, 4, 4), "regions": torch.rand(8, 3, 7, 4, 4) > 0.7,
    }  # fmt: skip
    config = replace(TinyUNetConfig(), known_share=0.5, known_noise=0.0, silent_share=0.5)
    oracle = StepOracle(batch["video"][:, :, 2:])
    _, metrics = step_of(config, AUTOENCODER, oracle, batch)
    assert metrics["error"] < 1e-3, "but for the rounding of sigma to whole steps"
    assert torch.equal(oracle.seen["timestep"], oracle.seen["timestep"].round())
    conditions = oracle.seen["conditions"]
    assert torch.equal(conditions.skeleton_latents, batch["skeleton"][:, :, 2:])
    assert torch.equal(conditions.audio_windows, batch["audio_windows"][:, 2:])
    known = [torch.equal(m, v[:, :2]) for m, v in zip(conditions.motion_latents, batch["video"])]
    first = [
        torch.equal(m, r.expand(-1, 2, -1, -1)) for m, r in zip(conditions.motion_latents, batch["reference"])
    ]
    assert [a != b for a, b in zip(known, first)] == [True] * 8
    assert 0 < sum(known) < 8
    assert 0 < int((~conditions.portrait_given).sum()) < 8


class HalfForgetful(StepOracle):
    """A v model whose every frame is half of the known one in its place and the skeleton of its own."""

    def __init__(self):
        super().__init__(None)
        self.known = []

    def __call__(self, sample, timestep, conditions, cache=None):
        if not any(conditions.motion_latents is known for known in self.known):
            self.known.append(conditions.motion_latents)
        frames = conditions.motion_latents / 2 + conditions.skeleton_latents[:, :, :2]
        self.video = torch.cat([frames, torch.zeros_like(sample[:, :, 2:])], 2)
        return super().__call__(sample, timestep, conditions, cache)


class Paint:
    """An autoencoder that encodes nothing: three latent channels, a pixel a cell."""

    spec = AutoencoderSpec(3, 1, 1, True)

    def encode_video(self, video_pm1):
        return video_pm1

    encode_frames = encode_video

    def decode_video(self, latents):
        return latents


def halved(batch, rounds):
    """What `HalfForgetful` knows after so many windows of frames 0 and 1, begun at the portrait."""
    skeleton = batch["skeleton"][:, :, :2]
    known = batch["reference"].expand(-1, -1, 2, -1, -1)
    for _ in range(rounds):
        known = (known / 2 + skeleton).clamp(-1, 1)
    return known


@pytest.fixture
def painted():
    torch.manual_seed(0)
    return {
        "video": torch.randn(8, 3, 7, 4, 4), "reference": torch.rand(8, 3, 1, 4, 4) - 0.5,
        "skeleton": (torch.rand(8, 3, 7, 4, 4) - 0.5) / 2, "audio_windows": torch.randn(8, 7, 5, 4, 40),
        "grey": torch.randn(1, 3, 7, 4, 4), "regions": torch.rand(8, 3, 7, 4, 4) > 0.7,
    }  # fmt: skip


@pytest.mark.parametrize("rounds", [1, 2, 4])
def test_own_known_frames_carry_what_became_of_the_portrait_over_as_many_windows(painted, rounds):
    model = HalfForgetful()
    noise = torch.randn(8, rounds, 3, 2, 4, 4)
    found = own_known_latents(model, Paint(), painted, noise)
    torch.testing.assert_close(found, halved(painted, rounds), atol=1e-3, rtol=0)
    assert len(model.known) == rounds


def test_a_share_of_the_windows_that_go_on_know_frames_of_the_models_own(painted):
    config = replace(
        TinyUNetConfig(), known_share=0.7, known_noise=0.0, own_known_share=0.5, own_known_rounds=2
    )
    kinds = []
    for seed in range(20):
        model = HalfForgetful()
        step_of(config, Paint(), model, painted, seed)
        known = model.known[-1]
        first = painted["reference"].expand(-1, -1, 2, -1, -1)
        sources = [first, painted["video"][:, :, :2], halved(painted, 1), halved(painted, 2)]
        near = torch.stack([(known - source).abs().amax((1, 2, 3, 4)) < 1e-3 for source in sources])
        assert near.any(0).all(), "every window knows one of the four"
        kinds.append(near.sum(1))
        assert not (near[2].any() and near[3].any()), "all of a batch are as deep"
    portrait, true, *own = torch.stack(kinds).sum(0) / (20 * 8)
    assert float(portrait) == pytest.approx(0.3, abs=0.1)
    assert float(true) == pytest.approx(0.35, abs=0.1)
    assert min(own) > 0.05


def test_own_known_frames_are_for_backbones_of_pictures():
    with pytest.raises(InputError, match="own_known_share=0"):
        own_known_latents(Oracle(torch.zeros(1, 16, 3, 4, 4)), Paint(), {}, torch.zeros(1, 1))


def test_excerpts_are_cut_from_one_place_of_everything():
    frames = torch.arange(7.0)
    picture = frames.view(1, 1, 7, 1, 1).expand(2, 3, 7, 2, 2)
    batch = {
        "video": picture, "skeleton": picture + 10, "regions": picture + 20, "reference": picture[:, :, :1],
        "audio_windows": (frames + 30).view(1, 7, 1, 1, 1).expand(2, 7, 5, 1, 1),
    }  # fmt: skip
    starts = set()
    for seed in range(40):
        cut = excerpt(batch, 4, seeded(seed))
        start = int(cut["video"][0, 0, 0, 0, 0])
        starts.add(start)
        for name, offset in (("video", 0), ("skeleton", 10), ("regions", 20)):
            assert torch.equal(cut[name], batch[name][:, :, start : start + 4]), name
            assert cut[name][0, 0, 0, 0, 0] == start + offset
        assert torch.equal(cut["audio_windows"], batch["audio_windows"][:, start : start + 4])
    assert starts == {0, 1, 2, 3}
    with pytest.raises(InputError, match="excerpts of 8 frames of clips of 7"):
        excerpt(batch, 8, seeded())
    with pytest.raises(InputError, match=r"7 frames in 2 latents.*pictures only"):
        excerpt(batch | {"video": picture[:, :, :2]}, 4, seeded())


def test_preparations_say_how_far_they_are_unless_all_is_there(capsys):
    counter = counted("clips", every_s=0.0)
    for done in (50, 100):
        counter(done, 100)
    assert capsys.readouterr().err.splitlines() == ["clips: 50 of 100", "clips: 100 of 100"]
    quiet = counted("clips", every_s=60.0)
    for done in (50, 100):
        quiet(done, 100)
    assert capsys.readouterr().err.splitlines() == ["clips: 100 of 100"]
    counted("clips")(100, 100)
    assert capsys.readouterr().err == ""
