"""Log-mel features and windows: where time and pitch land, what loudness and slicing must not change."""

import json

import numpy as np
import pytest
import torch
from model_sounds import RATE_HZ, speech_like, tone

from hallo4.errors import CheckpointError, InputError, ShapeError
from hallo4.models import log_mel
from hallo4.models.audio_features import audio_front_end_from_config, audio_windows, audio_windows_of
from hallo4.models.log_mel import LogMelFrontEnd
from hallo4.types import Audio, AudioFrontEnd, FeatureStream

FRONT_END = LogMelFrontEnd()
SILENCE = (FRONT_END.floor_db - FRONT_END.mean_db) / FRONT_END.std_db


def band_centre_hz(band: int) -> float:
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (60, 7600))
    return 700 * (10 ** ((low + (band + 1) * (high - low) / 41) / 2595) - 1)


@pytest.mark.parametrize("band", [3, 11, 20, 30, 38])
def test_a_tone_lights_the_band_around_its_frequency(band):
    levels = FRONT_END.features(tone(band_centre_hz(band)), 25)[5:20]
    assert (levels.argmax(dim=-1) == band).all()
    far = [other for other in range(40) if abs(other - band) > 6]
    assert (levels[..., far].amax() < levels[..., band].amin() - 1.5).all()  # 18 dB


@pytest.mark.parametrize("hop", [0, 1, 17, 42, 99])
def test_an_impulse_lands_in_the_hop_of_its_time(hop):
    samples = np.zeros(RATE_HZ, dtype=np.float32)
    samples[hop * 160 + 80] = 0.5
    loudness = FRONT_END.features(Audio(samples, RATE_HZ), 25).mean(dim=-1)  # [25, 4]
    assert divmod(int(loudness.argmax()), 4) == divmod(hop, 4)
    heard = (loudness.flatten() > SILENCE + 0.1).nonzero().flatten()
    assert heard.min() >= hop - 1
    assert heard.max() <= hop + 1


def test_hops_agree_with_a_slow_transform_of_one_window():
    samples = speech_like(0.6, seed=3)
    front_end = LogMelFrontEnd(floor_db=-200)
    features = front_end.features(Audio(samples, RATE_HZ), 15)
    gain = front_end.speech_gain(Audio(samples, RATE_HZ))
    frame, block = 5, 2
    start = (frame * 4 + block) * 160 + 80 - 200
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    times, bins = np.arange(400), np.arange(257)
    heard = gain * samples[start : start + 400]
    spectrum = np.exp(-2j * np.pi * np.outer(bins, times) / 512) @ (heard * window)
    mel = 2595 * np.log10(1 + bins * RATE_HZ / 512 / 700)
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (60, 7600))
    step = (high - low) / 41
    emphasis = np.abs(1 - 0.97 * np.exp(-2j * np.pi * bins / 512)) ** 2
    for band in (0, 7, 39):
        weight = np.maximum(0, 1 - np.abs(mel - (low + (band + 1) * step)) / step)
        energy = (np.abs(spectrum) ** 2 * emphasis * weight).sum() * 2 / (512 * (window**2).sum())
        expected = (10 * np.log10(energy) - front_end.mean_db) / front_end.std_db
        assert float(features[frame, block, band]) == pytest.approx(expected, abs=1e-3)


def test_whole_frames_of_silence_in_front_shift_the_features():
    samples = speech_like(1.0)
    delayed = np.concatenate([np.zeros(7 * 640, dtype=np.float32), samples])
    still = FRONT_END.features(Audio(samples, RATE_HZ), 25)
    moved = FRONT_END.features(Audio(delayed, RATE_HZ), 32)
    torch.testing.assert_close(moved[7:], still, atol=1e-4, rtol=0)
    torch.testing.assert_close(moved[:6], torch.full_like(moved[:6], SILENCE), atol=1e-4, rtol=0)


