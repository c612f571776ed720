"""How well lips and sound of every clip of a video fit, as SyncNet sees it: what finds dubbing.

faces of the clip --> N windows -------.
                                       |--> distance at 31 shifts --> confidence, offset
sound of and around it --> N + 30 -----'
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from hallo4.data.stages import Findings
from hallo4.errors import InputError
from hallo4.media import collect_notes, open_sound, read_frames_at
from hallo4.media.files import shown
from hallo4.sync import FaceCropper, SyncNet, face_boxes
from hallo4.sync.cepstra import SAMPLE_RATE_HZ
from hallo4.sync.network import FRAMES
from hallo4.sync.score import MAX_SHIFT, embedded_faces, embedded_sound, score_around
from hallo4.types import FPS, Audio, SampleSource, Skeleton

_SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // round(FPS)


def sync_of_clips(
    path: Path, starts: Sequence[int], frames: int, first: int, skeleton: Skeleton, network: SyncNet
) -> Findings:
    """`confidence` and `offset` [n], in frames, of the clips of `frames` frames from `starts` [n] on (see
    `SyncScore`); NaN where no frame shows a face. `skeleton` is that of the frames from `first` on.

    Clips need five frames, and are compared with the sound of the video around them, so short ones lose
    nothing. InputError: the video ends before its clips do.
    """
    assert frames >= FRAMES
    confidence, offset = np.full((2, len(starts)), np.nan)
    croppers = {}
    for number, start in enumerate(starts):
        boxes = face_boxes(_part(skeleton, start - first, frames))
        if np.isfinite(boxes).all(axis=1).any():
            croppers[number] = FaceCropper(boxes)
    spans = {number: range(starts[number], starts[number] + frames) for number in croppers}
    with collect_notes([]):  # the stages before have said them
        sound = open_sound(path, SAMPLE_RATE_HZ)
        pictures = read_frames_at(path, chain(*spans.values()), FPS)
        for number, span in spans.items():
            count = frames - FRAMES + 1
            faces = embedded_faces(network, _faces(path, pictures, span, croppers[number]), count)
            sounds = embedded_sound(network, _around(sound, span), count + 2 * MAX_SHIFT)
            score = score_around(faces, sounds)
            confidence[number], offset[number] = score.confidence, score.offset_frames
    return Findings({}, {"confidence": confidence, "offset": offset})


def _part(skeleton: Skeleton, start: int, frames: int) -> Skeleton:
    span = slice(start, start + frames)
    points_px, confidence = skeleton.points_px[span], skeleton.confidence[span]
    return Skeleton(points_px, confidence, skeleton.fps, skeleton.width_px, skeleton.height_px)


def _faces(
    path: Path, pictures: Iterator[tuple[int, np.ndarray]], span: range, cropper: FaceCropper
) -> Iterator[np.ndarray]:
    for t in range(len(span)):
        _, frame_u8 = next(pictures, (None, None))
        if frame_u8 is None:
            raise InputError(f"{shown(path)}: ends before frame {span.stop}. Export it again.")
        yield cropper(t, frame_u8)


def _around(sound: SampleSource, span: range) -> Audio:
    """The sound of the frames `span`, of `MAX_SHIFT` before and behind them, and of one more, which the last
    window's cepstra reach into; silence beyond the ends."""
    start, stop = (_SAMPLES_PER_FRAME * at for at in (span.start - MAX_SHIFT, span.stop + MAX_SHIFT + 1))
    before = max(0, -start)
    samples = sound.read(max(0, start), stop)
    return Audio(np.pad(samples, (before, stop - start - before - len(samples))), SAMPLE_RATE_HZ)
