"""`load_audio` and `save_wav`: any container, rate and channels -> mono at the wanted rate, to the sample."""

import os
import resource
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile

from hallo4.errors import InputError, OutputError
from hallo4.media import MediaWarning, load_audio, open_sound, save_wav
from hallo4.types import Audio


def tone(seconds: float, rate_hz: int, frequency_hz: float = 440.0, amplitude: float = 0.5) -> np.ndarray:
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    return (amplitude * np.sin(2 * np.pi * frequency_hz * time)).astype(np.float32)


def click(seconds: float, at_s: float, rate_hz: int) -> np.ndarray:
    samples = np.zeros(round(seconds * rate_hz), np.float32)
    samples[round(at_s * rate_hz)] = 0.9
    return samples


def write_container(
    path,
    samples: np.ndarray,
    rate_hz: int,
    codec: str,
    picture_from_s: float | None = None,
    delay_s: float = 0,
):
    """Sound [channels, S] by PyAV, optionally with a small video track, written without VideoWriter."""
    channels = len(samples)
    with av.open(str(path), "w", container_options={"movflags": "+faststart"}) as container:
        stream = container.add_stream(codec, rate=rate_hz, layout="stereo" if channels == 2 else "mono")
        kind = stream.codec_context.format.name
        data = {
            "flt": lambda: samples,
            "s16": lambda: (samples * 32_767).astype(np.int16),
            "s32": lambda: (samples * 2_147_483_647.0).astype(np.int32),
            "u8": lambda: (samples * 127 + 128).astype(np.uint8),
        }[kind.removesuffix("p")]()
        if not kind.endswith("p"):
            data = data.T.reshape(1, -1)
        if picture_from_s is not None:
            video = container.add_stream("mpeg4", rate=25)
            video.width = video.height = 32
            for index in range(25):
                frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
                frame.pts, frame.time_base = index + round(25 * picture_from_s), Fraction(1, 25)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(data), format=kind, layout="stereo" if channels == 2 else "mono"
        )
        frame.sample_rate, frame.time_base = rate_hz, Fraction(1, rate_hz)
        frame.pts = round(delay_s * rate_hz)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("suffix", "subtype", "error"),
    [
        ("wav", "PCM_U8", 0.02),
        ("wav", "PCM_16", 1e-4),
        ("wav", "PCM_24", 1e-6),
        ("wav", "PCM_32", 1e-6),
        ("wav", "FLOAT", 0),
        ("wav", "DOUBLE", 0),
        ("wav", "ULAW", 0.02),
        ("flac", "PCM_16", 1e-4),
        ("aiff", "PCM_16", 1e-4),
        ("ogg", "VORBIS", 0.05),
        ("mp3", "MPEG_LAYER_III", 0.05),
    ],
)
def test_audio_files_at_their_own_rate(tmp_path, suffix, subtype, error):
    samples = tone(1.0, 16_000)
    soundfile.write(tmp_path / f"a.{suffix}", samples, 16_000, subtype=subtype)
    loaded = load_audio(tmp_path / f"a.{suffix}")
    assert loaded.sample_rate_hz == 16_000
    assert loaded.samples.dtype == np.float32
    assert loaded.samples.shape == samples.shape
    assert np.abs(loaded.samples - samples).max() <= error


