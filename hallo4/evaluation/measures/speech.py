"""How loud a sound is in every frame of a video, and where in it a person speaks."""

from __future__ import annotations

import numpy as np

from hallo4.errors import InputError
from hallo4.evaluation.measures.arrays import silent_frames
from hallo4.types import FPS, Audio

SPEECH_BELOW_PEAK_DB = 25.0
"""A frame is speech when it is within this of the clip's loud frames (their 95th percentile)."""

SILENCE_DBFS = -60.0
"""And louder than this: a recording of nothing has no speech."""

LOUD_RANGE_DB = 40.0
_PAUSE_MARGIN_FRAMES = 2


def loudness_dbfs(audio: Audio, frames: int) -> np.ndarray:
    """[T] float32: root mean square of the sound during each video frame, in dB below full scale, at least
    -100."""
    samples = np.asarray(audio.samples, np.float64)
    bad = int((~np.isfinite(samples)).sum())
    if bad:
        raise InputError(
            f"The sound holds {bad} samples that are not finite, of {len(samples)}. Repair the recording."
        )
    edges = np.rint(np.arange(frames + 1) * audio.sample_rate_hz / FPS).astype(int)
    energy = np.concatenate([[0.0], np.cumsum(samples**2)])[np.minimum(edges, len(samples))]
    mean_square = np.diff(energy) / np.maximum(np.diff(edges), 1)
    return (10 * np.log10(np.maximum(mean_square, 1e-10))).astype(np.float32)


def loudness_curve(loudness_dbfs: np.ndarray) -> np.ndarray:
    """[T] dB -> [T] dB, cut 40 dB below the loudest frame: what a mouth's opening roughly follows in
    speech.
    """
    return np.maximum(loudness_dbfs, loudness_dbfs.max() - LOUD_RANGE_DB)


def speech_and_pauses(loudness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[T] bool each: loud frames, and quiet ones with no loud frame within two of them."""
    threshold_db = max(float(np.quantile(loudness, 0.95)) - SPEECH_BELOW_PEAK_DB, SILENCE_DBFS)
    speech = loudness > threshold_db
    return speech, silent_frames(speech, _PAUSE_MARGIN_FRAMES)
