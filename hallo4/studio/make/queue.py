"""The queue: jobs in folders, one worker process per device, and no state that a kill could lose.

A job waits as long as its folder has no outcome and no server has claimed it; so a new server, or another one
of the same folder, finds what a dead one left, and the work folder of the video makes it go on where it
stopped.
"""

from __future__ import annotations

import secrets
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any

from hallo4.engine.processes import one_worker
from hallo4.errors import Hallo4Error, OutputError
from hallo4.lock import in_turn
from hallo4.studio.make import worker
from hallo4.studio.make.board import Board, Entry
from hallo4.studio.make.job_folder import JobFolder, Outcome, Request
from hallo4.studio.make.offers import Offers
from hallo4.studio.make.settings import InputView, JobBody, JobView, Settings, UploadBody, UploadView
from hallo4.studio.make.times import Took
from hallo4.studio.make.uploads import Uploads
from hallo4.studio.refused import Refused

JOB_LIMIT = 2000
LOOKED_FOR_EVERY_S = 0.5
"""Jobs that other servers of the folder added or left; those of this one are taken up at once."""
_ENDED = (
    "The worker process ended before the video was finished; memory may be short. Go on with it, or choose a "
    "smaller model."
)


class Queue:
    """The jobs of one studio, in `folder`; safe for several threads, and several servers of the folder."""

    def __init__(self, folder: Path, uploads: Uploads, offers: Offers, devices: Sequence[str]) -> None:
        self.uploads, self.offers = uploads, offers
        self.devices = tuple(devices)
        self._jobs, self._board = folder / "jobs", Board(folder)
        self._stopping = self._board.claims / f"{secrets.token_hex(8)}.stopping"
        self._changed = threading.Condition()
        self._closed = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Take up what is left from before, and begin to work."""
        self._board.remove_left_overs()
        with in_turn(self._jobs):
            self.uploads.sweep(self.used_uploads())
        for device in self.devices:
            thread = threading.Thread(target=self._serve, args=(device,), name=f"queue-{device}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """Ask the workers to stop at their next step, and wait; their jobs go on at the next start, or with
        another server."""
        with self._changed:
            self._closed = True
            self._stopping.touch()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._stopping.unlink(missing_ok=True)

    # ------------------------------------------------------------------ what people do

    def begin_upload(self, body: UploadBody) -> UploadView:
        """Make room for a file, see `Uploads.begin`."""
        with in_turn(self._jobs):  # what is no job's file now does not become one meanwhile
            return self.uploads.begin(body, self.used_uploads())

    def add(self, body: JobBody) -> JobView:
        """A new job at the end of the queue. Refused: a file or model that is not here, or too many jobs."""
        self.offers.check(body.settings)
        job_id, names = secrets.token_hex(16), {}
        with in_turn(self._jobs):  # no other server deletes the files meanwhile
            if len(self._board.entries()) >= JOB_LIMIT:
                raise Refused(429, f"The studio holds {JOB_LIMIT} videos and no more. Delete some first.")
            for role, upload_id in body.settings.uploads().items():
                self.uploads.usable(upload_id, role)
                names[role] = self.uploads.view(upload_id).name
            request = Request(body=body, created=time.time(), names=names)
            try:
                JobFolder.create(self._jobs / job_id, request)
            except OSError as error:
                raise OutputError(f"{job_id}: cannot be written ({error.strerror}).") from error
        self._wake_workers()
        return self.view(job_id)

    def cancel(self, job_id: str) -> JobView:
        """Stop a job, or take it out of the queue; what is finished stays. Refused: it is over."""
        if self._entry(job_id).outcome is not None:
            raise Refused(409, "This video is no longer being made.")
        job = self.folder(job_id)
        with suppress(FileNotFoundError):  # deleted meanwhile: `view` says so
            job.ask_to_stop()
        with self._board.claim(job_id) as entry:
            if entry is not None and entry.outcome is None:  # else the one that makes it stops
                job.end(Outcome(status="cancelled", text="Removed from the queue."))
        return self.view(job_id)

    def resume(self, job_id: str) -> JobView:
        """Put a cancelled or failed job back, to go on where it stopped. Refused: it is neither."""
        self._entry(job_id)
        with self._board.claim(job_id) as entry:
            if entry is None or entry.outcome is None or entry.outcome.status == "done":
                self._entry(job_id)  # it may have been deleted meanwhile
                raise Refused(409, "Only a stopped or failed video can be resumed.")
            self._board.folder(job_id).reopen()
        self._wake_workers()
        return self.view(job_id)

    def delete(self, job_id: str) -> None:
        """Remove a job, its video, and its files where no other job uses them. Refused: it is being made."""
        self._entry(job_id)
        with self._board.claim(job_id) as entry, in_turn(self._jobs):
            if entry is None:
                self._entry(job_id)  # it may have been deleted meanwhile
                raise Refused(409, "This video is being made. Stop it first.")
            self._board.folder(job_id).remove()
            for upload_id in set(entry.request.body.settings.uploads().values()) - self.used_uploads():
                self.uploads.remove(upload_id)

    # ------------------------------------------------------------------ what people see

    def folder(self, job_id: str) -> JobFolder:
        """Its files. Refused: no such job."""
        self._entry(job_id)
        return self._board.folder(job_id)

    def views(self) -> list[JobView]:
        """All jobs, newest first."""
        entries, waiting = self._board.now()
        ids = sorted(entries, key=lambda job_id: -entries[job_id].request.created)
        return [self._view(job_id, entries[job_id], waiting) for job_id in ids]

    def view(self, job_id: str) -> JobView:
        """One job. Refused: no such job."""
        entries, waiting = self._board.now()
        return self._view(job_id, _there(entries, job_id), waiting)

    def times(self) -> list[Took]:
        """How long videos took that were made in one go, the latest first."""
        over = [entry for entry in self._board.entries().values() if entry.outcome is not None]
        over.sort(key=lambda entry: -entry.request.created)
        return [entry.outcome.took for entry in over if entry.outcome.took is not None]

    def used_uploads(self) -> set[str]:
        """Ids of the files that jobs are made from."""
        return {
            found
            for entry in self._board.entries().values()
            for found in entry.request.body.settings.uploads().values()
        }

    def _entry(self, job_id: str) -> Entry:
        return _there(self._board.entries(), job_id)

    def _view(self, job_id: str, entry: Entry, waiting: Sequence[str]) -> JobView:
        job, outcome, at = self._board.folder(job_id), entry.outcome, f"media/{job_id}"
        if outcome is not None:
            if entry.view is None:
                entry.view = _shown(
                    job, entry, status=outcome.status, text=outcome.text, notes=outcome.notes,
                    frames=outcome.frames, took_s=outcome.took_s,
                    video=f"{at}/video.mp4" if job.playable() else None,
                )  # fmt: skip
            return entry.view
        if job_id in waiting:
            return _shown(job, entry, status="queued", ahead=waiting.index(job_id))
        progress, notes = job.progress()
        changed = job.live_changed_ns()
        return _shown(
            job, entry, status="running", progress=progress, notes=notes, stopping=job.asked_to_stop(),
            live=None if changed is None else f"{at}/live.webp?{changed}",
        )  # fmt: skip

    # ------------------------------------------------------------------ work

    def _serve(self, device: str) -> None:
        """Have the jobs made on `device`, one after the other, by a process that is replaced if it ends."""
        while not self._closed:
            with suppress(BrokenProcessPool), one_worker(worker.prepare) as pool:
                while not self._closed:
                    if not self._made_next(pool, device):
                        with self._changed:
                            self._changed.wait(0 if self._closed else LOOKED_FOR_EVERY_S)

    def _made_next(self, pool: ProcessPoolExecutor, device: str) -> bool:
        """`_make_next`; False, with a warning, while the disk is full or away: the job waits until it is
        back."""
        try:
            return self._make_next(pool, device)
        except (OSError, Hallo4Error) as error:
            warnings.warn(f"{device}: no video can be made now ({error}); trying again", RuntimeWarning, 2)
            return False

    def _make_next(self, pool: ProcessPoolExecutor, device: str) -> bool:
        """Have the oldest job made that waits; whether there was one. BrokenProcessPool: the process ended,
        and the job has failed."""
        for job_id in self._board.now()[1]:
            with self._board.claim(job_id) as entry:
                if entry is not None and entry.outcome is None:
                    self._have_made(job_id, entry.request.body.settings, pool, device)
                    return True
        return False

    def _have_made(self, job_id: str, settings: Settings, pool: ProcessPoolExecutor, device: str) -> None:
        job, failure = self._board.folder(job_id), None
        job.clean()
        try:
            files = {role: self.uploads.usable(found, role) for role, found in settings.uploads().items()}
            model, effort = self.offers.folder(settings.model), self.offers.effort(settings)
            task = worker.Task(job.path, self._stopping, files, model, *effort, device)
            pool.submit(worker.make, task).result()
        except Exception as error:
            failure = error
        lost = isinstance(failure, BrokenProcessPool)
        try:
            if failure is not None and job.outcome() is None and not self._closed:
                text = _ENDED if lost else f"Not started: {failure} Choose its files and model again."
                job.end(Outcome(status="failed", text=text))
        finally:
            if failure is not None and lost:  # a full disk does not hide it
                raise failure

    def _wake_workers(self) -> None:
        with self._changed:
            self._changed.notify_all()


def _there(entries: Mapping[str, Entry], job_id: str) -> Entry:
    if job_id not in entries:
        raise Refused(404, "This video was deleted or never existed.")
    return entries[job_id]


def _shown(job: JobFolder, entry: Entry, **more: Any) -> JobView:
    request = entry.request
    files = {
        role: InputView(id=found, name=request.names[role], address=f"media/{found}/content")
        for role, found in request.body.settings.uploads().items()
    }
    return JobView(
        id=job.id, title=request.body.title, created=request.created, settings=request.body.settings,
        consent=request.body.consent, inputs=files,
        poster=f"media/{job.id}/poster.jpg" if job.poster.exists() else None, **more,
    )  # fmt: skip
