"""Looking at a finished clip with the observer, in pieces: what a rater sees is what is measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np

from hallo4.evaluation.look.instrument import Measurement, load_observer, measure
from hallo4.evaluation.suites.world_metrics import JOINTS
from hallo4.media import read_frames
from hallo4.models.observer import KEY_POINTS, PortraitObserver
from hallo4.types import FPS

CHUNK_FRAMES = 64
LEAST_FRAMES, LEAST_JOINTS = 8, 3
_BODY = [list(KEY_POINTS).index(name) for name in JOINTS]


@lru_cache(maxsize=1)
def observer() -> PortraitObserver:
    """The observer that comes with the package, loaded once."""
    return load_observer()


def watch(video: Path, by: PortraitObserver | None = None) -> Measurement:
    """What the observer sees in every frame of a clip at 25 fps; 64 frames are in memory at a time."""
    by = by or observer()
    parts = [measure(by, np.stack(chunk)) for chunk in _chunks(read_frames(video, FPS))]
    fields = Measurement.__dataclass_fields__
    return Measurement(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in fields})


def amplitude_px(seen_by: Measurement) -> float | None:
    """Motion amplitude: how far body joints stray from their mean place, in pixels, mean of the joints.

    A joint counts if it is seen in at least 8 frames; None with fewer than 3 such joints.
    """
    spreads = []
    for joint in _BODY:
        frames = seen_by.seen[:, joint]
        if frames.sum() >= LEAST_FRAMES:
            points = seen_by.points_px[frames, joint].astype(np.float64)
            spreads.append(math.sqrt(points.var(axis=0).sum()))
    return round(float(np.mean(spreads)), 4) if len(spreads) >= LEAST_JOINTS else None


def _chunks(frames: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    frames = iter(frames)
    while chunk := list(islice(frames, CHUNK_FRAMES)):
        yield chunk