@pytest.mark.parametrize("samples", [0, 1, 320, 16000])
def test_digital_silence_is_one_constant(samples):
    features = FRONT_END.features(Audio(np.zeros(samples, dtype=np.float32), RATE_HZ), 9)
    torch.testing.assert_close(features, torch.full((9, 4, 40), SILENCE), atol=1e-4, rtol=0)


def test_gain_of_the_recording_does_not_matter():
    samples = speech_like(2.0, level=0.05)
    plain = FRONT_END.features(Audio(samples, RATE_HZ), 50)
    for factor in (0.25, 4.0, 17.0):
        scaled = FRONT_END.features(Audio(samples * np.float32(factor), RATE_HZ), 50)
        torch.testing.assert_close(scaled, plain, atol=1e-3, rtol=0)


def test_noise_is_raised_by_no_more_than_the_limit():
    hiss = Audio(speech_like(2.0, level=1e-4), RATE_HZ)  # -80 dBFS
    assert 20 * np.log10(FRONT_END.speech_gain(hiss)) == pytest.approx(FRONT_END.gain_limit_db)
    assert FRONT_END.features(hiss, 50).max() < 0
    assert FRONT_END.speech_gain(Audio(np.zeros(RATE_HZ, dtype=np.float32), RATE_HZ)) == 1.0


def test_the_gain_brings_active_speech_to_the_reference_level():
    samples = speech_like(4.0, level=0.3)
    gain = FRONT_END.speech_gain(Audio(samples, RATE_HZ))
    active = samples[samples != 0] * gain
    level_db = 10 * np.log10(np.mean(active.astype(np.float64) ** 2))
    assert level_db == pytest.approx(FRONT_END.reference_level_db, abs=1.0)


def test_a_click_does_not_set_the_gain():
    samples = speech_like(4.0, level=0.05)
    clicked = samples.copy()
    clicked[20000:20010] = 0.9
    ratio = FRONT_END.speech_gain(Audio(clicked, RATE_HZ)) / FRONT_END.speech_gain(Audio(samples, RATE_HZ))
    assert ratio == pytest.approx(1, abs=0.1)


def test_slices_and_pieces_equal_the_whole_bit_for_bit(monkeypatch):
    """Also the gain, whose powers are measured in blocks: another block length changes nothing."""
    audio = Audio(speech_like(5.3), RATE_HZ)
    whole = FRONT_END.features(audio, 140)
    stream = FRONT_END.stream(audio, 140)
    assert isinstance(stream, FeatureStream)
    assert stream.rows == 140
    for size in (1, 35, 61):
        slices = [stream.features(start, min(start + size, 140)) for start in range(0, 140, size)]
        assert torch.equal(torch.cat(slices), whole)
    monkeypatch.setattr(log_mel, "PIECE_S", 9 / 25)
    monkeypatch.setattr(log_mel, "BLOCK", 1000)
    assert torch.equal(FRONT_END.features(audio, 140), whole)


def test_a_stream_reads_only_what_its_features_see():
    class Watched(Audio):
        seen: list = []  # noqa: RUF012 - of this test alone

        def read(self, start, stop):
            self.seen.append((start, stop))
            return super().read(start, stop)

    sound = Watched(speech_like(60.0), RATE_HZ)
    stream = FRONT_END.stream(sound, 1500)
    sound.seen.clear()
    stream.features(700, 710)
    assert sound.seen == [(700 * 640 - 120, 710 * 640 + 120)]


def test_frames_are_exactly_as_asked_and_padded_with_silence():
    audio = Audio(speech_like(1.0), RATE_HZ)
    long, short = FRONT_END.features(audio, 40), FRONT_END.features(audio, 11)
    assert long.shape == (40, 4, 40)
    assert long.dtype == torch.float32
    torch.testing.assert_close(short, long[:11], atol=1e-5, rtol=0)
    torch.testing.assert_close(long[26:], torch.full((14, 4, 40), SILENCE), atol=1e-4, rtol=0)


