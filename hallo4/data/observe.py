"""What there is to see and hear in a video, clip by clip: everything that is known before a model looks.

::

    bytes --probe--> size, rate --shots--> cuts, brightness --.
      |--person--> keypoints of one person, at 25 fps --------+--clips--> a row per clip, a picture
      `--speech--> where a person speaks ---------------------'            `--sync--> lips and sound

Every arrow is a stage, kept by its content key (`stages.py`). Clips lie on a grid in each shot, from its
first frame on, so other filters choose other clips but never move them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from hallo4.data.clip_look import CanvasRule, look_at_clips
from hallo4.data.lip_sync import sync_of_clips
from hallo4.data.sources import Source
from hallo4.data.speech import RATE_HZ, SpeechBy, method_version, speech_spans
from hallo4.data.stages import Findings, FindingsStore, content_key, require_folder
from hallo4.errors import InputError, NoPersonError, ShapeError
from hallo4.input_file import file_sha256
from hallo4.media import collect_notes, open_sound, probe_video, read_frames, read_frames_at
from hallo4.media.files import shown
from hallo4.motion.beside_video import given_skeleton
from hallo4.pose import PoseEstimator, estimate_video, load_estimator
from hallo4.pose.loading import estimator_files
from hallo4.pose.scene import alike, thumbnail
from hallo4.sync.network import SyncNet, read_syncnet
from hallo4.types import FPS, Skeleton

VERSIONS = {"probe": 1, "shots": 2, "person": 2, "speech": 1, "clips": 2, "sync": 2}
"""Of the code of each stage: raised when its result changes."""

GIVEN_TIMING = 2
"""Of `given_skeleton`: keypoints at the video's own rate are of its pictures."""

_SUDDEN = 8.0
"""A change of so many levels between two thumbnails can be a cut ..."""
_TIMES_USUAL = 4.0
"""... if it is so many times what is usual around it."""
_AROUND = 12
_PEOPLE_EVERY = 12
"""Frames between two in which people are counted."""
PART = 15_000
"""Frames of a part, ten minutes: one person is followed through it, and what is kept of it is in memory at
once. No clip lies in two."""
MAX_S = 4 * 3600
"""As for sound."""


@dataclass(frozen=True)
class ObserveSettings:
    """What decides the rows of clips: the folder of findings, frames of a clip, the model's canvas, the name
    of the pose estimator, who is meant, what finds speech, and SyncNet's weights (None: it is not asked)."""

    findings: Path
    clip_frames: int
    canvas: CanvasRule
    estimator: str
    person: str
    speech: SpeechBy
    device: str = "auto"
    weights: Path | None = None
    syncnet: Path | None = None


@dataclass(frozen=True)
class Observed:
    """What became of a source: `clips`, a row each (see `look_at_clips`), with the keys of its `stages`, the
    first frame of its `part` and the place of its `picture`; or a `problem`, one line (`no_person`: none
    was found). `made`: stages that were computed for it. `unused_s`: ends of shots that are shorter than a
    clip.
    """

    source: Source
    clips: tuple[dict[str, Any], ...] = ()
    info: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None
    no_person: bool = False
    made: Counter[str] = field(default_factory=Counter)
    unused_s: float = 0.0
    notes: tuple[str, ...] = ()


