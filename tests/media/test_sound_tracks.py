"""Which sound of a file is heard, and how loud: tracks, layouts, headers that are wrong, interruptions."""

import os
import struct
import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from hallo4.errors import InputError
from hallo4.media import MediaWarning, SoundTrack, load_audio, open_sound, stream_times
from hallo4.media.mixing import channel_names, mix_weights

CASES = Path(__file__).parents[2].parent / "shared" / "cases"
RATE = 16_000


def voice(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    """Noise with a level of 0.1."""
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def level(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def heard(path, rate: int = RATE) -> tuple[np.ndarray, list[str]]:
    """The samples and the warnings."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        samples = load_audio(path, rate).samples
    assert all(issubclass(warning.category, MediaWarning) for warning in said)
    return samples, [str(warning.message) for warning in said]


def write_tracks(path, tracks: list[np.ndarray], codec: str = "flac", layouts=None, rate: int = RATE) -> None:
    """A file with these tracks [C, S]."""
    with av.open(str(path), "w", container_options={"movflags": "+faststart"}) as container:
        streams = []
        for index, samples in enumerate(tracks):
            layout = layouts[index] if layouts else {1: "mono", 2: "stereo"}[len(samples)]
            streams.append((container.add_stream(codec, rate=rate, layout=layout), samples, layout))
        for stream, samples, layout in streams:
            kind = stream.codec_context.format.name
            values = samples if "flt" in kind else np.round(samples * 32_767).astype(np.int16)
            if not kind.endswith("p"):
                values = values.T.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(values), format=kind, layout=layout)
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


# ---------------------------------------------------------------------- channels


def test_channels_that_cancel_each_other_leave_the_loudest(tmp_path):
    left = voice()
    for share in (-1.0, -0.9, -1.1):
        soundfile.write(tmp_path / "a.wav", np.stack([left, share * left], 1), RATE, subtype="FLOAT")
        samples, notes = heard(tmp_path / "a.wav")
        expected = left if abs(share) <= 1 else share * left
        np.testing.assert_allclose(samples, expected, atol=1e-6)
        assert len(notes) == 1
        assert (
            f"cancel each other ({'300' if share == -1 else '26' if share == -0.9 else '27'} dB)" in notes[0]
        )
        assert f"channel {1 if abs(share) <= 1 else 2} of 2 is used alone" in notes[0]


def test_one_silent_channel_does_not_halve_the_sound(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([np.zeros(RATE), voice()], 1), RATE, subtype="FLOAT")
    samples, notes = heard(tmp_path / "a.wav")
    np.testing.assert_allclose(samples, voice(), atol=1e-6)
    (note,) = notes
    assert "a.wav: the mix of its channels is raised by 6.0 dB, to the loudness of channel 2 of 2." in note


def test_two_voices_are_averaged_without_a_word(tmp_path):
    both = np.stack([voice(seed=1), voice(seed=2)])
    soundfile.write(tmp_path / "a.wav", both.T, RATE, subtype="FLOAT")
    samples, notes = heard(tmp_path / "a.wav")
    np.testing.assert_allclose(samples, both.mean(axis=0), atol=1e-6)
    assert not notes


@pytest.mark.parametrize("layout", ["3.0", "quad", "5.0", "5.1", "7.1"])
def test_speech_keeps_its_loudness_wherever_it_is(tmp_path, layout):
    """In any one channel but the deep effects, and in both front ones alike."""
    names = channel_names(av.AudioLayout(layout))
    places = [[name] for name in names if name != "LFE"] + [["FL", "FR"]]
    for place in places:
        channels = np.stack([voice() if name in place else 0 * voice() for name in names])
        write_tracks(tmp_path / "a.mkv", [channels], layouts=[layout])
        samples, notes = heard(tmp_path / "a.mkv")
        assert level(samples) == pytest.approx(0.1, rel=0.02), place
        assert len(notes) == (place not in (["FC"], ["FL", "FR"])), notes


def test_speech_in_the_centre_stands_before_the_rest():
    """Weights by hand: the centre alone keeps its level, both fronts together too, effects are left out."""
    np.testing.assert_allclose(
        mix_weights(("FL", "FR", "FC", "LFE", "BL", "BR")), [0.5, 0.5, 1, 0, 0.3536, 0.3536], atol=1e-4
    )
    np.testing.assert_allclose(mix_weights(("FL", "FR")), [0.5, 0.5])
    np.testing.assert_allclose(mix_weights(("NONE",) * 5), [0.2] * 5)


def test_six_channels_without_names_are_those_of_films(tmp_path):
    channels = np.zeros((RATE, 6), np.float32)
    channels[:, 2], channels[:, 3] = voice(), 3 * voice(seed=1)
    soundfile.write(tmp_path / "a.wav", channels, RATE, subtype="FLOAT")
    samples, notes = heard(tmp_path / "a.wav")
    np.testing.assert_allclose(samples, voice(), atol=1e-6)
    assert not notes


def test_a_raised_mix_is_never_clipped(tmp_path):
    """Two voices of which one cries once: the whole stays within full scale."""
    right = np.zeros(RATE, np.float32)
    right[100] = -1.0
    left = voice()
    left[200] = 1.0
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), RATE, subtype="FLOAT")
    samples, _ = heard(tmp_path / "a.wav")
    assert np.abs(samples).max() <= 1.0


# ---------------------------------------------------------------------- tracks


def test_the_track_with_sound_is_taken_and_said(tmp_path):
    silent = np.zeros((2, RATE), np.float32)
    write_tracks(tmp_path / "a.mkv", [silent, voice()[None]])
    samples, notes = heard(tmp_path / "a.mkv")
    np.testing.assert_allclose(samples, voice(), atol=1e-4)
    assert notes == [
        f"{tmp_path / 'a.mkv'}: has 2 sound tracks; track 2 (mono) is used, because track 1 (stereo) is "
        "silent (--audio-track N names one)."
    ]


def test_the_first_track_is_taken_where_it_has_sound(tmp_path):
    write_tracks(tmp_path / "a.mkv", [voice(seed=1)[None], voice(seed=2)[None]])
    samples, notes = heard(tmp_path / "a.mkv")
    np.testing.assert_allclose(samples, voice(seed=1), atol=1e-4)
    assert "has 2 sound tracks; track 1 (mono) is used (" in notes[0]


def test_a_track_is_chosen_by_its_number(tmp_path):
    write_tracks(tmp_path / "a.mkv", [voice(seed=n)[None] for n in range(3)])
    for number in (1, 2, 3):
        samples, notes = heard(SoundTrack(tmp_path / "a.mkv", number))
        np.testing.assert_allclose(samples, voice(seed=number - 1), atol=1e-4)
        assert not notes
    for number in (0, 4, -1):
        with pytest.raises(InputError, match=rf"no sound track {number}; it has track 1 \(mono\), track 2"):
            open_sound(SoundTrack(tmp_path / "a.mkv", number))


def test_silence_everywhere_is_said_once(tmp_path):
    write_tracks(tmp_path / "a.mkv", [np.zeros((2, RATE), np.float32)] * 2)
    samples, notes = heard(tmp_path / "a.mkv")
    assert not samples.any()
    assert [note.split(": ", 1)[1] for note in notes] == [
        "has 2 sound tracks; track 1 (stereo) is used (--audio-track N names one).",
        "is silent from beginning to end.",
    ]


# ---------------------------------------------------------------------- headers and data


def times_box(data: bytearray, kind: bytes) -> int:
    """Place of the duration of the first `kind` (mdhd) of a file with boxes of version 0."""
    return data.index(kind) + 4 + 4 + 8 + 4


def test_sound_behind_the_end_that_a_header_states_counts(tmp_path):
    """A browser's mdhd in the time scale of the film: 48 times too short."""
    write_tracks(tmp_path / "a.mp4", [voice(2.0)[None]], codec="aac")
    right, notes = heard(tmp_path / "a.mp4")
    assert not notes
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    at = times_box(data, b"mdhd")
    length = struct.unpack(">I", data[at : at + 4])[0]
    data[at : at + 4] = struct.pack(">I", length // 48)
    (tmp_path / "b.mp4").write_bytes(data)
    samples, notes = heard(tmp_path / "b.mp4")
    np.testing.assert_array_equal(samples[: len(right)], right)
    assert 0 <= len(samples) - len(right) <= 1024, "at most the padding of the last packet more"
    assert len(notes) == 1
    assert "says that its sound ends at 0.04 s, but there is more; all is used" in notes[0]
    assert stream_times(tmp_path / "b.mp4").audio_end_s == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000])
@pytest.mark.parametrize("kind", ["WAV", "RF64"])
def test_a_wav_without_its_length_is_read_to_the_end(tmp_path, kind, size):
    soundfile.write(tmp_path / "whole.wav", voice(), RATE, format=kind, subtype="FLOAT")
    data = bytearray((tmp_path / "whole.wav").read_bytes())
    at = data.index(b"data") + 4
    if kind == "RF64":
        long_size = {0: 0, 0xFFFFFFFF: 2**64 - 1}.get(size)
        if long_size is None:
            pytest.skip("a length that only 32 bits pretend")
        sizes = data.index(b"ds64") + 8
        data[sizes : sizes + 24] = struct.pack("<QQQ", long_size, long_size, long_size)
    else:
        data[4:8] = data[at : at + 4] = struct.pack("<I", size)
    (tmp_path / "a.wav").write_bytes(data)
    samples, notes = heard(tmp_path / "a.wav")
    np.testing.assert_array_equal(samples, voice())
    assert len(notes) == 1
    assert "a.wav: does not say where it ends, as after an interruption; the 1.00 s of sound" in notes[0]


def cut(path: Path, share: float) -> Path:
    os.truncate(path, int(path.stat().st_size * share))
    return path


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [("wav", "WAV"), ("rf64.wav", "RF64"), ("flac", "FLAC"), ("aiff", "AIFF"), ("au", "AU"), ("mp3", "MP3")],
)
@pytest.mark.parametrize("share", [0.3, 0.75])
def test_a_file_cut_short_is_read_as_far_as_it_goes(tmp_path, suffix, kind, share):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, voice(4.0), RATE, format=kind)
    whole, notes = heard(path)
    assert not notes
    samples, notes = heard(cut(path, share))
    assert (share - 0.25) * 4.0 * RATE < len(samples) < (share + 0.05) * 4.0 * RATE
    kept = len(samples) - 2048
    np.testing.assert_allclose(samples[:kept], whole[:kept], atol=1e-3)
    assert len(notes) == 1
    assert f"is cut short: {len(samples) / RATE:.2f} s of sound are there instead of 4.00 s" in notes[0]


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp4", "aac"), ("mkv", "flac"), ("webm", "libopus"), ("mkv", "aac")]
)
def test_a_container_cut_short_is_read_as_far_as_it_goes(tmp_path, suffix, codec):
    rate = 48_000
    samples = np.repeat(voice(4.0), 3)
    write_tracks(tmp_path / f"a.{suffix}", [samples[None]], codec=codec, rate=rate)
    whole, _ = heard(tmp_path / f"a.{suffix}")
    there, notes = heard(cut(tmp_path / f"a.{suffix}", 0.5))
    assert 0.3 * len(whole) < len(there) < 0.6 * len(whole)
    np.testing.assert_allclose(there[:-2048], whole[: len(there) - 2048], atol=1e-3)
    assert len(notes) == 1
    assert "is cut short" in notes[0]


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_without_its_last_page_is_read_as_far_as_it_goes(tmp_path, subtype):
    path = tmp_path / "a.ogg"
    soundfile.write(path, voice(20.0), RATE, format="OGG", subtype=subtype)
    whole, notes = heard(path)
    assert len(whole) == 20 * RATE
    assert not notes
    samples, notes = heard(cut(path, 0.6))
    assert 0.3 * len(whole) < len(samples) < 0.7 * len(whole)
    assert len(notes) == 1
    assert "does not say where it ends" in notes[0]


