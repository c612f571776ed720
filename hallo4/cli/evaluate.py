"""`hallo4 evaluate`: a model on episodes that nobody trained on, or folders of any systems' videos; with 95 %
intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import arg

from hallo4.cli.options import parse
from hallo4.ranges import Episodes, Guidance, Seconds, Seed, Steps, Tempo, Whole, Workers


@dataclass(frozen=True)
class World:
    """Measure a model on unseen episodes of the portrait world, and compare it with another if you like.

    Stopped with Ctrl-C, the same command goes on where it was.
    """

    output: Annotated[Path, arg(aliases=("-o",), metavar="REPORT.json")]
    """where the report goes; a page (.html), a picture and the rows are put beside it"""
    model: Annotated[str, arg(metavar="A")] = "tiny-dit"
    """the model to measure: a name, a folder, `truth` or `autoencoder`"""
    against: Annotated[str | None, arg(metavar="B", help_behavior_hint="(default: nothing)")] = None
    """another one that makes the same clips from the same noise"""
    episodes: Annotated[Episodes, arg(metavar="N")] = 40
    """how many clips"""
    seed: Annotated[Seed, arg(metavar="S")] = 0
    """which clips"""
    seconds: Annotated[Seconds, arg(metavar="S")] = 3.2
    """length of a clip"""
    tempo: Annotated[Tempo, arg(metavar="X")] = 1.0
    """how many times as fast as usual bodies move"""
    steps: Annotated[Steps | None, arg(metavar="N", help_behavior_hint="(default: the model's)")] = None
    """denoising steps"""
    guidance_scale: Annotated[
        Guidance | None, arg(metavar="X", help_behavior_hint="(default: the model's)")
    ] = None
    """guidance on the sound"""
    players: Annotated[Whole, arg(metavar="N")] = 4
    """clips that the page plays, from the worst to the best"""
    workers: Annotated[Workers, arg(metavar="N")] = 1
    """processes that share the clips"""


@dataclass(frozen=True)
class Videos:
    """Measure folders of videos, of any systems, against references of the same file names.

    Stopped with Ctrl-C, the same command goes on where it was. Exit code 3: done, but some files could not be
    measured (they are named).
    """

    folders: tyro.conf.Positional[Annotated[tuple[str, ...], arg(metavar="FOLDER | NAME=FOLDER ...")]]
    """one folder of videos per system"""
    against: Annotated[Path, arg(metavar="REFERENCES")]
    """the folder of true videos, matched by file name without suffix"""
    output: Annotated[Path, arg(aliases=("-o",), metavar="REPORT.json")]
    """where the report goes; the page (.html), the rows and features are put beside it"""
    pose: Literal["auto", "files", "dwpose", "light", "observer"] = "auto"
    """what finds keypoints where no NAME.keypoints.json lies beside a video: a pose estimator, nothing
    (files), or the observer of the portrait world; auto: the observer for videos that say they were made in
    that world, else the pose estimator that is here"""
    person: Annotated[str, arg(metavar="largest|left|right|N|X,Y")] = "largest"
    """who is meant where there are several: N counts from the left, X,Y is a place in pixels"""
    weights: Annotated[
        str | None, arg(metavar="FOLDER", help_behavior_hint="(default: see docs/metrics.md)")
    ] = None
    """folder of published weights (SyncNet, Inception, I3D, LPIPS, ArcFace); what lies there is used"""
    need: Annotated[tuple[str, ...], arg(metavar="NETWORK")] = ()
    """networks without whose weights nothing is measured, such as syncnet"""
    workers: Annotated[Workers, arg(metavar="N")] = 1
    """processes that share the clips"""
    players: Annotated[Whole, arg(metavar="N")] = 6
    """clips that the page shows as videos"""


@dataclass(frozen=True)
class Compare:
    """Set systems side by side that `evaluate world` measured one by one, on the same episodes.

    Several reports under one name are runs of one recipe; intervals are over clips.
    """

    reports: tyro.conf.Positional[
        Annotated[tuple[str, ...], arg(metavar="REPORT.json | NAME=REPORT.json ...")]
    ]
    """reports of `hallo4 evaluate world`"""
    output: Annotated[Path, arg(aliases=("-o",), metavar="COMPARISON.json")]
    """where the comparison goes; a picture is put beside it"""
    against: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: the first)")] = None
    """the system that the others are compared with"""


@dataclass(frozen=True)
class Motion:
    """Measure how fast head, hands and mouth may move and still be followed: gain and delay by frequency.

    `truth` shows what the instrument sees of rendered frames, `autoencoder:MODEL` what a model can reach.
    """

    output: Annotated[Path, arg(aliases=("-o",), metavar="REPORT.json")]
    """where the report goes; a picture and the rows are put beside it"""
    models: Annotated[tuple[str, ...], arg(name="model", metavar="A ...")] = ("tiny-dit",)
    """the models to measure: names, folders, `truth`, `autoencoder:MODEL`; with NAME= before, called so"""
    clips: Annotated[Episodes, arg(metavar="N")] = 8
    """people per frequency"""
    seed: Annotated[Seed, arg(metavar="S")] = 0
    """which people"""
    workers: Annotated[Workers, arg(metavar="N")] = 1
    """processes that share the clips"""


@dataclass(frozen=True)
class Drift:
    """Measure what becomes of long videos: the metrics of the world in every five seconds, and their slopes.

    `truth` and `autoencoder:MODEL` show what a video without drift looks like.
    """

    output: Annotated[Path, arg(aliases=("-o",), metavar="REPORT.json")]
    """where the report goes; a picture and the rows are put beside it"""
    models: Annotated[tuple[str, ...], arg(name="model", metavar="A ...")] = ("tiny-dit",)
    """the models to measure: names, folders, `truth`, `autoencoder:MODEL`; with NAME= before, called so"""
    clips: Annotated[Episodes, arg(metavar="N")] = 6
    """videos per model"""
    seconds: Annotated[Seconds, arg(metavar="S")] = 60.0
    """how long each is"""
    seed: Annotated[Seed, arg(metavar="S")] = 0
    """which people"""
    workers: Annotated[Workers, arg(metavar="N")] = 1
    """processes that share the clips"""


@dataclass(frozen=True)
class Page:
    """Write the figures and tables of Markdown pages that are marked as coming from reports.

    How they are marked: docs/leaderboard.md. With --check nothing is written, and a page that says something
    else than its reports is refused.
    """

    pages: tyro.conf.Positional[Annotated[tuple[Path, ...], arg(metavar="PAGE.md ...")]]
    """pages with marks"""
    check: Annotated[bool, tyro.conf.FlagCreatePairsOff, arg(name="check")] = False
    """refuse instead of writing"""


EXIT_INCOMPLETE = 3
"""Done, and some files could not be measured."""


def run(words: Sequence[str]) -> None:
    """Parse the words after `hallo4 evaluate` and do it; the report's path is the last line on stdout."""
    commands = {
        "world": World, "videos": Videos, "motion": Motion, "drift": Drift, "compare": Compare, "page": Page,
    }  # fmt: skip
    options = parse(commands, list(words), prog="hallo4 evaluate", description=__doc__)

    from rich.console import Console

    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    if isinstance(options, Motion):
        _run_motion(options, errors)
    elif isinstance(options, Drift):
        _run_drift(options, errors)
    elif isinstance(options, Page):
        _run_page(options, errors)
    elif isinstance(options, Compare):
        _run_compare(options)
    elif isinstance(options, Videos):
        _run_videos(options, errors)
    else:
        _run_world(options, errors)


