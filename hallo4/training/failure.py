"""One of several processes fails: all of them end, soon, and every one says which it was.

    an error on rank 1 --> "failed" in the group's store --> watch of rank 0: "rank 1 of 2 failed: ..."
    rank 1 is killed   --> its pulse stops               --> watch of rank 0: "rank 1 of 2 gave no sign ..."

Without this, the others wait in a collective operation until it times out, and the message they then give
names a socket.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

import torch.distributed as dist

from hallo4.errors import Cancelled, Hallo4Error

PULSE_S = 0.5
"""How often every process gives a sign of life."""
SILENT_S = 120.0
"""Without one for so long, a process counts as lost."""
LOOK_S = 4.0
"""How long a process whose exchange with the others broke looks for the one that is to blame."""
GRACE_S = 5.0
"""How long the main thread has to notice by itself that another process failed."""

NO_STORE = "the store that the processes share does not answer: rank 0 or what started it is gone"

_watch: _Watch | None = None
_watches = count()


@contextmanager
def failures_shared(rank: int, size: int) -> Iterator[None]:
    """An error in the block reaches all processes, which end with a Hallo4Error that names this one.

    Blocks within blocks are one. Nothing happens where `size` is 1.
    """
    global _watch
    if size == 1 or _watch is not None:
        yield
        return
    _watch, failed = _Watch(rank, size), True
    try:
        yield
        failed = False
    except Cancelled:  # all have agreed to stop
        failed = False
        raise
    except Hallo4Error as error:
        raise _watch.attributed(error) from error
    except Exception as error:
        blamed = _watch.to_blame()
        if blamed is None:
            _watch.tell(f"{type(error).__name__}: {error}")
            raise
        raise Hallo4Error(blamed) from error
    finally:
        _watch.close(failed)
        _watch = None


def failed_elsewhere(rank: int) -> None:
    """Hallo4Error if another process than `rank` has failed or is lost."""
    if _watch is not None and (reason := _watch.found()):
        raise Hallo4Error(reason)


def group_store() -> Any:
    """The key-value store of the process group."""
    return dist.distributed_c10d._get_default_store()


class _Watch:
    """Gives signs of life, and looks at those of the others, in a thread with a connection of its own."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self.store = dist.PrefixStore(f"watch {next(_watches)}", group_store().clone())
        self.lock = threading.RLock()
        self.closed = threading.Event()
        self.pulses: dict[int, tuple[int, float]] = {}
        self.store.set(f"host {rank}", socket.gethostname())
        self._beat()
        self.thread = threading.Thread(target=self._run, name="pulse", daemon=True)
        self.thread.start()

    def attributed(self, error: Hallo4Error) -> Hallo4Error:
        """What this process says of its own `error`: that it was the first, or who was."""
        first = self.tell(str(error))
        if first is None:
            return type(error)(f"{self._name(self.rank)}: {error}")
        return Hallo4Error(f"{self._name(self.rank)} stopped, because {first}")

    def tell(self, text: str) -> str | None:
        """Say that this process failed; None, or which other process had failed before."""
        record = json.dumps({"rank": self.rank, "text": " ".join(text.split())[:2000]})
        with suppress(Exception), self.lock:
            record = self.store.compare_set("failed", "", record).decode()
        return self._reason(record)

    def to_blame(self) -> str | None:
        """Which other process failed or fell silent just now, looked for during a few seconds; else None."""
        before, end_s = self._counts(), time.monotonic() + LOOK_S
        while time.monotonic() < end_s:
            if reason := self.found():
                return reason
            time.sleep(PULSE_S / 2)
        after = self._counts()
        if after is None:
            return NO_STORE
        silent = [rank for rank in after if before and after[rank] == before[rank] and not self._done(rank)]
        return self._silence(silent[0], LOOK_S) if silent else None

    def found(self) -> str | None:
        """Which other process failed or was lost, or None."""
        with suppress(Exception), self.lock:
            if self.store.check(["failed"]):
                return self._reason(self.store.get("failed").decode())
        return None

    def close(self, failed: bool) -> None:
        """This process has done its part. The main one, which may keep the store, stays for the others: until
        they are done, or, after a failure, long enough for them to read what it was."""
        with suppress(Exception), self.lock:
            if not failed or self.store.check(["failed"]):
                self.store.set(f"done {self.rank}", "done")
        end_s = time.monotonic() + 2 * GRACE_S
        while self.rank == 0 and not (failed and time.monotonic() > end_s):
            counts = self._counts()
            if counts is None or all(map(self._done, counts)):
                break
            if not failed and (self.found() or self._lost()):
                break
            time.sleep(PULSE_S / 4)
        self.closed.set()
        self.thread.join()

    def _run(self) -> None:
        failed_s: float | None = None
        while not self.closed.wait(PULSE_S):
            self._beat()
            reason = self.found() or self._lost()
            if reason is None:
                continue
            now_s = time.monotonic()
            failed_s = now_s if failed_s is None else failed_s
            if now_s - failed_s >= GRACE_S:
                sys.stderr.write(f"hallo4: error: {self._name(self.rank)} stopped, because {reason}\n")
                sys.stderr.flush()
                os._exit(2)

    def _beat(self) -> None:
        with suppress(Exception), self.lock:
            self.store.add(f"pulse {self.rank}", 1)

    def _lost(self) -> str | None:
        now_s, counts = time.monotonic(), self._counts()
        if counts is None:
            return NO_STORE
        for rank, pulse in counts.items():
            last, since_s = self.pulses.get(rank, (-1, now_s))
            if pulse != last:
                self.pulses[rank] = (pulse, now_s)
            elif now_s - since_s > SILENT_S and not self._done(rank):
                return self._silence(rank, SILENT_S)
        return None

    def _counts(self) -> dict[int, int] | None:
        """How many signs each of the others has given; None where the store does not answer."""
        others = [rank for rank in range(self.size) if rank != self.rank]
        with suppress(Exception), self.lock:
            return {rank: self.store.add(f"pulse {rank}", 0) for rank in others}
        return None

    def _done(self, rank: int) -> bool:
        with suppress(Exception), self.lock:
            return self.store.check([f"done {rank}"])
        return False

    def _reason(self, record: str) -> str | None:
        found = json.loads(record)
        if found["rank"] == self.rank:
            return None
        return f"{self._name(found['rank'])} failed: {found['text']}"

    def _silence(self, rank: int, seconds: float) -> str:
        return (
            f"{self._name(rank)} gave no sign of life for {seconds:g} s. Look at its last messages and at "
            "the log of its machine; the same command goes on from the last checkpoint"
        )

    def _name(self, rank: int) -> str:
        host = ""
        with suppress(Exception), self.lock:
            if self.store.check([f"host {rank}"]):
                host = f" on {self.store.get(f'host {rank}').decode()}"
        return f"rank {rank} of {self.size}{host}"
