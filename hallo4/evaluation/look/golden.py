"""SyncNet on the film whose scores its authors publish: is the whole way to Sync-C and Sync-D right?"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from hallo4.errors import InputError
from hallo4.evaluation.look.keypoints import KeypointFinder
from hallo4.evaluation.look.tools import VideoTools
from hallo4.evaluation.look.video import look_at
from hallo4.sync.network import load_syncnet
from hallo4.sync.score import SyncScore

EXAMPLE = "example.avi"
"""The film, of github.com/joonson/syncnet_python (`data/example.avi`)."""
OFFSET_FRAMES, DISTANCE, CONFIDENCE = 3, 5.353, 10.021
"""What its README says of it."""
NEAR_DISTANCE, NEAR_CONFIDENCE = 0.5, 1.5
"""How far from that our values may be: faces are cut by landmarks here, by another detector there, which also
stores its pictures as JPEG."""


@dataclass(frozen=True)
class Golden:
    """What SyncNet says of the film here, and `near`: whether that is what is published."""

    score: SyncScore
    near: bool

    @property
    def line(self) -> str:
        """In words."""
        said = f"offset {self.score.offset_frames}, Sync-D {self.score.distance:.3f}, "
        published = f"published: {OFFSET_FRAMES}, {DISTANCE}, {CONFIDENCE}"
        return f"SyncNet on {EXAMPLE}: {said}Sync-C {self.score.confidence:.3f} ({published})"


def syncnet_on_example(folder: Path) -> Golden:
    """Measure the film in the folder of the weights. InputError: it is not there, nothing here finds its
    face, or it cannot be read. CheckpointError: other weights."""
    film = folder / EXAMPLE
    if not film.is_file():
        raise InputError(f"{film}: no such file. It is data/{EXAMPLE} of github.com/joonson/syncnet_python.")
    with tempfile.TemporaryDirectory() as keypoints:
        finder = KeypointFinder("auto", Path(keypoints))
        look, _ = look_at(film, VideoTools(finder, {}, {"syncnet": load_syncnet(folder)}))
    if look.sync is None:
        why = finder.missing if look.skeleton is None else "; ".join((*look.notes, *look.problems))
        raise InputError(f"{film}: SyncNet was not measured. {why or 'Nothing here finds its face.'}")
    score = look.sync
    near = (
        score.offset_frames == OFFSET_FRAMES
        and abs(score.distance - DISTANCE) <= NEAR_DISTANCE
        and abs(score.confidence - CONFIDENCE) <= NEAR_CONFIDENCE
    )
    return Golden(score, near)