@pytest.mark.parametrize("suffix", ["flac", "mp3"])
def test_damage_with_sound_behind_it_is_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, voice(4.0), RATE)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 6000] = np.random.default_rng(0).bytes(6000)
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"a\.{suffix}: is damaged at [12]\.\d\d s"):
        load_audio(path)


@pytest.mark.parametrize("bad", [b"", b"RIFF", b"RIFF\0\0\0\0WAVE", b"RF64\xff\xff\xff\xffWAVEds64", b"OggS"])
def test_headers_alone_are_refused_in_one_line(tmp_path, bad):
    (tmp_path / "a.wav").write_bytes(bad)
    with pytest.raises(InputError, match=r"a\.wav: ") as caught:
        load_audio(tmp_path / "a.wav")
    assert "\n" not in str(caught.value)


def test_a_hole_in_the_time_stamps_is_silence_and_said(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for start in (0, 2 * RATE):
            samples = np.round(voice() * 32_767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    samples, notes = heard(tmp_path / "a.mkv")
    assert len(samples) == 3 * RATE
    assert not samples[RATE : 2 * RATE].any()
    np.testing.assert_allclose(samples[2 * RATE :], voice(), atol=1e-4)
    assert [note.split(": ", 1)[1] for note in notes] == ["1.00 s without sound inside it are silence."]


# ---------------------------------------------------------------------- recordings that people had


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("antiphase-stereo/interview.wav", "cancel each other"),
        ("two-audio-tracks/obs.mkv", "track 2 (mono) is used, because track 1 (stereo) is silent"),
        ("mdhd-too-short/recorded_in_browser.mp4", "but there is more; all is used"),
    ],
)
def test_recordings_with_speech_are_not_silent(case, words):
    samples, notes = heard(CASES / case)
    assert level(samples) > 0.02
    assert any(words in note for note in notes)
    assert not any("silent from" in note for note in notes)