def _run_world(options: World, errors: Any) -> None:
    from rich.console import Console

    from hallo4.evaluation import evaluate_world, report_table

    report = evaluate_world(
        options.model,
        options.against,
        options.episodes,
        options.seed,
        options.seconds,
        options.tempo,
        options.steps,
        options.guidance_scale,
        out=options.output,
        on_progress=lambda done, total, row: errors.print(f"{done} of {total} clips"),
        workers=options.workers,
        players=options.players,
    )
    Console().print(report_table(report))
    for note in report["notes"]:
        errors.print(note, markup=False)
    errors.print(f"page: {options.output.with_suffix('.html')}", markup=False)
    print(options.output)


def _run_motion(options: Motion, errors: Any) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from hallo4.evaluation import evaluate_motion
    from hallo4.evaluation.statistics import interval_text

    report = evaluate_motion(
        options.models,
        options.clips,
        options.seed,
        out=options.output,
        on_progress=lambda done, total: (done % 20 and done < total) or errors.print(f"{done} of {total}"),
        workers=options.workers,
    )
    for model, parts in report["responses"].items():
        table = Table(title=escape(model), caption="mean [95 % interval]", title_justify="left")
        for heading in ("part", "Hz", "gain", "delay, frames"):
            table.add_column(heading, justify="left" if heading == "part" else "right")
        for part, entries in parts.items():
            for entry in entries:
                values = (interval_text(entry[what]) for what in ("gain", "delay_frames"))
                table.add_row(part, f"{entry['hz']:g}", *values)
        Console().print(table)
    print(options.output)


