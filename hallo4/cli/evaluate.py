"""`hallo4 evaluate`: a model on unseen episodes, or folders of any systems' videos; with 95 %
intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import arg

from hallo4.cli.options import (
    AspectOption,
    HeadAtOption,
    HeadShareOption,
    RayOption,
    WorkersOption,
    WorldOption,
    parse,
    ratio,
)
from hallo4.errors import InputError
from hallo4.ranges import Episodes, Guidance, Seconds, Seed, Steps, Tempo, Whole


@dataclass(frozen=True)
class World:
    """Measure a model on unseen episodes of the portrait world, and compare it with another if you like.

    Stopped with Ctrl-C, the same command resumes where it was.
    """

    output: Annotated[Path, arg(aliases=("-o",), metavar="REPORT.json")]
    """where the report goes; a page (.html) and the rows are put beside it"""
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
    world: WorldOption = None
    """in which portrait world it is measured"""
    aspect: AspectOption = "1:1"
    """shape of the pictures, such as 3:4 or 16:9, at about the area that the model was trained at"""
    head_share: HeadShareOption = 0.52
    """height of the head, chin to crown, in parts of the picture's height"""
    head_at: HeadAtOption = (0.5, 0.43)
    """where the middle between the eyes is, in parts of the picture's width and height"""
    observer: Annotated[str | None, arg(metavar="FOLDER", help_behavior_hint="(default: embedded)")] = None
    """who looks: an observer that `hallo4 train tiny-observer` made, such as one from another seed"""
    workers: WorkersOption = None
    """processes that share the work; the result is the same"""
    ray: RayOption = None
    """a Ray cluster that shares the work; all its machines must see the files under these paths"""


@dataclass(frozen=True)
class Videos:
    """Measure folders of videos, of any systems, against references of the same file names or without any.

    Stopped with Ctrl-C, the same command resumes where it was. Exit code 3: done, but some files could not be
    measured (they are named).
    """

    folders: tyro.conf.Positional[
        Annotated[tuple[str, ...], arg(metavar="FOLDER | NAME=FOLDER ...", help_behavior_hint="(required)")]
    ]
    """one folder of videos per system"""
    output: Annotated[Path, arg(aliases=("-o",), metavar="REPORT.json")]
    """where the report goes; the page (.html), the rows and what was seen are put beside it"""
    against: Annotated[Path | None, arg(metavar="REFERENCES", help_behavior_hint="(default: none)")] = None
    """the folder of true videos, matched by file name without suffix"""
    portraits: Annotated[Path | None, arg(metavar="PICTURES", help_behavior_hint="(default: none)")] = None
    """a folder of portraits that the videos were made from, matched by file name without suffix"""
    unpaired: Annotated[
        Path | None, arg(metavar="VIDEOS", help_behavior_hint="(default: the references)")
    ] = None
    """a folder of true videos of any names, with which FID, KID and FVD compare"""
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
    need: Annotated[tuple[str, ...], arg(metavar="NETWORK ...", help_behavior_hint="(default: none)")] = ()
    """networks without whose weights nothing is measured, such as syncnet"""
    device: Annotated[str, arg(metavar="auto|cpu|cuda")] = "cpu"
    """where SyncNet, Inception, I3D and LPIPS run"""
    workers: WorkersOption = None
    """processes that share the work; the result is the same"""
    ray: RayOption = None
    """a Ray cluster that shares the work; all its machines must see the files under these paths"""
    players: Annotated[Whole, arg(metavar="N")] = 6
    """clips that the page shows as videos"""


@dataclass(frozen=True)
class Compare:
    """Set systems side by side that `evaluate world` or `evaluate videos` measured, on the same clips.

    Several reports under one name are runs of one recipe; intervals are over clips.
    """

    reports: tyro.conf.Positional[
        Annotated[
            tuple[str, ...],
            arg(metavar="REPORT.json | NAME=REPORT.json ...", help_behavior_hint="(required)"),
        ]
    ]
    """reports of `hallo4 evaluate world` or `hallo4 evaluate videos`"""
    output: Annotated[Path, arg(aliases=("-o",), metavar="COMPARISON.json")]
    """where the comparison goes; a page (.html) is put beside it"""
    against: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: the first)")] = None
    """the system that the others are compared with"""


@dataclass(frozen=True)
class Motion:
    """Measure how fast head, hands and mouth may move and still be followed: gain and delay by frequency.

    `truth` shows what the instrument sees of rendered frames, `autoencoder:MODEL` what a model can reach.
    """

    output: Annotated[Path, arg(aliases=("-o",), metavar="REPORT.json")]
    """where the report goes; a page (.html) and the rows are put beside it"""
    models: Annotated[tuple[str, ...], arg(name="model", metavar="A ...")] = ("tiny-dit",)
    """the models to measure: names, folders, `truth`, `autoencoder:MODEL`; with NAME= before, called so"""
    clips: Annotated[Episodes, arg(metavar="N")] = 8
    """people per frequency"""
    seed: Annotated[Seed, arg(metavar="S")] = 0
    """which people"""
    world: WorldOption = None
    """in which portrait world they live"""
    workers: WorkersOption = None
    """processes that share the work; the result is the same"""
    ray: RayOption = None
    """a Ray cluster that shares the work; all its machines must see the files under these paths"""


