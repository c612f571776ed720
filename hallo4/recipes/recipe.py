"""What a recipe is: a frozen configuration and the function that runs it; and how its preparations report."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """A run by name. `run(config, folder)` does the work in the git-ignored `folder` and returns where the
    result lies.

    Calling it again with the same folder goes on where it stopped.
    """

    name: str
    summary: str
    config: Any
    run: Callable[[Any, Path], Path]


def counted(what: str, every_s: float = 5.0) -> Callable[[int, int], None]:
    """An `on_progress(done, total)` that says "`what`: 50 of 4000" on stderr, every few seconds and at the
    end; what is all there at the first call is not announced."""
    last_s: float | None = None

    def on_progress(done: int, total: int) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        began = last_s is not None
        if last_s is None:
            last_s = now_s
        if now_s - last_s >= every_s or (began and done == total):
            last_s = now_s
            sys.stderr.write(f"{what}: {done} of {total}\n")

    return on_progress