def _run_drift(options: Drift, errors: Any) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from hallo4.evaluation import evaluate_drift
    from hallo4.evaluation.statistics import interval_text

    report = evaluate_drift(
        options.models,
        options.clips,
        options.seed,
        options.seconds,
        out=options.output,
        on_progress=lambda done, total: errors.print(f"{done} of {total}"),
        workers=options.workers,
    )
    for model, drift in report["drift"].items():
        table = Table(title=escape(model), caption="mean [95 % interval] over clips", title_justify="left")
        beyond = report["beyond"].get(model)
        for heading in ("metric", "first part", "last part", "last minus first"):
            table.add_column(heading, justify="left" if heading == "metric" else "right")
        if beyond:
            table.add_column(escape(f"beyond {beyond['of']}"), justify="right")
        for name, found in drift.items():
            means = (report["curves"][model][name][part]["mean"] for part in (0, -1))
            ends = ["-" if mean is None else f"{mean:.3g}" for mean in means]
            changes = [found["last_minus_first"], *([beyond["last_minus_first"][name]] if beyond else [])]
            table.add_row(name, *ends, *map(interval_text, changes))
        Console().print(table)
    print(options.output)


def _run_page(options: Page, errors: Any) -> None:
    from hallo4.evaluation import check_page, fill_page

    for page in options.pages:
        count = check_page(page) if options.check else fill_page(page)
        errors.print(f"{page}: {count} figures and tables", markup=False)


def _run_compare(options: Compare) -> None:
    from rich.console import Console

    from hallo4.evaluation import compare_reports, comparison_table

    Console().print(comparison_table(compare_reports(options.reports, options.against, options.output)))
    print(options.output)


def _run_videos(options: Videos, errors: Any) -> None:
    from rich.console import Console

    from hallo4.evaluation import ToolSettings, evaluate_videos, videos_table

    report = evaluate_videos(
        options.folders,
        options.against,
        options.output,
        ToolSettings(options.pose, options.weights, options.need, options.person),
        options.workers,
        options.players,
        on_progress=lambda done, total, row: errors.print(f"{done} of {total} clips"),
    )
    Console().print(videos_table(report))
    for line in (*report["notes"], *report["not_measured"]):
        errors.print(f"note: {line}", markup=False)
    for problem in report["problems"]:
        errors.print(
            f"not measured: {problem['clip']} ({problem['system']}): {problem['what']}", markup=False
        )
    errors.print(f"page: {options.output.with_suffix('.html')}", markup=False)
    print(options.output)
    if report["problems"]:
        raise SystemExit(EXIT_INCOMPLETE)
