"""Files and folders that appear whole or not at all: the one way in which this package writes them.

::

    whole_file, write_whole:  .hallo4-PID-HOST-RANDOM.part --flushed to the disk--> renamed to TARGET
    whole_folder:             a folder of such a name      --flushed to the disk--> TARGET, in one step

Whatever happens on the way (a kill, a power cut, a full disk), what stood at the target stays. What a killed
process left behind is recognised by the process and machine in its name, and removed by the next write in
that folder. Every function raises OSError where it cannot write; callers say which result that was.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_TEMPORARY = re.compile(r"\.hallo4-(?P<process>\d+)-(?P<host>.+)-[0-9a-f]{12}\.part")
_AT_WORKING_FOLDER, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux; 2 is RENAME_SWAP of macOS


@contextmanager
def whole_file(target: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path that the block writes; after it, the file there takes the place of `target`.

    Links are followed. OSError: it cannot be written, is write-protected, or is no regular file (a folder, a
    device, a pipe), which is never replaced.
    """
    final = real_path(target)
    refuse_irregular(final)
    temporary = temporary_beside(final)
    try:
        with _naming(final, temporary):
            yield temporary
            commit(temporary, final)
    finally:
        discard(temporary)


@contextmanager
def _naming(final: Path, temporary: Path) -> Iterator[None]:
    """An error of the disk is an OSError that names `final`, whatever a library makes of it."""
    try:
        yield
    except OSError as error:
        name = error.filename
        if error.errno is None:  # numpy's
            raise OSError(errno.EIO, str(error), os.fspath(final)) from error
        if name is None or (isinstance(name, str) and name.startswith(os.fspath(temporary))):
            error.filename = os.fspath(final)
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        torch = isinstance(error, RuntimeError) and "inline_container" in said
        if torch or (type(error).__name__ == "SafetensorError" and "os error" in said):
            raise OSError(errno.EIO, said, os.fspath(final)) from error
        raise


def write_whole(target: str | os.PathLike[str], content: bytes | str) -> None:
    """Write `content`, text as UTF-8, as a file that is there completely or not at all; see `whole_file`."""
    with whole_file(target) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def real_path(path: str | os.PathLike[str]) -> Path:
    """`path` with links followed. OSError: they are a loop, or no disk can have such a name."""
    try:
        return Path(path).resolve()
    except RuntimeError as error:
        raise OSError(errno.ELOOP, "its links lead in a circle", os.fspath(path)) from error
    except ValueError as error:
        raise OSError(errno.EINVAL, "no file can have such a name", os.fspath(path)) from error


def refuse_irregular(target: Path) -> None:
    """OSError unless `target` is not there, or is a regular file that may be written."""
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(target))
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "it is write-protected", os.fspath(target))


def temporary_beside(target: Path) -> Path:
    """A fresh hidden name in the folder of `target` that says whose it is; left-overs there are removed.

    Only a rename within one file system is atomic, so it lies beside the target.
    """
    _remove_left_overs(target.parent)
    return target.parent / f".hallo4-{os.getpid()}-{_host()}-{secrets.token_hex(6)}.part"


def commit(temporary: Path, target: Path) -> None:
    """Flush `temporary` to the disk and give it its final name in one step, with the rights of the file that
    it replaces."""
    refuse_irregular(target)
    with suppress(OSError):
        temporary.chmod(stat.S_IMODE(target.stat().st_mode))
    _flush(temporary)
    os.replace(temporary, target)
    _flush_names(target.parent)


def companion(target: Path, before: str, after: str) -> Path:
    """A file beside `target` that is named after it, `before` and `after` its name without the suffix.

    Where that is longer than names may be, the middle is cut and distinguished by a hash of the whole.
    """
    room = longest_name(target.parent) - len(os.fsencode(before + after))
    middle = os.fsencode(target.stem)
    if len(middle) > room:
        digest = hashlib.sha256(middle).hexdigest()[:12]
        middle = middle[: max(0, room - 13)].decode("utf-8", "ignore").encode() + f"-{digest}".encode()
    return target.with_name(before + os.fsdecode(middle) + after)