class Observer:
    """Observes one source after the other; the estimator is loaded when a person must be looked for."""

    def __init__(self, settings: ObserveSettings) -> None:
        self.settings = settings
        require_folder(settings.findings.parent)
        self.store = FindingsStore(settings.findings)
        self._last_given: tuple[Source, Skeleton] | None = None

    @cached_property
    def _estimator(self) -> PoseEstimator:
        settings = self.settings
        return load_estimator(settings.estimator, settings.device, settings.weights)

    @cached_property
    def _syncnet(self) -> tuple[SyncNet, str]:
        """The network and the hash of its weights."""
        file = self.settings.syncnet
        assert file is not None
        return read_syncnet(file), file_sha256(file)

    @cached_property
    def _estimated_by(self) -> list[str]:
        return estimator_files(self.settings.estimator, self.settings.weights)

    def __call__(self, source: Source) -> Observed:
        """What a user can correct about this source is its `problem`; missing networks and a full
        disk end the run."""
        before = Counter(self.store.made)
        try:
            observed = self._observe(source)
        except NoPersonError as error:
            observed = Observed(source, problem=str(error), no_person=True)
        except (InputError, ShapeError) as error:
            observed = Observed(source, problem=str(error))
        return replace(observed, made=self.store.made - before)

    def _observe(self, source: Source) -> Observed:
        keys: dict[str, str] = {}

        def stage(name: str, decided_by: dict[str, Any], make: Any) -> Findings:
            keys[name] = content_key(name, VERSIONS[name], decided_by)
            return self.store.get(name, keys[name], make)

        own, settings = {"source": source.sha256}, self.settings
        info = stage("probe", own, partial(_probe, source.path)).values
        shots = stage("shots", own, partial(_shots, source.path))
        by = {"method": method_version(settings.speech)}
        speech = stage("speech", own | by, partial(_speech, source.path, info, settings.speech))
        frames, total = settings.clip_frames, len(shots.arrays["level"])
        parts = [range(start, min(start + PART, total)) for start in range(0, total, PART)]
        rows: list[dict[str, Any]] = []
        notes, unused_s, without_person = [*info["notes"], *speech.values["notes"]], 0.0, []
        for part in parts:
            of_part = {} if len(parts) == 1 else {"part": [part.start, part.stop]}
            by = own | self._person_by(source) | of_part
            try:
                person = stage("person", by, partial(self._person, source, info, part, len(parts)))
            except NoPersonError as error:
                without_person.append(error)
                continue
            clips = stage(
                "clips",
                {"before": dict(keys), "frames": frames, "canvas": asdict(settings.canvas)},
                partial(
                    *(look_at_clips, source.path, source.sha256, frames, settings.canvas, part),
                    (info, shots, person, speech),
                ),
            )
            sync = [(None, None)] * len(clips.values["clips"])
            if settings.syncnet is not None and info["has_audio"] and sync:
                by = {"before": dict(keys), "syncnet": self._syncnet[1]}
                found = stage("sync", by, partial(self._sync, source, info, part.start, clips, person))
                sync = _numbers(found)
            rows += [
                row
                | {
                    "keypoints_by": person.values["by"],
                    "part": part.start,
                    "stages": dict(keys),
                    "picture": f"{keys['clips']}/{number}",
                    "sync_confidence": sync[number][0],
                    "sync_offset": sync[number][1],
                }
                for number, row in enumerate(clips.values["clips"])
            ]
            unused_s += clips.values["unused_s"]
            notes += person.values["notes"]
            for of_part in ("clips", "sync"):
                keys.pop(of_part, None)
        if len(without_person) == len(parts):
            raise without_person[0]
        return Observed(source, tuple(rows), info, unused_s=unused_s, notes=tuple(dict.fromkeys(notes)))

    def _person_by(self, source: Source) -> dict[str, Any]:
        if source.keypoints_sha256 is not None:
            of_file = {"keypoints": source.keypoints_sha256, "person": self.settings.person}
            return of_file | {"timing": GIVEN_TIMING}
        return {"estimator": self._estimated_by, "person": self.settings.person}

    def _person(self, source: Source, info: dict[str, Any], part: range, parts: int) -> Findings:
        """The keypoints of one person in `part` of a video at 25 fps: those beside the video, else what an
        estimator finds."""
        notes: list[str] = []
        points_px, confidence, arrays = None, None, {}
        with collect_notes(notes, source.path):
            if source.keypoints is not None:
                skeleton, by, cuts = self._given(source, info), "file", []
                points_px, confidence = skeleton.points_px, skeleton.confidence
                if parts > 1:
                    span = slice(part.start, part.stop)
                    points_px, confidence = points_px[span], confidence[span]
                if not len(points_px):
                    raise NoPersonError(f"{shown(source.keypoints)}: ends before {part.start / FPS:.0f} s.")
            else:
                start_s, end_s = (None, None) if parts == 1 else (part.start / FPS, part.stop / FPS)
                found = estimate_video(
                    *(source.path, self._estimator, self.settings.person),
                    fps=FPS, start_s=start_s or 0.0, end_s=end_s,
                )  # fmt: skip
                by, notes = self._estimator.name, [*notes, *found.notes]
                points_px, confidence = found.skeleton.points_px, found.skeleton.confidence
                arrays = _people(source.path, self._estimator, part.start, len(points_px))
                cuts = [part.start + round(cut * FPS) for cut in found.cuts_s]
        arrays |= {"points_px": points_px, "confidence": confidence}
        return Findings({"by": by, "cuts": cuts, "notes": notes}, arrays)

    def _sync(
        self, source: Source, info: dict[str, Any], first: int, clips: Findings, person: Findings
    ) -> Findings:
        starts = [row["start"] for row in clips.values["clips"]]
        skeleton, frames = skeleton_of(person, info), self.settings.clip_frames
        return sync_of_clips(source.path, starts, frames, first, skeleton, self._syncnet[0])

    def _given(self, source: Source, info: dict[str, Any]) -> Skeleton:
        """The keypoints beside a video, read once for all of its parts."""
        if self._last_given is None or self._last_given[0] != source:
            size_px = (info["width_px"], info["height_px"])
            skeleton = given_skeleton(source.keypoints, *size_px, info["fps"], self.settings.person)
            self._last_given = source, skeleton
        return self._last_given[1]


