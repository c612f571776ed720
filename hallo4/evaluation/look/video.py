"""One video, looked at once, frame by frame in constant memory: every curve that metrics are made of.

    file --> frames at 25 fps, 32 at a time --> keypoints, faces, sharpness, colour, flicker, flow, features
         '-> sound --> loudness                 ... and beside a reference: PSNR, SSIM, LPIPS of every frame

Metrics (`video_metrics`) are then small functions of these records, and need no pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hallo4.errors import Hallo4Error, InputError
from hallo4.evaluation.look.beside import Beside, Comparing
from hallo4.evaluation.look.instrument import no_person, observed_skeleton
from hallo4.evaluation.look.keypoints import OBSERVER
from hallo4.evaluation.look.portrait import Portrait, look_at_portrait
from hallo4.evaluation.look.sidecars import finite_features, given_expression
from hallo4.evaluation.look.tools import FVD_NETWORKS, VideoTools
from hallo4.evaluation.measures import arrays, dynamics
from hallo4.evaluation.measures.fvd import ClipFeatures, resized_224
from hallo4.evaluation.measures.identity import align_face, faces_found, five_points
from hallo4.evaluation.measures.keypoints import mouth_opening
from hallo4.evaluation.measures.speech import loudness_curve, loudness_dbfs
from hallo4.media import (
    StreamTimes,
    VideoInfo,
    collect_notes,
    load_audio,
    probe_video,
    read_frames,
    stream_times,
)
from hallo4.media.files import shown
from hallo4.motion.beside_video import keypoint_file
from hallo4.pose.files import portrait_file
from hallo4.sync.score import (
    FaceCropper,
    SyncScore,
    face_boxes,
    syncnet_score,
    windows_of,
)
from hallo4.types import FPS, Audio, Skeleton

BYTES_AT_ONCE = 1 << 28
LONGEST_S = 1800.0
"""Of a video that is measured as one clip, in seconds: some kilobytes of every frame are kept."""
MOST_PIXELS = 1 << 24
"""Of a frame that is measured, as many as 4096 x 4096: comparing takes some 50 bytes of each."""
FRAMES_AT_ONCE = 32
FID_EVERY_FRAMES = 5
Read = TypeVar("Read")


@dataclass(frozen=True)
class Look:
    """What was measured of a video of T frames at 25 fps (`info`: as stored).

    `sharpness` [T], `colour` [T, 3] mean RGB, `flicker` [T-2] levels, `speed` [T-1, 3] of whole, subject
    and background in widths per second (NaN: no person); `skeleton` and `keypoints_from` (`file`, `observer`
    or an estimator's name), or None; `mouth` [T] opening (NaN: not seen); `faces`: encoder -> [T, D] (rows of
    NaN: no face); `portrait`: the picture beside the video, None without; `loudness` [T] dB or None without
    sound; `times`; `sync`: SyncNet's score or None; `features`: network -> [n, D]; `notes`: one line each;
    `problems`: one line for each file or feature that was left out because it is damaged.
    """

    path: Path
    info: VideoInfo
    times: StreamTimes
    sharpness: np.ndarray
    colour: np.ndarray
    flicker: np.ndarray
    speed: np.ndarray
    skeleton: Skeleton | None
    keypoints_from: str | None
    mouth: np.ndarray
    faces: dict[str, np.ndarray]
    portrait: Portrait | None
    loudness: np.ndarray | None
    sync: SyncScore | None
    features: dict[str, np.ndarray]
    notes: tuple[str, ...]
    problems: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.sharpness)


def look_at(
    path: Path, tools: VideoTools, reference: Path | None = None, portrait: Path | None = None
) -> tuple[Look, Beside | None]:
    """Look at a video, and at its reference beside it if one is given. `portrait`: whom it shows, where no
    portrait lies beside it.

    A damaged file beside the video, or a feature that is not finite, is left out and named in `problems`.
    Raises InputError for a video that cannot be read to its end, is longer than `LONGEST_S`, or has frames of
    more than `MOST_PIXELS`.
    """
    for video in (path, *([] if reference is None else [reference])):
        _check_measurable(video, probe_video(video))
    info, times = probe_video(path), stream_times(path)
    looking = _Looking(path, info, tools, portrait)
    beside = None if reference is None else Comparing(info, probe_video(reference), tools)
    reference_frames = iter(())
    with collect_notes(looking.notes, about=path):
        frames = read_frames(path, FPS)
    if reference is not None:
        with collect_notes(beside.notes):
            reference_frames = read_frames(reference, FPS)
    for chunk in _chunks(frames):
        looking.add(chunk)
        if beside is not None:
            beside.add(chunk, np.array(list(islice(reference_frames, len(chunk)))))
    return looking.finish(times), None if beside is None else beside.finish()


class _Looking:
    """Collects what `Look` holds from chunks of frames."""

    def __init__(self, path: Path, info: VideoInfo, tools: VideoTools, portrait: Path | None):
        self.path, self.info, self.tools = path, info, tools
        self.notes: list[str] = []
        self.problems: list[str] = []
        self.source, self.given = self._given()
        self.portrait = self._portrait(portrait)
        # Damaged keypoints are not replaced by the observer's, which may never have seen such people.
        self.observer = tools.keypoints.observer if self.source == OBSERVER else None
        self.skeletons: list[Skeleton] = []
        self.parts: dict[str, list] = {
            name: [] for name in ("sharpness", "colour", "flicker", "speed", "mouth")
        }
        self.faces: dict[str, list[np.ndarray]] = {name: [] for name in tools.faces}
        self.before: list[np.ndarray] = []  # the last two frames
        self.grey: np.ndarray | None = None
        self.fid: list[np.ndarray] = []
        self.fvd = {
            name: ClipFeatures(network, FVD_NETWORKS[name], tools.device)
            for name, network in tools.networks.items()
            if name in FVD_NETWORKS
        }
        self.frames = 0

    def _given(self) -> tuple[str | None, Skeleton | None]:
        with collect_notes(self.notes, about=self.path):
            find = self.tools.keypoints.of_video
            return self._unless_damaged(find, self.path, self.info, self.notes) or (None, None)

    def _portrait(self, given: Path | None) -> Portrait | None:
        """The portrait; without faces, and a problem, where none can be seen in it."""
        with collect_notes(self.notes):
            file = self._unless_damaged(portrait_file, self.path) or given
            if file is None:
                return None
            if self.source is None and keypoint_file(file) is None:  # no face is known in the video either
                return Portrait(file.name, {})
            found = self._unless_damaged(look_at_portrait, file, self.path, self.tools)
        return found or Portrait(file.name, {})

    def add(self, chunk: np.ndarray) -> None:
        skeleton = self._keypoints(chunk)
        self.parts["sharpness"].extend(arrays.sharpness_of_frames(chunk))
        self.parts["colour"].extend(chunk.mean(axis=(1, 2)))
        five = None if skeleton is None else five_points(skeleton)
        for name, encoder in self.tools.faces.items():
            self.faces[name].append(_encoded(encoder, chunk, five))
        for t, frame in enumerate(chunk):
            self._move(frame, skeleton, t)
            for clips in self.fvd.values():
                clips.add(resized_224(frame, clips.protocol))
        self._inception(chunk)
        self.frames += len(chunk)

    def _keypoints(self, chunk: np.ndarray) -> Skeleton | None:
        if self.given is not None:
            span = slice(self.frames, self.frames + len(chunk))
            part = _padded(self.given, self.frames + len(chunk))
            skeleton = replace(part, points_px=part.points_px[span], confidence=part.confidence[span])
            self.parts["mouth"].extend(mouth_opening(skeleton))
        elif self.observer is not None:
            skeleton, states = observed_skeleton(self.observer, chunk)
            self.parts["mouth"].extend(states["mouth_open"])
        else:
            self.parts["mouth"].extend([np.nan] * len(chunk))
            return None
        self.skeletons.append(skeleton)
        return skeleton

    def _move(self, frame: np.ndarray, skeleton: Skeleton | None, t: int) -> None:
        if len(self.before) == 2:
            self.parts["flicker"].append(dynamics.flicker_levels(*self.before, frame))
        self.before = [*self.before[-1:], frame]
        grey = dynamics.flow_frame(frame)
        if self.grey is not None:
            mask = None if skeleton is None else dynamics.person_mask(skeleton, t, *grey.shape)
            self.parts["speed"].append(dynamics.split_speed(dynamics.flow_speed(self.grey, grey), mask))
        self.grey = grey

    def _inception(self, chunk: np.ndarray) -> None:
        """FID's features of every fifth frame of the video."""
        if "inception" in self.tools.networks:
            import torch

            frames = chunk[(-self.frames) % FID_EVERY_FRAMES :: FID_EVERY_FRAMES]
            if len(frames):
                with torch.no_grad():
                    features = self.tools.networks["inception"](self.tools.planes(frames))
                    self.fid.append(features.cpu().numpy())

    def finish(self, times: StreamTimes) -> Look:
        skeleton = _joined(self.skeletons)
        found = None if skeleton is None else faces_found(skeleton)
        if found is not None and not found.any():
            self.notes.append("no face found in any frame")
        return Look(
            path=self.path,
            info=self.info,
            times=times,
            sharpness=np.array(self.parts["sharpness"]),
            colour=np.array(self.parts["colour"]).reshape(-1, 3),
            flicker=np.array(self.parts["flicker"]),
            speed=np.array(self.parts["speed"]).reshape(-1, 3),
            skeleton=skeleton,
            keypoints_from=self.source,
            mouth=np.array(self.parts["mouth"], np.float64),
            faces={} if found is None else self._face_vectors(found),
            portrait=self.portrait,
            **self._sound_measures(skeleton),
            features=self._features(),
            notes=tuple(self.notes),
            problems=tuple(self.problems),
        )

    def _unless_damaged(self, read: Callable[..., Read], *of: Any) -> Read | None:
        """`read(*of)`; None, and a problem, where that is damaged: everything else is still measured."""
        try:
            return read(*of)
        except Hallo4Error as error:
            self.problems.append(" ".join(str(error).split()))
            return None

    def _features(self) -> dict[str, np.ndarray]:
        name = self.path.name
        found = {
            network: self._unless_damaged(_of_clips, clips, name)
            for network, clips in self.fvd.items()
            if self._long_enough(network, clips)
        }
        if self.fid:
            found["inception"] = self._unless_damaged(
                finite_features, np.concatenate(self.fid), "inception", name
            )
        found["expression"] = self._unless_damaged(given_expression, self.path)
        return {network: values for network, values in found.items() if values is not None}

    def _face_vectors(self, found: np.ndarray) -> dict[str, np.ndarray]:
        """Encoder -> [T, D]; all NaN where the encoder's vector of a found face is not finite."""
        vectors = {}
        for name, parts in self.faces.items():
            whole = np.concatenate(parts)
            encoder = self.tools.faces[name].name
            if self._unless_damaged(finite_features, whole[found], encoder, self.path.name) is None:
                whole = np.full_like(whole, np.nan)
            vectors[name] = whole
        return vectors

    def _long_enough(self, name: str, clips: ClipFeatures) -> bool:
        if clips.frames >= 16:
            return True
        self.notes.append(f"{clips.frames} frames are too few for FVD ({name}), which takes 16")
        return False

    def _sound_measures(self, skeleton: Skeleton | None) -> dict:
        if not self.info.has_audio:
            self.notes.append("has no sound: sync with the sound is not measured")
            return {"loudness": None, "sync": None}
        with collect_notes(self.notes, about=self.path):
            audio = self._unless_damaged(load_audio, self.path, 16_000)
        if audio is None:
            return {"loudness": None, "sync": None}
        return {
            "loudness": loudness_curve(loudness_dbfs(audio, self.frames)),
            "sync": self._synced(skeleton, audio),
        }

    def _synced(self, skeleton: Skeleton | None, audio: Audio) -> SyncScore | None:
        """SyncNet's score; None, and a note, for a clip too short or without a face; None, and a problem,
        where its vectors are not finite."""
        network = self.tools.networks.get("syncnet")
        if network is None or skeleton is None:
            return None
        try:
            windows_of(self.frames, audio)
            cropper = FaceCropper(face_boxes(skeleton))
        except Hallo4Error as error:
            self.notes.append(f"SyncNet: {error}")
            return None
        with collect_notes([]):  # said when the video was looked at
            frames = read_frames(self.path, FPS)
        faces = (cropper(t, frame) for t, frame in enumerate(frames))
        return self._unless_damaged(syncnet_score, network, faces, self.frames, audio, self.tools.device)


