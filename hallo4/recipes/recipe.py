"""What a recipe is: a frozen configuration and the function that runs it."""

from __future__ import annotations

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
