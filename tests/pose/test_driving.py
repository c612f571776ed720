"""From a filmed person to the skeleton that is drawn for another one: a photograph that is turned, moved and
zoomed by known amounts is the film."""

import numpy as np
import pytest
from filmed_photograph import FRAMES, MIDDLE, ROLL_DEG, SHIFT_PX, filmed

from hallo4.media import VideoWriter, load_image
from hallo4.motion import layout
from hallo4.pipelines import PortraitAnimator
from hallo4.pipelines.conditions import prepare_portrait
from hallo4.pipelines.prepare_motion import prepare_motion
from hallo4.types import Audio


@pytest.fixture(scope="module")
def photograph():
    return pytest.importorskip("skimage.data").astronaut()


@pytest.fixture(scope="module")
def film(photograph, tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "me.mp4"
    tone = Audio((0.3 * np.sin(np.arange(16000 * 3) / 9)).astype(np.float32), 16000)
    with VideoWriter(path, 512, 512, audio=tone) as writer:
        for frame in filmed(photograph):
            writer.write(frame)
    return path


@pytest.mark.parametrize("who", ["of the world", "in the photograph"])
def test_the_drawn_skeleton_follows_roll_and_place_of_the_film(
    light_root, film, photograph, who, monkeypatch
):
    monkeypatch.setenv("HALLO4_WEIGHTS", str(light_root))
    image = photograph if who == "in the photograph" else load_image("demo/portrait.png")
    portrait, _ = prepare_portrait(image, 256)
    source, notes = prepare_motion(film, portrait, FRAMES, 0)
    skeleton = source.skeleton(np.arange(FRAMES))
    eyes = skeleton.points_px[:, layout.LEFT_EYE] - skeleton.points_px[:, layout.RIGHT_EYE]
    roll_deg = np.rad2deg(np.arctan2(eyes[:, 1], eyes[:, 0]))
    nose = skeleton.points_px[:, layout.NOSE]
    assert np.corrcoef(roll_deg, ROLL_DEG)[0, 1] > 0.99
    for axis in (0, 1):
        assert np.corrcoef(nose[:, axis], SHIFT_PX[:, axis])[0, 1] > 0.97
    assert any("light found the person in 60 of 60 frames (face 1.00" in note for note in notes)
    first, drawn = skeleton.points_px[0], source.frames_u8(np.array([0]))[0]
    jaw = first[layout.JAW].round().astype(int)
    lit = [drawn[y - 2 : y + 3, x - 2 : x + 3].max() > 200 for x, y in jaw]
    assert np.mean(lit) > 0.9
    mouth = first[layout.FACE][48:].mean(axis=0).round().astype(int)
    around = drawn[mouth[1] - 3 : mouth[1] + 4, mouth[0] - 3 : mouth[0] + 4]
    assert around.min(axis=-1).max() < 60, "points of a face are white, and the mouth has none"


def test_a_photograph_gets_idle_motion_out_of_its_own_pose(light_root, photograph, monkeypatch):
    monkeypatch.setenv("HALLO4_WEIGHTS", str(light_root))
    portrait, _ = prepare_portrait(photograph, 256)
    source, notes = prepare_motion(None, portrait, 5, 0)
    nose = source.rest.points_px[0, layout.NOSE] * 512 / portrait.canvas.width_px
    np.testing.assert_allclose(nose, MIDDLE, atol=6)
    assert "as the estimator light finds it (face 1.00, shoulders 0.9" in notes[0]


def test_a_photograph_and_a_film_alone_make_a_video(
    light_root, film, photograph, tiny_model, tmp_path, monkeypatch
):
    monkeypatch.setenv("HALLO4_WEIGHTS", str(light_root))
    result = PortraitAnimator(tiny_model).animate(photograph, None, film, output=tmp_path / "o.mp4")
    assert result.frames == FRAMES
    assert any("the sound" in note or "no sound given" in note for note in result.notes)
