"""Log-mel energies of a sound: the front end that needs no download."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from hallo4.errors import CheckpointError
from hallo4.models.sound_checks import BLOCK, audio_at_rate, check_rows, check_source, finite_only
from hallo4.ranges import NotNegative, Range
from hallo4.types import FPS, Audio, SampleSource

WINDOW_S = 0.025
FFT_SIZE = 512
PIECE_S = 60
"""Features of how much sound are made at a time."""
_Level = Annotated[float, Range(-1000, 1000)]


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

    sample_rate_hz: Annotated[int, Range(1000, 20_480)] = 16000
    rate_hz: Annotated[float, Range(1, 1000)] = FPS
    blocks: Annotated[int, Range(1, 100)] = 4
    channels: Annotated[int, Range(1, FFT_SIZE // 2)] = 40
    low_hz: NotNegative = 60.0
    high_hz: NotNegative = 7600.0
    reference_level_db: _Level = -23.0
    gain_limit_db: _Level = 20.0
    floor_db: _Level = -75.0
    mean_db: _Level = -62.0
    std_db: Annotated[float, Range(0, 1000, above=True)] = 12.0

    # The embedded models have always been given the sound of the written video (48 kHz), and a file brought
    # straight to 16 kHz would give them slightly other features.
    from_video_sound: ClassVar[bool] = True

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

    def stream(self, sound: SampleSource, frames: int) -> LogMelStream:
        """The features of frames 0..`frames` - 1 of a sound, each from just the samples that it sees.

        Frames behind the end of the sound are silence; sound behind the last frame counts for the gain alone.
        InputError: samples that are not finite. ShapeError: another sample rate, or frames < 1.
        """
        check_source(sound, self.sample_rate_hz, frames)
        return LogMelStream(self, sound, self.speech_gain(sound), frames)

    def features(self, audio: Audio, frames: int) -> Tensor:
        """[frames, blocks, channels] float32 of a sound in memory at any rate; errors as for `stream`.

        InputError also for sound that is not mono.
        """
        return self.stream(audio_at_rate(audio, self.sample_rate_hz), frames).features(0, frames)

    def speech_gain(self, sound: SampleSource) -> float:
        """The factor that brings the active speech level of a sound at `sample_rate_hz` to
        `reference_level_db`.

        Of the powers of hops, those within 40 dB of the peak are audible; `loud` is the 25th largest of them
        (the median in a shorter sound), so a click decides nothing. Active is what lies within 16 dB of it,
        and the level is the mean of the active powers, each at most `loud`. Silence around speech changes
        nothing. Only the powers are held, four bytes for each hop. InputError: samples that are not finite.
        """
        power = np.concatenate([*self._hop_powers(sound), np.zeros(0, np.float32)])
        audible = np.sort(power[power > power.max(initial=0.0) * 1e-4])[::-1]
        if not len(audible):
            return 1.0
        loud = audible[min(25, (len(audible) + 1) // 2) - 1]
        active = np.minimum(audible[audible > loud * 10**-1.6], loud)
        gain_db = self.reference_level_db - 10 * math.log10(float(active.mean(dtype=np.float64)))
        return 10 ** (min(gain_db, self.gain_limit_db) / 20)

    def to_config(self) -> dict[str, Any]:
        """What `audio/config.json` holds; `audio_front_end_from_config` reads it back."""
        return {"kind": "log_mel", **asdict(self)}

    @property
    def hop_samples(self) -> int:
        """Samples between two analysis windows (160: 10 ms)."""
        return round(self.sample_rate_hz / self.rate_hz) // self.blocks

    def _hop_powers(self, sound: SampleSource) -> Iterator[np.ndarray]:
        """Mean squares [n] float32 of the whole hops of a sound, block by block."""
        hop = self.hop_samples
        step = BLOCK // hop * hop
        for start in range(0, len(sound), step):
            samples = sound.read(start, start + step)
            if not np.isfinite(samples).all():
                raise finite_only()
            hops = samples[: len(samples) // hop * hop].reshape(-1, hop)
            yield np.einsum("nh,nh->n", hops, hops, dtype=np.float32) / hop


@dataclass(frozen=True)
class LogMelStream:
    """The features of one sound; see `LogMelFrontEnd.stream`. `gain` is that of the whole sound."""

    front_end: LogMelFrontEnd
    sound: SampleSource
    gain: float
    rows: int

    def features(self, start: int, stop: int) -> Tensor:  # [stop - start, blocks, channels]
        """See `FeatureStream`. Slices equal the whole, bit for bit."""
        check_rows(start, stop, self.rows)
        piece = round(PIECE_S * self.front_end.rate_hz)
        return torch.cat(
            [self._piece(first, min(first + piece, stop)) for first in range(start, stop, piece)]
        )

    def _piece(self, start: int, stop: int) -> Tensor:
        """As `features`, of at most a minute."""
        front_end = self.front_end
        hop, frame = front_end.hop_samples, front_end.blocks * front_end.hop_samples
        window_samples = round(WINDOW_S * front_end.sample_rate_hz)
        margin = (window_samples - hop) // 2
        first, last = start * frame - margin, stop * frame + margin
        samples = self.sound.read(first, last)
        segment = np.zeros(last - first, dtype=np.float32)
        segment[max(-first, 0) : max(-first, 0) + len(samples)] = samples
        hops = (torch.from_numpy(segment) * self.gain).unfold(0, window_samples, hop)
        spectrum = torch.fft.rfft(hops * torch.hann_window(window_samples), FFT_SIZE).abs().square()
        bands = (front_end.channels, front_end.low_hz, front_end.high_hz)
        energies = spectrum @ _mel_bands(front_end.sample_rate_hz, *bands)
        levels_db = 10 * torch.log10(energies + 10 ** (front_end.floor_db / 10))
        levels = (levels_db - front_end.mean_db) / front_end.std_db
        return levels.reshape(stop - start, front_end.blocks, front_end.channels)


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
