"""Wan's autoencoder gives what the released program's made, from the released weights (`end_to_end`)."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from hallo4.media import read_frames
from hallo4.models.released_wan import released_vae_name_to_diffusers
from hallo4.models.wan_autoencoder import WanAutoencoder
from hallo4.weights.tensors import read_tensors

CASE = Path(__file__).parents[3] / "shared/golden/end_to_end"
pytestmark = pytest.mark.skipif(not CASE.is_dir(), reason="the golden end-to-end case is not in the project")


@pytest.fixture(scope="module")
def model():
    sizes = json.loads((CASE / "settings.json").read_text())["vae"]
    model = WanAutoencoder(
        base_dim=sizes["dim"],
        z_dim=sizes["z_dim"],
        dim_mult=sizes["dim_mult"],
        num_res_blocks=sizes["num_res_blocks"],
        temperal_downsample=sizes["temperal_downsample"],
    )
    released = read_tensors(CASE / "pretrained_models/Wan2.1_Encoders/Wan2.1_VAE.pth", "autoencoder")
    model.load_state_dict({released_vae_name_to_diffusers(name): t for name, t in released.items()})
    return model.eval().requires_grad_(False)


def window(number):
    return load_file(CASE / f"main/window_{number}.safetensors")


def relative_error(found, expected):
    assert found.shape == expected.shape
    return ((found - expected).abs().max() / expected.abs().max()).item()


def test_reference(model):
    canvas = load_file(CASE / "main/conditions.safetensors")["reference_canvas"]
    found = model.encode_video(canvas[None, :, None])[0]
    assert relative_error(found, window(0)["reference_latent"]) <= 1e-5


def skeleton_canvas(width=96, side=64):
    """The 17 frames of the first window: resized to the height, black bars at the sides."""
    frames = np.stack(list(islice(read_frames(CASE / "inputs/skeleton.mp4"), 17)))
    frames = torch.from_numpy(frames).permute(0, 3, 1, 2) / 127.5 - 1
    frames = F.interpolate(frames, (side, side), mode="bilinear", antialias=True)
    bar = (width - side) // 2
    return F.pad(frames, (bar, bar), value=-1.0).transpose(0, 1)[None]


def test_skeleton_frames_one_by_one(model):
    golden = window(0)
    canvas = skeleton_canvas()
    assert relative_error(canvas[0, :, 0], golden["skeleton_canvas_first"]) <= 1e-6
    assert relative_error(canvas[0, :, -1], golden["skeleton_canvas_last"]) <= 1e-6
    assert relative_error(model.encode_frames(canvas)[0], golden["skeleton_latents"]) <= 1e-5


def test_window_that_goes_on_from_a_known_frame(model):
    for number in (1, 2):
        golden = window(number)
        known = golden["masked_motion_frame"][None, :, None]
        grey = torch.zeros(1, 3, 16, *known.shape[3:])
        inactive = model.encode_video(torch.cat([known, grey], dim=2))[0]
        reactive = model.encode_video(torch.zeros(1, 3, 17, *known.shape[3:]))[0]
        assert relative_error(inactive, golden["vace_context"][:16, 1:]) <= 1e-5
        assert relative_error(reactive, golden["vace_context"][16:32, 1:]) <= 1e-5


def test_decoded_video(model):
    golden = window(0)
    found = model.decode_video(golden["denoised"][None, :, 1:])[0]
    assert found.abs().max() > 1  # the released program clamps
    assert relative_error(found.clamp(-1, 1), golden["decoded_video"]) <= 1e-5


def test_autocast_does_not_change_a_bit(model):
    clip, latents = skeleton_canvas()[:, :, :5], window(0)["denoised"][None, :, 1:3]

    def results():
        coded = model.encode_video(clip), model.encode_frames(clip)
        return *coded, model.decode_video(latents), model.decode_video(latents, tile_px=128)

    plain = results()
    with torch.autocast("cpu", torch.bfloat16):
        found = results()
        assert torch.is_autocast_enabled("cpu"), "the caller's context is as it was"
    assert all(torch.equal(one, other) for one, other in zip(found, plain, strict=True))
