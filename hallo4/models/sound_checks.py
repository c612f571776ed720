"""What every sound front end asks of a sound, and of a request for its features."""

from __future__ import annotations

import numpy as np
import soxr

from hallo4.errors import InputError, ShapeError
from hallo4.types import Audio, SampleSource

BLOCK = 1 << 16
"""Samples that a pass over a whole sound reads at a time."""


def audio_at_rate(audio: Audio, sample_rate_hz: int) -> Audio:
    """A sound in memory at the wanted rate. InputError: not mono samples [S]."""
    if audio.samples.ndim != 1:
        raise InputError(
            f"audio of shape {audio.samples.shape}: the front end takes mono samples [S]; mix it down"
        )
    if audio.sample_rate_hz == sample_rate_hz or not len(audio):
        return Audio(audio.samples, sample_rate_hz)
    samples = np.asarray(audio.samples, np.float32)
    return Audio(soxr.resample(samples, audio.sample_rate_hz, sample_rate_hz), sample_rate_hz)


def check_source(sound: SampleSource, sample_rate_hz: int, frames: int) -> None:
    """ShapeError: a sound at another rate than the front end's, or fewer than one feature asked for."""
    if sound.sample_rate_hz != sample_rate_hz:
        raise ShapeError(
            f"the sound has {sound.sample_rate_hz} samples per second and the front end takes "
            f"{sample_rate_hz}; bring it there with hallo4.media.resampled"
        )
    if frames < 1:
        raise ShapeError(f"features of {frames} frames were asked for; ask for 1 or more")


def check_rows(start: int, stop: int, rows: int) -> None:
    """ShapeError: a slice of features that is empty or leaves the sound."""
    if not 0 <= start < stop <= rows:
        raise ShapeError(
            f"features {start}..{stop} of {rows} were asked for; allowed are 0 <= start < stop <= {rows}"
        )


def finite_only() -> InputError:
    """The error for samples that are no numbers."""
    return InputError(
        "audio holds NaN or infinite samples: only finite samples are allowed; clean the file first"
    )
