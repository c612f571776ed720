"""wav2vec2 features: the encoder taken apart, the released program, and long sound in stretches."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from model_sounds import RATE_HZ, speech_like, tone

from hallo4.errors import CheckpointError, InputError, MissingExtraError, ShapeError
from hallo4.models import wav2vec2
from hallo4.models.audio_features import audio_front_end_from_config, audio_windows_of
from hallo4.models.log_mel import LogMelFrontEnd
from hallo4.models.wav2vec2 import Wav2Vec2FrontEnd
from hallo4.types import Audio, AudioFrontEnd, FeatureStream

RELEASED = Path(__file__).parents[3] / "shared/golden/end_to_end"


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


def test_short_sound_is_padded_and_long_sound_encoded_in_stretches(wav2vec2_folder, monkeypatch):
    front_end = audio_front_end_from_config(
        {"kind": "wav2vec2", "path": wav2vec2_folder.name}, wav2vec2_folder.parent
    )
    assert isinstance(front_end, AudioFrontEnd)
    assert isinstance(front_end.stream(tone(100), 3), FeatureStream)
    assert front_end.to_config() == {"kind": "wav2vec2", "path": str(wav2vec2_folder), "rate_hz": 25.0}
    for samples in (0, 100, 9000):
        assert front_end.features(Audio(speech_like(1)[:samples], RATE_HZ), 21).shape == (21, 3, 32)
    audio = Audio(speech_like(4.0), RATE_HZ)
    whole = front_end.features(audio, 100)
    monkeypatch.setattr(wav2vec2, "WHOLE_S", 3.0)
    monkeypatch.setattr(wav2vec2, "STRETCH_S", 1.6)
    monkeypatch.setattr(wav2vec2, "CONTEXT_S", 1.2)
    stretches = front_end.features(audio, 100)
    assert stretches.shape == whole.shape
    correlation = torch.corrcoef(torch.stack([stretches.flatten(), whole.flatten()]))[0, 1]
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


def test_weights_are_read_with_the_first_features_and_without_a_word(wav2vec2_folder, capfd):
    import transformers

    was = transformers.utils.logging.get_verbosity(), transformers.utils.logging.is_progress_bar_enabled()
    front_end = Wav2Vec2FrontEnd(wav2vec2_folder)
    stream = front_end.stream(tone(300), 25)
    assert front_end._model is None, "nothing is loaded before the first features"
    stream.features(0, 25)
    assert front_end._model is not None
    assert capfd.readouterr() == ("", "")
    now = transformers.utils.logging.get_verbosity(), transformers.utils.logging.is_progress_bar_enabled()
    assert now == was, "the settings of the caller's transformers stay"


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


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (3, 3), (4, 3), (0, 26)])
def test_rows_outside_of_a_sound_are_refused(start, stop, wav2vec2_folder):
    for front_end in (LogMelFrontEnd(), Wav2Vec2FrontEnd(wav2vec2_folder)):
        with pytest.raises(ShapeError, match=f"{start}..{stop} of 25"):
            front_end.stream(tone(100), 25).features(start, stop)


def test_a_stream_takes_sound_at_its_own_rate_only(wav2vec2_folder):
    high = Audio(np.zeros(44100, np.float32), 44100)
    for front_end in (LogMelFrontEnd(), Wav2Vec2FrontEnd(wav2vec2_folder)):
        with pytest.raises(ShapeError, match=r"44100 samples .* takes 16000; .*resampled"):
            front_end.stream(high, 25)
        with pytest.raises(ShapeError, match="0 frames"):
            front_end.stream(tone(100), 0)


def test_wav2vec2_at_twice_the_rate_hears_twice_as_often(wav2vec2_folder):
    config = {"kind": "wav2vec2", "path": wav2vec2_folder.name, "rate_hz": 50.0}
    front_end = audio_front_end_from_config(config, wav2vec2_folder.parent)
    sound = Audio(np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32), 16000)
    assert front_end.features(sound, 50).shape[0] == 50
    assert front_end.rate_hz == 50.0
