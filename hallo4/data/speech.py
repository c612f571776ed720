"""Where a person speaks in a sound: by silero-vad where it is installed, else where it is loud."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np

from hallo4.errors import MissingExtraError
from hallo4.types import SampleSource

SpeechBy = Literal["silero", "energy"]
RATE_HZ = 16_000
_PIECE_S = 60
_STEP_S = 0.02
_QUIETER_DB = 25.0
"""Sound counts that is at most so much quieter than the loud parts ..."""
_FLOOR_DBFS = -45.0
"""... and louder than this."""


def speech_method(wanted: Literal["auto", "silero", "energy"] = "auto") -> SpeechBy:
    """What speech is found by. `auto`: silero-vad where it is installed. MissingExtraError: it is wanted, and
    it is not."""
    there = find_spec("silero_vad") is not None
    if wanted == "silero" and not there:
        raise MissingExtraError("Finding speech by silero-vad needs it: pip install 'hallo4[data]'.")
    return "silero" if there and wanted != "energy" else "energy"


def method_version(method: SpeechBy) -> str:
    """For the record: `silero 6.2.3`, or `energy`."""
    return f"silero {version('silero-vad')}" if method == "silero" else method


def speech_spans(sound: SampleSource, method: SpeechBy) -> list[tuple[float, float]]:
    """(begin, end) in seconds of every span of speech in a sound at 16 kHz, looked at minute by minute.

    `energy` tells sound from silence, not speech from music: spans in which 20 ms are at most 25 dB quieter
    than the loud parts of that minute, and above -45 dB of full scale.
    """
    assert sound.sample_rate_hz == RATE_HZ
    find = _by_silero if method == "silero" else _by_energy
    spans: list[tuple[float, float]] = []
    for start in range(0, len(sound), _PIECE_S * RATE_HZ):
        piece, at = sound.read(start, start + _PIECE_S * RATE_HZ), start / RATE_HZ
        spans += [(at + begin, at + end) for begin, end in find(piece)]
    return spans


def covered(spans: list[tuple[float, float]], begin_s: float, end_s: float) -> float:
    """The share of begin..end that lies in `spans`, which do not overlap."""
    inside = sum(max(0.0, min(end, end_s) - max(begin, begin_s)) for begin, end in spans)
    return inside / (end_s - begin_s)


def _by_silero(samples: np.ndarray) -> list[tuple[float, float]]:
    import torch
    from silero_vad import get_speech_timestamps

    found = get_speech_timestamps(torch.from_numpy(samples), _silero(), sampling_rate=RATE_HZ)
    return [(span["start"] / RATE_HZ, span["end"] / RATE_HZ) for span in found]


@cache
def _silero() -> Any:
    from silero_vad import load_silero_vad

    return load_silero_vad()


def _by_energy(samples: np.ndarray) -> list[tuple[float, float]]:
    step = round(_STEP_S * RATE_HZ)
    steps = len(samples) // step
    if not steps:
        return []
    power = np.square(samples[: steps * step], dtype=np.float64).reshape(steps, step).mean(axis=1)
    level_db = 10 * np.log10(power + 1e-12)
    loud = level_db >= max(_FLOOR_DBFS, np.percentile(level_db, 95) - _QUIETER_DB)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], loud.astype(int), [0]]))).tolist()
    return [(a * _STEP_S, b * _STEP_S) for a, b in zip(edges[::2], edges[1::2], strict=True)]
