"""The queue: jobs in folders, one worker process per device, and no state that a kill could lose.

A job waits as long as its folder has no outcome; so a new server finds what the old one left, and the work
folder of the video makes it go on where it stopped.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any

from hallo4.engine.processes import one_worker
from hallo4.errors import OutputError
from hallo4.studio.make import worker
from hallo4.studio.make.job_folder import JobFolder, Outcome, Request
from hallo4.studio.make.offers import Offers
from hallo4.studio.make.settings import InputView, JobBody, JobView, Role
from hallo4.studio.make.uploads import Uploads
from hallo4.studio.refused import Refused

JOB_LIMIT = 2000
_ENDED = (
    "The worker process ended before the video was finished; memory may be short. Go on with it, or choose a "
    "smaller model."
)


class Queue:
    """The jobs of one studio, in `folder`; safe for several threads."""

    def __init__(self, folder: Path, uploads: Uploads, offers: Offers, devices: Sequence[str]) -> None:
        self.uploads, self.offers = uploads, offers
        self.devices = tuple(devices)
        self._folder, self._stopping = folder / "jobs", folder / "stopping"
        self._changed = threading.Condition()
        self._requests: dict[str, Request] = {}
        self._outcomes: dict[str, Outcome | None] = {}
        self._over: dict[str, JobView] = {}  # what finished jobs look like, which does not change
        self._running: set[str] = set()
        self._closed = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Take up what is left from before, and begin to work."""
        self._folder.mkdir(exist_ok=True)
        self._stopping.unlink(missing_ok=True)
        for path in self._folder.iterdir():
            job = JobFolder(path)
            job.clean()
            request = job.request()
            if request is None:  # killed before it was accepted
                job.remove()
                continue
            self._requests[job.id], self._outcomes[job.id] = request, job.outcome()
        self.uploads.sweep(self.used_uploads())
        for device in self.devices:
            thread = threading.Thread(target=self._serve, args=(device,), name=f"queue-{device}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """Ask the workers to stop at their next step, and wait; their jobs go on at the next start."""
        with self._changed:
            self._closed = True
            self._stopping.touch()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    # ------------------------------------------------------------------ what people do

    def add(self, body: JobBody) -> JobView:
        """A new job at the end of the queue. Refused: a file or model that is not here, or too many jobs."""
        self.offers.check(body.settings)
        job_id, names = secrets.token_hex(16), {}
        with self._changed:
            if len(self._requests) >= JOB_LIMIT:
                raise Refused(429, f"{JOB_LIMIT} videos are here. Delete some that you no longer need.")
            for role, upload_id in body.settings.uploads().items():
                self.uploads.usable(upload_id, role)
                names[role] = self.uploads.view(upload_id).name
            request = Request(body=body, created=time.time(), names=names)
            try:
                JobFolder.create(self._folder / job_id, request)
            except OSError as error:
                raise OutputError(f"{job_id}: cannot be written ({error.strerror}).") from error
            self._requests[job_id], self._outcomes[job_id] = request, None
            self._changed.notify_all()
        return self.view(job_id)

    def cancel(self, job_id: str) -> JobView:
        """Stop a job, or take it out of the queue; what is finished stays. Refused: it is over."""
        with self._changed:
            self._must_exist(job_id)
            if self._outcomes[job_id] is not None:
                raise Refused(409, "This video is not being made any more.")
            job = self.folder(job_id)
            job.ask_to_stop()
            if job_id not in self._running:
                self._end(job_id, Outcome(status="cancelled", text="Taken out of the queue."))
        return self.view(job_id)

    def resume(self, job_id: str) -> JobView:
        """Put a cancelled or failed job back, to go on where it stopped. Refused: it is neither."""
        with self._changed:
            self._must_exist(job_id)
            outcome = self._outcomes[job_id]
            if outcome is None or outcome.status == "done":
                raise Refused(409, "Only a stopped or failed video can go on.")
            self.folder(job_id).reopen()
            self._outcomes[job_id] = None
            self._over.pop(job_id, None)
            self._changed.notify_all()
        return self.view(job_id)

    def delete(self, job_id: str) -> None:
        """Remove a job, its video, and its files where no other job uses them. Refused: it is being made."""
        with self._changed:
            self._must_exist(job_id)
            if job_id in self._running:
                raise Refused(409, "This video is being made. Stop it first.")
            self.folder(job_id).remove()
            request = self._requests.pop(job_id)
            self._outcomes.pop(job_id)
            self._over.pop(job_id, None)
            for upload_id in set(request.body.settings.uploads().values()) - self.used_uploads():
                self.uploads.remove(upload_id)

    # ------------------------------------------------------------------ what people see

    def folder(self, job_id: str) -> JobFolder:
        """Its files. Refused: no such job."""
        self._must_exist(job_id)
        return JobFolder(self._folder / job_id)

    def views(self) -> list[JobView]:
        """All jobs, newest first."""
        with self._changed:
            ids = sorted(self._requests, key=lambda job_id: -self._requests[job_id].created)
        found = []
        for job_id in ids:
            with suppress(Refused):  # deleted meanwhile
                found.append(self.view(job_id))
        return found

    def view(self, job_id: str) -> JobView:
        """One job. Refused: no such job."""
        with self._changed:
            self._must_exist(job_id)
            outcome = self._outcomes[job_id]
            if outcome is None:
                return self._open_view(job_id)
            if job_id not in self._over:
                job, at = self.folder(job_id), f"media/{job_id}"
                self._over[job_id] = self._view(
                    job_id, status=outcome.status, text=outcome.text, notes=outcome.notes,
                    frames=outcome.frames, took_s=outcome.took_s,
                    video=f"{at}/video.mp4" if job.playable() else None,
                )  # fmt: skip
            return self._over[job_id]

    def _open_view(self, job_id: str) -> JobView:
        job = self.folder(job_id)
        if job_id not in self._running:
            return self._view(job_id, status="queued", ahead=self._waiting().index(job_id))
        progress, notes = job.said()
        live = f"media/{job_id}/live.webp?{job.live.stat().st_mtime_ns}" if job.live.exists() else None
        return self._view(
            job_id, status="running", progress=progress, notes=notes, live=live, stopping=job.asked_to_stop()
        )

    def _view(self, job_id: str, **more: Any) -> JobView:
        request, poster = self._requests[job_id], self.folder(job_id).poster
        files = {
            role: InputView(id=found, name=request.names[role], address=f"media/{found}/content")
            for role, found in request.body.settings.uploads().items()
        }
        return JobView(
            id=job_id, title=request.body.title, created=request.created, settings=request.body.settings,
            consent=request.body.consent, inputs=files,
            poster=f"media/{job_id}/poster.jpg" if poster.exists() else None, **more,
        )  # fmt: skip

    def used_uploads(self) -> set[str]:
        """Ids of the files that jobs are made from."""
        with self._changed:
            return {
                found
                for request in self._requests.values()
                for found in request.body.settings.uploads().values()
            }

    # ------------------------------------------------------------------ work

    def _serve(self, device: str) -> None:
        """Have the jobs made on `device`, one after the other, by a process that is replaced if it ends."""
        while not self._closed:
            with suppress(BrokenProcessPool), one_worker(worker.prepare) as pool:
                for job_id in self._next_jobs():
                    self._have_made(job_id, pool, device)

    def _have_made(self, job_id: str, pool: ProcessPoolExecutor, device: str) -> None:
        """BrokenProcessPool: the process ended, and the job has failed."""
        failure: Exception | None = None
        try:
            pool.submit(worker.make, *self._task(job_id), device).result()
        except Exception as error:
            failure = error
        with self._changed:
            self._running.discard(job_id)
            self._outcomes[job_id] = self.folder(job_id).outcome()
            if failure is not None and self._outcomes[job_id] is None and not self._closed:
                lost = isinstance(failure, BrokenProcessPool)
                text = _ENDED if lost else f"Not begun: {failure} Choose its files and model again."
                self._end(job_id, Outcome(status="failed", text=text))
        if isinstance(failure, BrokenProcessPool):
            raise failure

    def _task(self, job_id: str) -> tuple[Path, Path, dict[Role, Path], str, tuple[int, float]]:
        """What the worker is told. Refused: the model is not offered any more, or a file is gone."""
        settings = self._requests[job_id].body.settings
        uploads = settings.uploads()
        files = {role: self.uploads.usable(found, role) for role, found in uploads.items()}
        model = os.fspath(self.offers.folder(settings.model))
        return self._folder / job_id, self._stopping, files, model, self.offers.effort(settings)

    def _next_jobs(self) -> Iterator[str]:
        """Jobs to be made, as they come, until the queue is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting())
                if self._closed:
                    return
                job_id = self._waiting()[0]
                self._running.add(job_id)
            yield job_id

    def _waiting(self) -> list[str]:
        waiting = (
            job for job, outcome in self._outcomes.items() if outcome is None and job not in self._running
        )
        return sorted(waiting, key=lambda job_id: self._requests[job_id].created)

    def _end(self, job_id: str, outcome: Outcome) -> None:
        self.folder(job_id).end(outcome)
        self._outcomes[job_id] = outcome

    def _must_exist(self, job_id: str) -> None:
        if job_id not in self._requests:
            raise Refused(404, "This video is not here any more.")
