"""Files that people name: checks with one-line errors, and safe opening of media."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer

from hallo4.errors import InputError, OutputError
from hallo4.input_file import check_regular, shown, why
from hallo4.media.names import as_stored
from hallo4.whole import longest_name, temporary_beside

# Real media only. FFmpeg also opens play lists, device names and plain text (rendered as a video of letters);
# those could read other files or the network, or turn a mistake into nonsense.
_CONTAINERS = (
    "mov,matroska,webm,avi,flv,asf,mpegts,mpeg,mpegvideo,ogg,gif,apng,h264,hevc,ivf,m4v,mxf,"
    "mp3,aac,ac3,eac3,flac,wav,w64,aiff,au,caf,amr,ape,wv,tta"
)

MAX_PADDING = 8192
"""Samples of sound that an encoder adds to fill its last packet, at most; what is longer is sound."""


class MediaWarning(UserWarning):
    """Something in a media file was corrected on the way in; the message says in a line what and how."""


def warn(message: str) -> None:
    """Say one line about a corrected file; the caller of the public function is named as the place."""
    warnings.warn(message, MediaWarning, stacklevel=3)


@contextmanager
def collect_notes(notes: list[str], about: str | os.PathLike[str] | None = None) -> Iterator[None]:
    """Turn the `MediaWarning`s of the block into notes; those `about` a file lose its name."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MediaWarning)
        yield
    name = "" if about is None else f"{shown(about)}: "
    for warning in caught:
        if issubclass(warning.category, MediaWarning):
            notes.append(str(warning.message).removeprefix(name))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def check_input(path: str | os.PathLike[str], wanted: str) -> Path:
    """The path of a readable, non-empty file; `wanted` names the kind in the error, as in "a picture".

    Raises:
        InputError: no such file, a folder or device, empty, or not readable.
    """
    name = shown(path)
    try:
        source = as_stored(path)
        exists = source.exists()
    except (OSError, ValueError) as error:  # a name too long for the disk, or with a NUL character
        raise InputError(
            f"{name}: not a usable file name ({why(error)}). Give the path of {wanted}."
        ) from error
    if not exists:
        raise InputError(f"{name}: no such file. Give the path of {wanted}.")
    if source.is_dir():
        raise InputError(f"{name}: is a folder. Give the path of {wanted} inside it.")
    check_regular(source, wanted)
    if source.stat().st_size == 0:
        raise InputError(f"{name}: is empty (0 bytes). Give {wanted} with content.")
    return source


@contextmanager
def open_media(
    path: str | os.PathLike[str], wanted: str, content: BinaryIO | None = None
) -> Iterator[InputContainer]:
    """A PyAV container for reading; whatever FFmpeg says inside the block becomes one InputError about the
    file. `content` is read in its place, if given."""
    source = check_input(path, wanted)
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    try:
        # "file:" keeps names such as `a:b.mp4` or `-x.mp4` from being taken for protocols or options.
        with av.open(content or f"file:{source}", options=options, metadata_errors="replace") as container:
            yield container
    except av.FFmpegError as error:
        reason = (error.strerror or "unreadable").lower()
        raise InputError(
            f"{shown(path)}: cannot be read as {wanted} ({reason}): it is damaged, cut short or of another "
            "kind. Export it again, for example as mp4, mkv, wav or flac."
        ) from error


def start_of(container: InputContainer) -> Fraction:
    """Time stamp of the file's beginning, in seconds: what both its pictures and its sound are measured
    from."""
    return Fraction(max(container.start_time or 0, 0), av.time_base)


def declared_end(container: InputContainer, stream: av.stream.Stream) -> Fraction | None:
    """End of `stream` in seconds from the beginning of the file, where the container says so, else None.

    Known for mov/mp4, avi and flac, and for matroska where the writer left a DURATION tag.
    """
    kind = container.format.name.split(",")[0]
    if kind in ("mov", "avi", "flac") and stream.duration is not None and stream.time_base:
        return ((stream.start_time or 0) + stream.duration) * stream.time_base - start_of(container)
    if kind == "matroska" and "DURATION" in stream.metadata:
        with suppress(ValueError):
            hours, minutes, seconds = stream.metadata["DURATION"].split(":")
            return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds) - start_of(container)
    return None


def check_folder(path: str | os.PathLike[str], overwrite: bool = True) -> Path:
    """The real path (links followed) of a file that can be written, found out by writing beside it.

    Raises:
        OutputError: missing or unwritable parent, an existing folder, device or read-only file, or an
            existing file without `overwrite`.
    """
    name = shown(path)
    try:
        _check_length(Path(path))
        target = Path(path).resolve()
        exists, parent_exists = target.exists(), target.parent.is_dir()
    except (OSError, ValueError, RuntimeError) as error:  # NUL characters, loops of links
        raise OutputError(f"{name}: not a usable file name ({why(error)}). Choose another.") from error
    if target.is_dir():
        raise OutputError(
            f"{name}: is a folder. Give the name of a file, such as {shown(Path(path) / 'out.mp4')}."
        )
    if exists and not target.is_file():
        raise OutputError(f"{name}: is not a regular file. Give the name of a new or ordinary file.")
    if not parent_exists:
        raise OutputError(f"{name}: there is no folder {shown(Path(path).parent)}. Create it first.")
    if exists and not overwrite:
        raise OutputError(f"{name}: exists already. Choose another name or allow overwriting.")
    if exists and not os.access(target, os.W_OK):
        raise OutputError(f"{name}: is write-protected. Choose another name or change its permissions.")
    trial = temporary_beside(target)
    try:
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        raise OutputError(
            f"{name}: cannot be written ({error.strerror}). Choose a folder where you may write."
        ) from error
    return target


def _check_length(path: Path) -> None:
    size, longest = len(os.fsencode(path.name)), longest_name(path.parent)
    if size > longest:
        raise OutputError(
            f"{shown(path)}: the file name is too long: {size} bytes, {longest} are allowed there. Choose "
            "another."
        )


def cannot_write(path: str | os.PathLike[str], error: OSError) -> OutputError:
    """The error for a write that failed half-way, such as on a full disk."""
    return OutputError(
        f"{shown(path)}: writing failed ({error.strerror or error}); nothing was left behind. "
        "Free some space or choose another folder."
    )