def longest_name(folder: Path) -> int:
    """Bytes that a file name may have in a folder."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError, AttributeError):  # no such folder, or a system that cannot say
        return 255


def discard(temporary: Path) -> None:
    """Remove `temporary`, a file or a folder, if it is there."""
    with suppress(OSError):
        if temporary.is_dir() and not temporary.is_symlink():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """A new, empty folder that the block fills; after it, the folder takes the place of `target`.

    What `target` holds is replaced as a whole: the caller knows that it may be. Folders above it are made.
    OSError: also as `refuse_fixed_folder`.
    """
    final = real_path(target)
    refuse_fixed_folder(final)
    final.parent.mkdir(parents=True, exist_ok=True)
    building = temporary_beside(final)
    building.mkdir()
    try:
        with _naming(final, building):
            yield building
            place_folder(building, final)
    finally:
        discard(building)


def refuse_fixed_folder(target: str | os.PathLike[str]) -> None:
    """OSError if another folder cannot take the place of the folder `target`: it is the current folder or one
    above it, whose programs would stay in the old one, or it is where a disk begins."""
    final = real_path(target)
    here = Path.cwd()
    if final == here or final in here.parents:
        raise OSError(errno.EBUSY, "it is the current folder or one above it, and cannot be replaced")
    if final.is_mount():
        raise OSError(errno.EBUSY, "a disk begins there, and it cannot be replaced")


def place_folder(building: Path, target: Path) -> None:
    """Flush the folder `building` to the disk and put it in the place of the folder `target`, if there is
    one, which is removed afterwards. It has the rights of the folder that it replaces.

    Both names are exchanged in one step. Where the disk cannot, the old folder is called
    `.hallo4-NAME.older` for a moment; if a kill comes then, it lies there until the next call.
    """
    with suppress(OSError):
        building.chmod(stat.S_IMODE(target.stat().st_mode))
    flush_folder(building)
    older = target.with_name(f".hallo4-{target.name}.older")
    if older.is_dir() and not target.exists():
        os.replace(older, target)
    if not target.exists():
        os.replace(building, target)
    elif _exchange(building, target):
        shutil.rmtree(building, ignore_errors=True)
    else:
        discard(older)
        os.replace(target, older)
        try:
            os.replace(building, target)
        except OSError:
            os.replace(older, target)
            raise
        discard(older)
    _flush_names(target.parent)


def flush_folder(folder: Path) -> None:
    """Bring a folder and all that is in it to the disk."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            _flush_names(path)
        elif path.is_file():
            _flush(path)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system or the disk cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    first, second = os.fsencode(one), os.fsencode(other)
    if sys.platform == "linux" and hasattr(libc, "renameat2"):
        return libc.renameat2(_AT_WORKING_FOLDER, first, _AT_WORKING_FOLDER, second, _EXCHANGE) == 0
    if sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        return libc.renamex_np(first, second, _EXCHANGE) == 0
    return False


def _flush(file: Path) -> None:
    with open(file, "rb+") as handle:
        os.fsync(handle.fileno())


def _flush_names(folder: Path) -> None:
    """Names too are safe only when their folder is on the disk. Some file systems cannot do it."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove_left_overs(folder: Path) -> None:
    """Remove what processes of this machine that have ended left in `folder`."""
    with suppress(OSError):
        found = [(entry.name, _TEMPORARY.fullmatch(entry.name)) for entry in os.scandir(folder)]
        for name, said in found:
            if said is not None and said["host"] == _host() and not _lives(int(said["process"])):
                discard(folder / name)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # of another process
        return True
    return True


def _host() -> str:
    """The machine, as it stands in names: also the space of process numbers, which containers have of their
    own."""
    try:
        space = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        space = 0
    return f"{re.sub('[^A-Za-z0-9.]', '_', socket.gethostname())[:40]}.{space}"
