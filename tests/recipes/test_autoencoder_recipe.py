"""The recipe of the tiny autoencoders: its crops, its losses, and how it is judged."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hallo4.data import ClipStore
from hallo4.errors import InputError
from hallo4.models.observer import PortraitObserver, perceptual_distance
from hallo4.motion import layout
from hallo4.recipes.autoencoder_crops import AutoencoderData
from hallo4.recipes.made_latents import MadeLatents, MadeLatentsConfig
from hallo4.recipes.tiny_autoencoder import (
    TinyAutoencoderConfig,
    autoencoder_method,
    held_out_psnr,
    run,
)
from hallo4.training.local_sharpness import sharpness_difference
from hallo4.types import AutoencoderSpec

SPEC = AutoencoderSpec(24, 4, 8, independent_latents=True)

SIZE, FRAMES = 96, 9


@pytest.fixture(scope="module")
def noise_store(tmp_path_factory):
    """Three clips of noise, with the mouth at (40, 56) and the hands out of the picture."""
    folder, rng = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    (folder / "shard_0000").mkdir()
    points = np.full((3, FRAMES, 133, 2), -99.0, np.float32)
    points[:, :, layout.MOUTH] = (40, 56)
    points[:, :, layout.LEFT_EYE_LIDS] = (60, 20)
    points[:, :, layout.RIGHT_EYE_LIDS] = (20, 20)
    video = rng.integers(0, 256, (3, FRAMES, SIZE, SIZE, 3), np.uint8)
    arrays = {
        "frames_u8": video, "skeleton_u8": 255 - video, "portrait_u8": video[:, 0],
        "portrait_points_px": points[:, 0], "points_px": points,
        "curves": np.zeros((3, FRAMES, 6), np.float32),
        "audio_windows": np.zeros((3, FRAMES, 5, 4, 40), np.float16),
    }  # fmt: skip
    for name, array in arrays.items():
        np.save(folder / "shard_0000" / f"{name}.npy", array)
    return ClipStore(folder)


def crop_origin(crop_u8, pictures):
    """(clip, frame, y, x) of a crop [c, c, 3] in [n, T, H, W, 3] by its first pixels."""
    found = np.argwhere((pictures[..., : SIZE - 31, : SIZE - 31, :] == crop_u8[0, 0]).all(-1))
    return [
        tuple(at) for at in found
        if np.array_equal(pictures[at[0], at[1], at[2] : at[2] + 32, at[3] : at[3] + 32], crop_u8)
    ]  # fmt: skip


def test_crops_are_parts_of_the_clips_on_the_grid_of_latents(noise_store):
    config = TinyAutoencoderConfig(batch_size=12, crop_px=32, skeleton_share=0.0, still_share=0.5)
    batch = AutoencoderData(noise_store, config, SPEC)(0, torch.Generator().manual_seed(1))
    assert batch["groups_pm1"].shape == (12, 3, 4, 32, 32)
    assert batch["weights"].shape == (12, 1, 1, 32, 32)
    pictures = np.stack([noise_store.get("frames_u8", i) for i in range(3)])
    stills = 0
    for group, weights in zip(batch["groups_pm1"], batch["weights"]):
        frames_u8 = ((group + 1) * 127.5).round().to(torch.uint8).movedim(0, -1).numpy()
        ((clip, start, y, x),) = crop_origin(frames_u8[0], pictures)
        still = np.array_equal(frames_u8[1], frames_u8[0])
        stills += still
        for k in range(4):
            expected = pictures[clip, start + (0 if still else k), y : y + 32, x : x + 32]
            np.testing.assert_array_equal(frames_u8[k], expected)
        assert (y % 8, x % 8) == (0, 0)
        whole = np.ones((SIZE, SIZE))
        whole[17:24, 57:64] = whole[17:24, 17:24] = 4.0  # eyes: three pixels around the points
        whole[53:60, 37:44] = 8.0
        np.testing.assert_array_equal(weights[0, 0].numpy(), whole[y : y + 32, x : x + 32])
    assert 0 < stills < 12


def test_skeleton_crops_stand_still_and_weigh_no_mouth(noise_store):
    config = TinyAutoencoderConfig(batch_size=8, crop_px=96, skeleton_share=1.0)
    batch = AutoencoderData(noise_store, config, SPEC)(0, torch.Generator().manual_seed(1))
    assert torch.equal(batch["groups_pm1"], batch["groups_pm1"][:, :, :1].expand(-1, -1, 4, -1, -1))
    assert set(batch["weights"].unique().tolist()) == {1.0, 4.0}


def test_a_batch_depends_on_its_generator_alone(noise_store):
    data = AutoencoderData(noise_store, TinyAutoencoderConfig(batch_size=2, crop_px=32), SPEC)
    first, again, other = (data(k, torch.Generator().manual_seed(s)) for k, s in ((0, 1), (9, 1), (0, 2)))
    assert torch.equal(first["groups_pm1"], again["groups_pm1"])
    assert not torch.equal(first["groups_pm1"], other["groups_pm1"])


def test_crops_of_made_clips_show_the_group_of_their_latents(noise_store):
    """Latents that say which clip, group, row and column they are: their frames are those."""
    places = (torch.arange(3), *[torch.arange(SIZE // 8)] * 2)  # a first frame and two groups
    grid = torch.stack(torch.meshgrid(*places, indexing="ij"))
    latents = {clip: torch.cat([torch.full_like(grid[:1], clip), grid]).half() for clip in (0, 2)}
    config, groups = TinyAutoencoderConfig(batch_size=12, crop_px=32, skeleton_share=0.0), set()
    data = AutoencoderData(noise_store, config, SPEC, MadeLatents(latents, 0.5))
    batch = data(0, torch.Generator().manual_seed(1))
    assert batch["made"].shape == (6, 4, 4, 4)
    assert batch["groups_pm1"].shape == (12, 3, 4, 32, 32)
    pictures = np.stack([noise_store.get("frames_u8", i) for i in range(3)])
    for frames, made in zip(batch["groups_pm1"], batch["made"]):
        frames_u8 = ((frames + 1) * 127.5).round().to(torch.uint8).movedim(0, -1).numpy()
        ((clip, start, y, x),) = crop_origin(frames_u8[0], pictures)
        group = int(made[1, 0, 0])
        assert made[:, 0, 0].tolist() == [clip, group, y // 8, x // 8]
        assert start == 4 * group - 3
        groups.add(group)
        assert torch.equal(made[3, 0], torch.arange(x // 8, x // 8 + 4))
    assert groups == {1, 2}


def test_made_latents_are_decoded_as_they_are_and_the_others_encoded():
    groups = torch.rand(3, 3, 4, 8, 8)
    seen = {}

    def encode(given):
        seen["encoded"] = given
        return given.mean((1, 2))[:, None]

    def decode(latents):
        seen["decoded"] = latents
        return groups

    model = SimpleNamespace(encode_groups=encode, decode_groups=decode)
    batch = {
        "groups_pm1": groups,
        "weights": torch.ones(3, 1, 1, 8, 8),
        "made": torch.full((2, 1, 8, 8), 7.0),
    }
    autoencoder_method(TinyAutoencoderConfig(latent_noise=0.0))(model, batch, 0)
    assert torch.equal(seen["encoded"], groups[2:])
    assert torch.equal(seen["decoded"][:2], batch["made"])
    assert torch.equal(seen["decoded"][2:], encode(groups[2:]))


class Shifted(torch.nn.Module):
    """An autoencoder whose reconstruction is off by 0.2 everywhere, towards grey."""

    def encode_video(self, video):
        return video

    def decode_video(self, latents):
        return latents - 0.2 * latents.sign()

    def encode_groups(self, groups):
        return groups

    decode_groups = decode_video


def test_psnr_of_an_error_of_a_tenth_of_the_range_is_20_db(noise_store):
    scores = held_out_psnr(Shifted(), noise_store)
    assert scores == pytest.approx({"portrait_psnr_db": 20.0, "skeleton_psnr_db": 20.0}, abs=0.01)


def test_the_loss_of_the_autoencoder_is_the_weighted_error_and_the_pull():
    config = TinyAutoencoderConfig(latent_noise=0.0, latent_penalty=0.5)
    groups = torch.ones(2, 3, 4, 8, 8)
    groups[:, :, :, :4] = 0.5
    weights = torch.ones(2, 1, 1, 8, 8)
    weights[..., 4:, :] = 3.0
    shifted = Shifted()
    shifted.decode_groups = lambda latents: latents - 0.2 * (latents == 1.0)  # wrong in the lower half only
    loss, metrics = autoencoder_method(config)(shifted, {"groups_pm1": groups, "weights": weights}, 0)
    assert float(loss) == pytest.approx(0.04 * 3 / (1 + 3) + 0.5 * (1 + 0.25) / 2)
    assert metrics["psnr_db"] == pytest.approx(-10 * math.log10(0.02 / 4), abs=1e-3)
    assert metrics["latent_rms"] == pytest.approx(math.sqrt(0.625))


def test_the_perceptual_term_sees_a_blurred_frame_and_no_change_of_nothing():
    torch.manual_seed(0)
    observer = PortraitObserver(width=4)
    groups = torch.rand(2, 3, 4, 32, 32) * 2 - 1
    weights = torch.ones(2, 1, 1, 32, 32)
    frames = groups[:, :, -1]
    blurred = torch.nn.functional.avg_pool2d(frames, 3, stride=1, padding=1)
    apart = perceptual_distance(observer, torch.cat([frames, blurred]), torch.cat([frames, frames]))
    assert apart[:2].tolist() == [0.0, 0.0]
    assert apart[2:].min() > 1e-3
    same = SimpleNamespace(encode_groups=lambda x: 0 * x, decode_groups=lambda latents: groups + 0 * latents)
    config = TinyAutoencoderConfig(latent_penalty=0.0, perceptual_weight=2.0)
    batch = {"groups_pm1": groups, "weights": weights}
    loss, metrics = autoencoder_method(config, observer)(same, batch, 0)
    assert (loss.item(), metrics["perceptual_distance"]) == (0.0, 0.0)
    same.decode_groups = lambda latents: torch.cat([groups[:, :, :-1], blurred[:, :, None]], dim=2)
    _, metrics = autoencoder_method(config, observer)(same, batch, 2)  # the frame that step 2 looks at
    assert metrics["perceptual_distance"] == 0.0
    with_term, metrics = autoencoder_method(config, observer)(same, batch, 3)
    without, _ = autoencoder_method(replace(config, perceptual_weight=0.0))(same, batch, 0)
    assert metrics["perceptual_distance"] == pytest.approx(apart[2:].mean().item())
    assert (with_term - without).item() == pytest.approx(2 * apart[2:].mean().item(), rel=1e-4)


def test_the_sharpness_term_is_the_difference_to_the_truth_times_its_weight():
    torch.manual_seed(0)
    groups, flat = torch.rand(2, 3, 4, 32, 32) * 2 - 1, torch.zeros(2, 3, 4, 32, 32)
    wrong = SimpleNamespace(encode_groups=lambda x: 0 * x, decode_groups=lambda latents: flat + 0 * latents)
    batch = {"groups_pm1": groups, "weights": torch.ones(2, 1, 1, 32, 32)}
    config = TinyAutoencoderConfig(sharpness_weight=0.5)
    with_term, metrics = autoencoder_method(config)(wrong, batch, 0)
    without, others = autoencoder_method(replace(config, sharpness_weight=0.0))(wrong, batch, 0)
    apart = sharpness_difference(flat, groups).item()
    assert metrics["sharpness_difference"] == pytest.approx(apart)
    assert "sharpness_difference" not in others
    assert (with_term - without).item() == pytest.approx(0.5 * apart, rel=1e-5)


def test_made_latents_need_an_encoder_that_stays(tmp_path):
    with pytest.raises(InputError, match=r"made\.model makes latents of an encoder that has to stay"):
        run(TinyAutoencoderConfig(made=MadeLatentsConfig(model="tiny-dit-sft")), tmp_path)


def test_latents_that_stay_are_not_scaled(tmp_path):
    with pytest.raises(InputError, match="latent_emphasis scales latents, and freeze_encoder"):
        run(TinyAutoencoderConfig(latent_emphasis=0.5, freeze_encoder=True, start_from="x"), tmp_path)


def test_new_channels_need_a_code_to_widen_that_may_change(tmp_path):
    for changes in ({}, {"start_from": "tiny-dit-sft", "freeze_encoder": True}):
        with pytest.raises(InputError, match="widen_to gives an autoencoder new channels: name it by start"):
            run(TinyAutoencoderConfig(widen_to=32, **changes), tmp_path)
