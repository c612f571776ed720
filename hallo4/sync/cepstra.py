"""Mel-frequency cepstra exactly as SyncNet was trained on them: `python_speech_features.mfcc` with its
defaults.

SyncNet's published weights expect these very numbers, on sound in the range of 16-bit integers: other
libraries differ in windows, filters and scale (librosa's c0 by hundreds). Every operation here is in the
order of the original's, so the result is the same bit for bit.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from hallo4.errors import InputError, ShapeError
from hallo4.types import Audio

SAMPLE_RATE_HZ = 16_000
STEP_SAMPLES = 160
"""10 ms from window to window: 100 cepstra a second, four per video frame."""

COEFFICIENTS = 13
_WINDOW_SAMPLES, _FFT, _FILTERS = 400, 512, 26
_PRE_EMPHASIS, _LIFTER = 0.97, 22
_TINY = np.finfo(float).eps


def syncnet_mfcc(audio: Audio) -> np.ndarray:
    """[S] samples in [-1, 1] at 16 kHz -> cepstra [n, 13] float64, one every 10 ms, of the sound as 16-bit
    integers.

    n = 1 + ceil((S - 400) / 160), the last window padded with zeros. Raises ShapeError for another sample
    rate.
    """
    if audio.sample_rate_hz != SAMPLE_RATE_HZ:
        raise ShapeError(
            f"SyncNet takes sound at {SAMPLE_RATE_HZ} Hz; found {audio.sample_rate_hz} Hz. "
            "Load it with load_audio(path, 16000)."
        )
    scaled = np.rint(np.asarray(audio.samples, np.float64) * 32768.0)
    return mfcc(np.clip(scaled, -32768, 32767).astype(np.int16))


def mfcc(samples: np.ndarray) -> np.ndarray:
    """[S] numbers at 16 kHz (int16, for SyncNet) -> [n, 13] float64; the first is the log of the window's
    energy.

    Pre-emphasis 0.97, rectangular windows of 25 ms every 10 ms, 512-point power spectrum, 26 triangular mel
    filters from 0 to 8 kHz, log, orthonormal DCT-II, lifter 22 (J. Lyons, python_speech_features 0.6, MIT).
    Raises InputError for no samples or ones that are not finite.
    """
    from scipy.fft import dct

    samples = np.asarray(samples)
    if samples.ndim != 1 or not len(samples) or not np.isfinite(samples).all():
        raise InputError(
            f"Cepstra need finite samples [S], at least one; found an array {list(samples.shape)}. "
            "Give a file with sound in it."
        )
    emphasised = np.append(samples[0], samples[1:] - _PRE_EMPHASIS * samples[:-1])
    spectrum = np.fft.rfft(_windows(emphasised), _FFT)
    power = 1.0 / _FFT * np.square(np.absolute(spectrum))
    energy = np.sum(power, 1)
    energy = np.where(energy == 0, _TINY, energy)
    bands = np.dot(power, _mel_filters().T)
    bands = np.where(bands == 0, _TINY, bands)
    cepstra = dct(np.log(bands), type=2, axis=1, norm="ortho")[:, :COEFFICIENTS]
    order = np.arange(COEFFICIENTS)
    cepstra = (1 + (_LIFTER / 2.0) * np.sin(np.pi * order / _LIFTER)) * cepstra
    cepstra[:, 0] = np.log(energy)
    return cepstra


def _windows(samples: np.ndarray) -> np.ndarray:
    """[S] -> [n, 400], padded with zeros."""
    count = 1
    if len(samples) > _WINDOW_SAMPLES:
        count = 1 + math.ceil((1.0 * len(samples) - _WINDOW_SAMPLES) / STEP_SAMPLES)
    padded = np.zeros((count - 1) * STEP_SAMPLES + _WINDOW_SAMPLES)
    padded[: len(samples)] = samples
    return np.lib.stride_tricks.sliding_window_view(padded, _WINDOW_SAMPLES)[::STEP_SAMPLES].copy()


@lru_cache(maxsize=1)
def _mel_filters() -> np.ndarray:
    """[26, 257]: triangles whose corners are spaced evenly in mel and rounded down to a bin."""
    highest_mel = 2595 * np.log10(1 + (SAMPLE_RATE_HZ / 2) / 700.0)
    corners_hz = 700 * (10 ** (np.linspace(0.0, highest_mel, _FILTERS + 2) / 2595.0) - 1)
    corners = np.floor((_FFT + 1) * corners_hz / SAMPLE_RATE_HZ)
    filters = np.zeros([_FILTERS, _FFT // 2 + 1])
    for band in range(_FILTERS):
        low, middle, high = corners[band : band + 3]
        for k in range(int(low), int(middle)):
            filters[band, k] = (k - low) / (middle - low)
        for k in range(int(middle), int(high)):
            filters[band, k] = (high - k) / (high - middle)
    return filters
