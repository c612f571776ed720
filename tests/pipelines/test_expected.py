"""What is said before work starts: an estimate of time and memory, and where the weights are."""

import dataclasses

import pytest
import torch

from hallo4.errors import CheckpointError, InputError
from hallo4.models.dit_cost import WindowSize, denoising_flops
from hallo4.pipelines import PortraitAnimator, expected, load_model
from hallo4.pipelines.diagnosis import EXTRAS, diagnose
from hallo4.pipelines.expected import JobSize, duration, job_flops, measured_flops_per_s
from hallo4.pipelines.model_outline import plan_model, read_outline
from hallo4.pipelines.weight_moves import WeightRules


@pytest.fixture(scope="module")
def outline(tiny_model_folder):
    return read_outline(tiny_model_folder)


def test_flops_of_a_job_are_those_of_its_windows(outline):
    rules = WeightRules()
    one, three = (job_flops(outline, JobSize(n, 32, 32, 2, 2.0), rules, None) for n in (5, 13))
    assert (one.windows, three.windows) == (1, 3)  # of 5 frames, the first of which repeats
    assert three.denoising == 3 * one.denoising
    config, size = outline.backbone.config, WindowSize(5, 4, 4, batch=2)
    kept = ("text", "audio", "skeleton")
    assert one.denoising == denoising_flops(config, size) + denoising_flops(config, size, kept)
    assert one.autoencoding > 0


def test_guidance_and_steps_cost(outline):
    def denoising(steps, guidance):
        return job_flops(outline, JobSize(5, 32, 32, steps, guidance), WeightRules(), None).denoising

    once, twice, thrice = (denoising(steps, 1.0) for steps in (1, 2, 3))
    assert denoising(2, 2.0) == 2 * twice
    assert thrice - twice == twice - once < once  # the first step embeds the conditions


def test_time_is_flops_by_the_measured_speed(outline, monkeypatch):
    monkeypatch.setattr(expected, "measured_flops_per_s", lambda device, dtype: 1e6)
    rules = WeightRules()
    plan = plan_model(outline, rules, 10**10)
    found = expected.expected(outline, JobSize(5, 32, 32, 2, 2.0), rules, plan)
    assert found.seconds == pytest.approx(found.flops / 1e6)
    assert found.peak_bytes == plan.peak_bytes
    assert "an estimate" in found.describe()
    assert "\n" not in found.describe()


def test_a_speed_is_measured():
    assert measured_flops_per_s(torch.device("cpu"), torch.float32, seconds=0.01) > 1e8


@pytest.mark.parametrize(
    ("seconds", "words"), [(1.23, "1.2 s"), (45.2, "45 s"), (600, "10 min"), (7500, "2 h 5 min")]
)
def test_durations_are_for_people(seconds, words):
    assert duration(seconds) == words


def test_a_long_job_is_announced(tiny_model_folder, portrait_u8, hum, tmp_path, monkeypatch):
    monkeypatch.setattr("hallo4.pipelines.model_outline.SMALL", 1e9)
    monkeypatch.setattr(expected, "QUICK_FLOPS", 0)
    monkeypatch.setattr(expected, "LONG_S", 0.0)
    said = []
    animator = PortraitAnimator.from_pretrained(tiny_model_folder, device="cpu", memory="8")
    result = animator.animate(
        portrait_u8, hum(0.4), output=tmp_path / "v.mp4", on_progress=lambda p: said.extend(p.notes)
    )
    assert any(note.startswith("resident: backbone on cpu") for note in result.notes)
    assert any("3 windows of 5 frames" in note and "estimate" in note for note in said)


def test_a_short_job_is_not(tiny_model, portrait_u8, hum, tmp_path, monkeypatch):
    monkeypatch.setattr(expected, "read_outline", lambda folder: pytest.fail("measured for nothing"))
    result = PortraitAnimator(tiny_model).animate(portrait_u8, hum(0.2), output=tmp_path / "v.mp4")
    assert not any("expect about" in note for note in result.notes)


