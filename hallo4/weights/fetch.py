"""Fetch files from elsewhere: first what is here, what is missing, from where, how large; then bring it.

A file appears under its own name only whole and compared with its published SHA-256 (the catalogue's, else
the server's). Until then it is `.NAME.STAMP.part` beside it, from which the same command goes on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from hallo4.errors import Cancelled, FetchError, InputError, OutputError
from hallo4.weights import hub
from hallo4.weights.catalogue import HubFile, WebFile, WeightFile
from hallo4.weights.check import Finding, check_file, compare
from hallo4.weights.places import folder_of


@dataclass(frozen=True)
class Step:
    """One file to bring to `path`: a copy of `own`, a file of the user, or what `source` offers."""

    file: WeightFile
    path: Path
    own: Path | None = None
    source: HubFile | WebFile | None = None
    offer: hub.Offer | None = None

    @property
    def size_bytes(self) -> int | None:
        """Its size, as far as known."""
        if self.own is not None:
            return self.own.stat().st_size
        return self.offer.size_bytes

    @property
    def part(self) -> Path:
        """The unfinished file."""
        stamp = "own" if self.own is not None else self.offer.stamp
        return self.path.with_name(f".{self.path.name}.{stamp}.part")

    @property
    def left_bytes(self) -> int:
        """What will be written; 0 where the size is not known, and where a hard link does."""
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
        return sum(step.left_bytes for step in self.steps if step.own is None)


def plan_fetch(
    files: Iterable[WeightFile],
    folder: str | os.PathLike[str] | None = None,
    own_files: str | os.PathLike[str] | None = None,
) -> FetchPlan:
    """Find out what is here and what has to come from where; nothing is fetched yet.

    folder: where the files go (default: the folder of their kind under the root). own_files: a folder of
    files that the user has, under their place or their bare name; what is in it is not fetched.

    InputError: a file in `folder` or `own_files` is not the published one, or there is no such folder.
    FetchError: no source offers a file that is missing. OutputError: the disk has too little space.
    """
    if own_files is not None and not Path(own_files).is_dir():
        raise InputError(f"{own_files}: is no folder. Give the folder that holds your files with --from.")
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
    file cannot be written. Cancelled: stopped by the user. After each the same call goes on.
    """
    for step in plan.steps:
        on_file(step)
        try:
            step.path.parent.mkdir(parents=True, exist_ok=True)
            _bring(step)
        except KeyboardInterrupt:
            raise Cancelled(
                f"stopped while {step.path.name} was fetched; what has come is kept, and the same command "
                "goes on"
            ) from None
        except OSError as error:
            raise OutputError(
                f"{step.path}: cannot be written ({error.strerror or error}). Choose another folder with -o."
            ) from error


def _own(
    file: WeightFile, folder: str | os.PathLike[str] | None, own: str | os.PathLike[str] | None
) -> Step | None:
    """The step that takes the file from the user's folder, None if it is not in it."""
    if own is None:
        return None
    published = [source.path for source in file.sources if isinstance(source, HubFile)]
    for name in dict.fromkeys([*file.paths, *published, *(PurePosixPath(p).name for p in file.paths)]):
        path = Path(own) / name
        if path.is_file():
            state, reason = compare(path, file.size_bytes, file.sha256)
            if state == "wrong":
                raise InputError(f"{path}: {reason}. Give the published file, or a folder without it.")
            place = PurePosixPath(file.path).with_suffix(path.suffix)
            return Step(file, folder_of(file, folder) / place, own=path)
    return None


def _offered(file: WeightFile, folder: str | os.PathLike[str] | None) -> Step:
    """The step that fetches the file from the first source that offers the published one."""
    refusals = []
    for source in file.sources:
        try:
            offer = hub.ask(source)
        except hub.NotOffered as error:
            refusals.append(str(error))
            continue
        problem = _not_the_published(file, offer)
        if problem is None:
            path = folder_of(file, folder) / file.path_from(source)
            offer = replace(offer, size_bytes=offer.size_bytes or file.size_bytes)
            return Step(file, path, source=source, offer=offer)
        refusals.append(f"{source.page if isinstance(source, HubFile) else source.url} {problem}.")
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
    for step in steps:
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
    from huggingface_hub.utils import WeakFileLock

    lock = step.part.with_suffix(".lock")
    try:
        with WeakFileLock(lock, timeout=0.1):
            try:
                _remove_older_parts(step)
                if step.own is not None:
                    _copy(step.own, step.part)
                else:
                    hub.download(step.offer, step.part, step.source)
                    _verify(step)
                step.part.replace(step.path)
            finally:
                lock.unlink(missing_ok=True)
    except TimeoutError:
        raise FetchError(f"{step.path}: is being fetched by another command. Wait for that one.") from None


def _copy(own: Path, part: Path) -> None:
    """A hard link where the disk can make one, else a copy."""
    part.unlink(missing_ok=True)
    try:
        os.link(own.resolve(), part)
    except OSError:
        shutil.copyfile(own, part)


def _remove_older_parts(step: Step) -> None:
    for part in step.path.parent.glob(f".{step.path.name}.*.part"):
        if part != step.part:
            part.unlink()


def _verify(step: Step) -> None:
    """FetchError, and the unfinished file removed, if what came is not what was promised."""
    from huggingface_hub.utils.sha import git_hash

    known = step.file.sha256 if len(step.file.sha256 or "") == 64 else None
    state, reason = compare(step.part, step.offer.size_bytes, known or step.offer.sha256 or step.file.sha256)
    if state == "unknown" and step.offer.git_sha1:
        found = git_hash(step.part.read_bytes())
        if found != step.offer.git_sha1:
            state, reason = "wrong", f"its git SHA-1 begins with {found[:8]}, not {step.offer.git_sha1[:8]}"
    if state == "wrong":
        step.part.unlink()
        raise FetchError(
            f"{step.file.path}: what came from {step.file.where} is not the published file: {reason}. It was "
            "removed; fetch it again."
        )