def test_another_sample_rate_says_the_same():
    seconds = np.arange(44100) / 44100
    high = Audio((0.1 * np.sin(2 * np.pi * 1000 * seconds)).astype(np.float32), 44100)
    low = tone(1000)
    inside = slice(3, 22)
    difference = FRONT_END.features(high, 25)[inside] - FRONT_END.features(low, 25)[inside]
    assert difference.abs().max() < 0.05


def test_bad_sound_and_bad_counts_are_refused():
    broken = speech_like(1.0)
    broken[5000] = np.nan
    with pytest.raises(InputError, match="NaN"):
        FRONT_END.features(Audio(broken, RATE_HZ), 25)
    with pytest.raises(InputError, match="mono"):
        FRONT_END.features(Audio(np.zeros((2, 100), dtype=np.float32), RATE_HZ), 25)
    with pytest.raises(ShapeError, match="0 frames"):
        FRONT_END.features(tone(100), 0)
    with pytest.raises(CheckpointError, match="whole hop"):
        LogMelFrontEnd(blocks=7)
    with pytest.raises(CheckpointError, match="bands"):
        LogMelFrontEnd(high_hz=9000)


def test_log_mel_survives_json():
    front_end = LogMelFrontEnd(blocks=2, channels=24, floor_db=-70)
    again = audio_front_end_from_config(json.loads(json.dumps(front_end.to_config())))
    assert again == front_end
    assert isinstance(again, AudioFrontEnd)
    assert audio_front_end_from_config({"kind": "log_mel"}) == LogMelFrontEnd()


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({}, "None"),
        ({"kind": "mfcc"}, "mfcc"),
        ({"kind": "log_mel", "hops": 3}, "hops"),
        ({"kind": "wav2vec2"}, "path"),
        ({"kind": "wav2vec2", "path": "nowhere"}, "nowhere"),
    ],
)
def test_a_wrong_configuration_is_named(config, word, tmp_path):
    with pytest.raises(CheckpointError, match=word):
        audio_front_end_from_config(config, tmp_path)


def test_windows_equal_a_loop_with_clamped_neighbours():
    features = torch.randn(9, 3, 4)
    windows = audio_windows(features)
    assert windows.shape == (9, 5, 3, 4)
    for frame in range(9):
        for place, offset in enumerate(range(-2, 3)):
            assert torch.equal(windows[frame, place], features[min(max(frame + offset, 0), 8)])
    assert torch.equal(audio_windows(features, radius=0)[:, 0], features)


def test_windows_of_a_slice_see_neighbours_outside_of_it():
    features = torch.randn(20, 2, 3)
    assert torch.equal(audio_windows(features, start=6, stop=11), audio_windows(features)[6:11])
    for start, stop in ((0, 21), (-1, 4), (5, 5)):
        with pytest.raises(ShapeError):
            audio_windows(features, start=start, stop=stop)


def test_windows_of_a_stream_are_those_of_all_its_features():
    stream = FRONT_END.stream(Audio(speech_like(1.0), RATE_HZ), 25)
    windows = audio_windows(stream.features(0, 25))
    for indices in ([0, 1, 2], [10, 11, 12, 13], [22, 23, 24, 24, 24], [24], [3, 20]):
        assert torch.equal(audio_windows_of(stream, np.array(indices)), windows[indices])
    for indices in ([], [-1, 0], [24, 25], [[1, 2]]):
        with pytest.raises(ShapeError, match="of 25"):
            audio_windows_of(stream, np.array(indices))


def test_twice_the_rate_has_the_same_hops_half_as_many_in_each_feature():
    speech = Audio(np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32), 16000)
    usual = LogMelFrontEnd().features(speech, 25)
    fast = LogMelFrontEnd(rate_hz=50.0, blocks=2)
    assert torch.equal(fast.features(speech, 50).reshape(25, 4, 40), usual)
    assert audio_front_end_from_config(fast.to_config()) == fast
    with pytest.raises(CheckpointError, match="no whole hop"):
        LogMelFrontEnd(rate_hz=30.0)
