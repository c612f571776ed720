"""Blind copies: the two clips of a question as one video, made alike whatever their files were.

::

    clip on the left  --frames--+
                                +-- side by side --> H.264, the condition's sound --> copies/<hash>.mp4
    clip on the right --frames--+

One file for both is what keeps playback in step: a single clock, a single sound track, and the page draws
the halves. Everything is encoded again, because H.264 carries its encoder's settings inside the stream: a
copy of the packets with clean metadata (dpo.md 3.4: "metadata stripped, same codec") would still name them.
A copy is made once for all raters, beforehand, and is found again after a restart; what raters see of it is
the token of their question.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from hallo4.engine import Stage, open_engine
from hallo4.errors import InputError, OutputError
from hallo4.input_file import file_sha256
from hallo4.media import VideoWriter, load_audio, read_frames
from hallo4.motion import load_skeleton
from hallo4.motion.layout import FACE, JAW, NOSE_BASE, SEEN
from hallo4.preference.schema import Clip, Condition
from hallo4.preference.store import PreferenceStore
from hallo4.types import Audio, Skeleton

GAP_PX = 16
"""Repeated edge between the clips, so that no colour of one bleeds into the other."""

Progress = Callable[[int, int], None]
"""(copies made, copies to make)"""

_ENCODING = "1"  # of `compose`: another one makes other copies
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
                "Add the clip again."
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


@dataclass(frozen=True)
class Order:
    """A copy that is wanted: of which clips, left first, with whose sound."""

    clips: tuple[Clip, ...]
    condition: Condition

    @property
    def name(self) -> str:
        """Changes with the clips, their order, their sound and the way of encoding; says nothing else."""
        words = [_ENCODING, self.condition.audio, *(clip.sha256 for clip in self.clips)]
        return hashlib.sha256("\x1f".join(words).encode()).hexdigest()[:32]


class Maker:
    """Makes copies of clips of a store in a folder; `settings`: both."""

    def __init__(self, settings: tuple[Path, Path]) -> None:
        self._store, self._folder = PreferenceStore(settings[0]), settings[1]

    def __call__(self, order: Order) -> tuple[Order, str | None]:
        """Make one; None, or why it cannot be made. OutputError: the disk is full."""
        try:
            self.make(order)
        except InputError as error:
            return order, str(error)
        return order, None

    def make(self, order: Order) -> Path:
        """The file. InputError: a clip is gone, damaged or unlike its record. OutputError."""
        target = self._folder / f"{order.name}.mp4"
        if target.is_file():
            return target
        paths = [self._whole(clip) for clip in order.clips]
        audio = load_audio(self._store.media_path(order.condition.audio), 48_000)
        compose(paths, audio, order.clips[0].frames, order.clips[0].fps, target)
        return target

    def _whole(self, clip: Clip) -> Path:
        path = self._store.media_path(clip.path)
        digest = file_sha256(path, what="a clip", advice="Put the clip back or remove its record.")
        if digest != clip.sha256:
            raise InputError(f"{path}: is not the file that was recorded (sha256 differs). Put it back.")
        return path


class BlindMedia:
    """The blind copies of a store in `folder`: made beforehand by `make_all`, or when they are needed.

    Safe for several threads.
    """

    def __init__(self, store: PreferenceStore, folder: Path) -> None:
        self._store, self._folder = store, folder
        self._maker = Maker((store.folder, folder))
        self._jobs: dict[str, Future[Path]] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(2, "blind-copies")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{folder}: cannot be used ({error.strerror}). Make the store writable."
            ) from error
        self._zoom = lru_cache(maxsize=None)(self._read_zoom)

    def order(self, clips: Sequence[Clip]) -> Order:
        """The copy of `clips`, left first."""
        return Order(tuple(clips), self._store.conditions()[clips[0].condition_id])

    def make_all(
        self, wanted: Iterable[Sequence[Clip]], workers: int = 1, on_progress: Progress = lambda *_: None
    ) -> dict[tuple[str, ...], str]:
        """Make every copy that is not there, in `workers` processes; remove those that are no longer wanted.

        Returns why, by the ids of its clips, for each that cannot be made. OutputError: the disk is full.
        """
        orders = {order.name: order for order in map(self.order, wanted)}
        for old in self._folder.glob("*.mp4"):
            if old.stem not in orders:
                old.unlink(missing_ok=True)
        todo = [order for name, order in orders.items() if not (self._folder / f"{name}.mp4").is_file()]
        failed = {}
        settings = (self._store.folder, self._folder)
        with open_engine(max(1, min(workers, len(todo)))) as engine:
            for done, outcome in enumerate(engine.map(Stage(Maker, settings), todo), start=1):
                order, why = outcome.result()
                if why is not None:
                    failed[tuple(clip.clip_id for clip in order.clips)] = why
                on_progress(done, len(todo))
        return failed

    def view(self, clips: Sequence[Clip]) -> View:
        """What the page needs to cut the copy of `clips`."""
        clip = clips[0]
        zoom = self._zoom(clip.condition_id)
        return View(clip.width_px, clip.height_px, pitch_px(clip.width_px), clip.frames, clip.fps, zoom)

    def path(self, clips: Sequence[Clip]) -> Future[Path]:
        """The copy of `clips`, left first: there already, or begun now.

        Its errors: InputError, a clip cannot be shown; OutputError, the disk is full.
        """
        order = self.order(clips)
        with self._lock:
            job = self._jobs.get(order.name)
            if job is None or (job.done() and job.exception() is not None):
                job = self._jobs[order.name] = self._pool.submit(self._maker.make, order)
            return job

    def close(self) -> None:
        """Stop making copies."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _read_zoom(self, condition_id: str) -> tuple[float, float, float, float]:
        condition = self._store.conditions()[condition_id]
        if condition.skeleton is None:
            return _DEFAULT_ZOOM
        try:
            return mouth_box(load_skeleton(self._store.media_path(condition.skeleton)))
        except InputError:
            return _DEFAULT_ZOOM  # the rater can move the box; a broken skeleton is the business of others
