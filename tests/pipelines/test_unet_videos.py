"""The same pipeline with the other backbone: two known frames, no repeated ones, steps of DDIM, any rate."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from hallo4.errors import CheckpointError
from hallo4.media import probe_video, read_frames
from hallo4.models.autoencoder import TinyVideoAutoencoder
from hallo4.models.log_mel import LogMelFrontEnd
from hallo4.models.portrait_unet import PortraitUNet
from hallo4.models.precision import fast_autocast
from hallo4.motion import default_rest_pose, idle_motion
from hallo4.pipelines import ModelInfo, PortraitAnimator, load_model, save_model_folder, window

WINDOW = 5


def save(folder, **changes):
    """A UNet with random weights for 32x32 pixels, whose lowest level is one cell, and its parts."""
    torch.manual_seed(0)
    rate_hz = changes.get("audio_rate_hz", 25.0)
    front_end = LogMelFrontEnd(rate_hz=rate_hz, blocks=round(100 / rate_hz))
    sizes = {
        "in_channels": 4, "block_out_channels": [8, 8, 16], "layers_per_block": 1, "num_attention_heads": 2,
        "norm_num_groups": 4, "cross_attention_dim": 8, "face": "optional", "face_embedding_dim": 1,
        "face_tokens": 1, "audio_attention_dim": 8, "audio_blocks": front_end.blocks, "audio_channels": 40,
        "audio_hidden_dim": 8, "audio_tokens": 2, "skeleton": "optional", "skeleton_hidden_dim": 8,
        "motion_positions": 12, "branch_init_std": 0.3,
    }  # fmt: skip
    unet = PortraitUNet(**(sizes | changes))
    autoencoder = TinyVideoAutoencoder(latent_channels=4, fine_width=8, coarse_width=16, frames_per_latent=1)
    info = ModelInfo("stairs", "1", family="unet", size_px=32, window_frames=WINDOW, steps=2)
    return save_model_folder(folder, info, unet, autoencoder, front_end.to_config(), "# a card\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("unet") / "stairs")


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder)


class Watching:
    """A backbone that notes what it is asked."""

    def __init__(self, inner):
        self.inner, self.conditions, self.timesteps = inner, [], []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __call__(self, latents, timestep, conditions, cache):
        if not any(conditions is seen for seen in self.conditions):
            self.conditions.append(conditions)
        self.timesteps.append(timestep.tolist())
        return self.inner(latents, timestep, conditions, cache)


def frames_of(model, portrait_u8, audio, **more):
    return np.concatenate(list(PortraitAnimator(model).frames(portrait_u8, audio, **more)))


@pytest.mark.parametrize("frames", [1, 5, 6, 13])
def test_a_video_is_as_long_as_its_sound(model, portrait_u8, hum, frames):
    assert frames_of(model, portrait_u8, hum(frames / 25)).shape == (frames, 32, 32, 3)


def test_each_window_knows_the_two_frames_before_and_the_first_one_the_portrait(model, portrait_u8, hum):
    backbone = Watching(model.backbone)
    parts = list(PortraitAnimator(replace(model, backbone=backbone)).frames(portrait_u8, hum(0.5)))
    assert [len(part) for part in parts] == [5, 5, 2]
    assert backbone.timesteps == [[999.0], [499.0]] * 3, "trailing steps of the schedule, in each window"
    first, *later = backbone.conditions
    assert torch.equal(first.motion_latents, first.reference_latents.expand(-1, -1, 2, -1, -1))
    for before, conditions in zip(parts, later):
        known_pm1 = torch.from_numpy(before[-2:].copy()).permute(3, 0, 1, 2)[None] / 127.5 - 1
        with fast_autocast():  # the pipeline's own arithmetic
            expected = model.autoencoder.encode_frames(known_pm1)
        torch.testing.assert_close(conditions.motion_latents, expected, atol=1e-5, rtol=0)


def test_guidance_in_one_batch_equals_guidance_one_by_one(model, portrait_u8, hum, monkeypatch):
    together = frames_of(model, portrait_u8, hum(0.2), guidance_scale=3.0)
    plain = frames_of(model, portrait_u8, hum(0.2))
    monkeypatch.setattr(window, "FEW_CELLS", 0)
    apart = frames_of(model, portrait_u8, hum(0.2), guidance_scale=3.0)
    assert np.abs(together.astype(int) - apart).max() <= 2
    assert np.abs(together.astype(int) - plain).max() > 2


def test_a_stopped_video_goes_on_as_if_it_had_not_stopped(model, portrait_u8, hum, tmp_path):
    class Killed(BaseException):
        """Nothing in the package catches it, like a kill."""

    def kill(progress):
        if progress.stage == "generate" and progress.frames_done > 5:
            raise Killed

    animator, whole, broken = PortraitAnimator(model), tmp_path / "whole.mp4", tmp_path / "broken.mp4"
    animator.animate(portrait_u8, hum(0.5), output=whole)
    with pytest.raises(Killed):
        animator.animate(portrait_u8, hum(0.5), output=broken, on_progress=kill)
    result = animator.animate(portrait_u8, hum(0.5), output=broken)
    assert any("resumed: 5 of 12" in note for note in result.notes)
    pictures = [np.stack(list(read_frames(path, 25.0))) for path in (whole, broken)]
    assert np.array_equal(*pictures)
    assert probe_video(broken).frames == 12


def test_conditions_at_twice_the_frame_rate_come_with_the_model(portrait_u8, hum, tmp_path):
    model = load_model(save(tmp_path / "fast", audio_rate_hz=50.0, skeleton_fps=50.0))
    backbone = Watching(model.backbone)
    moving = replace(idle_motion(default_rest_pose(40, 40), 40, seed=1, fps=50.0))
    frames_of(replace(model, backbone=backbone), portrait_u8, hum(0.4), motion=moving)
    assert len(backbone.conditions) == 2
    for conditions in backbone.conditions:
        assert conditions.audio_windows.shape[1] == 2 * WINDOW
        assert conditions.skeleton_latents.shape[2] == 2 * WINDOW
    sound = model.audio_front_end.features(hum(0.4), 20)
    second = backbone.conditions[1].audio_windows[0, :, 2]
    torch.testing.assert_close(second, sound[10:20])
    resting = frames_of(model, portrait_u8, hum(0.4), motion=None)
    assert resting.shape == (10, 32, 32, 3)


def test_sides_are_multiples_that_every_level_can_halve(model, hum):
    wide = np.zeros((30, 90, 3), np.uint8)
    larger = replace(model, info=replace(model.info, size_px=64))
    height, width = frames_of(larger, wide, hum(0.04)).shape[1:3]
    assert height % 32 == width % 32 == 0
    assert width > height


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("model.json", {"window_frames": 11}, "window_frames.*use 1 to 10 frames a window"),
        (
            "model.json",
            {"window_frames": 1},
            "windows of 1 frames are shorter than what",
        ),
        ("audio/config.json", {"rate_hz": 50.0, "blocks": 2}, "blocks is 2|rate_hz is 50"),
        ("unet/config.json", {"audio_rate_hz": 50.0}, "rate_hz is 25"),
        ("unet/config.json", {"_class_name": "PortraitDiT"}, "known here: PortraitUNet"),
    ],
)
def test_parts_that_do_not_belong_together_are_named(tmp_path, file, change, words):
    folder = save(tmp_path / "parts")
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=words):
        load_model(folder)
