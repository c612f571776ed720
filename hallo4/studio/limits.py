"""How often something may be asked: a bucket that fills at a rate and is emptied by requests.

Behind a proxy every request comes from one address, so limits are per rater and for all strangers together.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from hallo4.studio.refused import Refused


@dataclass(frozen=True)
class Limit:
    """So many at once, and then so many a second."""

    burst: int
    per_s: float


JOINING = Limit(100, 2.0)
"""All who join together."""
STRANGERS = Limit(60, 2.0)
"""Requests with a wrong key or none, all together; those with a right one are not held up by them."""
RATER = Limit(40, 4.0)
"""Requests of one rater: an answer asks once, a video two or three times."""
MEDIA = Limit(200, 40.0)
"""Of one question's video, which browsers fetch in pieces."""


class Limits:
    """The buckets of one server, by name; full ones are forgotten."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._buckets: dict[tuple[Limit, str], tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, limit: Limit, name: str = "") -> None:
        """Refused (429) when the bucket is empty."""
        with self._lock:
            now = self._clock_s()
            if len(self._buckets) > 10_000:
                self._forget_full(now)
            left, at = self._buckets.get((limit, name), (float(limit.burst), now))
            left = min(limit.burst, left + (now - at) * limit.per_s)
            if left < 1:
                raise Refused(429, "Too many requests. Wait a moment; this page tries again by itself.")
            self._buckets[limit, name] = (left - 1, now)

    def _forget_full(self, now: float) -> None:
        self._buckets = {
            key: (left, at)
            for key, (left, at) in self._buckets.items()
            if left + (now - at) * key[0].per_s < key[0].burst
        }