@dataclass(frozen=True)
class Drift:
    """Measure what becomes of long videos: the metrics of the world in every five seconds, and their slopes.

    `truth` and `autoencoder:MODEL` show what a video without drift looks like.
    """

    output: Annotated[Path, arg(aliases=("-o",), metavar="REPORT.json")]
    """where the report goes; a page (.html) and the rows are put beside it"""
    models: Annotated[tuple[str, ...], arg(name="model", metavar="A ...")] = ("tiny-dit",)
    """the models to measure: names, folders, `truth`, `autoencoder:MODEL`; with NAME= before, called so"""
    clips: Annotated[Episodes, arg(metavar="N")] = 6
    """videos per model"""
    seconds: Annotated[Seconds, arg(metavar="S")] = 60.0
    """how long each is"""
    seed: Annotated[Seed, arg(metavar="S")] = 0
    """which people"""
    world: WorldOption = None
    """in which portrait world they live"""
    workers: WorkersOption = None
    """processes that share the work; the result is the same"""
    ray: RayOption = None
    """a Ray cluster that shares the work; all its machines must see the files under these paths"""


@dataclass(frozen=True)
class Page:
    """Write the figures and tables of Markdown pages that are marked as coming from reports.

    How they are marked: docs/leaderboard.md. With --check nothing is written, and a page that says something
    else than its reports is refused.
    """

    pages: tyro.conf.Positional[
        Annotated[tuple[Path, ...], arg(metavar="PAGE.md ...", help_behavior_hint="(required)")]
    ]
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
    if isinstance(options, Page):
        _run_page(options, errors)
        return
    report = _measure(
        options, lambda done, total, row: errors.print(f"{done} of {total}: {row.clip}", markup=False)
    )
    from hallo4.evaluation import rich_table, tables_of

    for grid in tables_of(report):
        Console().print(rich_table(grid))
    for line in (*report["notes"], *report.get("not_measured", ())):
        errors.print(f"note: {line}", markup=False)
    problems = report.get("problems", ())
    for problem in problems:
        errors.print(
            f"not measured: {problem['clip']} ({problem['system']}): {problem['what']}", markup=False
        )
    errors.print(f"page: {options.output.with_suffix('.html')}", markup=False)
    print(options.output)
    if problems:
        raise SystemExit(EXIT_INCOMPLETE)


def _measure(options: Any, on_progress: Callable[[int, int, Any], None]) -> dict[str, Any]:
    """The report that was asked for, which is then written."""
    import hallo4.evaluation as evaluation

    more = {"out": options.output, "on_progress": on_progress}
    if isinstance(options, Compare):
        return evaluation.compare_reports(options.reports, options.against, options.output)
    from hallo4.engine import open_engine

    with open_engine(options.workers, options.ray) as engine:
        return _measure_on(options, {**more, "engine": engine})


def _measure_on(options: Any, more: dict[str, Any]) -> dict[str, Any]:
    import hallo4.evaluation as evaluation

    if isinstance(options, Motion):
        more["world"] = options.world
        return evaluation.evaluate_motion(options.models, options.clips, options.seed, **more)
    if isinstance(options, Drift):
        more["world"] = options.world
        return evaluation.evaluate_drift(options.models, options.clips, options.seed, options.seconds, **more)
    more["players"] = options.players
    if isinstance(options, Videos):
        if options.weights is not None and not Path(options.weights).is_dir():
            raise InputError(
                f"{options.weights}: is no folder. Give --weights that of the published weights."
            )
        tools = evaluation.ToolSettings(
            options.pose, options.weights, options.need, options.person, options.device
        )
        more |= {"portraits": options.portraits, "unpaired": options.unpaired}
        return evaluation.evaluate_videos(options.folders, options.against, tools=tools, **more)
    from hallo4.world.framing import Framing

    return evaluation.evaluate_world(
        options.model,
        options.against,
        options.episodes,
        options.seed,
        options.seconds,
        options.tempo,
        options.steps,
        options.guidance_scale,
        world=options.world,
        framing=Framing(ratio(options.aspect), options.head_share, options.head_at),
        observer=options.observer,
        **more,
    )


def _run_page(options: Page, errors: Any) -> None:
    from hallo4.evaluation import check_page, fill_page

    for page in options.pages:
        count = check_page(page) if options.check else fill_page(page)
        errors.print(f"{page}: {count} figures and tables", markup=False)
