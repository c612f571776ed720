"""A model folder opened by diffusers makes the frames of `hallo4 animate`, and takes no option in silence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from hallo4.cli import main
from hallo4.errors import CheckpointError, InputError
from hallo4.media import VideoWriter, read_frames, save_wav
from hallo4.pipelines import convert_release, embedded_models, resolve_model
from hallo4.pipelines.model_index import NAME

ROOT = Path(__file__).parents[2]
CUSTOM = str(ROOT / "integrations" / "diffusers")
CASE = ROOT.parent / "shared" / "golden" / "end_to_end"


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """diffusers copies a custom pipeline into its cache and imports it from there."""
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))


def opened(folder, **options):
    pipe = DiffusionPipeline.from_pretrained(
        str(folder), custom_pipeline=CUSTOM, trust_remote_code=True, device="cpu", **options
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def frames_of_command(tmp_path, portrait, sound, *options):
    """What `hallo4 animate` writes, decoded."""
    output = tmp_path / "command.mp4"
    words = ["animate", str(portrait), str(sound), "-o", str(output), "--device", "cpu", "--quiet"]
    assert main([*words, *map(str, options)]) == 0
    return np.stack(list(read_frames(output)))


def after_the_encoder(tmp_path, frames_01):
    """The same pictures through the encoder that the command uses."""
    levels = np.rint(frames_01 * 255).astype(np.uint8)
    path = tmp_path / "pipeline.mp4"
    with VideoWriter(path, levels.shape[2], levels.shape[1]) as writer:
        for frame_u8 in levels:
            writer.write(frame_u8)
    return np.stack(list(read_frames(path)))


@pytest.fixture
def sound(tmp_path, hum):
    save_wav(tmp_path / "speech.wav", hum(0.96))
    return tmp_path / "speech.wav"


def test_the_embedded_model_makes_the_frames_of_the_command(tmp_path, sound):
    portrait = ROOT / "demo" / "portrait.png"
    wanted = frames_of_command(tmp_path, portrait, sound, "--seed", 7, "--steps", 2)
    made = opened(resolve_model("tiny-dit"))(
        portrait, sound, generator=torch.Generator().manual_seed(7), num_inference_steps=2
    )
    assert made.frames.shape == (1, 24, 128, 128, 3)
    assert np.array_equal(after_the_encoder(tmp_path, made.frames[0]), wanted)


@pytest.mark.skipif(not CASE.is_dir(), reason="the end-to-end case is not part of the project")
def test_a_converted_release_makes_the_frames_of_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sizes = {"canvas_sizes_px": [(64, 96)], "window_frames": 17}
    folder = convert_release(CASE / "pretrained_models", tmp_path / "model", **sizes).folder
    portrait, sound = CASE / "inputs" / "reference.png", CASE / "inputs" / "speech.wav"
    options = ("--model", folder, "--seed", 3, "--steps", 1, "--prompt", "a person speaks")
    wanted = frames_of_command(tmp_path, portrait, sound, *options)
    made = opened(folder)(
        portrait, sound, prompt="a person speaks", generator=torch.Generator().manual_seed(3),
        num_inference_steps=1,
    )  # fmt: skip
    assert np.array_equal(after_the_encoder(tmp_path, made.frames[0]), wanted)


def test_kinds_of_output_are_the_same_pictures(tiny_model_folder, portrait_u8, hum):
    pipe = opened(tiny_model_folder)
    as_np, as_pt, as_pil = (
        pipe(portrait_u8, hum(0.3), output_type=kind, return_dict=False)[0] for kind in ("np", "pt", "pil")
    )
    assert as_np.shape == (1, 8, 32, 32, 3)
    assert as_pt.shape == (1, 8, 3, 32, 32)
    assert np.array_equal(as_pt.movedim(2, -1).numpy(), as_np)
    assert np.array_equal(np.stack([np.asarray(frame) for frame in as_pil[0]]), np.rint(as_np[0] * 255))
    with pytest.raises(InputError, match="output_type"):
        pipe(portrait_u8, hum(0.3), output_type="latent")


def test_seed_and_notes_reach_the_caller(tiny_model_folder, portrait_u8, hum):
    pipe = opened(tiny_model_folder)
    first, again, other = (
        pipe(Image.fromarray(portrait_u8), hum(0.3), generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first.frames, again.frames)
    assert not np.array_equal(first.frames, other.frames)
    assert any("40x40" in note for note in first.notes)


def test_device_type_and_size_can_be_asked_for_and_changed(tiny_model_folder, portrait_u8, hum):
    pipe = opened(tiny_model_folder, torch_dtype=torch.float32)
    networks = pipe.animator.model
    assert pipe.device == torch.device("cpu")
    assert pipe.dtype == torch.float32
    assert pipe.components["model"].backbone is networks.backbone
    assert pipe.to("cpu") is pipe
    assert pipe.animator.model is networks, "nothing changes, nothing is loaded"
    assert {weight.dtype for weight in pipe.model.parameters()} == {torch.float32}
    assert torch.bfloat16 in {weight.dtype for weight in pipe.to(torch.bfloat16).model.parameters()}
    assert pipe(portrait_u8, hum(0.2)).frames.shape == (1, 5, 32, 32, 3)
    with pytest.raises(InputError, match="meta"):
        pipe.to("meta")


def test_options_without_effect_are_refused(tiny_model_folder):
    with pytest.raises(InputError, match="max_memory"):
        opened(tiny_model_folder, max_memory={0: "8GB"})
    pipe = opened(tiny_model_folder)
    with pytest.raises(InputError, match="copy this folder"):
        pipe.save_pretrained("elsewhere")
    with pytest.raises(InputError, match="memory"):
        pipe.enable_sequential_cpu_offload()


def test_a_damaged_model_is_refused_as_everywhere(tiny_model_folder, tmp_path):
    import shutil

    folder = shutil.copytree(tiny_model_folder, tmp_path / "model")
    weights = next((folder / "dit").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(CheckpointError):
        opened(folder)


def test_embedded_models_hold_the_index_that_is_written(tiny_model_folder):
    written = (tiny_model_folder / NAME).read_text()
    for name in embedded_models():
        assert (resolve_model(name) / NAME).read_text() == written, name
