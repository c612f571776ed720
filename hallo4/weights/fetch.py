"""Fetch files from elsewhere: first what is here, what is missing, from where, how large; then bring it.

A file appears under its own name only whole and compared with its published SHA-256 (the catalogue's, else
the server's). Until then it is `.NAME.STAMP.part` beside it, from which the same command resumes.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from hallo4.errors import Cancelled, FetchError, InputError, OutputError
from hallo4.input_file import open_input
from hallo4.lock import sole_writer
from hallo4.weights import hub
from hallo4.weights.catalogue import HubFile, PackedFile, Source, WeightFile
from hallo4.weights.check import Finding, check_file, compare
from hallo4.weights.places import folder_of


@dataclass(frozen=True)
class Step:
    """One file to bring to `path`: a copy of `own`, a file of the user, or what `source` offers. Where the
    source is a `PackedFile`, `own` and the offer are of the archive around the file."""

    file: WeightFile
    path: Path
    own: Path | None = None
    source: Source | None = None
    offer: hub.Offer | None = None

    @property
    def is_packed(self) -> bool:
        """Whether the file has to be taken out of an archive."""
        return isinstance(self.source, PackedFile)

    @property
    def size_bytes(self) -> int | None:
        """The size of what is copied or fetched, as far as known."""
        if self.own is not None:
            return self.own.stat().st_size
        return self.offer.size_bytes

    @property
    def part(self) -> Path:
        """The unfinished file, or the archive around it, which files of one archive share."""
        stamp = "own" if self.own is not None else self.offer.stamp
        name = PurePosixPath(self.source.url).name if self.is_packed else self.path.name
        return self.path.with_name(f".{name}.{stamp}.part")

    @property
    def unpacked(self) -> Path:
        """The unfinished file outside of any archive."""
        return self.path.with_name(f".{self.path.name}.unpacked.part") if self.is_packed else self.part

    @property
    def left_bytes(self) -> int:
        """What will be written; 0 where the size is not known, and where a hard link does."""
        if self.own is not None and self.is_packed:
            return self.file.size_bytes or 0
        if self.own is not None and self.own.stat().st_dev == _existing(self.path).stat().st_dev:
            return 0
        begun = self.part.stat().st_size if self.part.is_file() else 0
        return max((self.size_bytes or 0) - begun, 0)


@dataclass(frozen=True)
class FetchPlan:
    """What `run_fetch` will do. `here`: files that are in their place already; `by_hand`: those that no
    server of the catalogue offers, so that a person has to bring them."""

    here: tuple[Finding, ...]
    steps: tuple[Step, ...]
    by_hand: tuple[WeightFile, ...] = ()

    @property
    def download_bytes(self) -> int:
        """Bytes that come over the network; files of unknown size count as none."""
        fetched = {step.part: step.left_bytes for step in self.steps if step.own is None}
        return sum(fetched.values())


def plan_fetch(
    files: Iterable[WeightFile],
    folder: str | os.PathLike[str] | None = None,
    own_files: str | os.PathLike[str] | None = None,
) -> FetchPlan:
    """Find out what is here and what has to come from where; nothing is fetched yet.

    folder: where the files go (default: the folder of their kind under the root). own_files: a folder of
    files that the user has, under their place or their bare name, or in a .tgz that holds them (as a package
    of npm); or such a .tgz. What is in it is not fetched.

    InputError: a file in `folder` or `own_files` is not the published one, or there is no such folder.
    FetchError: no source offers a file that is missing. OutputError: the disk has too little space.
    """
    if own_files is not None and not Path(own_files).is_dir() and not _is_archive(Path(own_files)):
        raise InputError(
            f"{own_files}: is no folder and no .tgz. Give the folder that holds your files with --from."
        )
    here, steps, by_hand = [], [], []
    for file in files:
        finding = check_file(file, folder)
        if finding.state == "wrong":
            raise InputError(
                f"{finding.path}: {finding.reason}. Move it away; then the same command fetches the "
                "published one."
            )
        if finding.state != "missing":
            here.append(finding)
        elif own := _own(file, folder, own_files):
            steps.append(own)
        elif file.sources:
            steps.append(_offered(file, folder))
        else:
            by_hand.append(file)
    plan = FetchPlan(tuple(here), tuple(steps), tuple(by_hand))
    _check_space(plan.steps)
    return plan


def run_fetch(plan: FetchPlan, on_file: Callable[[Step], None] = lambda step: None) -> None:
    """Bring every file of the plan; `on_file` is called before each.

    FetchError: the connection broke, or what came is not the published file (it is removed). OutputError: a
    file cannot be written. Cancelled: stopped by the user. After each the same call resumes.
    """
    for step in plan.steps:
        on_file(step)
        try:
            step.path.parent.mkdir(parents=True, exist_ok=True)
            _bring(step)
        except KeyboardInterrupt:
            raise Cancelled(
                f"stopped while {step.path.name} was fetched; what has come is kept, and the same command "
                "resumes"
            ) from None
        except OSError as error:
            raise OutputError(
                f"{step.path}: cannot be written ({error.strerror or error}). Choose another folder with -o."
            ) from error
    for step in plan.steps:
        if step.is_packed and step.own is None:
            step.part.unlink(missing_ok=True)


def _own(
    file: WeightFile, folder: str | os.PathLike[str] | None, own: str | os.PathLike[str] | None
) -> Step | None:
    """The step that takes the file from the user's folder, None if it is not in it."""
    if own is None:
        return None
    archives = [Path(own)] if _is_archive(Path(own)) else sorted(filter(_is_archive, Path(own).iterdir()))
    published = [source.path for source in file.sources if isinstance(source, HubFile)]
    for name in dict.fromkeys([*file.paths, *published, *(PurePosixPath(p).name for p in file.paths)]):
        path = Path(own) / name
        if path.is_file():
            state, reason = compare(path, file.size_bytes, file.sha256)
            if state == "wrong":
                raise InputError(f"{path}: {reason}. Give the published file, or a folder without it.")
            place = PurePosixPath(file.path).with_suffix(path.suffix)
            return Step(file, folder_of(file, folder) / place, own=path)
    for source in file.sources:
        for path in archives if isinstance(source, PackedFile) else ():
            if _members(path, source.member):
                return Step(file, folder_of(file, folder) / file.path, own=path, source=source)
    return None


