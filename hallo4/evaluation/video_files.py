"""Folders of videos -> clips: which files belong together, what is missing, and whether a file has
changed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hallo4.errors import InputError
from hallo4.evaluation.named_paths import split_name
from hallo4.media.names import same_name

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".gif")
REFERENCE = "reference"


@dataclass(frozen=True)
class System:
    """A system under test: its name in the report and the folder of its videos."""

    name: str
    folder: Path


@dataclass(frozen=True)
class ClipFiles:
    """The videos of one clip: the reference's and each system's, None where a system has none."""

    name: str
    reference: Path
    videos: dict[str, Path | None]

    def stamp(self) -> str:
        """A hash of sizes and times of all these files and of what lies beside them under their name."""
        digest = hashlib.sha256()
        for path in (self.reference, *(video for video in self.videos.values() if video is not None)):
            name = same_name(path.stem)
            beside = (f for f in path.parent.iterdir() if same_name(f.name).startswith(f"{name}."))
            for file in sorted(beside):
                state = file.stat()
                digest.update(f"{os.fspath(file)} {state.st_size} {state.st_mtime_ns}".encode())
        return digest.hexdigest()[:16]


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
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or REFERENCE in names:
        raise InputError(
            f"Two systems (or one and the references) are called {(twice or [REFERENCE])[0]!r}. "
            "Give them names: NAME=FOLDER."
        )
    return systems


def videos_in(folder: Path) -> dict[str, Path]:
    """Name without suffix, in Unicode form C, -> video file in the folder itself. InputError: none, or two
    files of one name."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder. Give a folder of videos.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith("."):
            name = same_name(path.stem)
            if name in found:
                raise InputError(
                    f"{folder}: has both {found[name].name} and {path.name}; clips are matched by name. "
                    "Leave one."
                )
            found[name] = path
    if not found:
        raise InputError(f"{folder}: holds no videos ({' '.join(SUFFIXES)}). Give a folder that does.")
    return found


def matched_clips(
    systems: Sequence[System], references: Path
) -> tuple[list[ClipFiles], list[dict[str, str]]]:
    """Clips by name, and problems ({"clip", "system", "what"}): videos without a reference, references
    without a video. InputError: no video of any system has a reference of its name.
    """
    wanted = videos_in(references)
    given = {system.name: videos_in(system.folder) for system in systems}
    problems = [
        {
            "clip": clip,
            "system": system,
            "what": f"{path.name}: no reference of that name",
        }
        for system, videos in given.items()
        for clip, path in videos.items()
        if clip not in wanted
    ]
    clips = []
    for clip, reference in wanted.items():
        videos = {system: found.get(clip) for system, found in given.items()}
        if not any(videos.values()):
            what = f"{reference.name}: no system has a video of that name"
            problems.append({"clip": clip, "system": REFERENCE, "what": what})
            continue
        clips.append(ClipFiles(clip, reference, videos))
        problems += [
            {"clip": clip, "system": system, "what": f"has no video named {clip}"}
            for system, video in videos.items()
            if video is None
        ]
    if not clips:
        raise InputError(
            f"{references}: no video there has the name of one in "
            f"{', '.join(str(s.folder) for s in systems)}. Clips are matched by file name without suffix."
        )
    return clips, problems
