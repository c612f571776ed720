"""Blind copies: the two clips of a question as one video, made alike whatever their files were.

::

    clip on the left  --frames--+
                                +-- side by side --> H.264, the condition's sound --> <random token>.mp4
    clip on the right --frames--+

One file for both is what keeps playback in step: a single clock, a single sound track, and the page draws
the halves. Everything is encoded anew, because H.264 carries its encoder's settings inside the stream: a copy
of the packets with clean metadata (dpo.md 3.4: "metadata stripped, same codec") would still name them.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from hallo4.errors import InputError, OutputError
from hallo4.media import VideoWriter, load_audio, read_frames
from hallo4.motion import load_skeleton
from hallo4.motion.layout import FACE, JAW, NOSE_BASE, SEEN
from hallo4.preference.schema import Clip
from hallo4.preference.store import PreferenceStore
from hallo4.types import Audio, Skeleton

GAP_PX = 16
"""Repeated edge between the clips, so that no colour of one bleeds into the other."""

_CRF = 12  # nearly lossless: the copy must not hide what is being judged
_GRID_PX = 16  # a macroblock: both halves are cut into the same blocks
_CHIN = 8  # of the 17 points of the jaw
_DEFAULT_ZOOM = (0.25, 0.35, 0.5, 0.5)


@dataclass(frozen=True)
class View:
    """How the page cuts a copy: each clip is `width_px` x `height_px`, the second begins at x = `pitch_px`;
    `zoom` is the mouth's box (x, y, width, height) in fractions of a clip."""

    width_px: int
    height_px: int
    pitch_px: int
    frames: int
    fps: float
    zoom: tuple[float, float, float, float]


def compose(paths: Sequence[Path], audio: Audio, frames: int, fps: float, target: Path) -> None:
    """Write the clips at `paths` (one, or left and right of equal size) side by side to the .mp4 `target`.

    Constant memory; the sound is cut or padded to the video. InputError: a clip is unreadable or is not
    `frames` long (one more or less is rounding); OutputError: the disk is full. Either way nothing is left.
    """
    readers = [read_frames(path, fps) for path in paths]
    first = [next(reader) for reader in readers]
    height, width = first[0].shape[:2]
    if any(frame.shape != first[0].shape for frame in first):
        raise InputError(f"{paths[1]}: has another size than the clip beside it. Make them alike.")
    total_width = pitch_px(width) * (len(paths) - 1) + width
    with VideoWriter(target, total_width, height, fps, audio=audio, crf=_CRF) as writer:
        writer.write(_beside(first))
        for together in zip(*readers, strict=False):
            writer.write(_beside(together))
        if abs(writer.frames - frames) > 1:
            raise InputError(
                f"{paths[0]}: {writer.frames} frames can be shown, its record says {frames}. "
                "Add the clip anew."
            )


