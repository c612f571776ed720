"""Sounds that front ends are tested with."""

import numpy as np

from hallo4.types import Audio

RATE_HZ = 16000


def speech_like(seconds: float, seed: int = 0, level: float = 0.1) -> np.ndarray:
    """Noise bursts of 120 ms with pauses of 80 ms: loud, quiet, loud, as syllables are."""
    rng = np.random.default_rng(seed)
    samples = rng.standard_normal(round(seconds * RATE_HZ)) * level
    phase_s = np.arange(len(samples)) / RATE_HZ % 0.2
    return (samples * (phase_s < 0.12)).astype(np.float32)


def tone(hz: float, seconds: float = 1.0, level: float = 0.1) -> Audio:
    seconds_axis = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return Audio((level * np.sin(2 * np.pi * hz * seconds_axis)).astype(np.float32), RATE_HZ)
