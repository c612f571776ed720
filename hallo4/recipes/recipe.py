"""What a recipe is: a frozen configuration and the function that runs it; and how its preparations report."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hallo4.errors import Hallo4Error, InputError, OutputError
from hallo4.json_file import read_json
from hallo4.lock import sole_maker
from hallo4.training.ranks import current_group, main_first
from hallo4.whole import write_whole

BEGUN = "recipe.json"
"""In the folder of a run: which recipe it is of, and with which values it was begun."""
MAY_CHANGE = (
    *("train", "gradient_checkpointing", "attention", "compile_blocks"),
    *("model_name", "result", "guard", "held_out", "held_out_draws"),
)
"""Values that a run may go on with when they are others: they decide how long and how it is computed, what is
watched and what the result is called. (The loop says which of `train` are others.)"""


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

    def __call__(self, config: Any, folder: Path) -> Path:
        """`run`, but in a folder of this recipe and these values alone, see `claim_run`, in which no other
        process runs one. OutputError: one does."""
        with ExitStack() as held:
            with main_first("the run's folder"):
                if current_group().main:
                    held.enter_context(sole_maker(folder, "Wait for it, or choose another run folder."))
                claim_run(folder, self.name, config)
            try:
                return self.run(config, folder)
            except Hallo4Error:
                if [path.name for path in folder.iterdir()] == [BEGUN]:  # refused before anything was done
                    (folder / BEGUN).unlink()
                    folder.rmdir()
                raise


@dataclass(frozen=True)
class BegunRun:
    """`recipe.json`."""

    recipe: str
    config: dict[str, Any]


def claim_run(folder: Path, recipe: str, config: Any) -> None:
    """Write down what is run in `folder`. InputError: steps of another recipe lie there, or of one that was
    begun with other values than those that `MAY_CHANGE`. OutputError: it cannot be written."""
    file = folder / BEGUN
    begun = BegunRun(recipe, json.loads(json.dumps(asdict(config))))
    if file.exists() and any(folder.glob("last*")):
        there = read_json(file, BegunRun, advice="Delete it to go on all the same.")
        if there.recipe != recipe:
            raise InputError(
                f"{folder}: holds a run of {there.recipe}, and this is {recipe}. Choose another folder "
                "with -o."
            )
        for name, (old, new) in _differences(there.config, begun.config):
            if name.partition(".")[0] not in MAY_CHANGE:
                raise InputError(
                    f"{folder}: the run there was begun with {name}={old}, and this is {name}={new}. Go on "
                    "with the first, or choose another folder with -o."
                )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(asdict(begun), indent=1) + "\n")
    except OSError as error:
        raise OutputError(
            f"Cannot use {folder} as the run folder: {error.strerror}. Choose another folder."
        ) from error


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Names "a.b" and both values, where two trees that both have them differ."""
    for name in one.keys() & other.keys():
        old, new = one[name], other[name]
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from ((f"{name}.{inner}", values) for inner, values in _differences(old, new))
        elif old != new:
            yield name, (old, new)


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
