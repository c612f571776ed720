"""Speech of the world as audio features with mouth truth: what the audio projector is trained on.

The voices are formant synthesis, but the model must follow real recordings, so each speech also comes
with changed speed and pitch, through rooms and microphones (spectral tilt and peaks) and with noise.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soxr

from hallo4.engine import Stage, open_engine
from hallo4.errors import InputError
from hallo4.input_file import open_input
from hallo4.lock import in_turn
from hallo4.models.audio_features import audio_windows
from hallo4.models.log_mel import LogMelFrontEnd
from hallo4.types import FPS, Audio
from hallo4.whole import whole_file
from hallo4.world.episode import act
from hallo4.world.speech import Phoneme, Speech
from hallo4.world.visemes import mouth_curves, speaking_frames

SECONDS = 3.4
VARIANTS = 3
"""Recordings of each speech: one clean, the others degraded."""


def change_speed(speech: Speech, factor: float) -> Speech:
    """Play `speech` `factor` times faster: pitch and formants rise with it, and phonemes move."""
    rate = speech.audio.sample_rate_hz
    samples = soxr.resample(speech.audio.samples, rate * factor, rate)
    phonemes = tuple(Phoneme(p.symbol, p.start_s / factor, p.end_s / factor) for p in speech.phonemes)
    return Speech(Audio(samples.astype(np.float32), rate), phonemes)


def degrade(samples: np.ndarray, sample_rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """A recording of `samples` [S] in some room, through some microphone, with some noise; same length."""
    out = samples.astype(np.float64)
    if rng.random() < 0.5:  # a room: exponentially fading noise after the direct sound
        length = int(rng.uniform(0.08, 0.35) * sample_rate_hz)
        tail = rng.normal(size=length) * np.exp(-np.arange(length) / (length / 5)) * rng.uniform(0.02, 0.12)
        tail[0] = 1.0
        out = np.fft.irfft(np.fft.rfft(out, 2 * len(out)) * np.fft.rfft(tail, 2 * len(out)))[: len(out)]
    frequencies = np.fft.rfftfreq(len(out), 1 / sample_rate_hz)
    octaves = np.log2(np.maximum(frequencies, 60) / 1000)
    gain_db = rng.uniform(-4, 4) * octaves
    for _ in range(3):
        gain_db += rng.uniform(-9, 9) * np.exp(
            -0.5 * ((octaves - rng.uniform(-3, 3)) / rng.uniform(0.3, 1.0)) ** 2
        )
    if rng.random() < 0.2:  # a telephone
        gain_db -= 40 * ((frequencies < 300) | (frequencies > 3400))
    out = np.fft.irfft(np.fft.rfft(out) * 10 ** (np.clip(gain_db, -40, 20) / 20), len(out))
    out *= rng.uniform(0.1, 0.9) / (np.abs(out).max() + 1e-6)
    level = np.sqrt(np.mean(out**2)) + 1e-6
    spectrum = np.fft.rfft(rng.normal(size=len(out))) / np.maximum(frequencies, 50) ** rng.uniform(0.0, 1.0)
    noise = np.fft.irfft(spectrum, len(out))
    noise *= level * 10 ** (-rng.uniform(12, 45) / 20) / (np.sqrt(np.mean(noise**2)) + 1e-12)
    return (out + noise).astype(np.float32)


def recording(seed: int, variant: int) -> tuple[np.ndarray, np.ndarray]:
    """(features [T, blocks, channels] float16, curves [T, 3] float32: mouth_open, mouth_wide, speaking);
    variant 0 is clean."""
    _, speech, performance, _ = act(seed, SECONDS)
    frames = len(performance)
    rng = np.random.default_rng([seed, variant, 0xEA])
    if variant:
        speech = change_speed(speech, rng.uniform(0.86, 1.18))
        samples = np.pad(speech.audio.samples, (0, frames * 882))[
            : round(frames / FPS * speech.audio.sample_rate_hz)
        ]
        samples = degrade(samples, speech.audio.sample_rate_hz, rng)
        speech = Speech(Audio(samples, speech.audio.sample_rate_hz), speech.phonemes)
    opening, width = mouth_curves(speech.phonemes, frames, vigour=0.93)
    curves = np.stack([opening, width, speaking_frames(speech.phonemes, frames)], 1)
    return LogMelFrontEnd().features(speech.audio, frames).numpy().astype(np.float16), curves


def _recordings(seed: int) -> tuple[np.ndarray, np.ndarray]:
    features, curves = zip(*(recording(seed, variant) for variant in range(VARIANTS)))
    return np.stack(features), np.stack(curves)


def _recorder(settings: None) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    return _recordings


def build_sounds(
    path: str | Path,
    episodes: int,
    first_seed: int,
    workers: int = 2,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, np.ndarray]:
    """`windows`-ready features of `episodes` speeches, cached in the file `path` (.npz); of several processes
    one makes it, the others wait for it.

    Returns `features` [n, T, blocks, channels] float16 and `curves` [n, T, 3] float32, n = episodes *
    VARIANTS. InputError if the file was made of another number of speeches.
    """
    path = Path(path)
    if not path.exists():
        with in_turn(path):
            if not path.exists():
                _make_sounds(path, range(first_seed, first_seed + episodes), workers, on_progress)
    with open_input(path, "sounds") as opened, np.load(opened, allow_pickle=False) as stored:
        sounds = {"features": stored["features"], "curves": stored["curves"]}
    if (found := len(sounds["features"])) != (wanted := episodes * VARIANTS):
        raise InputError(f"{path} holds {found} recordings, not {wanted}; delete it to make the sounds again")
    return sounds


def _make_sounds(
    path: Path, seeds: range, workers: int, on_progress: Callable[[int, int], None] | None
) -> None:
    features, curves = [], []
    with open_engine(workers) as engine:
        for done, outcome in enumerate(engine.map(Stage(_recorder, cpus=1), seeds), 1):
            f, c = outcome.result()
            features.append(f)
            curves.append(c)
            if on_progress and done % 100 == 0:
                on_progress(done, len(seeds))
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, features=np.concatenate(features), curves=np.concatenate(curves))


__all__ = ["audio_windows", "build_sounds", "change_speed", "degrade", "recording"]
