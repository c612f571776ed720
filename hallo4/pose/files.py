"""Videos and pictures, alone or in a folder -> skeleton files, and pictures of them for people."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hallo4.errors import Hallo4Error, InputError, OutputError
from hallo4.input_file import read_input
from hallo4.media.files import (
    cannot_write,
    check_folder,
    check_input,
    shown,
)
from hallo4.media.image import load_image, save_png
from hallo4.media.names import as_stored
from hallo4.media.video import read_frames
from hallo4.media.writer import VideoWriter
from hallo4.motion.files import save_skeleton
from hallo4.motion.overlay import overlay
from hallo4.outputs import refuse_output
from hallo4.pose.estimator import PoseEstimator
from hallo4.pose.loading import load_estimator
from hallo4.pose.measure import PoseFindings, Progress, estimate_image, estimate_video
from hallo4.pose.person import LARGEST
from hallo4.version import __version__
from hallo4.whole import write_whole

VIDEOS = (
    ".mp4",
    ".mkv",
    ".webm",
    ".mov",
    ".avi",
    ".m4v",
    ".gif",
    ".mpg",
    ".mpeg",
    ".ts",
    ".flv",
    ".wmv",
    ".ogv",
)
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif")
SKELETON_SUFFIX = ".keypoints.json"
_LARGEST_LABEL = 4096
LOOKS_FOLDER = "overlays"
"""In a folder of results: the pictures for people. Beside the skeletons they would be taken for clips."""


def portrait_file(video: Path) -> Path | None:
    """The portrait beside a video (`NAME.portrait.png`, or another suffix of pictures), if it has one.
    InputError: there are two.
    """
    named = (as_stored(video.with_name(f"{video.stem}.portrait{suffix}")) for suffix in PICTURES)
    files = [file for file in named if file.exists()]
    if len(files) > 1:
        raise InputError(
            f"{video.name}: has two portraits beside it, {files[0].name} and {files[1].name}. Leave one."
        )
    return files[0] if files else None


@dataclass(frozen=True)
class Job:
    """One file to measure: `skeleton` and `look` are what is written, and in a folder `label`, by what they
    were made, last of all (None: the file is always measured)."""

    source: Path
    skeleton: Path
    look: Path
    label: Path | None = None

    def is_done(self, estimator: str, person: str = LARGEST) -> bool:
        """Whether all of it is there, made of this source by the estimator of that name, of this person."""
        if self.label is None or not all(p.is_file() for p in (self.skeleton, self.look, self.label)):
            return False
        try:
            return read_input(self.label, _LARGEST_LABEL) == self.made_by(estimator, person)
        except InputError:
            return False

    def made_by(self, estimator: str, person: str) -> bytes:
        """What decides the results: size and time of the source, estimator, person, and version."""
        about = self.source.stat()
        return f"{about.st_size} {about.st_mtime_ns} {estimator} {person} {__version__}\n".encode()


@dataclass(frozen=True)
class Done:
    """What became of a job: `notes`, and `problem`, one line, if it could not be done."""

    job: Job
    frames: int = 0
    notes: tuple[str, ...] = ()
    problem: str | None = None


def plan_jobs(source: str | os.PathLike[str], output: str | os.PathLike[str]) -> list[Job]:
    """What there is to measure in a video, a picture or a folder of them (not in folders inside it).

    Of a folder, `output` is a folder too, and is made: NAME.keypoints.json in it, and overlays/NAME.mp4 or
    .png; it may be the folder of the videos itself, where `evaluate videos` finds them. Of a file it is a
    folder that exists, or the name of a .json or .npz; the picture lies beside that.

    InputError: nothing there to measure, or two files of one name. OutputError: `output` cannot be written,
    or a result would overwrite a source or lie in a preference store.
    """
    source, output = Path(source), Path(output)
    refuse_output(output, [] if source.is_dir() else [source])
    if source.is_dir():
        files = _in_folder(source)
        if output.exists() and not output.is_dir():
            raise OutputError(f"{shown(output)}: is a file. Give a folder for the results of a folder.")
    else:
        check_input(source, "a video or a picture")
        if not output.is_dir() and output.suffix.lower() in (".json", ".npz"):
            look = output.with_suffix(_look_suffix(source))
            refuse_output(look, [source])
            check_folder(output)
            return [Job(source, output, look)]
        if not output.is_dir() and output.suffix:
            raise OutputError(
                f"{shown(output)}: a skeleton is saved as .json or .npz; change the name's end."
            )
        files = [source]
    jobs = []
    for file in files:
        look = output / LOOKS_FOLDER / (file.stem + _look_suffix(file))
        refuse_output(look, [file])
        label = output / LOOKS_FOLDER / f"{file.stem}.made_by"
        jobs.append(Job(file, output / (file.stem + SKELETON_SUFFIX), look, label))
    try:
        (output / LOOKS_FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{shown(output)}: cannot be made ({error.strerror}). Choose another folder."
        ) from error
    return jobs


class Measure:
    """Does jobs one after the other; picklable settings in, so that processes can share the work.

    settings: (estimator's name, device, folder of its files, person). Errors as `load_estimator`.
    """

    def __init__(self, settings: tuple[str, str, Path | None, str]):
        *named, self._person = settings
        self._estimator = load_estimator(*named)

    def __call__(self, job: Job, on_progress: Progress = lambda done, total: None) -> Done:
        """Measure and write; what the user can fix is the `problem` of what comes back."""
        try:
            findings = save_keypoints(job, self._estimator, self._person, on_progress)
        except Hallo4Error as error:
            return Done(job, problem=str(error))
        return Done(job, len(findings.skeleton), findings.notes)


def save_keypoints(
    job: Job,
    estimator: PoseEstimator | str = "auto",
    person: str = LARGEST,
    on_progress: Progress = lambda done, total: None,
) -> PoseFindings:
    """Measure one file and write its skeleton and its picture, each whole or not at all.

    on_progress is called with frames done and to do; those of a video count twice, measured and drawn.

    Errors as `estimate_video`; OutputError: something cannot be written.
    """
    estimator = load_estimator(estimator) if isinstance(estimator, str) else estimator
    if _is_picture(job.source):
        picture_u8 = load_image(job.source)
        findings = estimate_image(picture_u8, estimator, person, name=shown(job.source))
        save_png(job.look, overlay(picture_u8, findings.skeleton, 0))
        on_progress(1, 1)
    else:
        findings = estimate_video(
            job.source, estimator, person, lambda done, total: on_progress(done, 2 * total)
        )
        _save_video(job, findings, on_progress)
    save_skeleton(job.skeleton, findings.skeleton)
    if job.label is not None:
        try:
            write_whole(job.label, job.made_by(estimator.name, person))
        except OSError as error:
            raise cannot_write(job.label, error) from error
    return findings


def _save_video(job: Job, findings: PoseFindings, on_progress: Progress) -> None:
    """Read the video again, with what is now known of all of it, and draw."""
    skeleton = findings.skeleton
    writer = None
    try:
        for number, frame_u8 in enumerate(read_frames(job.source, skeleton.fps)):
            drawn = overlay(frame_u8, skeleton, min(number, len(skeleton) - 1))
            if writer is None:
                writer = VideoWriter(job.look, drawn.shape[1], drawn.shape[0], skeleton.fps, crf=23)
            writer.write(drawn)
            on_progress(min(len(skeleton) + number + 1, 2 * len(skeleton)), 2 * len(skeleton))
        writer.finish()
    finally:
        if writer is not None:
            writer.discard()


def _in_folder(folder: Path) -> Sequence[Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in VIDEOS + PICTURES and path.is_file() and not path.name.startswith("."):
            if path.stem in files:
                raise InputError(
                    f"{shown(folder)}: has both {files[path.stem].name} and {path.name}, whose results would "
                    "have one name. Rename one."
                )
            files[path.stem] = path
    if not files:
        raise InputError(
            f"{shown(folder)}: holds no video and no picture ({', '.join(VIDEOS[:4])}, "
            f"{', '.join(PICTURES[:3])}, ...). Give a folder that does; folders inside it are not looked "
            "into."
        )
    return list(files.values())


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES


def _look_suffix(path: Path) -> str:
    return ".png" if _is_picture(path) else ".mp4"
