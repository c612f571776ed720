"""Sound -> features at the frame rate or a multiple of it, and the five-step windows that networks read.

::

    samples [S] --front end--> features [T, blocks, channels] --audio_windows--> [T, 5, blocks, channels]

Two front ends share that path: `LogMelFrontEnd` needs no download (the tiny models), `Wav2Vec2FrontEnd` is
what the released weights were trained on. A model folder names its own in `audio/config.json`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hallo4.errors import CheckpointError, ShapeError
from hallo4.json_file import checked
from hallo4.models.log_mel import LogMelFrontEnd
from hallo4.models.wav2vec2 import Wav2Vec2FrontEnd
from hallo4.ranges import Positive
from hallo4.types import FPS, AudioFrontEnd, FeatureStream


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
    return features[torch.from_numpy(_neighbours(np.arange(start, stop), radius, total))]


def audio_windows_of(stream: FeatureStream, indices: np.ndarray, radius: int = 2) -> Tensor:
    """Windows [n, 2 radius + 1, blocks, channels] around the rows `indices` [n] of a stream.

    As `audio_windows` of all rows, from just the features that are needed. ShapeError: no rows, or one
    outside of the sound.
    """
    if indices.ndim != 1 or not len(indices) or indices.min() < 0 or indices.max() >= stream.rows:
        raise ShapeError(
            f"audio windows around rows {indices.tolist()[:9]} of {stream.rows}: allowed are one or more of "
            f"0..{stream.rows - 1}"
        )
    neighbours = _neighbours(indices, radius, stream.rows)
    first = int(neighbours.min())
    features = stream.features(first, int(neighbours.max()) + 1)
    return features[torch.from_numpy(neighbours - first)]


def _neighbours(indices: np.ndarray, radius: int, total: int) -> np.ndarray:
    """[n] -> [n, 2 radius + 1]: the rows around each; beyond an end of the sound its last row is repeated."""
    return (indices[:, None] + np.arange(-radius, radius + 1)).clip(0, total - 1)


def audio_front_end_from_config(
    config: dict[str, Any], folder: str | Path = ".", device: str | torch.device = "cpu"
) -> AudioFrontEnd:
    """The front end that a model's `audio/config.json` names; a relative `path` in it counts from `folder`.

    `device`: where a front end with weights computes; log-mel is made on the CPU.

    `{"kind": "log_mel", ...fields of LogMelFrontEnd}` or `{"kind": "wav2vec2", "path": ..., "rate_hz": 25}`.
    CheckpointError: an unknown kind or key, or a missing path.
    """
    options = dict(config)
    kind = options.pop("kind", None)
    allowed = {"log_mel": {field.name for field in fields(LogMelFrontEnd)}, "wav2vec2": {"path", "rate_hz"}}
    if not isinstance(kind, str) or kind not in allowed:
        raise CheckpointError(
            f"audio front end of kind {kind!r} is unknown; allowed are {', '.join(allowed)}"
        )
    unknown = sorted(options.keys() - allowed[kind])
    if unknown:
        raise CheckpointError(
            f"audio front end {kind}: unknown key {unknown[0]!r}; allowed: {', '.join(sorted(allowed[kind]))}"
        )
    name, advice = f"audio front end {kind}", f"Correct {Path(folder) / 'config.json'}."
    if kind == "log_mel":
        return checked(
            options, LogMelFrontEnd, "audio front end log_mel", error=CheckpointError, advice=advice
        )
    place = checked(options, _Wav2Vec2, name, error=CheckpointError, advice=advice)
    return Wav2Vec2FrontEnd(Path(folder) / place.path, place.rate_hz, device)


@dataclass(frozen=True)
class _Wav2Vec2:
    path: str
    rate_hz: Positive = FPS