def pitch_px(width_px: int) -> int:
    """Where the second clip begins: on the grid of the codec's blocks, with a gap before it."""
    return -(-(width_px + GAP_PX) // _GRID_PX) * _GRID_PX


def _beside(frames: Sequence[np.ndarray]) -> np.ndarray:
    """[H, W, 3] each -> [H, pitch + W, 3], the gap filled with the nearest column."""
    if len(frames) == 1:
        return frames[0]
    left, right = frames
    gap = pitch_px(left.shape[1]) - left.shape[1]
    near_left, near_right = gap // 2, gap - gap // 2
    edges = (np.repeat(left[:, -1:], near_left, axis=1), np.repeat(right[:, :1], near_right, axis=1))
    return np.concatenate([left, *edges, right], axis=1)


def mouth_box(skeleton: Skeleton) -> tuple[float, float, float, float]:
    """(x, y, width, height) of the mouth over the whole clip, in fractions of the frame and of its shape.

    From jaw and nose, since driving skeletons come without mouth points; a box in the middle where no face is
    seen. Steady: one box for the clip, so that what moves is the mouth.
    """
    seen = (skeleton.confidence[:, FACE] >= SEEN).all(axis=1)
    if not seen.any():
        return _DEFAULT_ZOOM
    points = skeleton.points_px[seen] / (skeleton.width_px, skeleton.height_px)
    jaw, nose = points[:, JAW], points[:, NOSE_BASE].mean(axis=1)
    centre = np.median(nose + 0.42 * (jaw[:, _CHIN] - nose), axis=0)
    side = float(np.clip(0.7 * np.median(np.ptp(jaw[..., 0], axis=1)), 0.1, 1.0))
    x, y = np.clip(centre - side / 2, 0.0, 1.0 - side)
    return float(x), float(y), side, side


class BlindMedia:
    """Makes and keeps the blind copies of a store in `folder`, in the background; tokens name the files.

    Safe for several threads. Copies of earlier runs are removed at the start.
    """

    def __init__(self, store: PreferenceStore, folder: Path) -> None:
        self._store, self._folder = store, folder
        self._jobs: dict[str, Future[Path]] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(2, "blind-copies")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob("*.mp4"):
                old.unlink()
        except OSError as error:
            raise OutputError(
                f"{folder}: cannot be used ({error.strerror}). Make the store writable."
            ) from error
        self._zoom = lru_cache(maxsize=None)(self._read_zoom)

    def view(self, clips: Sequence[Clip]) -> View:
        """What the page needs to cut the copy of `clips`."""
        clip = clips[0]
        zoom = self._zoom(clip.condition_id)
        return View(clip.width_px, clip.height_px, pitch_px(clip.width_px), clip.frames, clip.fps, zoom)

    def prepare(self, token: str, clips: Sequence[Clip]) -> None:
        """Begin to make the copy of `clips`, left first; nothing happens if it is there or under way."""
        with self._lock:
            job = self._jobs.get(token)
            if job is None or (job.done() and job.exception() is not None):
                self._jobs[token] = self._pool.submit(self._make, token, tuple(clips))

    def path(self, token: str, timeout_s: float = 120.0) -> Path | None:
        """The finished copy, waiting for it; None for an unknown token.

        InputError: a clip cannot be shown; OutputError: the disk is full; TimeoutError: not ready yet.
        """
        with self._lock:
            job = self._jobs.get(token)
        return None if job is None else job.result(timeout_s)

    def forget(self, token: str) -> None:
        """Remove a copy that nobody needs any more."""
        with self._lock:
            job = self._jobs.pop(token, None)
        if job is not None and not job.cancel():
            job.add_done_callback(lambda _: (self._folder / f"{token}.mp4").unlink(missing_ok=True))

    def close(self) -> None:
        """Stop making copies and remove all."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for token in list(self._jobs):
            (self._folder / f"{token}.mp4").unlink(missing_ok=True)

    def _make(self, token: str, clips: tuple[Clip, ...]) -> Path:
        for clip in clips:
            self._check_same_file(clip)
        condition = self._store.conditions()[clips[0].condition_id]
        audio = load_audio(self._store.media_path(condition.audio), 48_000)
        target = self._folder / f"{token}.mp4"
        paths = [self._store.media_path(clip.path) for clip in clips]
        compose(paths, audio, clips[0].frames, clips[0].fps, target)
        return target

    def _check_same_file(self, clip: Clip) -> None:
        path = self._store.media_path(clip.path)
        try:
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InputError(
                f"{path}: cannot be read ({error.strerror}). Put the clip back or remove its record."
            ) from error
        if digest != clip.sha256:
            raise InputError(f"{path}: is not the file that was recorded (sha256 differs). Put it back.")

    def _read_zoom(self, condition_id: str) -> tuple[float, float, float, float]:
        condition = self._store.conditions()[condition_id]
        if condition.skeleton is None:
            return _DEFAULT_ZOOM
        try:
            return mouth_box(load_skeleton(self._store.media_path(condition.skeleton)))
        except InputError:
            return _DEFAULT_ZOOM  # the rater can move the box; a broken skeleton is the business of others