def _is_archive(path: Path) -> bool:
    return path.suffix == ".tgz" and path.is_file()


def _members(archive: Path, name: str) -> bool:
    """Whether a .tgz holds a file of this name. InputError: it is none, or damaged."""
    try:
        with open_input(archive, "a .tgz") as file, tarfile.open(fileobj=file) as members:
            return any(member.name == name and member.isfile() for member in members)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{archive}: cannot be read as a .tgz ({reason}). Get it again.") from error


def _offered(file: WeightFile, folder: str | os.PathLike[str] | None) -> Step:
    """The step that fetches the file from the first source that offers the published one."""
    refusals, unreachable = [], None
    for source in file.sources:
        try:
            offer = hub.ask(source)
        except hub.NotOffered as error:
            refusals.append(str(error))
            continue
        except hub.Unreachable as error:
            unreachable = error
            continue
        problem = None if isinstance(source, PackedFile) else _not_the_published(file, offer)
        if problem is None:
            path = folder_of(file, folder) / file.path_from(source)
            if not isinstance(source, PackedFile):
                offer = replace(offer, size_bytes=offer.size_bytes or file.size_bytes)
            return Step(file, path, source=source, offer=offer)
        refusals.append(f"{source.page if isinstance(source, HubFile) else source.url} {problem}.")
    if unreachable is not None:
        raise unreachable
    raise FetchError(
        f"{file.path} is not offered: {' '.join(refusals)} Its publisher may have changed it; give a folder "
        "that holds it with --from."
    )


def _not_the_published(file: WeightFile, offer: hub.Offer) -> str | None:
    """Why what a server offers cannot be the file of the catalogue; seen before gigabytes are fetched."""
    if file.sha256 and offer.sha256 and not offer.sha256.startswith(file.sha256):
        return f"offers a file with SHA-256 {offer.sha256[:8]}, not {file.sha256[:8]}"
    if file.size_bytes and offer.size_bytes and offer.size_bytes != file.size_bytes:
        return f"offers a file of {offer.size_bytes:,} bytes, not {file.size_bytes:,}"
    return None


