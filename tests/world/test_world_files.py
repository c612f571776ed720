"""What `hallo4 world episode` writes can be read back, and says what it is."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from hallo4 import whole
from hallo4.errors import OutputError
from hallo4.media import load_audio, load_image, probe_video, read_frames
from hallo4.media.provenance import read_provenance
from hallo4.motion import draw_skeleton, load_skeleton
from hallo4.version import __version__
from hallo4.world import write_episode

FRAMES, SIZE = 40, 96


@pytest.fixture(scope="module")
def written(episode, tmp_path_factory):
    """Paths of an episode in a folder that did not exist."""
    folder = tmp_path_factory.mktemp("world") / "new" / "folder"
    paths = write_episode(episode, folder)
    assert {path.name for path in folder.iterdir()} == set(paths)
    return paths


def psnr_db(a, b):
    return -10 * np.log10(np.mean((a.astype(float) - b) ** 2) / 255**2)


def test_six_files_are_written(written):
    assert set(written) == {
        "portrait.png", "speech.wav", "skeleton.mp4", "keypoints.json", "video.mp4", "truth.json",
    }  # fmt: skip
    assert all(path.stat().st_size > 500 for path in written.values())


def test_the_portrait_is_kept_to_the_bit(written, episode):
    np.testing.assert_array_equal(np.asarray(Image.open(written["portrait.png"])), episode.portrait_u8)
    assert load_image(written["portrait.png"]).shape[:2] == (SIZE, SIZE)


def test_the_videos_have_all_frames_and_look_right(written, episode):
    drawings = draw_skeleton(episode.skeleton, SIZE, SIZE)
    for name, originals, least_db in (
        ("video.mp4", episode.frames_u8, 30), ("skeleton.mp4", drawings, 20),
    ):  # fmt: skip
        info = probe_video(written[name])
        assert (info.frames, info.fps, info.width_px, info.height_px) == (FRAMES, 25, SIZE, SIZE)
        frames = np.stack(list(read_frames(written[name])))
        assert frames.shape == originals.shape
        assert psnr_db(frames, originals) > least_db
        assert psnr_db(frames[:-5], originals[5:]) < psnr_db(frames, originals) - 3, "frames are in order"


def test_the_video_speaks_and_the_skeleton_is_silent(written, episode):
    heard = load_audio(written["video.mp4"], sample_rate_hz=22050)
    assert heard.duration_s == pytest.approx(FRAMES / 25, abs=0.05)
    n = min(len(heard.samples), len(episode.audio.samples))
    assert np.corrcoef(heard.samples[:n], episode.audio.samples[:n])[0, 1] > 0.8
    wave = load_audio(written["speech.wav"], sample_rate_hz=22050)
    assert len(wave.samples) == FRAMES * 882
    np.testing.assert_allclose(wave.samples, episode.audio.samples, atol=2 / 32768)


def test_videos_say_that_they_are_generated_and_by_whom(written):
    for name in ("video.mp4", "skeleton.mp4"):
        record = read_provenance(written[name])
        assert record["generator"] == f"hallo4 {__version__} portrait world"
        assert record["seed"] == "7"


def test_key_points_can_be_loaded_as_a_skeleton(written, episode):
    loaded = load_skeleton(written["keypoints.json"])
    assert (loaded.fps, loaded.width_px, loaded.height_px) == (25, SIZE, SIZE)
    np.testing.assert_allclose(loaded.points_px, episode.skeleton.points_px, atol=0.01)
    np.testing.assert_array_equal(loaded.confidence > 0.3, episode.skeleton.confidence > 0.3)


def test_the_truth_can_be_parsed(written, episode):
    truth = json.loads(written["truth.json"].read_text())
    assert (truth["seed"], truth["fps"], truth["width_px"], truth["height_px"], truth["frames"]) == (
        7,
        25,
        SIZE,
        SIZE,
        FRAMES,
    )
    for name, curve in vars(episode.truth).items():
        np.testing.assert_allclose(truth[name], curve, atol=1e-4)
    for name in ("yaw", "pitch", "roll", "head", "gaze"):
        np.testing.assert_allclose(truth[name], getattr(episode.performance, name), atol=1e-4)
    np.testing.assert_allclose(truth["joints_px"], episode.skeleton.points_px, atol=0.01)
    assert truth["identity"]["hair_style"] == episode.identity.hair_style
    assert truth["identity"]["voice"]["name"] == episode.identity.voice.name
    assert [symbol for symbol, _, _ in truth["phonemes"]] == [p.symbol for p in episode.phonemes]


def test_an_older_episode_is_replaced_in_one_step(written, episode, tmp_path, monkeypatch):
    """At every step of writing the folder holds the old files, all of them, or the new ones, all of them."""
    folder = tmp_path / "episode"
    folder.mkdir()
    for name in written:
        (folder / name).write_text("old")
    seen, steps = [], 0

    def look(*_):
        nonlocal steps
        steps += 1
        old = {name for name in written if (folder / name).read_bytes() == b"old"}
        seen.append(len(old))

    for module, name in ((os, "replace"), (os, "fsync"), (whole, "_exchange"), (shutil, "rmtree")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, real=real, **k: (look(), real(*a, **k), look())[1])
    write_episode(episode, folder)
    assert steps > 20
    assert set(seen) == {0, 6}
    assert {path.name for path in folder.iterdir()} == set(written)
    assert os.listdir(tmp_path) == ["episode"]


def test_a_folder_with_something_else_in_it_stays(episode, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "video.mp4").write_text("mine too")
    with pytest.raises(OutputError, match=r"holds notes.txt, which is not part of an episode") as caught:
        write_episode(episode, tmp_path)
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["notes.txt", "video.mp4"]
