"""The folder of one job: everything that server and worker know of it, in files that are written whole.

::

    jobs/<id>/request.json    settings, title, consent, when: never changed
              progress.json   how far the worker is; live.webp and poster.jpg, what it sees
              cancel          the worker is asked to stop
              outcome.json    how it ended; a job without one is still to be made
              video.mp4       or video.partial.mp4, the playable part of a cancelled one
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from hallo4.errors import InputError
from hallo4.json_file import read_json
from hallo4.pipelines.session import partial_video_path
from hallo4.studio.make.settings import JobBody, ProgressView, Role
from hallo4.studio.make.times import Took
from hallo4.whole import temporary_beside, whole_folder, write_whole


class Request(BaseModel):
    """`request.json`: what was asked, when (Unix seconds), and the names that the files had."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    body: JobBody
    created: float
    names: dict[Role, str]


class Outcome(BaseModel):
    """`outcome.json`: how a job ended, in words for people, and after how many seconds of work; `took` of one
    that was made in one go says what that tells of others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: Literal["done", "cancelled", "failed"]
    text: str = ""
    notes: tuple[str, ...] = ()
    frames: int = 0
    took_s: float = 0.0
    took: Took | None = None


class ProgressRecord(BaseModel):
    """`progress.json`: how far the worker is, and its notes so far."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    progress: ProgressView
    notes: tuple[str, ...]


_GOING = ".deleted-"


class JobFolder:
    """Reads and writes the files of one job."""

    def __init__(self, path: Path) -> None:
        self.path, self.id = path, path.name
        self.video = path / "video.mp4"
        self.poster = path / "poster.jpg"
        self.live = path / "live.webp"

    @classmethod
    def create(cls, path: Path, request: Request) -> JobFolder:
        """A new folder, which appears with its request. OSError: no room."""
        with whole_folder(path) as building:
            write_whole(building / "request.json", request.model_dump_json().encode())
        return cls(path)

    def request(self) -> Request | None:
        """None: it cannot be read."""
        try:
            return read_json(self.path / "request.json", Request)
        except InputError:
            return None

    def clean(self) -> None:
        """Remove what a kill left of files that were being written. For the server that claimed the job."""
        for part in self.path.glob(".hallo4-*.part"):
            part.unlink(missing_ok=True)

    def outcome(self) -> Outcome | None:
        """None: it is still to be made."""
        try:
            return read_json(self.path / "outcome.json", Outcome)
        except InputError:
            return None

    def end(self, outcome: Outcome) -> None:
        """The job is over. OSError: no room."""
        write_whole(self.path / "outcome.json", outcome.model_dump_json().encode())

    def reopen(self) -> None:
        """The job is to be made after all, from where it stopped."""
        self._cancel.unlink(missing_ok=True)
        (self.path / "progress.json").unlink(missing_ok=True)
        (self.path / "outcome.json").unlink(missing_ok=True)  # last: from here on it waits

    @property
    def _cancel(self) -> Path:
        return self.path / "cancel"

    def ask_to_stop(self) -> None:
        """The worker looks for this at every denoising step."""
        self._cancel.touch()

    def asked_to_stop(self) -> bool:
        """Whether the worker is asked to stop."""
        return self._cancel.exists()

    def write_progress(self, progress: ProgressView, notes: tuple[str, ...]) -> None:
        """Replace `progress.json`, unflushed: losing it in a power cut does no harm."""
        content = ProgressRecord(progress=progress, notes=notes).model_dump_json()
        self.replace(self.path / "progress.json", content.encode())

    def progress(self) -> tuple[ProgressView | None, tuple[str, ...]]:
        """Progress and notes as they were last written; None and no notes before that."""
        try:
            record = read_json(self.path / "progress.json", ProgressRecord)
        except InputError:
            return None, ()
        return record.progress, record.notes

    def replace(self, target: Path, content: bytes) -> None:
        """Write a file that readers see whole, old or new, without waiting for the disk."""
        temporary = temporary_beside(target)
        temporary.write_bytes(content)
        os.replace(temporary, target)

    def live_changed_ns(self) -> int | None:
        """When the newest frames were written; None: there are none."""
        try:
            return self.live.stat().st_mtime_ns
        except OSError:
            return None

    def playable(self) -> Path | None:
        """The video, or the part of it that a cancelled job left."""
        part = partial_video_path(self.video)
        return self.video if self.video.is_file() else part if part.is_file() else None

    def remove(self) -> None:
        """Delete everything. Under its own name the folder is there as a whole or not at all, also after a
        kill; `remove_left_overs` then removes the rest."""
        going = self.path.with_name(f"{_GOING}{self.id}")
        os.replace(self.path, going)
        shutil.rmtree(going, ignore_errors=True)


def remove_left_overs(jobs: Path) -> None:
    """Remove what a kill left of folders that were being deleted."""
    for path in jobs.glob(f"{_GOING}*"):
        shutil.rmtree(path, ignore_errors=True)


def in_words_of_the_page(text: str, names: Mapping[Path, str]) -> str:
    """A message without paths of the server: files by the names that people gave them."""
    for path, name in names.items():
        text = text.replace(os.fspath(path), name).replace(path.name, name)
    return text
