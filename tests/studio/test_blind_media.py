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


def test_a_copy_is_made_once_and_found_again(media, store_folder):
    blind, clips = media
    both = [clips[:2], clips[1::-1]]
    said = []
    assert blind.make_all(both, on_progress=lambda *of: said.append(of)) == {}
    assert said == [(1, 2), (2, 2)]
    made = {path: path.stat().st_mtime_ns for path in (store_folder / "studio" / "media").iterdir()}
    assert {blind.path(clips).result(60) for clips in both} == set(made)
    again = BlindMedia(PreferenceStore.open(store_folder), store_folder / "studio" / "media")
    assert again.make_all(both, on_progress=lambda *of: said.append(of)) == {}
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert len(said) == 2
    again.make_all(both[:1])
    assert list((store_folder / "studio" / "media").iterdir()) == [again.path(both[0]).result(60)]
    again.close()


def test_a_file_that_is_not_the_recorded_one_is_refused(media, store_folder):
    blind, clips = media
    path = store_folder / clips[1].path
    path.write_bytes((store_folder / clips[4].path).read_bytes())
    with pytest.raises(InputError, match="sha256"):
        blind.path(clips[:2]).result(60)
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        blind.path(clips[:2]).result(60)
    failed = blind.make_all([clips[:2], clips[3:5]])
    assert list(failed) == [(clips[0].clip_id, clips[1].clip_id)]
    assert "no such file. Put the clip back" in failed[clips[0].clip_id, clips[1].clip_id]


def test_a_copy_that_was_half_made_is_made_anew(media, store_folder, monkeypatch):
    blind, clips = media
    from hallo4.studio import media as module

    with monkeypatch.context() as patch:
        patch.setattr(module, "_beside", lambda frames: (_ for _ in ()).throw(OutputError("full")))
        with pytest.raises(OutputError):
            blind.path(clips[:2]).result(60)
    assert list((store_folder / "studio" / "media").glob("*.mp4")) == []
    assert blind.path(clips[:2]).result(60).is_file()


def test_a_folder_that_cannot_be_used_is_said(store_folder):
    folder = store_folder / "studio" / "media"
    folder.parent.mkdir()
    folder.write_bytes(b"a file in its place")
    with pytest.raises(OutputError, match="cannot be used"):
        BlindMedia(PreferenceStore.open(store_folder), folder)
