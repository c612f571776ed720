"""Facts about the sound front ends: where time and pitch land, what loudness and slicing must not change."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hallo4.errors import CheckpointError, InputError, MissingExtraError, ShapeError
from hallo4.models import log_mel, wav2vec2
from hallo4.models.audio_features import audio_front_end_from_config, audio_windows, audio_windows_of
from hallo4.models.log_mel import LogMelFrontEnd
from hallo4.models.wav2vec2 import Wav2Vec2FrontEnd
from hallo4.types import Audio, AudioFrontEnd, FeatureStream

RELEASED = Path(__file__).parents[3] / "shared/golden/end_to_end"
RATE_HZ = 16000
FRONT_END = LogMelFrontEnd()
SILENCE = (FRONT_END.floor_db - FRONT_END.mean_db) / FRONT_END.std_db


def speech_like(seconds: float, seed: int = 0, level: float = 0.1) -> np.ndarray:
    """Noise bursts of 120 ms with pauses of 80 ms: loud, quiet, loud, as syllables are."""
    rng = np.random.default_rng(seed)
    samples = rng.standard_normal(round(seconds * RATE_HZ)) * level
    phase_s = np.arange(len(samples)) / RATE_HZ % 0.2
    return (samples * (phase_s < 0.12)).astype(np.float32)


def tone(hz: float, seconds: float = 1.0, level: float = 0.1) -> Audio:
    seconds_axis = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return Audio((level * np.sin(2 * np.pi * hz * seconds_axis)).astype(np.float32), RATE_HZ)


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


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (3, 3), (4, 3), (0, 26)])
def test_rows_outside_of_a_sound_are_refused(start, stop, wav2vec2_folder):
    for front_end in (FRONT_END, Wav2Vec2FrontEnd(wav2vec2_folder)):
        with pytest.raises(ShapeError, match=f"{start}..{stop} of 25"):
            front_end.stream(tone(100), 25).features(start, stop)


def test_a_stream_takes_sound_at_its_own_rate_only(wav2vec2_folder):
    high = Audio(np.zeros(44100, np.float32), 44100)
    for front_end in (FRONT_END, Wav2Vec2FrontEnd(wav2vec2_folder)):
        with pytest.raises(ShapeError, match=r"44100 samples .* takes 16000; .*resampled"):
            front_end.stream(high, 25)
        with pytest.raises(ShapeError, match="0 frames"):
            front_end.stream(tone(100), 0)


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


@pytest.fixture(scope="module")
def wav2vec2_folder(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        vocab_size=8,
    )
    folder = tmp_path_factory.mktemp("wav2vec2")
    transformers.Wav2Vec2Model(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


def slow_wav2vec2(folder, samples: np.ndarray, frames: int) -> torch.Tensor:
    """The encoder taken apart layer by layer, interpolation as a loop: [frames, blocks, channels]."""
    import transformers

    model = transformers.Wav2Vec2Model.from_pretrained(folder).eval()
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder)
    values = torch.tensor(extractor(samples, sampling_rate=RATE_HZ).input_values[0])[None]
    with torch.no_grad():
        maps = model.feature_extractor(values)[0].T  # [conv frames, channels]
        rows = []
        for frame in range(frames):
            place = frame * (len(maps) - 1) / max(frames - 1, 1)
            left = min(int(place), len(maps) - 2)
            rows.append(maps[left] + (place - left) * (maps[left + 1] - maps[left]))
        hidden, _ = model.feature_projection(torch.stack(rows)[None])
        hidden = model.encoder.layer_norm(hidden + model.encoder.pos_conv_embed(hidden))
        layers = []
        for layer in model.encoder.layers:
            hidden = layer(hidden)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
            layers.append(hidden[0])
    return torch.stack(layers, dim=1)


def test_wav2vec2_equals_the_encoder_taken_apart(wav2vec2_folder):
    samples = speech_like(1.19)  # 29.75 frames
    front_end = Wav2Vec2FrontEnd(wav2vec2_folder)
    features = front_end.features(Audio(samples, RATE_HZ), 30)
    assert features.shape == (30, front_end.blocks, front_end.channels) == (30, 3, 32)
    torch.testing.assert_close(features, slow_wav2vec2(wav2vec2_folder, samples, 30), atol=2e-5, rtol=1e-4)
    assert torch.equal(front_end.features(Audio(samples, RATE_HZ), 12), features[:12])
    louder = front_end.features(Audio(samples * 3, RATE_HZ), 30)
    torch.testing.assert_close(louder, features, atol=1e-3, rtol=1e-2)


def test_wav2vec2_pads_short_sound_and_hears_long_sound_in_pieces(wav2vec2_folder, monkeypatch):
    front_end = audio_front_end_from_config(
        {"kind": "wav2vec2", "path": wav2vec2_folder.name}, wav2vec2_folder.parent
    )
    assert isinstance(front_end, AudioFrontEnd)
    assert front_end.to_config() == {"kind": "wav2vec2", "path": str(wav2vec2_folder), "rate_hz": 25.0}
    for samples in (0, 100, 9000):
        assert front_end.features(Audio(speech_like(1)[:samples], RATE_HZ), 21).shape == (21, 3, 32)
    audio = Audio(speech_like(4.0), RATE_HZ)
    whole = front_end.features(audio, 100)
    monkeypatch.setattr(wav2vec2, "WHOLE_S", 3.0)
    monkeypatch.setattr(wav2vec2, "STRETCH_S", 1.6)
    monkeypatch.setattr(wav2vec2, "CONTEXT_S", 1.2)
    pieces = front_end.features(audio, 100)
    assert pieces.shape == whole.shape
    correlation = torch.corrcoef(torch.stack([pieces.flatten(), whole.flatten()]))[0, 1]
    assert correlation > 0.9  # not equal: attention and group norm reach over the whole piece
    assert front_end.features(audio, 57).shape == (57, 3, 32)


def test_a_stretch_of_wav2vec2_is_a_forward_of_its_samples_and_their_surroundings(
    wav2vec2_folder, monkeypatch
):
    """Rows 40..79 with 30 on each side, cut at row 100: samples from 6400 on, normalised as in the whole."""
    monkeypatch.setattr(wav2vec2, "WHOLE_S", 3.0)
    monkeypatch.setattr(wav2vec2, "STRETCH_S", 1.6)
    monkeypatch.setattr(wav2vec2, "CONTEXT_S", 1.2)
    samples = speech_like(4.0, seed=5)
    front_end = Wav2Vec2FrontEnd(wav2vec2_folder)
    forwards = []
    encode = front_end.encode
    monkeypatch.setattr(front_end, "encode", lambda s, n: forwards.append((len(s), n)) or encode(s, n))
    stream = front_end.stream(Audio(samples, RATE_HZ), 100)
    rows = stream.features(45, 78)
    assert forwards == [(640 * 90, 90)]
    normal = (samples - samples.mean(dtype=np.float64)) / np.sqrt(samples.var(dtype=np.float64) + 1e-7)
    expected = encode(normal[640 * 10 :].astype(np.float32), 90)[35:68]
    torch.testing.assert_close(rows, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(stream.features(50, 60), rows[5:15])
    assert len(forwards) == 1, "what was computed last is kept"
    whole = torch.cat([stream.features(start, min(start + 33, 100)) for start in range(0, 100, 33)])
    assert torch.equal(whole[45:78], rows)
    assert torch.equal(stream.features(0, 100), whole)


def test_wav2vec2_rows_go_on_to_the_end_of_the_sound_whatever_is_asked_for(wav2vec2_folder):
    front_end = Wav2Vec2FrontEnd(wav2vec2_folder)
    sound = Audio(speech_like(1.21), RATE_HZ)  # 30.25 frames
    assert front_end.stream(sound, 30).rows == 31
    assert front_end.stream(sound, 40).rows == 40
    windows = audio_windows_of(front_end.stream(sound, 30), np.arange(30))
    assert torch.equal(windows[29, 3], front_end.features(sound, 31)[30]), "clamped at the end of the sound"


def test_wav2vec2_statistics_are_of_the_whole_sound_block_by_block(wav2vec2_folder, monkeypatch):
    """With an offset and a level that a sum of squares in fp32 would lose."""
    samples = (speech_like(2.0, level=1e-3) + 0.5).astype(np.float32)
    mean, deviation = wav2vec2._mean_and_deviation(Audio(samples, RATE_HZ))
    exact = samples.astype(np.float64)
    assert mean == pytest.approx(exact.mean(), rel=1e-12)
    assert deviation == pytest.approx(np.sqrt(exact.var() + 1e-7), rel=1e-6)
    monkeypatch.setattr(wav2vec2, "BLOCK", 999)
    assert wav2vec2._mean_and_deviation(Audio(samples, RATE_HZ)) == pytest.approx((mean, deviation), rel=1e-9)
    samples[-1] = np.inf
    with pytest.raises(InputError, match="infinite"):
        Wav2Vec2FrontEnd(wav2vec2_folder).stream(Audio(samples, RATE_HZ), 5)


def test_freed_weights_come_back(wav2vec2_folder):
    front_end = Wav2Vec2FrontEnd(wav2vec2_folder)
    stream = front_end.stream(tone(300), 25)
    assert front_end._model is None, "nothing is loaded before the first features"
    before = stream.features(0, 25)
    front_end.free()
    assert front_end._model is None
    assert torch.equal(front_end.features(tone(300), 25), before)
    FRONT_END.free()


@pytest.mark.skipif(not RELEASED.is_dir(), reason="the end-to-end golden case is not in the project")
def test_features_and_windows_of_the_released_program():
    """`audio_features` and `audio_windows` of the golden case, from its 16 kHz file, untouched."""
    import soundfile
    from safetensors.torch import load_file

    samples, rate_hz = soundfile.read(RELEASED / "inputs/speech.wav", dtype="float32")
    assert rate_hz == RATE_HZ
    wanted = load_file(RELEASED / "main/conditions.safetensors")
    front_end = Wav2Vec2FrontEnd(RELEASED / "pretrained_models/wav2vec/wav2vec2-base-960h")
    stream = front_end.stream(Audio(samples, RATE_HZ), 30)
    assert stream.rows == len(wanted["audio_features"])
    windows = audio_windows_of(stream, np.arange(stream.rows))
    for name, made in (("audio_features", stream.features(0, stream.rows)), ("audio_windows", windows)):
        assert (made - wanted[name]).abs().max() <= 2e-6 * wanted[name].abs().max(), name


def test_wav2vec2_refuses_what_it_cannot_read(wav2vec2_folder, tmp_path, monkeypatch):
    from safetensors.torch import load_file, save_file

    with pytest.raises(CheckpointError, match="no such file"):
        Wav2Vec2FrontEnd(tmp_path / "missing")
    config = json.loads((wav2vec2_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    with pytest.raises(CheckpointError, match="bert"):
        Wav2Vec2FrontEnd(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        Wav2Vec2FrontEnd(tmp_path).features(tone(200), 5)
    weights = load_file(wav2vec2_folder / "model.safetensors")
    dropped = next(key for key in weights if key.startswith("encoder.layers.1"))
    save_file(
        {k: v for k, v in weights.items() if k != dropped}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(CheckpointError, match=r"encoder\.layers\.1"):
        Wav2Vec2FrontEnd(tmp_path).features(tone(200), 5)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hallo4\[released\]'"):
        Wav2Vec2FrontEnd(wav2vec2_folder).features(tone(200), 5)


def test_twice_the_rate_has_the_same_hops_half_as_many_in_each_feature():
    speech = Audio(np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32), 16000)
    usual = LogMelFrontEnd().features(speech, 25)
    fast = LogMelFrontEnd(rate_hz=50.0, blocks=2)
    assert torch.equal(fast.features(speech, 50).reshape(25, 4, 40), usual)
    assert audio_front_end_from_config(fast.to_config()) == fast
    with pytest.raises(CheckpointError, match="no whole hop"):
        LogMelFrontEnd(rate_hz=30.0)


def test_wav2vec2_at_twice_the_rate_hears_twice_as_often(wav2vec2_folder):
    config = {"kind": "wav2vec2", "path": wav2vec2_folder.name, "rate_hz": 50.0}
    front_end = audio_front_end_from_config(config, wav2vec2_folder.parent)
    sound = Audio(np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32), 16000)
    assert front_end.features(sound, 50).shape[0] == 50
    assert front_end.rate_hz == 50.0
