"""`VideoWriter`: the same pictures and the same sound come out, in step, whole or not at all."""

import os
import resource
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from hallo4.errors import OutputError
from hallo4.media import (
    VIDEO_SUFFIXES,
    VideoWriter,
    check_output,
    load_audio,
    probe_video,
    provenance_record,
    read_frames,
    read_provenance,
)
from hallo4.types import Audio

SOUNDING = [".mp4", ".webm", ".mkv"]


def smooth_frames(count: int, width: int = 96, height: int = 64) -> list[np.ndarray]:
    y, x = np.mgrid[0:height, 0:width]
    return [
        np.stack(
            [127 + 100 * np.sin(x / 15 + t / 9), 127 + 100 * np.cos(y / 11), 127 + 90 * np.sin((x + y) / 20)],
            -1,
        )
        .round()
        .astype(np.uint8)
        for t in range(count)
    ]


def write(path, frames, **options):
    height, width = frames[0].shape[:2]
    with VideoWriter(path, width, height, **options) as writer:
        for frame in frames:
            writer.write(frame)
    return writer.finish()


def read_animation(path) -> tuple[np.ndarray, float]:
    """(frames [T, H, W, 3], seconds) of a gif or webp by Pillow, independent of FFmpeg."""
    with Image.open(path) as image:
        frames, milliseconds = [], 0
        for index in range(image.n_frames):
            image.seek(index)
            image.load()
            frames.append(np.array(image.convert("RGB")))
            milliseconds += image.info["duration"]
        assert image.info["loop"] == 0
    return np.stack(frames), milliseconds / 1000


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".webp"])
def test_smooth_pictures_survive_without_a_colour_cast(tmp_path, suffix):
    frames = np.stack(smooth_frames(25))
    write(tmp_path / f"a{suffix}", list(frames))
    path = tmp_path / f"a{suffix}"
    shown = read_animation(path)[0] if suffix == ".webp" else np.stack(list(read_frames(path)))
    assert psnr(shown, frames) >= 38
    assert np.abs((shown.astype(float) - frames).mean((0, 1, 2))).max() < 0.3


@pytest.mark.parametrize(
    "colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (224, 172, 140)]
)
def test_flat_colours_are_kept(tmp_path, colour):
    frame = np.full((32, 32, 3), colour, np.uint8)
    write(tmp_path / "a.mp4", [frame] * 2)
    assert np.abs(next(read_frames(tmp_path / "a.mp4")).astype(int) - frame).max() <= 2


def test_gif_is_close_and_not_darker(tmp_path):
    frames = np.stack(smooth_frames(25))
    write(tmp_path / "a.gif", list(frames))
    shown, _ = read_animation(tmp_path / "a.gif")
    assert psnr(shown, frames) > 28
    assert np.abs((shown.astype(float) - frames).mean((0, 1, 2))).max() < 0.5


def test_mkv_is_lossless(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 31, 33, 3), np.uint8)
    sound = Audio(
        np.random.default_rng(1).integers(-32_000, 32_000, 3_200).astype(np.float32) / 32_767, 16_000
    )
    write(tmp_path / "a.mkv", list(frames), audio=sound)
    np.testing.assert_array_equal(np.stack(list(read_frames(tmp_path / "a.mkv"))), frames)
    np.testing.assert_allclose(load_audio(tmp_path / "a.mkv").samples, sound.samples, atol=2 / 32_767)


@pytest.mark.parametrize("suffix", VIDEO_SUFFIXES)
@pytest.mark.parametrize(("fps", "count"), [(25, 1), (25, 13), (30, 31), (12.5, 5)])
def test_frame_count_and_duration_are_exact(tmp_path, suffix, fps, count):
    result = write(tmp_path / f"a{suffix}", smooth_frames(count, 32, 16), fps=fps)
    assert (result.frames, result.duration_s) == (count, count / fps)
    if suffix in SOUNDING:
        assert probe_video(result.path).frames == count
        assert probe_video(result.path).duration_s == pytest.approx(count / fps, abs=0.001)
        assert len(list(read_frames(result.path, fps=fps))) == count
    elif count > 1:
        frames, duration_s = read_animation(result.path)
        assert len(frames) == count
        assert duration_s == pytest.approx(count / fps, abs=0.011)  # gif counts in hundredths of a second


