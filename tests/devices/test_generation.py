"""A window is made wherever the model is: nothing made on the CPU stays there, and nothing changes."""

from dataclasses import replace

import pytest
import torch
from pretend_device import pretend_device

from hallo4.models.window_conditions import blacken_patches
from hallo4.pipelines import load_model, window
from hallo4.pipelines.model_outline import plan_model, read_outline
from hallo4.pipelines.plan import window_noise
from hallo4.pipelines.weight_moves import WeightRules


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
def test_a_window_is_the_same_on_another_device(family, few_cells, request, there, monkeypatch):
    monkeypatch.setattr(window, "FEW_CELLS", few_cells)
    model = replace(request.getfixturevalue(family), autocast=False)
    known = model.backbone.windows.known_frames
    expected = frames_of(model, known)
    with pretend_device() as device:
        found = frames_of(there(model, device), known)
    assert found.device.type == "cpu"
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_black_patches_of_the_known_frame_are_drawn_on_the_cpu_for_every_device():
    frames = torch.rand(2, 3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = blacken_patches(frames, 0.3, torch.Generator().manual_seed(1))
    with pretend_device() as device:
        found = blacken_patches(frames.to(device), 0.3, torch.Generator().manual_seed(1))
        assert found.device == device
        assert torch.equal(found.cpu(), expected)


def test_parts_may_take_turns_on_the_device(tiny_model_folder):
    rules = WeightRules()
    plan = replace(plan_model(read_outline(tiny_model_folder), rules, 10**12), placement="offload")
    model = load_model(tiny_model_folder, dtype=torch.float32)
    expected = frames_of(model, 1)
    with pretend_device() as device:
        taking_turns = load_model(tiny_model_folder, device, torch.float32, plan=plan)
        found = frames_of(taking_turns, 1)
        parts = (taking_turns.backbone, taking_turns.autoencoder)
        assert [next(part.parameters()).device.type for part in parts] == ["cpu", device.type]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_the_device_refuses_what_was_left_on_the_cpu(tiny_model, there):
    """So that the tests of this folder say something."""
    with pretend_device() as device:
        model = there(tiny_model, device)
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
