"""Folders of videos -> clips: which files belong together, and what is missing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hallo4.errors import InputError
from hallo4.evaluation.look.kept import Stamps
from hallo4.evaluation.report import REFERENCE
from hallo4.evaluation.run import split_name
from hallo4.media.names import same_name
from hallo4.pose.files import PICTURES

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".gif")
UNPAIRED = "unpaired"
"""The system of videos that belong to no clip: whole sets are compared with them."""


@dataclass(frozen=True)
class System:
    """A system under test: its name in the report and the folder of its videos."""

    name: str
    folder: Path


@dataclass(frozen=True)
class ClipFiles:
    """The videos of one clip by system, the reference's among them, and the portrait that they show, if it is
    known and lies elsewhere. `stamps`: system -> what tells whether the files of its video have changed."""

    name: str
    videos: dict[str, Path]
    portrait: Path | None = None
    stamps: dict[str, str] = field(default_factory=dict)

    def stamped(self, stamps: Stamps) -> ClipFiles:
        """With stamps as the files are now."""
        return replace(self, stamps={s: stamps.of(path, self.portrait) for s, path in self.videos.items()})

    @property
    def reference(self) -> Path | None:
        """The true video."""
        return self.videos.get(REFERENCE)


def systems_of(words: Sequence[str | os.PathLike[str]]) -> list[System]:
    """`FOLDER` or `NAME=FOLDER` each; a folder's own name where none is given. InputError: no folder, or
    one name twice.
    """
    systems = []
    for word in words:
        name, path = split_name(word)
        folder = Path(path)
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder. Give a folder of videos, or NAME=FOLDER.")
        systems.append(System(name or folder.resolve().name, folder))
    names = [system.name for system in systems]
    taken = [name for name in names if names.count(name) > 1 or name in (REFERENCE, UNPAIRED)]
    if taken:
        raise InputError(
            f"Two systems (or one and the references) are called {taken[0]!r}. Give them names: NAME=FOLDER."
        )
    return systems


def videos_in(folder: Path) -> dict[str, Path]:
    """Name without suffix, in Unicode form C, -> video file in the folder itself. InputError: none, or two
    files of one name."""
    return _files_in(folder, SUFFIXES, "videos")


def portraits_in(folder: Path) -> dict[str, Path]:
    """The same of pictures."""
    return _files_in(folder, tuple(PICTURES), "pictures")


def _files_in(folder: Path, suffixes: tuple[str, ...], what: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder. Give a folder of {what}.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in suffixes and path.is_file() and not path.name.startswith("."):
            name = same_name(path.stem)
            if name in found:
                raise InputError(
                    f"{folder}: has both {found[name].name} and {path.name}; clips are matched by name. "
                    "Leave one."
                )
            found[name] = path
    if not found:
        raise InputError(f"{folder}: holds no {what} ({' '.join(suffixes)}). Give a folder that does.")
    return found


def matched_clips(
    systems: Sequence[System], references: Path | None = None, portraits: Path | None = None
) -> tuple[list[ClipFiles], list[dict[str, str]]]:
    """Clips by name, and problems ({"clip", "system", "what"}): videos without a reference, references
    without a video, videos that a system has not, clips without a portrait of their name. Without
    `references` every name that a system has is a clip. InputError: nothing matches.
    """
    given = {system.name: videos_in(system.folder) for system in systems}
    true = {} if references is None else videos_in(references)
    pictures = {} if portraits is None else portraits_in(portraits)
    clips, problems = [], []
    for name in sorted({name for videos in (*given.values(), true) for name in videos}):
        own = {system: videos[name] for system, videos in given.items() if name in videos}
        if references is not None and name not in true:
            found = [(s, f"{path.name}: no reference of that name") for s, path in own.items()]
        elif not own:
            found = [(REFERENCE, f"{true[name].name}: no system has a video of that name")]
        else:
            found = [(system, f"has no video named {name}") for system in given if system not in own]
            if portraits is not None and name not in pictures:
                found.append((REFERENCE if references else systems[0].name, f"has no portrait named {name}"))
            reference = {REFERENCE: true[name]} if name in true else {}
            clips.append(ClipFiles(name, {**reference, **own}, pictures.get(name)))
        problems += [{"clip": name, "system": system, "what": what} for system, what in found]
    if not clips:
        raise InputError(
            f"{references}: no video there has the name of one in "
            f"{', '.join(str(s.folder) for s in systems)}. Clips are matched by file name without suffix."
        )
    return clips, problems
