"""Names that other machines write find the same files, and nothing outside their folder."""

import unicodedata

import numpy as np
import pytest
import soundfile
from PIL import Image

from hallo4.evaluation.suites.video_files import videos_in
from hallo4.media import load_audio, load_image
from hallo4.media.names import as_stored, below
from hallo4.motion.beside_video import keypoint_file

COMPOSED = unicodedata.normalize("NFC", "Zoë é가")
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)


@pytest.mark.parametrize(("stored", "written"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_the_unicode_form_does_not_matter(tmp_path, monkeypatch, stored, written):
    (tmp_path / stored).mkdir()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / stored / f"{stored}.png")
    (tmp_path / stored / f"{written}.keypoints.json").touch()
    (tmp_path / stored / f"{stored}.mp4").touch()
    asked = tmp_path / written / f"{written}.png"
    assert as_stored(asked) == tmp_path / stored / f"{stored}.png"
    assert load_image(asked).shape == (16, 16, 3)
    monkeypatch.chdir(tmp_path)
    assert load_image(f"{written}/{written}.png").shape == (16, 16, 3)
    assert keypoint_file(tmp_path / stored / f"{stored}.mp4") is not None
    assert list(videos_in(tmp_path / stored)) == [COMPOSED], "clips of two folders match"
    assert as_stored(tmp_path / f"{written}.mp3") == tmp_path / f"{written}.mp3"


def test_the_exact_name_comes_first(tmp_path):
    for name in (COMPOSED, DECOMPOSED):
        (tmp_path / name).touch()
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this disk takes both for one")
    assert [as_stored(tmp_path / name).name for name in (COMPOSED, DECOMPOSED)] == [COMPOSED, DECOMPOSED]


@pytest.mark.parametrize(
    "named",
    [
        "clips/one/a.mp4",
        "./clips/one/a.mp4",
        r"clips\one\a.mp4",
        r".\clips/one\a.mp4",
        r"D:\study\clips\one\a.mp4",
        "D:/clips/one/a.mp4",
        "/data/someone/study/clips/one/a.mp4",
        r"\\server\share\clips\one\a.mp4",
    ],
)
def test_paths_of_any_system_find_the_file(tmp_path, named):
    (tmp_path / "clips" / "one").mkdir(parents=True)
    (tmp_path / "clips" / "one" / "a.mp4").touch()
    (tmp_path / "a.mp4").touch()  # a shorter end of the absolute ones
    assert below(tmp_path, named) == tmp_path.resolve() / "clips" / "one" / "a.mp4"


@pytest.mark.parametrize(
    "named",
    ["", ".", "..", "../a.mp4", r"..\a.mp4", "clips/../../a.mp4", "/etc/passwd", "~/a.mp4", "file:///a.mp4",
     r"C:\..\a.mp4", "C:", "link/a.mp4", "/link/a.mp4", "a\0.mp4", "x/" * 3000, "/" + "x" * 300],
)  # fmt: skip
def test_nothing_outside_is_found(tmp_path, named):
    (tmp_path / "in").mkdir()
    (tmp_path / "a.mp4").touch()
    (tmp_path / "in" / "link").symlink_to(tmp_path)
    assert below(tmp_path / "in", named) in (None, tmp_path / "in" / named)
    found = below(tmp_path / "in", named)
    assert found is None or not found.exists()


@pytest.mark.parametrize("suffix", ["wav", "ogg", "mp3", "flac"])
def test_sounds_are_found_by_every_step_of_reading(tmp_path, hum, suffix):
    sound = hum(0.3)
    soundfile.write(tmp_path / f"{COMPOSED}.{suffix}", sound.samples, sound.sample_rate_hz)
    assert len(load_audio(tmp_path / f"{DECOMPOSED}.{suffix}").samples) == pytest.approx(4800, abs=10)
