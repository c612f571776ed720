"""Sound in a temporary file: the samples of the whole, in any parts, and nothing left behind."""

import gc
import os
import resource
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from hallo4.errors import InputError, OutputError
from hallo4.media import MediaWarning, SpooledSound, VideoWriter, load_audio, open_sound, resampled
from hallo4.types import Audio, SampleSource


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, count).astype(np.float32)


def blocks_of(samples: np.ndarray, size: int):
    return (samples[start : start + size] for start in range(0, len(samples), size))


def open_temporary_files() -> list[str]:
    """The files in the folder for temporary files that this process holds open."""
    links = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return [
        link for link in links if "hallo4-sound-" in link or link.startswith(tempfile.gettempdir() + "/#")
    ]


@pytest.mark.parametrize("make", [Audio, lambda samples, rate: SpooledSound(blocks_of(samples, 700), rate)])
def test_every_source_reads_any_part_and_nothing_beyond_its_ends(make):
    samples = noise(5000)
    sound = make(samples, 16000)
    assert isinstance(sound, SampleSource)
    assert (len(sound), sound.duration_s, sound.sample_rate_hz) == (5000, 5000 / 16000, 16000)
    for start, stop in ((0, 5000), (699, 701), (-100, 50), (4990, 6000), (5000, 5001), (-9, -3), (30, 20)):
        part = sound.read(start, stop)
        assert part.dtype == np.float32
        np.testing.assert_array_equal(part, samples[max(start, 0) : max(stop, 0)])


@pytest.mark.parametrize(
    ("count", "rate_hz", "new_rate_hz"),
    [
        (1, 96_000, 16_000), (7, 44_100, 16_000), (12_345, 11_025, 16_000), (200_003, 48_000, 16_000),
        (200_003, 44_100, 48_000), (150_001, 22_050, 16_000), (70_000, 16_000, 48_000),
    ],
)  # fmt: skip
def test_resampling_in_blocks_is_resampling_the_whole_bit_for_bit(count, rate_hz, new_rate_hz):
    """Against the one-shot function of the library, from memory and from small uneven blocks."""
    samples = noise(count)
    whole = soxr.resample(samples, rate_hz, new_rate_hz, quality="HQ")
    wanted = max(1, round(count * new_rate_hz / rate_hz))
    for sound in (Audio(samples, rate_hz), SpooledSound(blocks_of(samples, 997), rate_hz)):
        result = resampled(sound, new_rate_hz)
        assert (len(result), result.sample_rate_hz) == (wanted, new_rate_hz)
        np.testing.assert_array_equal(result.read(0, wanted)[: len(whole)], whole)
    assert resampled(result, new_rate_hz) is result, "nothing is copied at the same rate"


def test_an_opened_file_is_the_loaded_one_and_is_scaled_alike(tmp_path):
    samples = 7 * noise(100_000)
    soundfile.write(tmp_path / "a.wav", samples, 44_100, subtype="FLOAT")
    with pytest.warns(MediaWarning, match="louder than full scale") as opened:
        sound = open_sound(tmp_path / "a.wav", 48_000)
    with pytest.warns(MediaWarning, match="louder than full scale") as loaded:
        audio = load_audio(tmp_path / "a.wav", 48_000)
    assert {warning.filename for warning in (*opened, *loaded)} == {__file__}
    np.testing.assert_array_equal(sound.read(0, len(sound)), audio.samples)
    np.testing.assert_array_equal(sound.read(777, 90_000), audio.samples[777:90_000])
    assert np.abs(audio.samples).max() == 1.0
    soundfile.write(tmp_path / "b.wav", samples / 40, 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(open_sound(tmp_path / "b.wav").read(0, 100_000), samples / np.float32(40))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are not listed on this system")
def test_the_temporary_file_has_no_name_and_goes_with_the_sound(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sound = SpooledSound([noise(1000)], 16000)
    assert os.listdir(tmp_path) == []
    assert len(open_temporary_files()) == 1
    del sound
    gc.collect()
    assert open_temporary_files() == []

    def broken():
        yield noise(10)
        raise InputError("damaged")

    with pytest.raises(InputError, match="damaged"):
        SpooledSound(broken(), 16000)
    gc.collect()
    assert open_temporary_files() == []


@pytest.mark.parametrize("limit_bytes", [0, 100_000])
def test_no_room_for_the_temporary_file_is_one_line(tmp_path, monkeypatch, limit_bytes):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    soundfile.write(tmp_path / "a.wav", noise(100_000), 16_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        with pytest.raises(OutputError, match="TMPDIR") as caught:
            open_sound(tmp_path / "a.wav")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_a_video_gets_the_same_bytes_from_memory_and_from_a_file(tmp_path, suffix, rate_hz):
    samples = noise(rate_hz)
    for name, sound in (
        ("memory", Audio(samples, rate_hz)),
        ("file", SpooledSound(blocks_of(samples, 999), rate_hz)),
    ):
        with VideoWriter(tmp_path / f"{name}{suffix}", 32, 32, audio=sound) as writer:
            for level in range(30):
                writer.write(np.full((32, 32, 3), level, np.uint8))
    assert (tmp_path / f"memory{suffix}").read_bytes() == (tmp_path / f"file{suffix}").read_bytes()