def _check_measurable(video: Path, info: VideoInfo) -> None:
    if info.width_px * info.height_px > MOST_PIXELS:
        raise InputError(
            f"{shown(video)}: has frames of {info.width_px}x{info.height_px}; a clip that is measured has at "
            "most the pixels of 4096x4096. Scale it down."
        )
    if info.duration_s > LONGEST_S:
        raise InputError(
            f"{shown(video)}: lasts {info.duration_s:.0f} s; a clip that is measured lasts at most "
            f"{LONGEST_S:.0f} s. Cut it into clips."
        )


def _chunks(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """[n, H, W, 3] of `FRAMES_AT_ONCE`, of fewer where they are large."""
    for first in frames:
        count = max(1, min(FRAMES_AT_ONCE, BYTES_AT_ONCE // first.nbytes))
        yield np.stack([first, *islice(frames, count - 1)])


def _encoded(encoder, chunk: np.ndarray, five: np.ndarray | None) -> np.ndarray:
    """[T, D], rows of NaN for frames without a face."""
    found = [] if five is None else np.flatnonzero(np.isfinite(five).all(axis=(1, 2))).tolist()
    blank = np.zeros((1, 112, 112, 3), np.uint8)
    faces = np.stack([align_face(chunk[t], five[t]) for t in found]) if found else blank
    vectors = np.asarray(encoder(faces), np.float64)
    spread = np.full((len(chunk), vectors.shape[1]), np.nan)
    if found:
        spread[found] = vectors
    return spread


def _of_clips(clips: ClipFeatures, name: str) -> np.ndarray:
    """FVD's features; InputError, which names the video, where they are not finite."""
    try:
        return clips.finish()
    except Hallo4Error as error:
        raise InputError(f"{name}: FVD, protocol {clips.protocol.name}: {error}") from error


def _padded(skeleton: Skeleton, frames: int) -> Skeleton:
    """At least `frames` long; in what is missing no person is seen."""
    missing = no_person(max(0, frames - len(skeleton)), skeleton.width_px, skeleton.height_px)
    return _joined([skeleton, missing])


def _joined(parts: list[Skeleton]) -> Skeleton | None:
    if not parts:
        return None
    points = np.concatenate([part.points_px for part in parts])
    confidence = np.concatenate([part.confidence for part in parts])
    return replace(parts[0], points_px=points, confidence=confidence)
