"""The ComfyUI nodes keep ComfyUI's contract, ask for consent, and label what they write."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from comfyui_contract import Host, Interrupted, check_node, load_pack, run

from hallo4.errors import InputError
from hallo4.media import probe_video, read_provenance
from hallo4.pipelines import PortraitAnimator
from hallo4.types import Skeleton

ROOT = Path(__file__).parents[2]
PACK = load_pack(ROOT / "integrations" / "comfyui")
NODES = PACK.NODE_CLASS_MAPPINGS


@pytest.fixture
def host(tmp_path, monkeypatch):
    made = Host(tmp_path / "output")
    for name, module in made.modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return made


@pytest.fixture
def inputs(tiny_model, portrait_u8, hum):
    """What `Hallo4Animate` needs, and no more."""
    image = torch.from_numpy(portrait_u8.astype(np.float32) / 255)[None]
    sound = hum(0.4)
    audio = {"waveform": torch.from_numpy(sound.samples)[None, None], "sample_rate": sound.sample_rate_hz}
    return {
        "model": PortraitAnimator(tiny_model), "image": image, "audio": audio,
        "consent": "no real person is shown", "seed": 5, "steps": 0, "guidance": -1.0,
        "filename_prefix": "hallo4/talk",
    }  # fmt: skip


@pytest.fixture
def speech(tmp_path, hum):
    """The same sound as a file."""
    soundfile.write(tmp_path / "speech.wav", hum(0.4).samples, 16_000, subtype="FLOAT")
    return tmp_path / "speech.wav"


def frames_u8(image):
    return (image.numpy() * 255).round()


def test_the_pack_names_its_nodes():
    assert set(PACK.NODE_DISPLAY_NAME_MAPPINGS) == set(NODES)
    assert set(NODES) == {"Hallo4LoadModel", "Hallo4Keypoints", "Hallo4Animate"}


@pytest.mark.parametrize("name", sorted(NODES))
def test_nodes_keep_the_contract(name):
    check_node(NODES[name])


def test_a_model_is_loaded_by_name_or_by_folder(tiny_model_folder):
    node = NODES["Hallo4LoadModel"]
    choices = node.INPUT_TYPES()["required"]["model"][0]
    assert choices[0] == "tiny-dit"
    (animator,) = run(node, model="tiny-dit-sft", device="cpu", memory_gb=0.0)
    assert animator.model.info.name == "tiny-dit-sft"
    (animator,) = run(node, model="tiny-dit", device="cpu", memory_gb=0.0, folder=f" {tiny_model_folder} ")
    assert animator.model.info.name == "testling"


def test_the_frames_are_those_of_the_animator(host, inputs, speech, portrait_u8, tmp_path):
    frames, audio, fps, file, notes = run(NODES["Hallo4Animate"], **inputs)
    expected = np.concatenate(list(inputs["model"].frames(portrait_u8, speech, seed=5)))
    assert np.array_equal(frames_u8(frames), expected)
    assert audio is inputs["audio"]
    assert fps == 25.0
    assert "40x40" in notes
    assert Path(file) == tmp_path / "output" / "hallo4" / "talk_00001_.mp4"
    assert probe_video(file).frames == len(frames) == 10
    assert probe_video(file).has_audio
    said = read_provenance(file)
    assert said["ai_generated"] == "true"
    assert said["consent"] == "whoever made this video said that it shows no real person"
    assert host.bars[0].seen[-1] == (10.0, 10)
    again = run(NODES["Hallo4Animate"], **inputs)
    assert Path(again[3]).name == "talk_00002_.mp4"


def test_the_file_is_shown_where_comfyui_looks_for_it(host, inputs):
    with torch.inference_mode():
        shown = NODES["Hallo4Animate"]().animate(**inputs)["ui"]
    assert shown["images"] == [{"filename": "talk_00001_.mp4", "subfolder": "hallo4", "type": "output"}]
    assert shown["animated"] == (True,)


def test_without_an_answer_about_consent_nothing_is_made(host, inputs, tmp_path):
    node = NODES["Hallo4Animate"]
    unanswered = node.INPUT_TYPES()["required"]["consent"][0][0]
    assert "agreed" in node.VALIDATE_INPUTS(consent=unanswered)
    assert node.VALIDATE_INPUTS(consent=inputs["consent"]) is True
    with pytest.raises(InputError, match="consent"):
        run(node, **inputs | {"consent": unanswered})
    assert not (tmp_path / "output").exists()


def test_settings_reach_the_model(host, inputs, portrait_u8, speech):
    frames = run(NODES["Hallo4Animate"], **inputs | {"steps": 1, "guidance": 1.0, "seed": 6})[0]
    expected = inputs["model"].frames(portrait_u8, speech, seed=6, steps=1, guidance_scale=1.0)
    assert np.array_equal(frames_u8(frames), np.concatenate(list(expected)))


def test_keypoints_drive_the_portrait(host, inputs, portrait_u8, speech):
    points = np.random.default_rng(0).uniform(5, 35, (10, 133, 2)).astype(np.float32)
    skeleton = Skeleton(points, np.ones((10, 133), np.float32), 25.0, 40, 40)
    frames = run(NODES["Hallo4Animate"], **inputs, keypoints=skeleton, fit_motion=False)[0]
    expected = inputs["model"].frames(portrait_u8, speech, skeleton, seed=5)
    assert np.array_equal(frames_u8(frames), np.concatenate(list(expected)))


def test_channels_that_cancel_each_other_are_not_silence(host, inputs, portrait_u8, speech):
    loud = inputs["audio"]["waveform"][0, 0]
    inverted = {"waveform": torch.stack([loud, -loud])[None], "sample_rate": 16_000}
    frames, *_, notes = run(NODES["Hallo4Animate"], **inputs | {"audio": inverted})
    assert "cancel" in notes
    expected = inputs["model"].frames(portrait_u8, speech, seed=5)
    assert np.array_equal(frames_u8(frames), np.concatenate(list(expected)))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"image": torch.zeros(2, 8, 8, 3)}, "batch of 2"),
        ({"image": torch.zeros(8, 8, 3)}, "IMAGE is"),
        ({"audio": {"waveform": torch.zeros(2, 1, 100), "sample_rate": 16_000}}, "one sound"),
    ],
)
def test_what_cannot_be_used_is_said(host, inputs, wrong, words):
    with pytest.raises(InputError, match=words):
        run(NODES["Hallo4Animate"], **inputs | wrong)


def test_the_stop_button_ends_the_workflow(host, inputs, tmp_path):
    host.stopped = True
    with pytest.raises(Interrupted):
        run(NODES["Hallo4Animate"], **inputs)
    assert list((tmp_path / "output").rglob("*.mp4")) == []


class OnePoint:
    """A person whose points all lie where the picture is brightest."""

    name = "one point"

    def find(self, frame_u8):
        from hallo4.pose import Candidate

        return [Candidate(np.array([0.0, 0.0, 40.0, 40.0]))]

    def look(self, frame_u8, near):
        from hallo4.pose import PersonPose

        row, column = np.unravel_index(frame_u8.sum(axis=-1).argmax(), frame_u8.shape[:2])
        points = np.full((133, 2), [column + 0.5, row + 0.5], np.float32)
        box = np.array([0.0, 0.0, 40.0, 40.0])
        return PersonPose(points, np.ones(133, np.float32), box, box, box)


def test_keypoints_are_found_in_frames(host, monkeypatch):
    monkeypatch.setattr("hallo4.pose.measure.load_estimator", lambda name: OnePoint())
    frames = torch.zeros(6, 40, 48, 3)
    frames[:, 20, 30] = 1.0
    skeleton, drawn, notes = run(
        NODES["Hallo4Keypoints"], frames=frames, fps=30.0, estimator="auto", person="largest"
    )
    assert (len(skeleton), skeleton.fps, skeleton.width_px, skeleton.height_px) == (6, 30.0, 48, 40)
    np.testing.assert_allclose(skeleton.points_px, np.full((6, 133, 2), [30.5, 20.5]), atol=1e-3)
    assert drawn.shape == (6, 40, 48, 3)
    assert isinstance(notes, str)
    assert host.bars[0].seen[-1] == (6, 6)
