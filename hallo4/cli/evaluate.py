"""`hallo4 evaluate world`: a model measured on episodes that nobody trained on, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import arg


@dataclass(frozen=True)
class World:
    """Measure a model on unseen episodes of the portrait world, and compare it with another if you like.

    Stopped with Ctrl-C, the same command goes on where it was.
    """

    output: Annotated[Path, arg(aliases=("-o",), metavar="REPORT.json")]
    """where the report goes; a picture and the rows are put beside it"""
    model: Annotated[str, arg(metavar="A")] = "tiny-dit"
    """the model to measure: a name, a folder, `truth` or `autoencoder`"""
    against: Annotated[str | None, arg(metavar="B", help_behavior_hint="(default: nothing)")] = None
    """another one that makes the same clips from the same noise"""
    episodes: Annotated[int, arg(metavar="N")] = 40
    """how many clips"""
    seed: Annotated[int, arg(metavar="S")] = 0
    """which clips"""
    seconds: Annotated[float, arg(metavar="S")] = 3.2
    """length of a clip"""
    steps: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: the model's)")] = None
    """denoising steps"""
    guidance_scale: Annotated[float | None, arg(metavar="X", help_behavior_hint="(default: the model's)")] = (
        None
    )
    """guidance on the sound"""
    workers: Annotated[int, arg(metavar="N")] = 1
    """processes that share the clips"""


def run(words: Sequence[str]) -> None:
    """Parse the words after `hallo4 evaluate` and do it; the report's path is the last line on stdout."""
    options = tyro.extras.subcommand_cli_from_dict(
        {"world": World}, args=list(words), prog="hallo4 evaluate", description=__doc__
    )

    from rich.console import Console

    from hallo4.evaluation import evaluate_world, report_table

    errors = Console(stderr=True, highlight=False)
    report = evaluate_world(
        options.model,
        options.against,
        options.episodes,
        options.seed,
        options.seconds,
        options.steps,
        options.guidance_scale,
        out=options.output,
        on_progress=lambda done, total, row: errors.print(f"{done} of {total} clips"),
        workers=options.workers,
    )
    Console().print(report_table(report))
    print(options.output)
