"""Which videos there are to prepare: files and folders, what lies beside each video, and their hashes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from hallo4.errors import InputError
from hallo4.input_file import file_sha256, read_input
from hallo4.json_file import read_json
from hallo4.media.files import check_input, shown
from hallo4.motion.beside_video import keypoint_file
from hallo4.pose.files import VIDEOS, portrait_file
from hallo4.whole import write_whole

LICENCE_SUFFIX, PROMPT_SUFFIX = ".licence.txt", ".prompt.txt"
MAX_TEXT_BYTES = 10_000


@dataclass(frozen=True)
class Source:
    """A video and what lies beside it. `sha256` of its bytes; `keypoints` and `portrait`: files with their
    hashes, or None; `licence` and `prompt`: texts, or None. `same_as`: an earlier source with the same bytes.
    """

    path: Path
    sha256: str
    keypoints: Path | None = None
    keypoints_sha256: str | None = None
    portrait: Path | None = None
    portrait_sha256: str | None = None
    licence: str | None = None
    prompt: str | None = None
    same_as: Path | None = None


def video_files(sources: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """All videos in `sources`, files or folders (with the folders inside them), in the order of their names.

    Hidden files are left out. InputError: something is not there, or a folder holds no video.
    """
    files: dict[Path, None] = {}
    for source in map(Path, sources):
        if not source.is_dir():
            files[check_input(source, "a video, or a folder of videos")] = None
            continue
        inside = [path for path in sorted(source.rglob("*")) if _is_video(path, source)]
        if not inside:
            raise InputError(
                f"{shown(source)}: holds no video ({', '.join(VIDEOS[:5])}, ...). Give a folder that does."
            )
        files |= dict.fromkeys(inside)
    return sorted(files)


def read_sources(
    files: Iterable[Path], known_hashes: Path, on_progress: Callable[[int], None] = lambda done: None
) -> tuple[list[Source], list[tuple[Path, str]]]:
    """(what can be read, (file, problem) of what cannot). Hashes are kept in the file `known_hashes` and used
    again as long as size and time of a file stay what they were."""
    known = _known(known_hashes)
    hashes: dict[str, list] = {}
    sources, problems, seen = [], [], {}

    def sha256_of(path: Path) -> str:
        name, stat = os.fspath(path.absolute()), path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns]
        before = known.get(name, [None, None, ""])
        hashes[name] = before if before[:2] == stamp else [*stamp, file_sha256(path)]
        return hashes[name][2]

    for done, path in enumerate(files, start=1):
        try:
            check_input(path, "a video")
            keypoints, portrait = keypoint_file(path), portrait_file(path)
            sha256 = sha256_of(path)
            sources.append(
                Source(
                    *(path, sha256, keypoints, None if keypoints is None else sha256_of(keypoints)),
                    *(portrait, None if portrait is None else sha256_of(portrait)),
                    *(_text_beside(path, LICENCE_SUFFIX), _text_beside(path, PROMPT_SUFFIX)),
                    same_as=seen.get(sha256),
                )
            )
            seen.setdefault(sha256, path)
        except InputError as error:
            problems.append((path, str(error)))
        except OSError as error:
            problems.append((path, f"{shown(path)}: cannot be read ({error.strerror})."))
        on_progress(done)
    write_whole(known_hashes, json.dumps(known | hashes).encode())
    return sources, problems


def _is_video(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return path.suffix.lower() in VIDEOS and not hidden and path.is_file()


def _known(file: Path) -> dict[str, list]:
    try:
        return read_json(file, dict[str, list])
    except InputError:
        return {}


def _text_beside(video: Path, suffix: str) -> str | None:
    """The text in NAME + `suffix` beside a video. InputError: too long, or not UTF-8."""
    file = video.with_name(video.stem + suffix)
    if not file.is_file():
        return None
    try:
        return read_input(file, MAX_TEXT_BYTES, "a text").decode().strip()
    except ValueError as error:
        raise InputError(f"{shown(file)}: is not text in UTF-8. Save it as such.") from error
