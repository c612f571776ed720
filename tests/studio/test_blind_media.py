"""The copies that raters see show the clips as they are, side by side, with one sound."""

import numpy as np
import pytest
from studio_clips import FRAMES, HEIGHT, WIDTH, picture

from hallo4.errors import InputError, OutputError
from hallo4.media import load_audio, probe_video, read_frames
from hallo4.preference import PreferenceStore
from hallo4.studio.media import BlindMedia, compose, mouth_box, pitch_px
from hallo4.world import make_episode


def psnr_db(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


@pytest.fixture
def paths(store_template):
    """Clips of condition 1 by systems 0, 1, 2."""
    return [
        next((store_template / "clips").glob(f"condition-1-{name}*")) for name in ("secret", "wavy", "gamma9")
    ]


def test_each_half_is_its_clip_and_they_are_in_step(paths, tmp_path, hum):
    compose(paths[2:] + paths[:1], hum(0.8), FRAMES, 25.0, tmp_path / "copy.mp4")
    frames = list(read_frames(tmp_path / "copy.mp4"))
    assert len(frames) == FRAMES
    start = pitch_px(WIDTH)
    assert start % 16 == 0
    assert start - WIDTH >= 16
    for at, frame in enumerate(frames):
        left, right = frame[:, :WIDTH], frame[:, start : start + WIDTH]
        assert psnr_db(left, picture(1, 2, at)) > 33
        assert psnr_db(right, picture(1, 0, at)) > 31, "its source was compressed once"
        assert psnr_db(left, picture(1, 2, at + 1)) < 28, "a frame later is another picture"


def test_the_sound_is_the_condition_s_and_as_long_as_the_clip(paths, tmp_path, hum):
    compose(paths[:2], hum(3.0), FRAMES, 25.0, tmp_path / "copy.mp4")
    info = probe_video(tmp_path / "copy.mp4")
    assert info.has_audio
    assert info.duration_s == pytest.approx(FRAMES / 25)
    heard, said = load_audio(tmp_path / "copy.mp4").samples, hum(3.0).samples[: 16_000 * FRAMES // 25]
    assert np.corrcoef(heard[: len(said)], said[: len(heard)])[0, 1] > 0.95


def test_one_clip_alone(paths, tmp_path, hum):
    compose(paths[:1], hum(0.8), FRAMES, 25.0, tmp_path / "copy.mp4")
    info = probe_video(tmp_path / "copy.mp4")
    assert (info.width_px, info.height_px) == (WIDTH, HEIGHT)


def test_clips_that_differ_from_their_record_are_refused(paths, tmp_path, hum):
    with pytest.raises(InputError, match="20 frames can be shown, its record says 25"):
        compose(paths[:2], hum(0.8), 25, 25.0, tmp_path / "copy.mp4")
    from hallo4.media import VideoWriter

    with VideoWriter(tmp_path / "wide.mp4", 64, 32) as writer:
        for _ in range(FRAMES):
            writer.write(np.zeros((32, 64, 3), np.uint8))
    with pytest.raises(InputError, match="another size"):
        compose([paths[0], tmp_path / "wide.mp4"], hum(0.8), FRAMES, 25.0, tmp_path / "copy.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["wide.mp4"], "nothing half-written stays"


@pytest.mark.parametrize("seed", [3, 8])
def test_the_mouth_is_in_the_close_up(seed):
    episode = make_episode(seed, 0.4, 128)
    x, y, width, height = mouth_box(episode.skeleton)
    mouth = episode.skeleton.points_px[:, 71:91] / 128
    assert width == height
    assert width < 0.5
    assert mouth.min(axis=(0, 1)) == pytest.approx(np.maximum(mouth.min(axis=(0, 1)), (x, y)))
    assert mouth.max(axis=(0, 1)) == pytest.approx(
        np.minimum(mouth.max(axis=(0, 1)), (x + width, y + height))
    )
    centre = mouth.mean(axis=(0, 1))
    assert abs(centre - (x + width / 2, y + height / 2)).max() < width / 5


def test_without_a_face_the_close_up_is_in_the_middle():
    from dataclasses import replace

    skeleton = make_episode(3, 0.2, 64).skeleton
    unseen = replace(skeleton, confidence=np.zeros_like(skeleton.confidence))
    assert mouth_box(unseen) == (0.25, 0.35, 0.5, 0.5)


@pytest.fixture
def media(store_folder):
    store = PreferenceStore.open(store_folder)
    made = BlindMedia(store, store_folder / "studio" / "media")
    yield made, list(store.clips().values())
    made.close()


def test_copies_are_put_away(media, store_folder):
    blind, clips = media
    blind.prepare("a" * 32, clips[:2])
    blind.prepare("a" * 32, clips[:2])
    path = blind.path("a" * 32)
    assert path.exists()
    blind.forget("a" * 32)
    assert not path.exists()
    assert blind.path("a" * 32) is None
    blind.prepare("b" * 32, clips[:2])
    blind.path("b" * 32)
    blind.close()
    assert list((store_folder / "studio" / "media").iterdir()) == []


def test_a_file_that_is_not_the_recorded_one_is_refused(media, store_folder):
    blind, clips = media
    path = store_folder / clips[1].path
    path.write_bytes((store_folder / clips[4].path).read_bytes())
    blind.prepare("a" * 32, clips[:2])
    with pytest.raises(InputError, match="sha256"):
        blind.path("a" * 32)
    path.unlink()
    blind.prepare("a" * 32, clips[:2])
    with pytest.raises(InputError, match="cannot be read"):
        blind.path("a" * 32)


def test_copies_of_a_killed_server_are_removed(store_folder):
    folder = store_folder / "studio" / "media"
    folder.mkdir(parents=True)
    (folder / "old.mp4").write_bytes(b"x")
    BlindMedia(PreferenceStore.open(store_folder), folder).close()
    assert list(folder.iterdir()) == []
    folder.rmdir()
    folder.write_bytes(b"a file in its place")
    with pytest.raises(OutputError, match="cannot be used"):
        BlindMedia(PreferenceStore.open(store_folder), folder)