@pytest.mark.parametrize(
    ("suffix", "codec", "rate_hz"),
    [
        ("m4a", "aac", 44_100),
        ("mp4", "aac", 16_000),
        ("mkv", "flac", 22_050),
        ("webm", "libopus", 48_000),
        ("opus", "libopus", 16_000),
        ("mkv", "pcm_s16le", 8_000),
        ("mp3", "libmp3lame", 44_100),
        ("avi", "pcm_u8", 16_000),
        ("mov", "pcm_f32le", 48_000),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_containers_have_the_right_length_and_no_delay(tmp_path, suffix, codec, rate_hz, channels):
    """Encoder priming is removed: a click at 0.5 s is heard at 0.5 s, and 1.2 s stay 1.2 s."""
    samples = np.repeat(click(1.2, 0.5, rate_hz)[None], channels, axis=0)
    write_container(tmp_path / f"a.{suffix}", samples, rate_hz, codec)
    loaded = load_audio(tmp_path / f"a.{suffix}")
    assert len(loaded.samples) == 19_200
    assert abs(int(np.abs(loaded.samples).argmax()) - 8_000) <= 8


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("wanted_hz", [16_000, 24_000])
def test_resampling_gives_the_analytic_tone(tmp_path, rate_hz, wanted_hz):
    # 1.6 s at 44.1 kHz and above is more than one block, so the seams are covered too.
    soundfile.write(tmp_path / "a.wav", tone(1.6, rate_hz), rate_hz, subtype="FLOAT")
    loaded = load_audio(tmp_path / "a.wav", wanted_hz)
    expected = tone(1.6, wanted_hz)
    assert len(loaded.samples) == len(expected)
    middle = slice(wanted_hz // 10, -wanted_hz // 10)
    assert np.abs(loaded.samples[middle] - expected[middle]).max() < 2e-4


@pytest.mark.parametrize(("count", "rate_hz"), [(1, 96_000), (7, 44_100), (12_345, 11_025), (66_000, 48_000)])
def test_length_is_the_rounded_ratio(tmp_path, count, rate_hz):
    soundfile.write(tmp_path / "a.wav", np.full(count, 0.1), rate_hz)
    assert len(load_audio(tmp_path / "a.wav").samples) == max(1, round(count * 16_000 / rate_hz))


def test_stereo_is_the_mean_of_its_channels(tmp_path):
    left, right = tone(0.3, 16_000, 300), tone(0.3, 16_000, 700, 0.45)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav").samples, (left + right) / 2, atol=1e-7)
    write_container(tmp_path / "a.mkv", np.stack([left, right]), 16_000, "flac")
    np.testing.assert_allclose(load_audio(tmp_path / "a.mkv").samples, (left + right) / 2, atol=1e-4)


def test_20_ms_and_silence_work(tmp_path):
    soundfile.write(tmp_path / "short.wav", tone(0.02, 16_000), 16_000)
    assert len(load_audio(tmp_path / "short.wav").samples) == 320
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    with pytest.warns(MediaWarning, match=r"silent\.wav: is silent from beginning to end"):
        assert not load_audio(tmp_path / "silent.wav").samples.any()


def test_sound_that_begins_after_the_picture_is_preceded_by_silence(tmp_path):
    write_container(
        tmp_path / "a.mkv", click(0.5, 0.1, 16_000)[None], 16_000, "flac", picture_from_s=0.0, delay_s=0.4
    )
    loaded = load_audio(tmp_path / "a.mkv")
    assert len(loaded.samples) == 14_400
    assert int(np.abs(loaded.samples).argmax()) == 8_000


def test_sound_of_a_file_that_does_not_start_at_time_zero(tmp_path):
    write_container(
        tmp_path / "a.mkv", click(0.5, 0.1, 16_000)[None], 16_000, "flac", picture_from_s=3.0, delay_s=3.0
    )
    assert int(np.abs(load_audio(tmp_path / "a.mkv").samples).argmax()) == 1_600


def test_louder_than_full_scale_is_scaled_and_said(tmp_path):
    samples = tone(0.2, 16_000, amplitude=2.5)
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    with pytest.warns(MediaWarning, match=r"louder than full scale \(peak 2\.50\)"):
        loaded = load_audio(tmp_path / "a.wav")
    np.testing.assert_allclose(loaded.samples, samples / np.abs(samples).max(), atol=1e-6)


def _make_bad(folder, kind: str):
    path = folder / "bad.wav"
    samples = tone(2.0, 16_000) + np.random.default_rng(0).normal(0, 0.05, 32_000).astype(np.float32)
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("not a sound\n" * 100)
    elif kind == "playlist":  # would open other files
        soundfile.write(folder / "other.wav", samples, 16_000)
        path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2,\nother.wav\n#EXT-X-ENDLIST\n")
    elif kind == "bytes":
        path.write_bytes(np.random.default_rng(0).bytes(9_000))
    elif kind == "no_samples":
        soundfile.write(path, np.zeros(0), 16_000)
    elif kind in ("nan", "inf"):
        samples[12_345] = float(kind)
        soundfile.write(path, samples, 16_000, subtype="FLOAT")
    elif kind == "rate":
        soundfile.write(path, samples, 500)
    elif kind == "silent_film":
        with av.open(str(path), "w", format="mp4") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width = stream.height = 32
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    elif kind == "cut_ogg":
        soundfile.write(path, samples, 16_000, format="OGG")
        os.truncate(path, path.stat().st_size // 2)
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "no such file"),
        ("folder", "is a folder"),
        ("empty", "is empty"),
        ("text", "cannot be read"),
        ("playlist", "cannot be read"),
        ("bytes", "cannot be read"),
        ("no_samples", "0 samples"),
        ("nan", "sample 12345 is not a number"),
        ("inf", "sample 12345 is not a number"),
        ("rate", "500 samples per second"),
        ("silent_film", "no sound track"),
        ("cut_ogg", "cannot be read"),  # its only page of sound
    ],
)
def test_bad_files_are_one_line_that_names_the_file(tmp_path, kind, words):
    path = _make_bad(tmp_path, kind)
    with pytest.raises(InputError, match=words) as caught:
        load_audio(path)
    assert "bad.wav" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["-a b é 漢字.wav", "with:colon.mp4", "no_suffix", "wrong.raw", "http:"])
