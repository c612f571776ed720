"""Does the mouth follow real recorded speech? There is no truth to compare with, only the sound itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hallo4.errors import ShapeError
from hallo4.evaluation.look.instrument import load_observer, measure
from hallo4.evaluation.measures.arrays import CLOSED_BELOW, correlation
from hallo4.evaluation.measures.speech import loudness_dbfs, speech_and_pauses
from hallo4.models.observer import PortraitObserver
from hallo4.types import FPS, Audio


@dataclass(frozen=True)
class SpeechResponse:
    """A video's mouth beside its sound, T frames at 25 fps.

    `mouth_open` [T] in [0, 1] as measured; `loudness_dbfs` [T]; `speech` and `pause` [T] bool, frames between
    them being neither. `open_in_speech`, `open_in_pauses`: share of those frames with an opening of 0.15 or
    more; `mean_in_speech`, `mean_in_pauses`: mean opening; `loudness_correlation`: of opening and the
    amplitude envelope. NaN where there is no such frame.
    """

    mouth_open: np.ndarray
    loudness_dbfs: np.ndarray
    speech: np.ndarray
    pause: np.ndarray
    open_in_speech: float
    open_in_pauses: float
    mean_in_speech: float
    mean_in_pauses: float
    loudness_correlation: float


def measure_speech_response(
    frames_u8: np.ndarray, audio: Audio, observer: PortraitObserver | None = None
) -> SpeechResponse:
    """Measure the mouth of a video [T, H, W, 3] uint8 at 25 fps against its sound.

    ShapeError if video and sound differ in length by more than a frame; InputError for sound that is not
    finite. `observer`: the package's own where None.
    """
    frames = len(frames_u8)
    sound_frames = audio.duration_s * FPS
    if abs(sound_frames - frames) > 1:
        raise ShapeError(
            f"The video lasts {frames / FPS:.2f} s and its sound {audio.duration_s:.2f} s; "
            "they must have the same length, to one frame."
        )
    loudness = loudness_dbfs(audio, frames)
    speech, pause = speech_and_pauses(loudness)
    mouth_open = measure(load_observer() if observer is None else observer, frames_u8).mouth_open
    opened = mouth_open >= CLOSED_BELOW
    return SpeechResponse(
        mouth_open=mouth_open,
        loudness_dbfs=loudness,
        speech=speech,
        pause=pause,
        open_in_speech=_mean(opened[speech]),
        open_in_pauses=_mean(opened[pause]),
        mean_in_speech=_mean(mouth_open[speech]),
        mean_in_pauses=_mean(mouth_open[pause]),
        loudness_correlation=correlation(mouth_open, 10 ** (loudness / 20)),
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
