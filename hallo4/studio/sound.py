"""The sound check: some short tones, which a rater who hears them can count."""

from __future__ import annotations

import io
import secrets

import numpy as np
import soundfile

RATE_HZ = 16_000
FEWEST, MOST = 2, 5


def random_count() -> int:
    """How many tones there are this time."""
    return FEWEST + secrets.randbelow(MOST - FEWEST + 1)


def tones(count: int) -> bytes:
    """A WAV file of always the same length with `count` tones of a fifth of a second, evenly spread."""
    tone_s, length_s = 0.2, 3.0
    time_s = np.arange(round(tone_s * RATE_HZ)) / RATE_HZ
    fade = np.minimum(1.0, np.minimum(time_s, tone_s - time_s) / 0.02)
    tone = 0.4 * fade * np.sin(2 * np.pi * 660 * time_s)
    samples = np.zeros(round(length_s * RATE_HZ))
    for at in range(count):
        start = round((0.3 + 0.5 * at) * RATE_HZ)
        samples[start : start + len(tone)] += tone
    samples += np.random.default_rng().normal(0.0, 1e-4, len(samples))  # no two files are alike
    out = io.BytesIO()
    soundfile.write(out, samples, RATE_HZ, format="WAV", subtype="PCM_16")
    return out.getvalue()
