"""A window is made wherever the model is: nothing made on the CPU stays there, and nothing changes."""

import copy
from dataclasses import replace

import pytest
import torch
from pretend_device import pretend_device

from hallo4.models.audio_features import LogMelFrontEnd
from hallo4.models.autoencoder import TinyVideoAutoencoder
from hallo4.models.portrait_unet import PortraitUNet
from hallo4.pipelines import ModelInfo, window
from hallo4.pipelines.model_folder import LoadedModel
from hallo4.pipelines.plan import window_noise


@pytest.fixture(scope="module")
def tiny_unet():
    """A UNet of pictures with random weights, that drops patches of what it knows."""
    torch.manual_seed(0)
    front_end = LogMelFrontEnd()
    unet = PortraitUNet(
        in_channels=4, block_out_channels=[8, 8, 16], layers_per_block=1, num_attention_heads=2,
        norm_num_groups=4, cross_attention_dim=8, face="optional", face_embedding_dim=1, face_tokens=1,
        audio_attention_dim=8, audio_blocks=front_end.blocks, audio_channels=40, audio_hidden_dim=8,
        audio_tokens=2, skeleton="optional", skeleton_hidden_dim=8, motion_positions=12,
        branch_init_std=0.3, motion_dropped=0.25,
    )  # fmt: skip
    autoencoder = TinyVideoAutoencoder(latent_channels=4, fine_width=8, coarse_width=16, frames_per_latent=1)
    info = ModelInfo("stairs", "1", family="unet", size_px=32, window_frames=5, steps=2)
    return LoadedModel(info, unet.eval(), autoencoder.eval(), front_end)


def moved(model, device):
    """A copy of the model, there."""
    parts = {name: copy.deepcopy(getattr(model, name)).to(device) for name in ("backbone", "autoencoder")}
    return replace(model, **parts, device=device)


def frames_of(model, known_frames):
    """A window that goes on from known frames, all of whose inputs come from the CPU."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return 2 * torch.rand(*shape, generator=generator) - 1

    front_end, rules = model.audio_front_end, model.backbone.windows
    scene = window.prepare_scene(model, draw(3, 32, 32))
    conditions = window.window_conditions(
        *(model, scene, draw(5 * rules.skeleton_rho, 3, 32, 32)),
        *(draw(5 * rules.audio_rho, 5, front_end.blocks, front_end.channels), draw(known_frames, 3, 32, 32)),
        generator,
    )
    noise, steps = window_noise(model.backbone.sample_shape(5, 4, 4), 0, 0), []
    latents = window.denoise_window(model, conditions, noise, 2, 2.0, steps.append)
    assert steps == [1, 2]
    assert latents.device == model.device
    return window.decode_window(model, latents)


@pytest.mark.parametrize("few_cells", [0, 8192])
@pytest.mark.parametrize("family", ["tiny_model", "tiny_unet"])
def test_a_window_is_the_same_on_another_device(family, few_cells, request, monkeypatch):
    monkeypatch.setattr(window, "FEW_CELLS", few_cells)
    model = replace(request.getfixturevalue(family), autocast=False)
    known = model.backbone.windows.known_frames
    expected = frames_of(model, known)
    with pretend_device() as device:
        found = frames_of(moved(model, device), known)
    assert found.device.type == "cpu"
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_the_device_refuses_what_was_left_on_the_cpu(tiny_model):
    """So that the tests of this folder say something."""
    with pretend_device() as device:
        model = moved(tiny_model, device)
        with pytest.raises(RuntimeError, match="on pretended:0 and on the CPU"):
            model.autoencoder.encode_video(torch.zeros(1, 3, 1, 32, 32))
        here = torch.arange(3.0, device=device)
        assert here.mul(2).cpu().tolist() == [0.0, 2.0, 4.0]
        assert here[1].item() == 1.0
        assert (here + torch.tensor(1.0)).device == device, "numbers may come from anywhere"
        for other in (torch.ones(3), torch.zeros(3, 1)):
            with pytest.raises(RuntimeError):
                here + other
            with pytest.raises(RuntimeError):
                here.add_(other.flatten())