def _check_space(steps: tuple[Step, ...]) -> None:
    """OutputError if what is to come does not fit on the disk; every disk by itself."""
    needed: dict[int, int] = {}
    folders: dict[int, Path] = {}
    for step in {step.part: step for step in steps}.values():
        exists = _existing(step.path)
        device = exists.stat().st_dev
        needed[device] = needed.get(device, 0) + step.left_bytes
        folders.setdefault(device, exists)
    for device, folder in folders.items():
        free = shutil.disk_usage(folder).free
        if needed[device] > free:
            raise OutputError(
                f"{folder}: {needed[device] / 1e9:.2f} GB are to come, {free / 1e9:.2f} GB are free, "
                f"{(needed[device] - free) / 1e9:.2f} GB are missing. Free them, or choose another folder "
                "with -o."
            )


def _existing(path: Path) -> Path:
    """The nearest folder above `path` that is there."""
    return next(parent for parent in path.absolute().parents if parent.exists())


def _bring(step: Step) -> None:
    with sole_writer(step.path, "Wait for that one."):
        _remove_older_parts(step)
        if step.own is None:
            hub.download(step.offer, step.part, step.source)
        elif not step.is_packed:
            _copy(step.own, step.part)
        if step.is_packed:
            _unpack(step)
        if step.own is None or step.is_packed:
            _verify(step)
        step.unpacked.replace(step.path)


def _copy(own: Path, part: Path) -> None:
    """A hard link where the disk can make one, else a copy."""
    part.unlink(missing_ok=True)
    try:
        os.link(own.resolve(), part)
    except OSError:
        shutil.copyfile(own, part)


def _unpack(step: Step) -> None:
    """Take the file out of the archive. FetchError: it is not in there, or the archive is damaged."""
    archive = step.own or step.part
    try:
        with (
            open_input(archive, "a .tgz") as packed,
            tarfile.open(fileobj=packed) as members,
            open(step.unpacked, "wb") as file,
        ):
            inside = members.extractfile(step.source.member)
            if inside is None:
                raise KeyError("it is no file there")
            shutil.copyfileobj(inside, file)
    except (tarfile.TarError, KeyError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        step.unpacked.unlink(missing_ok=True)
        if step.own is None:
            step.part.unlink(missing_ok=True)
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FetchError(
            f"{step.file.path}: {step.source.member} cannot be taken out of {step.own or step.source.url} "
            f"({reason}). Fetch it again."
        ) from error


def _git_sha1(path: Path) -> str:
    """What git calls a file by."""
    with open_input(path) as file:
        digest = hashlib.sha1(f"blob {os.fstat(file.fileno()).st_size}\0".encode(), usedforsecurity=False)
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _remove_older_parts(step: Step) -> None:
    ours = re.compile(re.escape(f".{step.path.name}.") + r"([0-9a-f]{16}|web|unpacked)\.part")
    for part in step.path.parent.iterdir():
        if ours.fullmatch(part.name) and part != step.part:
            part.unlink()


def _verify(step: Step) -> None:
    """FetchError, and the unfinished file removed, if what came is not what was promised."""
    known = step.file.sha256 if len(step.file.sha256 or "") == 64 else None
    if step.is_packed:
        state, reason = compare(step.unpacked, step.file.size_bytes, step.file.sha256)
    else:
        known = known or step.offer.sha256 or step.file.sha256
        state, reason = compare(step.part, step.offer.size_bytes, known)
    if state == "unknown" and not step.is_packed and step.offer.git_sha1:
        found = _git_sha1(step.part)
        if found != step.offer.git_sha1:
            state, reason = "wrong", f"its git SHA-1 begins with {found[:8]}, not {step.offer.git_sha1[:8]}"
    if state == "wrong":
        step.unpacked.unlink()
        where = step.own or step.file.where
        raise FetchError(
            f"{step.file.path}: what came from {where} is not the published file: {reason}. It was "
            "removed; fetch it again."
        )