@pytest.mark.parametrize("suffix", SOUNDING)
@pytest.mark.parametrize("rate_hz", [16_000, 22_050, 44_100, 96_000])
def test_flash_and_click_come_together(tmp_path, suffix, rate_hz):
    at_frame, count = 20, 40
    samples = np.zeros(rate_hz * 2, np.float32)  # longer than the 1.6 s of pictures
    samples[at_frame * rate_hz // 25] = 0.9
    frames = [np.full((32, 32, 3), 235 if index == at_frame else 20, np.uint8) for index in range(count)]
    result = write(tmp_path / f"a{suffix}", frames, audio=Audio(samples, rate_hz))
    assert result.notes == ("the last 0.40 s of the audio are left out",)
    brightness = [frame.mean() for frame in read_frames(result.path)]
    assert int(np.argmax(brightness)) == at_frame
    sound = load_audio(result.path, 16_000)
    assert len(sound.samples) == count * 640
    assert abs(int(np.abs(sound.samples).argmax()) / 16_000 - at_frame / 25) < 0.005


def test_short_audio_is_followed_by_silence(tmp_path):
    sound = Audio(np.full(4_000, 0.3, np.float32), 16_000)
    result = write(tmp_path / "a.mkv", smooth_frames(25, 32, 16), audio=sound)
    assert result.notes == ("the audio is 0.75 s shorter than the video: silence is added",)
    samples = load_audio(tmp_path / "a.mkv").samples
    assert len(samples) == 16_000
    assert not samples[4_000:].any()
    np.testing.assert_allclose(samples[:4_000], 0.3, atol=1e-4)


def test_animations_say_that_they_are_silent(tmp_path):
    sound = Audio(np.zeros(1_280, np.float32), 16_000)
    result = write(tmp_path / "a.webp", smooth_frames(2, 32, 16), audio=sound)
    assert result.notes == (".webp has no sound: the audio is left out",)


def test_odd_sides_keep_the_picture_and_are_said(tmp_path):
    frames = smooth_frames(3, 33, 17)
    result = write(tmp_path / "a.mp4", frames)
    assert (result.width_px, result.height_px) == (34, 18)
    assert "34x18 instead of 33x17" in result.notes[0]
    shown = np.stack(list(read_frames(tmp_path / "a.mp4")))
    assert shown.shape == (3, 18, 34, 3)
    assert psnr(shown[:, :17, :33], np.stack(frames)) > 36
    assert np.abs(shown[:, :17, 33].astype(int) - shown[:, :17, 32]).mean() < 3
    for suffix in (".webm", ".mkv"):
        result = write(tmp_path / f"a{suffix}", frames)
        assert next(read_frames(result.path)).shape == (17, 33, 3)
        assert result.notes == ()


@pytest.mark.parametrize("suffix", VIDEO_SUFFIXES)
def test_the_same_frames_give_the_same_bytes(tmp_path, suffix):
    sound = Audio(np.sin(np.arange(16_000) / 20).astype(np.float32) / 2, 16_000)
    label = provenance_record("tiny", "1", 0)
    for name in "ab":
        write(tmp_path / f"{name}{suffix}", smooth_frames(25), audio=sound, provenance=label)
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_crf_trades_size_for_quality(tmp_path):
    frames = smooth_frames(10)
    sizes = {}
    for crf in (5, 40):
        sizes[crf] = os.path.getsize(write(tmp_path / "a.mp4", frames, crf=crf).path)
    assert sizes[5] > 2 * sizes[40]
    for suffix, crf in ((".mp4", 52), (".webm", -1), (".mkv", 10)):
        with pytest.raises(OutputError, match=f"crf {crf} is not possible"):
            VideoWriter(tmp_path / f"b{suffix}", 32, 32, crf=crf)


def test_mp4_can_begin_to_play_before_it_is_whole(tmp_path):
    data = write(tmp_path / "a.mp4", smooth_frames(3)).path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.pix_fmt, context.colorspace, context.color_range) == ("yuv420p", 1, 1)


# Provenance


@pytest.mark.parametrize("suffix", VIDEO_SUFFIXES)
def test_provenance_is_read_back(tmp_path, suffix):
    label = provenance_record("tiny-dit", "0.1", 7, prompt='<"quoted"> & é 漢字 ' + "long " * 100)
    result = write(tmp_path / f"a{suffix}", smooth_frames(5, 32, 16), provenance=label)
    found = read_provenance(result.path)
    assert found == found | label
    assert found["ai_generated"] == "true"
    assert found["digital_source_type"].endswith("trainedAlgorithmicMedia")
    if suffix not in SOUNDING:  # the label must not damage what was inserted into by hand
        assert len(read_animation(result.path)[0]) == 5


@pytest.mark.parametrize("suffix", VIDEO_SUFFIXES)
def test_without_provenance_there_is_none(tmp_path, suffix):
    assert read_provenance(write(tmp_path / f"a{suffix}", smooth_frames(2, 32, 16)).path) is None


def test_foreign_comments_are_not_provenance(tmp_path):
    for comment in (b"made on a sunny day", b'{"seed": 1}', b"[1, 2]"):
        Image.new("RGB", (20, 20)).save(tmp_path / "a.gif", comment=comment)
        assert read_provenance(tmp_path / "a.gif") is None


