"""Speech recorded in many ways: faster, in rooms, through microphones; always as long and never broken."""

import threading

import numpy as np
import pytest

from hallo4.data import build_sounds
from hallo4.data.sounds import SECONDS, VARIANTS, change_speed, degrade, recording
from hallo4.errors import InputError
from hallo4.lock import WaitingNote, sole_writer
from hallo4.models.log_mel import LogMelFrontEnd
from hallo4.types import Audio
from hallo4.world.speech import Phoneme, Speech
from hallo4.world.visemes import mouth_curves

RATE = 16000


@pytest.fixture
def tone():
    """One second: silence, then 300 Hz."""
    time_s = np.arange(RATE) / RATE
    samples = (0.4 * np.sin(2 * np.pi * 300 * time_s) * (time_s > 0.5)).astype(np.float32)
    return Speech(Audio(samples, RATE), (Phoneme("", 0.0, 0.5), Phoneme("ɑ", 0.5, 1.0)))


def pitch_hz(samples):
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return spectrum.argmax() * RATE / len(samples)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_faster_is_shorter_and_higher_and_moves_the_phonemes(tone, factor):
    fast = change_speed(tone, factor)
    assert fast.audio.sample_rate_hz == RATE
    assert fast.audio.samples.dtype == np.float32
    assert fast.audio.duration_s == pytest.approx(1 / factor, abs=0.002)
    assert pitch_hz(fast.audio.samples) == pytest.approx(300 * factor, abs=3)
    assert [(p.symbol, p.start_s, p.end_s) for p in fast.phonemes] == [
        ("", 0.0, pytest.approx(0.5 / factor)), ("ɑ", pytest.approx(0.5 / factor), pytest.approx(1 / factor)),
    ]  # fmt: skip
    onset_s = np.flatnonzero(np.abs(fast.audio.samples) > 0.1)[0] / RATE
    assert onset_s == pytest.approx(0.5 / factor, abs=0.01)


def test_speed_one_changes_nothing(tone):
    same = change_speed(tone, 1.0)
    np.testing.assert_allclose(same.audio.samples, tone.audio.samples, atol=1e-4)
    assert same.phonemes == tone.phonemes


@pytest.mark.parametrize("seed", range(12))
def test_a_recording_keeps_length_and_speech(tone, seed):
    samples = tone.audio.samples
    heard = degrade(samples, RATE, np.random.default_rng(seed))
    assert heard.shape == samples.shape
    assert heard.dtype == np.float32
    assert np.isfinite(heard).all()
    assert 0.05 < np.abs(heard).max() < 2
    loud = [np.sqrt(np.mean(heard[s] ** 2)) for s in (np.s_[: RATE // 2 - 400], np.s_[RATE // 2 + 400 :])]
    assert loud[1] > 1.5 * loud[0]


def test_recordings_differ_but_not_for_the_same_generator(tone):
    first, again, other = (degrade(tone.audio.samples, RATE, np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_silence_stays_quiet():
    heard = degrade(np.zeros(RATE, np.float32), RATE, np.random.default_rng(0))
    assert np.isfinite(heard).all()
    assert np.abs(heard).max() < 1e-4


def test_a_clean_recording_is_the_features_and_the_mouth(quick_world):
    features, curves = recording(3, 0)
    _, speech, performance, _ = quick_world(3, SECONDS)
    frames = len(performance)
    expected = LogMelFrontEnd().features(speech.audio, frames).numpy().astype(np.float16)
    np.testing.assert_array_equal(features, expected)
    opening, width = mouth_curves(speech.phonemes, frames, 0.93)
    np.testing.assert_array_equal(curves[:, 0], opening)
    np.testing.assert_array_equal(curves[:, 1], width)
    assert curves.shape == (85, 3)


@pytest.mark.parametrize("variant", range(1, VARIANTS))
def test_a_degraded_recording_has_curves_at_its_own_speed(quick_world, variant):
    features, curves = recording(3, variant)
    clean, true = recording(3, 0)
    assert features.shape == clean.shape
    assert features.dtype == np.float16
    assert np.isfinite(features.astype(np.float32)).all()
    assert np.abs(features - clean).mean() > 0.05
    assert curves.shape == true.shape
    assert 0 <= curves.min() <= curves.max() <= 1
    starts = [np.interp(0.5, c[:6, 2], np.arange(6)) for c in (true, curves)]  # speech begins at 0.1 s
    assert abs(starts[0] - starts[1]) > 0.05
    assert 0.86 - 0.05 < (starts[0] + 0.5) / (starts[1] + 0.5) < 1.18 + 0.05


def test_sounds_are_made_once_and_kept(quick_world, tmp_path, monkeypatch, recwarn):
    path = tmp_path / "new" / "sounds.npz"
    with sole_writer(path):
        later = threading.Thread(target=build_sounds, args=(path, 2, 7, 1))
        later.start()
        later.join(0.5)
        assert not path.exists(), "who comes second waits"
    later.join()
    assert WaitingNote in {note.category for note in recwarn}
    written = path.stat().st_mtime_ns
    made = build_sounds(path, 2, first_seed=7, workers=1)
    assert made["features"].shape == (2 * VARIANTS, 85, 4, 40)
    assert made["features"].dtype == np.float16
    assert made["curves"].shape == (2 * VARIANTS, 85, 3)
    for k in range(2 * VARIANTS):
        features, curves = recording(7 + k // VARIANTS, k % VARIANTS)
        np.testing.assert_array_equal(made["features"][k], features)
        np.testing.assert_array_equal(made["curves"][k], curves)
    assert [p.name for p in path.parent.iterdir()] == ["sounds.npz"]
    assert path.stat().st_mtime_ns == written, "it was made once"
    monkeypatch.setattr("hallo4.data.sounds.recording", lambda *_: pytest.fail("made again"))
    kept = build_sounds(path, 2, first_seed=7, workers=1)
    assert all(np.array_equal(made[name], kept[name]) for name in made)
    with pytest.raises(InputError, match="6 recordings, not 9"):
        build_sounds(path, 3, first_seed=7)


def test_real_voices_are_heard():
    pytest.importorskip("espeakng_loader")
    features, curves = recording(1, 0)
    loudness = features.astype(np.float32).mean((1, 2))
    assert np.corrcoef(loudness, curves[:, 2])[0, 1] > 0.6