def skeleton_of(person: Findings, info: dict[str, Any]) -> Skeleton:
    """The keypoints that the stage `person` found, in pixels of the video."""
    points_px, confidence = person.arrays["points_px"], person.arrays["confidence"]
    return Skeleton(points_px, confidence, FPS, info["width_px"], info["height_px"])


def _numbers(sync: Findings) -> list[tuple[float | None, float | None]]:
    """(confidence, offset) of every clip; None for NaN."""
    pairs = zip(sync.arrays["confidence"].tolist(), sync.arrays["offset"].tolist(), strict=True)
    return [(None, None) if np.isnan(confidence) else (confidence, offset) for confidence, offset in pairs]


def _probe(path: Path) -> Findings:
    notes: list[str] = []
    with collect_notes(notes, path):
        info = probe_video(path)
    if info.duration_s > MAX_S:
        raise InputError(
            f"{shown(path)}: lasts {info.duration_s / 3600:.1f} hours; {MAX_S // 3600} are allowed. Cut it "
            "into parts."
        )
    return Findings({**vars(info), "notes": notes})


def _shots(path: Path) -> Findings:
    """Cuts, and the change to the frame before and the mean level of every frame at 25 fps."""
    changes, levels, unlike = [], [], []
    last = None
    with collect_notes([]):  # `probe` and `person` have said them
        for frame_u8 in read_frames(path, FPS):
            scene = thumbnail(frame_u8)
            changes.append(0.0 if last is None else float(np.abs(scene - last).mean()))
            unlike.append(changes[-1] > 0 and not alike(scene, last))
            levels.append(float(frame_u8[::8, ::8].mean()))
            last = scene
    change = np.array(changes, np.float32)
    return Findings(
        {"cuts": find_cuts(change, np.array(unlike))},
        {"change": change, "level": np.array(levels, np.float32)},
    )


def find_cuts(change: np.ndarray, unlike: np.ndarray) -> list[int]:
    """First frames of new shots, out of `change` [T] to the frame before, in levels, and `unlike` [T] bool:
    it shows another scene. Dissolves are not found."""
    cuts = []
    for frame in np.flatnonzero((change >= _SUDDEN) | unlike).tolist():
        near = np.r_[change[max(1, frame - _AROUND) : frame], change[frame + 1 : frame + 1 + _AROUND]]
        usual = float(np.median(near)) if len(near) else 0.0
        if frame and change[frame] >= max(_TIMES_USUAL * usual, 1.0):
            cuts.append(frame)
    return cuts


def _people(path: Path, estimator: PoseEstimator, first: int, frames: int) -> dict[str, np.ndarray]:
    """How many `people` [n] are seen in the frames `people_at` [n], twice a second."""
    at = first + np.arange(min(_PEOPLE_EVERY, frames) // 2, frames, _PEOPLE_EVERY)
    counts = [len(estimator.find(frame_u8)) for _, frame_u8 in read_frames_at(path, at.tolist(), FPS)]
    return {"people_at": at[: len(counts)], "people": np.array(counts, int)}


def _speech(path: Path, info: dict[str, Any], method: SpeechBy) -> Findings:
    if not info["has_audio"]:
        return Findings({"sound": False, "spans": [], "notes": []})
    notes: list[str] = []
    with collect_notes(notes, path):
        sound = open_sound(path, RATE_HZ)
    spans = speech_spans(sound, method)
    return Findings({"sound": True, "spans": [list(span) for span in spans], "notes": notes})