def test_strange_names(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_container("plain.mp4", tone(0.5, 16_000)[None], 16_000, "aac")
    os.rename("plain.mp4", name)
    assert len(load_audio(name).samples) == 8_000


def test_wav_round_trip(tmp_path):
    audio = Audio(tone(0.3, 22_050), 22_050)
    save_wav(tmp_path / "é -a.wav", audio)
    loaded = load_audio(tmp_path / "é -a.wav", 22_050)
    np.testing.assert_allclose(loaded.samples, audio.samples, atol=1 / 32_767)
    assert os.listdir(tmp_path) == ["é -a.wav"]


def test_wav_clips_with_a_warning_instead_of_wrapping(tmp_path):
    with pytest.warns(MediaWarning, match="clipped"):
        save_wav(tmp_path / "a.wav", Audio(np.array([0.0, 1.5, -1.5], np.float32), 16_000))
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav").samples, [0, 1, -1], atol=1e-4)


def test_wav_that_cannot_be_written(tmp_path):
    audio = Audio(tone(0.1, 16_000), 16_000)
    with pytest.raises(OutputError, match="is a folder"):
        save_wav(tmp_path, audio)
    with pytest.raises(OutputError, match="there is no folder"):
        save_wav(tmp_path / "missing" / "a.wav", audio)


@pytest.mark.parametrize("limit_bytes", [0, 30, 1_000, 3_243])
def test_wav_on_a_full_disk_keeps_the_old_file(tmp_path, limit_bytes):
    audio = Audio(tone(0.1, 16_000), 16_000)  # 44 bytes of header and 3200 of sound
    save_wav(tmp_path / "a.wav", audio)
    before = (tmp_path / "a.wav").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        with pytest.raises(OutputError, match="writing failed"):
            save_wav(tmp_path / "a.wav", audio)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "a.wav").read_bytes() == before
    assert os.listdir(tmp_path) == ["a.wav"]


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])
def test_sound_that_is_too_long_is_refused_before_it_is_kept(tmp_path, monkeypatch, suffix):
    from hallo4.media import sound_track

    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.full(16_000 * 3, 0.1, np.float32), 16_000)
    monkeypatch.setattr(sound_track, "LONGEST_S", 2)
    with pytest.raises(InputError, match=f"a.{suffix}: lasts more than 2 s of sound"):
        open_sound(path)
    monkeypatch.setattr(sound_track, "LONGEST_S", 3.5)
    assert abs(open_sound(path).duration_s - 3) < 0.1


def test_a_sound_in_memory_has_a_longest_length_of_its_own(tmp_path, monkeypatch):
    from hallo4.media import audio

    soundfile.write(tmp_path / "a.wav", np.full(16_000 * 3, 0.1, np.float32), 16_000)
    monkeypatch.setattr(audio, "MAX_IN_MEMORY", 16_000)
    with pytest.raises(InputError, match="lasts 3 s; 1 s are allowed where all of a sound is in memory"):
        load_audio(tmp_path / "a.wav")
    assert len(open_sound(tmp_path / "a.wav")) == 48_000
