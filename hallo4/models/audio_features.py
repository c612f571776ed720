"""Sound -> features at the frame rate or a multiple of it, and the five-step windows that networks read.

::

    samples [S] --front end--> features [T, blocks, channels] --audio_windows--> [T, 5, blocks, channels]

Two front ends share that path: `LogMelFrontEnd` needs no download (the tiny models), `Wav2Vec2FrontEnd` is
what the released weights were trained on. A model folder names its own in `audio/config.json`.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from torch import Tensor, nn

from hallo4.errors import CheckpointError, InputError, MissingExtraError, ShapeError
from hallo4.types import FPS, Audio, AudioFrontEnd

WINDOW_S = 0.025
FFT_SIZE = 512
PIECE_S = 60
"""How much a front end works on at a time, so that memory does not grow with the length."""
CONTEXT_S = 5
"""What wav2vec2 hears around each piece of a sound longer than one piece, on each side."""


def audio_windows(features: Tensor, radius: int = 2, start: int = 0, stop: int | None = None) -> Tensor:
    """[T, blocks, channels] -> [stop - start, 2 radius + 1, blocks, channels]: each frame and its neighbours.

    Offsets -radius..radius, clamped at the ends of the *whole* sequence: windows of a slice equal the slice
    of the windows. Source: hallo4 inf.py:346-356. ShapeError: no frames, or a slice that leaves the sequence.
    """
    total = len(features)
    stop = total if stop is None else stop
    if features.ndim != 3 or not 0 <= start < stop <= total:
        raise ShapeError(
            f"audio windows {start}..{stop} of features {tuple(features.shape)}: allowed are "
            f"[frames, blocks, channels] and 0 <= start < stop <= frames; pass the whole sound"
        )
    offsets = torch.arange(-radius, radius + 1, device=features.device)
    frames = torch.arange(start, stop, device=features.device)
    return features[(frames[:, None] + offsets).clamp(0, total - 1)]


@dataclass(frozen=True)
class LogMelFrontEnd:
    """Log-mel energies: every frame of 40 ms owns `blocks` hops of `channels` bands, about N(0, 1) on speech.

    Hop n of a sound is centred on the middle of its own 10 ms (4 blocks), so frame t covers
    [t / 25, (t + 1) / 25) s without delay; the 25 ms Hann window reaches 7.5 ms over each side. Bands are
    triangles of unit height, evenly spaced in HTK mels, 2595 log10(1 + f / 700), after a pre-emphasis of 0.97
    that flattens the tilt of speech. At another `rate_hz` than 25 a frame is that much shorter: 2 blocks at
    50 Hz are the same hops.

    Loudness: the whole file gets one gain; it brings its *active speech level* (`speech_gain`) to
    `reference_level_db`; a quiet file is raised by at most `gain_limit_db`, so silence stays silent and room
    noise never poses as speech. The rest is a fixed function of the samples: no statistics of the utterance.
    Energies are floored softly at `floor_db`, then shifted and scaled by `mean_db` and `std_db`;
    digital silence is (floor_db - mean_db) / std_db, -1.08, in every band. Mean and spread were measured on
    espeak-ng speech in five voices, pauses included.
    """

    sample_rate_hz: int = 16000
    rate_hz: float = FPS
    blocks: int = 4
    channels: int = 40
    low_hz: float = 60.0
    high_hz: float = 7600.0
    reference_level_db: float = -23.0
    gain_limit_db: float = 20.0
    floor_db: float = -75.0
    mean_db: float = -62.0
    std_db: float = 12.0

    def __post_init__(self) -> None:
        nyquist_hz = self.sample_rate_hz / 2
        if self.rate_hz <= 0 or self.sample_rate_hz % (self.rate_hz * self.blocks):
            raise CheckpointError(
                f"log-mel front end: {self.sample_rate_hz} Hz with {self.blocks} blocks at {self.rate_hz:g} "
                f"features a second gives no whole hop; take a multiple, such as 16000 Hz with 4 blocks at 25"
            )
        if not (0 <= self.low_hz < self.high_hz <= nyquist_hz and self.channels > 0 and self.std_db > 0):
            raise CheckpointError(
                f"log-mel front end: {self.channels} bands from {self.low_hz} to {self.high_hz} Hz, std "
                f"{self.std_db} dB; allowed are one band or more in 0..{nyquist_hz} Hz and a positive std"
            )
        if WINDOW_S * self.sample_rate_hz > FFT_SIZE:
            raise CheckpointError(
                f"log-mel front end: at {self.sample_rate_hz} Hz 25 ms are more than the {FFT_SIZE} samples "
                f"of a window; use 16000 Hz"
            )

    def features(
        self, audio: Audio, frames: int, start: int = 0, gain: float | None = None
    ) -> Tensor:  # [frames, blocks, channels]
        """[frames, blocks, channels] float32: features of frames start..start + frames - 1.

        Frames behind the end of the sound are silence; sound behind the last frame is not used. Slices equal
        the whole when they share `gain` (`speech_gain` of the whole sound; computed when None). Sound at
        another rate is resampled, each time anew: bring a long one to `sample_rate_hz` before slicing.
        InputError: samples that are not finite or not mono. ShapeError: frames < 1 or start < 0.
        """
        if frames < 1 or start < 0:
            raise ShapeError(
                f"log-mel features of {frames} frames from frame {start}: ask for 1 or more from 0 on"
            )
        samples = _samples_at(audio, self.sample_rate_hz)
        gain = _speech_gain(samples, self) if gain is None else gain
        stop, piece = start + frames, round(PIECE_S * self.rate_hz)
        pieces = [
            self._piece(samples, first, min(first + piece, stop), gain) for first in range(start, stop, piece)
        ]
        return torch.cat(pieces)

    def speech_gain(self, audio: Audio) -> float:
        """The factor that brings the active speech level of the whole sound to `reference_level_db`.

        Of the powers of hops, those within 40 dB of the peak are audible; `loud` is the 25th largest of them
        (the median in a shorter sound), so a click decides nothing. Active is what lies within 16 dB of it,
        and the level is the mean of the active powers, each at most `loud`. Silence around speech changes
        nothing.
        """
        return _speech_gain(_samples_at(audio, self.sample_rate_hz), self)

    def to_config(self) -> dict[str, Any]:
        """What `audio/config.json` holds; `audio_front_end_from_config` reads it back."""
        return {"kind": "log_mel", **asdict(self)}

    @property
    def hop_samples(self) -> int:
        """Samples between two analysis windows (160: 10 ms)."""
        return round(self.sample_rate_hz / self.rate_hz) // self.blocks

    def _piece(self, samples: np.ndarray, start: int, stop: int, gain: float) -> Tensor:
        """[stop - start, blocks, channels] from just the samples that these frames see."""
        window_samples = round(WINDOW_S * self.sample_rate_hz)
        margin = (window_samples - self.hop_samples) // 2
        first = start * self.blocks * self.hop_samples - margin
        last = stop * self.blocks * self.hop_samples + margin
        heard = samples[max(first, 0) : max(last, 0)]
        segment = np.zeros(last - first, dtype=np.float32)
        segment[max(-first, 0) : max(-first, 0) + len(heard)] = heard
        hops = (torch.from_numpy(segment) * gain).unfold(0, window_samples, self.hop_samples)
        spectrum = torch.fft.rfft(hops * torch.hann_window(window_samples), FFT_SIZE).abs().square()
        energies = spectrum @ _mel_bands(self.sample_rate_hz, self.channels, self.low_hz, self.high_hz)
        levels_db = 10 * torch.log10(energies + 10 ** (self.floor_db / 10))
        return ((levels_db - self.mean_db) / self.std_db).reshape(stop - start, self.blocks, self.channels)


def _samples_at(audio: Audio, sample_rate_hz: int) -> np.ndarray:
    """Mono float32 samples [S] at the wanted rate."""
    if audio.samples.ndim != 1:
        raise InputError(
            f"audio of shape {audio.samples.shape}: the front end takes mono samples [S]; mix it down"
        )
    samples = np.asarray(audio.samples, dtype=np.float32)
    if audio.sample_rate_hz == sample_rate_hz or not len(samples):
        return samples
    return soxr.resample(samples, audio.sample_rate_hz, sample_rate_hz)


def _speech_gain(samples: np.ndarray, front_end: LogMelFrontEnd) -> float:
    """See `LogMelFrontEnd.speech_gain`."""
    hop = front_end.hop_samples
    hops = samples[: len(samples) // hop * hop].reshape(-1, hop)
    power = np.einsum("nh,nh->n", hops, hops, dtype=np.float32) / hop
    if not np.isfinite(power).all() or not np.isfinite(samples[len(hops) * hop :]).all():
        raise InputError(
            "audio holds NaN or infinite samples: only finite samples are allowed; clean the file first"
        )
    audible = np.sort(power[power > power.max(initial=0.0) * 1e-4])[::-1]
    if not len(audible):
        return 1.0
    loud = audible[min(25, (len(audible) + 1) // 2) - 1]
    active = np.minimum(audible[audible > loud * 10**-1.6], loud)
    gain_db = front_end.reference_level_db - 10 * math.log10(float(active.mean(dtype=np.float64)))
    return 10 ** (min(gain_db, front_end.gain_limit_db) / 20)


@lru_cache(maxsize=8)
def _mel_bands(sample_rate_hz: int, channels: int, low_hz: float, high_hz: float) -> Tensor:
    """[bins, channels]: power spectrum of a Hann window -> mean square in each band, with pre-emphasis."""

    def mel(hz: np.ndarray | float) -> np.ndarray:
        return 2595 * np.log10(1 + np.asarray(hz) / 700)

    corners = np.linspace(mel(low_hz), mel(high_hz), channels + 2)
    bins_hz = np.fft.rfftfreq(FFT_SIZE, 1 / sample_rate_hz)
    rising = (mel(bins_hz)[:, None] - corners[:-2]) / np.diff(corners[:-1])
    falling = (corners[2:] - mel(bins_hz)[:, None]) / np.diff(corners[1:])
    triangles = np.minimum(rising, falling).clip(0)
    preemphasis = np.abs(1 - 0.97 * np.exp(-2j * np.pi * bins_hz / sample_rate_hz)) ** 2
    window_power = float(torch.hann_window(round(WINDOW_S * sample_rate_hz)).square().sum())
    # Factor 2: the spectrum is one-sided. So a band that holds all of a signal shows its mean square.
    scale = 2 / (FFT_SIZE * window_power)
    return torch.from_numpy(triangles * preemphasis[:, None] * scale).float()


class Wav2Vec2FrontEnd:
    """The released models' ears: the layers of a wav2vec2 encoder at video rate; needs the extra `released`.

    With `rate_hz` 50 they come about as often as the encoder makes them.

    `folder` holds `config.json` and `model.safetensors` as Hugging Face publishes them (wav2vec2-base-960h:
    12 blocks of 768 channels, 16 kHz). Nothing is ever downloaded. Features are `hidden_states[1:]`, with the
    49.95 Hz output of the convolutions brought to the frame count (linear, align_corners=True) *before* the
    encoder.

    Source: hallo4 utils/wav2vec.py:72-74,193-206 and prep.py:403-404. Different here: a sound longer than a
    minute is heard in pieces of a minute with five seconds of context on each side, so that memory and time
    stay in bounds, and no voice is separated from music beforehand.

    CheckpointError: no such folder, foreign or incomplete weights. MissingExtraError: no transformers.
    """

    def __init__(self, folder: str | Path, rate_hz: float = FPS) -> None:
        self.folder, self.rate_hz = Path(folder), rate_hz
        config = _read_json(self.folder / "config.json")
        if config.get("model_type") != "wav2vec2":
            raise CheckpointError(
                f"{self.folder / 'config.json'}: model_type is {config.get('model_type')!r}; allowed is "
                f"'wav2vec2'; point to a folder such as wav2vec2-base-960h"
            )
        self.blocks: int = config.get("num_hidden_layers", 12)
        self.channels: int = config.get("hidden_size", 768)
        preprocessor = self.folder / "preprocessor_config.json"
        options = _read_json(preprocessor) if preprocessor.exists() else {}
        self.sample_rate_hz: int = options.get("sampling_rate", 16000)
        self._normalise: bool = options.get("do_normalize", True)
        self._model: nn.Module | None = None

    def features(self, audio: Audio, frames: int) -> Tensor:
        """[frames, blocks, channels] float32. A sound gives ceil(S / 640) rows (25 Hz); more are silence,
        fewer cut.

        InputError: samples that are not finite or not mono. ShapeError: frames < 1.
        """
        if frames < 1:
            raise ShapeError(f"wav2vec2 features of {frames} frames: ask for 1 or more")
        samples = _samples_at(audio, self.sample_rate_hz)
        if not np.isfinite(samples).all():
            raise InputError(
                "audio holds NaN or infinite samples: only finite samples are allowed; clean the file"
            )
        if self._normalise and len(samples):
            samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
        frame_samples = self.sample_rate_hz / self.rate_hz
        natural = math.ceil(len(samples) / frame_samples)
        if frames > natural:
            samples = np.pad(samples, (0, math.ceil(frames * frame_samples) - len(samples)))
        total = max(frames, natural)
        piece, context = round(PIECE_S * self.rate_hz), round(CONTEXT_S * self.rate_hz)
        if total <= piece:
            return self._encode(samples, total)[:frames]
        pieces = []
        for start in range(0, frames, piece):
            first, last = max(start - context, 0), min(start + piece + context, total)
            heard = samples[round(first * frame_samples) : round(last * frame_samples)]
            rows = self._encode(heard, last - first)[start - first :]
            pieces.append(rows[: min(piece, frames - start)])
        return torch.cat(pieces)

    def to_config(self) -> dict[str, Any]:
        """What `audio/config.json` holds; `audio_front_end_from_config` reads it back."""
        return {"kind": "wav2vec2", "path": str(self.folder), "rate_hz": self.rate_hz}

    @torch.no_grad()
    def _encode(self, samples: np.ndarray, frames: int) -> Tensor:
        """Normalised samples -> [frames, blocks, channels]."""
        if self._model is None:
            self._model = _load_wav2vec2(self.folder)
        if len(samples) < 400:  # one step of the convolutions
            samples = np.pad(samples, (0, 400 - len(samples)))

        def to_video_rate(_module: nn.Module, _inputs: tuple, maps: Tensor) -> Tensor:
            return nn.functional.interpolate(maps, size=frames, mode="linear", align_corners=True)

        hook = self._model.feature_extractor.register_forward_hook(to_video_rate)
        try:
            result = self._model(torch.from_numpy(samples).float()[None], output_hidden_states=True)
        finally:
            hook.remove()
        return torch.stack([layer[0] for layer in result.hidden_states[1:]], dim=1)


def _load_wav2vec2(folder: Path) -> nn.Module:
    """The encoder in evaluation mode, every tensor of it from the folder."""
    try:
        from transformers import Wav2Vec2Model
    except ImportError as error:
        raise MissingExtraError(
            "wav2vec2 features need transformers, which is not installed: pip install 'hallo4[released]'"
        ) from error
    try:
        model, report = Wav2Vec2Model.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True, dtype=torch.float32
        )
    except Exception as error:  # a dozen kinds are raised here, all about this folder
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{folder}: cannot be read as wav2vec2 ({reason}); expected config.json and model.safetensors"
        ) from error
    # The mask embedding serves pre-training only, and published checkpoints for recognition leave it out.
    missing = sorted(key for key in report["missing_keys"] if key != "masked_spec_embed")
    if missing:
        raise CheckpointError(
            f"{folder}: {len(missing)} tensors are missing, first {missing[0]}; use the whole file"
        )
    return model.eval()


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object; CheckpointError when the file is not one."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise CheckpointError(
            f"{path}: cannot be read as JSON ({reason}); give the folder of a model"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}; expected a JSON object")
    return content


def audio_front_end_from_config(config: dict[str, Any], folder: str | Path = ".") -> AudioFrontEnd:
    """The front end that a model's `audio/config.json` names; a relative `path` in it counts from `folder`.

    `{"kind": "log_mel", ...fields of LogMelFrontEnd}` or `{"kind": "wav2vec2", "path": ..., "rate_hz": 25}`.
    CheckpointError: an unknown kind or key, or a missing path.
    """
    options = dict(config)
    kind = options.pop("kind", None)
    allowed = {"log_mel": {field.name for field in fields(LogMelFrontEnd)}, "wav2vec2": {"path", "rate_hz"}}
    if kind not in allowed:
        raise CheckpointError(
            f"audio front end of kind {kind!r} is unknown; allowed are {', '.join(allowed)}"
        )
    unknown = sorted(options.keys() - allowed[kind])
    if unknown:
        raise CheckpointError(
            f"audio front end {kind}: unknown key {unknown[0]!r}; allowed: {', '.join(sorted(allowed[kind]))}"
        )
    if kind == "log_mel":
        return LogMelFrontEnd(**options)
    if "path" not in options:
        raise CheckpointError(
            "audio front end wav2vec2: 'path' is missing; give the folder of the wav2vec2 model"
        )
    return Wav2Vec2FrontEnd(Path(folder) / options["path"], options.get("rate_hz", FPS))
