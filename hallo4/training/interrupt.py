"""Ctrl-C as a wish that is granted at a good moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets; the second one acts as usual."""
    stopped, previous = threading.Event(), {}

    def on_signal(number: int, _frame: object) -> None:
        stopped.set()
        signal.signal(number, previous[number])

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, on_signal)
    try:
        yield stopped
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