# Whole or not at all


def write_and_interrupt(path, finish: bool) -> None:
    sound = Audio(np.zeros(160_000, np.float32), 16_000)
    with VideoWriter(path, 96, 64, audio=sound) as writer:
        for frame in smooth_frames(5):
            writer.write(frame)
        if finish:
            writer.finish()
        raise KeyboardInterrupt


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path):
    write(tmp_path / "a.mp4", smooth_frames(3))
    before = (tmp_path / "a.mp4").read_bytes()
    for suffix in VIDEO_SUFFIXES:
        with pytest.raises(KeyboardInterrupt):
            write_and_interrupt(tmp_path / f"a{suffix}", finish=False)
    assert os.listdir(tmp_path) == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == before


def test_finish_in_the_middle_gives_a_playable_file(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_and_interrupt(tmp_path / "a.mp4", finish=True)
    assert len(list(read_frames(tmp_path / "a.mp4"))) == 5
    assert len(load_audio(tmp_path / "a.mp4").samples) == 5 * 640


def test_no_frames_is_an_error_and_no_file(tmp_path):
    with pytest.raises(OutputError, match="there are no frames"), VideoWriter(tmp_path / "a.mp4", 32, 32):
        pass
    assert os.listdir(tmp_path) == []


def test_nothing_is_on_the_disk_before_the_first_frame(tmp_path):
    VideoWriter(tmp_path / "a.mp4", 32, 32)
    assert os.listdir(tmp_path) == []


@contextmanager
def small_disk(limit_bytes: int):
    """Writes beyond `limit_bytes` per file fail with an OSError, as they do on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("suffix", VIDEO_SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_full_disk_is_an_error_and_keeps_the_old_file(tmp_path, suffix, share):
    noise = list(np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), np.uint8))
    path = tmp_path / f"a{suffix}"
    sound = Audio(np.zeros(7_680, np.float32), 16_000)
    size = write(path, noise, audio=sound).path.stat().st_size
    before = path.read_bytes()
    with (
        pytest.raises(OutputError, match=r"writing failed.*nothing was left behind"),
        small_disk(int(size * share)),
    ):
        write(path, noise, audio=sound)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link.mkv").symlink_to(tmp_path / "real" / "a.mkv")
    write(tmp_path / "link.mkv", smooth_frames(1))
    assert (tmp_path / "link.mkv").is_symlink()
    assert os.listdir(tmp_path / "real") == ["a.mkv"]


@pytest.mark.parametrize(
    "name", ["-a b é 漢字.mp4", "with:colon.mkv", ".hidden.webm", "UPPER.MP4", "http:x.gif"]
)
def test_strange_names(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    result = write(name, smooth_frames(2, 32, 16))
    assert result.path == Path(name)
    assert os.listdir(".") == [name]
    assert len(list(read_frames(name))) == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("folder", "is a folder"),
        ("folder.mp4", "is a folder"),
        ("missing/a.mp4", "there is no folder"),
        ("file.txt/a.mp4", "there is no folder"),
        ("a.mov", "which is not a video that can be written. Use one of .mp4 .webm"),
        ("a", "ends in no suffix"),
        ("pipe.mp4", "is not a regular file"),
        ("a\0b.mp4", "not a usable file name"),
        ("x" * 300 + ".mp4", "too long"),
        ("/proc/a.mp4", "cannot be written"),
    ],
)
def test_paths_that_cannot_be_written(tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(tmp_path)
    for folder in ("folder", "folder.mp4"):
        os.mkdir(folder)
    Path("file.txt").write_text("x")
    os.mkfifo("pipe.mp4")
    before = sorted(os.listdir("."))
    for call in (check_output, lambda path: VideoWriter(path, 32, 32)):
        with pytest.raises(OutputError, match=words) as caught:
            call(name)
        assert "\n" not in str(caught.value)
    assert sorted(os.listdir(".")) == before


def test_overwriting_can_be_forbidden(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already"):
        VideoWriter(tmp_path / "a.mp4", 32, 32, overwrite=False)
    check_output(tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("suffix", "size", "fps", "words"),
    [
        (".mp4", (0, 32), 25, "0x32 pixels cannot be written"),
        (".webp", (16_384, 32), 25, "sides of 1 to 16383"),
        (".gif", (32, 32), 60, "up to 50"),
        (".mp4", (32, 32), 0, "0 frames per second"),
        (".mp4", (32, 32), float("nan"), "nan frames per second"),
    ],
)
def test_impossible_requests(tmp_path, suffix, size, fps, words):
    with pytest.raises(OutputError, match=words):
        VideoWriter(tmp_path / f"a{suffix}", *size, fps=fps)
