"""Keypoints of videos and of the portraits beside them: from a file, by a pose estimator, or by the observer
of the portrait world.

    a file beside it --> that, whatever is asked for
    made in the portrait world, by what its provenance says --> the observer, frame by frame (`auto`)
    else --> the pose estimator; what it finds is kept in a folder, by the content of the video
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hallo4.errors import CheckpointError, InputError, MissingExtraError, NoPersonError
from hallo4.evaluation.look.instrument import load_observer, no_person, observed_skeleton
from hallo4.input_file import file_sha256
from hallo4.json_file import read_json
from hallo4.media import VideoInfo, collect_notes, read_provenance
from hallo4.motion import PersonChoice, save_skeleton
from hallo4.motion.beside_video import given_skeleton, keypoint_file
from hallo4.pipelines.model_info import embedded_models
from hallo4.pose import PoseEstimator, estimate_image, estimate_video, load_estimator
from hallo4.pose.loading import ESTIMATORS, estimator_files
from hallo4.pose.person import LARGEST
from hallo4.types import FPS, Skeleton
from hallo4.version import __version__
from hallo4.whole import companion, write_whole
from hallo4.world.files import MADE_BY

Pose = Literal["auto", "files", "dwpose", "light", "observer"]
"""Where the keypoints of a video come from that has no file of them. `dwpose`, `light`: that pose estimator;
`observer`: the trained observer, which knows the portrait world only; `files`: nowhere; `auto`: the observer
for videos that say that they were made in the portrait world, else the pose estimator that is here, if any.
"""
FILE, OBSERVER = "file", "observer"


class KeypointFinder:
    """Finds the keypoints of videos by `pose` (see `Pose`), of whom `person` means where there are several.

    What a pose estimator finds is kept in `folder`. `missing`: why `auto` has no pose estimator, one line;
    None where it has one or needs none. CheckpointError, MissingExtraError: an estimator that is asked for by
    name is not here.
    """

    def __init__(self, pose: Pose = "auto", folder: Path | None = None, person: str = LARGEST):
        PersonChoice.of(person)
        self.pose, self.folder, self.person = pose, folder, person
        self._hint = None if person == LARGEST else person
        self.estimator: PoseEstimator | None = None
        self.missing: str | None = None
        if pose in ("auto", "dwpose", "light"):
            try:
                self.estimator = load_estimator(pose)
            except (CheckpointError, MissingExtraError) as error:
                if pose != "auto":
                    raise
                self.missing = str(error)

    @cached_property
    def _networks(self) -> list[str]:
        """What tells one set of the estimator's files from another; its name alone for one from elsewhere."""
        name = self.estimator.name
        return estimator_files(name) if name in ESTIMATORS else [name]

    @cached_property
    def observer(self) -> Any:
        """The observer of the portrait world, loaded when first needed. CheckpointError: it is damaged."""
        return load_observer()

    def source_of(self, video: Path) -> str | None:
        """What finds keypoints in a video without a file of them: `observer`, the name of an estimator, or
        None. InputError: it cannot be read."""
        if self.pose == OBSERVER or (self.pose == "auto" and made_in_the_world(video)):
            return OBSERVER
        return None if self.estimator is None else self.estimator.name

    def of_video(self, video: Path, info: VideoInfo, notes: list[str]) -> tuple[str | None, Skeleton | None]:
        """Where keypoints come from (`file`, or as `source_of`), and these at 25 fps in pixels of the video.

        No skeleton: `observer` has to look at the frames as they come by, or there is no source. What there
        is to say of it goes to `notes`. InputError: a damaged file, or as `estimate_video`.
        """
        file = keypoint_file(video)
        if file is not None:
            return FILE, given_skeleton(file, info.width_px, info.height_px, info.fps, self._hint)
        source = self.source_of(video)
        if source in (None, OBSERVER):
            return source, None
        return source, self._estimated(video, info, notes)

    def of_portrait(self, portrait: Path, picture_u8: np.ndarray, video: Path) -> Skeleton:
        """The keypoints [1 frame] of who is in a portrait [H, W, 3] beside a video: from a file beside the
        portrait, else by what finds those of the video. InputError: nothing does, or no person is found."""
        height, width = picture_u8.shape[:2]
        file = keypoint_file(portrait)
        if file is not None:
            return given_skeleton(file, width, height, FPS)
        source = self.source_of(video)
        if source is None:
            raise InputError(
                f"{portrait.name}: has no keypoints beside it ({portrait.stem}.keypoints.json), and nothing "
                f"here finds them. {self.missing or 'Give them, or another --pose.'}"
            )
        if source == OBSERVER:
            return observed_skeleton(self.observer, picture_u8[None])[0]
        # Whom of several people a choice means in a video says nothing about another picture.
        return estimate_image(picture_u8, self.estimator, name=portrait.name).skeleton

    def _estimated(self, video: Path, info: VideoInfo, notes: list[str]) -> Skeleton:
        """What the estimator finds, or found before; a video without a person has a skeleton, too."""
        if self.folder is None:
            raise InputError("Estimated keypoints need a folder to be stored in: KeypointFinder(folder=...).")
        decides = f"{file_sha256(video)} {self.person} {__version__} {self._networks}"
        digest = hashlib.sha256(decides.encode()).hexdigest()[:16]
        kept = companion(self.folder / video.name, "", f".{self.estimator.name}.{digest}.keypoints.npz")
        said = kept.with_suffix(".notes.json")
        lines = _lines_of(said) if kept.is_file() else None
        if lines is None:
            try:
                findings = estimate_video(video, self.estimator, self.person, fps=FPS)
                skeleton, lines = findings.skeleton, list(findings.notes)
            except NoPersonError as error:
                skeleton, lines = no_person(1, info.width_px, info.height_px), [str(error)]
            write_whole(said, json.dumps(lines))
            save_skeleton(kept, skeleton)
        notes += [f"{self.estimator.name}: {line}" for line in lines]
        with collect_notes([]):  # said already
            return given_skeleton(kept, info.width_px, info.height_px, FPS)


def _lines_of(said: Path) -> list[str] | None:
    """The notes beside keypoints that were kept; None: not there, or damaged."""
    try:
        return read_json(said, list[str])
    except InputError:
        return None


def made_in_the_world(video: Path) -> bool:
    """Whether a video says that the portrait world made it, or an embedded model, which draws that world.
    InputError: it cannot be read."""
    said = read_provenance(video) or {}
    return said.get("model") in embedded_models() or said.get("generator", "").endswith(MADE_BY)
