"""`hallo4 train RECIPE`: any training run; the same command resumes it, also on several processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg

from hallo4.cli.options import parse


@dataclass(frozen=True)
class Train:
    """Run a training recipe, or resume it where it stopped. Without RECIPE, list what there is."""

    recipe: Annotated[Positional[str], arg(metavar="[RECIPE]", help_behavior_hint="")] = ""
    """the name of a recipe"""
    changes: Annotated[
        UseAppendAction[tuple[str, ...]], arg(name="set", metavar="A.B=C", help_behavior_hint="(repeatable)")
    ] = ()
    """change a value of the recipe's configuration, such as train.steps=100"""
    output: Annotated[
        Path | None, arg(aliases=("-o",), metavar="DIR", help_behavior_hint="(default: runs/RECIPE)")
    ] = None
    """the folder of the run"""


def run(words: Sequence[str]) -> None:
    """Parse the words after `hallo4 train` and do it; the path of the result is the last line on stdout."""
    options = parse(Train, list(words), prog="hallo4 train")

    from hallo4.outputs import refuse_output
    from hallo4.recipes import RECIPES, find_recipe
    from hallo4.training import current_group, override
    from hallo4.training.failure import failures_shared

    if not options.recipe:
        for name, make in RECIPES.items():
            print(f"{name:<20} {make().summary}")
        return
    recipe = find_recipe(options.recipe)
    config, folder = override(recipe.config, options.changes), options.output or Path("runs") / recipe.name
    # What ends in _folder is made by the recipe itself and used again by the next run.
    refuse_output(folder, [value for key, value in vars(config).items() if not key.endswith("_folder")])
    group = current_group()
    with failures_shared(group.rank, group.size):
        result = recipe(config, folder)
    if group.main:
        print(result)
