"""All jobs of a studio as their folders are now, whichever server made, ends or deletes them.

::

    jobs/<id>/...          see `job_folder.py`
    claims/<id>.lock       held by the server that works on a job or changes it, and gone with that server
    claims/<id>.stopping   there while a server ends: its workers stop at their next step

Several servers may share the folder: there is no other record of the queue, and nothing is remembered that
the folders could contradict.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hallo4.errors import LockedError
from hallo4.lock import is_locked, sole_worker
from hallo4.studio.make.job_folder import JobFolder, Outcome, Request, remove_left_overs
from hallo4.studio.make.settings import JobView

_SETTLED_NS = 2 * 10**9
"""A folder that changed less than this ago may change again within one tick of its disk's clock."""


_RELEASED_WITHIN_S = 10.0
_ENDS_WITHIN_S = 24 * 3600.0
"""A server that ends waits for one step of its workers, which takes far less."""


@dataclass
class Entry:
    """A job as its folder was at `stamp`: what was asked, how it ended (None: it has not), and what a job
    that is over looks like, once it was asked for."""

    stamp: int
    request: Request
    outcome: Outcome | None
    view: JobView | None = None


class Board:
    """The jobs in `folder`; safe for several threads, and several servers."""

    def __init__(self, folder: Path) -> None:
        self._jobs, self.claims = folder / "jobs", folder / "claims"
        self._entries: dict[str, Entry] = {}
        self._one_at_a_time = threading.Lock()
        for made in (self._jobs, self.claims):
            made.mkdir(exist_ok=True)

    def remove_left_overs(self) -> None:
        """Remove what a kill left: folders that were being deleted, and signs that a server was ending."""
        remove_left_overs(self._jobs)
        for path in self.claims.glob("*.stopping"):
            with suppress(FileNotFoundError):  # another server removed it
                if time.time() - path.stat().st_mtime > _ENDS_WITHIN_S:
                    path.unlink()

    def folder(self, job_id: str) -> JobFolder:
        """Its files, whether it is there or not."""
        return JobFolder(self._jobs / job_id)

    def entries(self) -> dict[str, Entry]:
        """All jobs by id, as they are now."""
        with self._one_at_a_time:
            found = {}
            for path in self._jobs.iterdir():
                if path.name.startswith("."):
                    continue
                with suppress(FileNotFoundError):  # deleted meanwhile
                    entry = self._entry(path, path.stat().st_mtime_ns)
                    if entry is not None:
                        found[path.name] = entry
            self._entries = found
            return dict(found)

    def now(self) -> tuple[dict[str, Entry], list[str]]:
        """All jobs, and the ids of those that are to be made and that no server has, the oldest first."""
        # Claims first: a job that ends meanwhile has its outcome before its claim is gone.
        claimed = {path.stem for path in self.claims.glob("*.lock") if is_locked(path)}
        entries = self.entries()
        open_ones = (job_id for job_id, entry in entries.items() if entry.outcome is None)
        waiting = [job_id for job_id in open_ones if job_id not in claimed]
        return entries, sorted(waiting, key=lambda job_id: (entries[job_id].request.created, job_id))

    @contextmanager
    def claim(self, job_id: str) -> Iterator[Entry | None]:
        """A job for this server alone, as it is now; None: another has it, or it is not there.

        The claim of a job that is over ends right after its outcome is written, and is waited for.
        """
        until = time.monotonic() + _RELEASED_WITHIN_S
        with ExitStack() as held:
            while True:
                try:
                    held.enter_context(sole_worker(self.claims / f"{job_id}.lock", job_id, ""))
                    break
                except LockedError:
                    if self.folder(job_id).outcome() is None or time.monotonic() > until:
                        yield None
                        return
                time.sleep(0.02)
            with self._one_at_a_time:  # read again: the times of a shared disk may be known late
                self._entries.pop(job_id, None)
            yield self.entries().get(job_id)

    def _entry(self, path: Path, stamp: int) -> Entry | None:
        known = self._entries.get(path.name)
        if known is not None and known.stamp == stamp and time.time_ns() - stamp > _SETTLED_NS:
            return known
        job = JobFolder(path)
        request = known.request if known is not None else job.request()
        return None if request is None else Entry(stamp, request, job.outcome())
