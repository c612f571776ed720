"""What a model was not trained for is said before work starts; what it was trained for is not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hallo4.errors import CheckpointError
from hallo4.media import load_image
from hallo4.motion import default_rest_pose
from hallo4.pipelines import ModelInfo, PortraitAnimator
from hallo4.pipelines.model_info import embedded_models, read_info, resolve_model
from hallo4.pipelines.reach import TrainedOn, decoded_psnr_db, head_width, notes_beyond_training
from hallo4.types import Audio

ROOT = Path(__file__).parents[2]
CASES = ROOT.parent / "shared" / "cases" / "portrait-other-shape"
KNOWN = TrainedOn("circles", (0.9, 1.1), (0.4, 0.5), 25.0)


def pose_with_head(width: float, size_px: tuple[int, int] = (100, 100)):
    """A pose whose face outline is that wide, in roots of the area."""
    pose = default_rest_pose(*size_px)
    return replace(pose, points_px=(pose.points_px * width / head_width(pose)).astype(np.float32))


@pytest.mark.parametrize(
    ("size_px", "head", "psnr_db", "words"),
    [
        ((100, 100), 0.45, 30.0, []),
        ((112, 100), 0.39, 25.0, []),  # within the tolerance
        ((120, 100), 0.45, 30.0, ["120x100 pixels (width over height trained: 0.9 to 1.1)"]),
        ((100, 120), 0.45, 30.0, ["100x120 pixels"]),
        ((100, 100), 0.30, 30.0, ["a head 0.30 of the side wide (trained: 0.4 to 0.5)"]),
        ((100, 100), 0.60, 30.0, ["a head 0.60"]),
        ((100, 100), None, 30.0, ["no face that was found"]),
        ((100, 100), 0.45, 20.0, ["gives back with 20.0 dB (at least 25.0)"]),
        ((200, 100), 0.60, 20.0, ["200x100 pixels", "a head 0.60", "20.0 dB"]),
    ],
)
def test_what_is_beyond_is_one_line(size_px, head, psnr_db, words):
    pose = None if head is None else pose_with_head(head)
    notes = notes_beyond_training("m", KNOWN, size_px, pose, psnr_db)
    assert len(notes) == bool(words)
    for note in notes:
        assert note.startswith("m was trained on circles only; this portrait has ")
        assert all(word in note for word in words)
        assert sum(word in note for word in ("pixels (", "a head", "no face", "dB")) == len(words)


def test_the_width_of_a_head_does_not_depend_on_the_size_of_the_picture():
    small, large = default_rest_pose(100, 100), default_rest_pose(400, 400)
    assert head_width(small) == pytest.approx(head_width(large), rel=1e-5)


def test_psnr_of_a_picture_by_hand():
    class Fading(torch.nn.Linear):
        def encode_video(self, video):
            return video

        def decode_video(self, latents):
            return latents + 0.2

    picture = torch.zeros(3, 8, 8)
    assert decoded_psnr_db(Fading(1, 1), picture) == pytest.approx(20.0, abs=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"aspect": (2.0, 1.0)},
        {"aspect": (0.0, 1.0)},
        {"head_width": (0.5, float("inf"))},
        {"least_psnr_db": float("nan")},
    ],
)
def test_impossible_ranges_are_refused(change):
    with pytest.raises(CheckpointError, match=r"trained_on\."):
        ModelInfo("m", "1", trained_on=replace(KNOWN, **change))


@pytest.fixture(scope="module")
def animators():
    return {name: PortraitAnimator.from_pretrained(name) for name in ("tiny-dit", "tiny-unet")}


def notes_on(animator, image) -> list[str]:
    said = []
    list(
        animator.frames(
            image,
            Audio(np.zeros(640, np.float32), 16_000),
            steps=1,
            on_progress=lambda p: said.extend(p.notes),
        )
    )
    return [note for note in said if "was trained on" in note]


def test_every_embedded_model_says_what_it_knows():
    for name in embedded_models():
        assert read_info(resolve_model(name)).trained_on.what == "the procedural portrait world"


@pytest.mark.parametrize("name", ["tiny-dit", "tiny-unet"])
def test_portraits_of_the_world_are_known_and_others_are_not(animators, name):
    portrait = load_image(ROOT / "demo" / "portrait.png")
    assert not notes_on(animators[name], portrait)
    side = portrait.shape[0]
    cut = side * 28 // 256
    (note,) = notes_on(animators[name], portrait[:, cut:-cut])
    assert f"{name} was trained on the procedural portrait world only" in note
    assert "pixels (width over height trained: 1)" in note
    smaller = np.pad(portrait, ((side // 6,) * 2, (side // 6,) * 2, (0, 0)), mode="edge")
    (note,) = notes_on(animators[name], smaller)
    assert "a head 0.3" in note
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    (note,) = notes_on(animators[name], np.asarray(Image.fromarray(noise).resize((128, 128), 0)))
    assert "dB (at least" in note


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
@pytest.mark.parametrize("file", ["asp_32.png", "asp_34.png", "asp_small.png"])
def test_the_default_model_says_what_it_will_not_do_well(animators, file):
    assert len(notes_on(animators["tiny-dit"], CASES / file)) == 1