# ---------------------------------------------------------------------- options of from_pretrained


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"memory": "much"}, "memory is 'much'"),
        ({"memory": "0.001"}, "offers 0.0 GB"),
        ({"dtype": "fp8"}, "dtype is 'fp8'; use auto, fp32, bf16"),
        ({"dtype": torch.float16}, "dtype is torch.float16"),
        ({"attention": "telepathy"}, "attention 'telepathy' is unknown; there are .*native"),
        ({"attention": "flash_hub"}, "unknown"),  # it would be downloaded
        ({"attention": "sage"}, "'sage' cannot be used on cpu.*native"),
        ({"device": "abacus"}, "abacus"),
    ],
)
def test_bad_options_are_one_line(tiny_model_folder, options, words):
    with pytest.raises(InputError, match=words) as error:
        PortraitAnimator.from_pretrained(tiny_model_folder, **({"device": "cpu"} | options))
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("computes_in_fp32")
def test_an_attention_backend_is_chosen_for_one_model_alone(tiny_model_folder, portrait_u8, hum):
    chosen = PortraitAnimator.from_pretrained(tiny_model_folder, device="cpu", attention="_native_math")
    backends = {block.attn1.processor._attention_backend for block in chosen.model.backbone.blocks}
    assert {backend.value for backend in backends} == {"_native_math"}
    other = load_model(tiny_model_folder).backbone.blocks[0].attn1.processor
    assert other._attention_backend is None
    made, expected_frames = (
        next(animator.frames(portrait_u8, hum(0.2))).astype(int)
        for animator in (chosen, PortraitAnimator.from_pretrained(tiny_model_folder, device="cpu"))
    )
    assert abs(made - expected_frames).max() <= 1


# ---------------------------------------------------------------------- doctor


def test_the_diagnosis_of_a_model(tiny_model_folder, monkeypatch):
    monkeypatch.setattr(expected, "measured_flops_per_s", lambda device, dtype: 1e9)
    lines = dict(diagnose(str(tiny_model_folder), seconds=2.0, memory="8", device="cpu"))
    assert list(lines) == ["hallo4", "device", "extras", "models", "weights", "model", "placement", "job"]
    assert "testling 1.2" in lines["model"]
    assert "windows of 5 frames" in lines["model"]
    assert "resident: backbone on cpu" in lines["placement"]
    assert lines["job"].startswith("50 frames of 32x32 in 13 windows of 5 frames, 2 steps each: expect about")
    assert not any("\n" in line for line in lines.values())


@pytest.mark.parametrize("part", ["dit/config.json", "autoencoder/diffusion_pytorch_model.safetensors"])
def test_the_diagnosis_of_an_incomplete_folder_is_one_line(tiny_model_folder, tmp_path, part):
    for file in tiny_model_folder.rglob("*"):
        if file.is_file() and file.relative_to(tiny_model_folder).as_posix() != part:
            copy = tmp_path / file.relative_to(tiny_model_folder)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(file.read_bytes())
    with pytest.raises(CheckpointError, match=f"{part.split('/')[0]}.*(missing|no)") as error:
        list(diagnose(str(tmp_path)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), 1e9])
def test_impossible_lengths_are_refused(seconds):
    with pytest.raises(InputError, match="seconds is"):
        list(diagnose("tiny-dit", seconds=seconds))


def test_extras_are_those_of_the_package():
    from importlib.metadata import metadata

    assert set(EXTRAS) == set(metadata("hallo4").get_all("Provides-Extra")) - {"test"}


def test_outlines_hold_no_memory(outline):
    for part in (outline.backbone, outline.autoencoder):
        assert {tensor.device.type for tensor in part.parameters()} == {"meta"}
    assert dataclasses.is_dataclass(outline)
    assert outline.stored["dit"] > 0
