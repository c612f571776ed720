"""`hallo4 keypoints`: real videos and pictures -> skeleton files, and pictures of them to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from hallo4.cli.options import RayOption, WorkersOption, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hallo4.engine import Engine
    from hallo4.pose.files import Done, Job


@dataclass(frozen=True)
class Keypoints:
    """Find a person in a video or picture and write 133 points a frame as a skeleton file, for
    `hallo4 animate --motion` and `hallo4 evaluate videos`; beside it, the points drawn over the picture.

    Of a folder, every video and picture in it; what is finished is not made again.
    """

    source: Annotated[Positional[Path], arg(metavar="VIDEO|IMAGE|FOLDER")]
    """what to look at"""
    output: Annotated[Path, arg(aliases=("-o",), metavar="OUT")]
    """a .json or .npz for one file, or a folder: NAME.keypoints.json and overlays/NAME.mp4 in it"""
    estimator: Literal["auto", "dwpose", "light"] = "auto"
    """dwpose: as the released model was trained with; light: one processor core; auto: what is here"""
    person: Annotated[str, arg(metavar="largest|left|right|N|X,Y")] = "largest"
    """whom to follow where there are several: N counts from the left, X,Y is a place in pixels"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where dwpose runs"""
    weights: Annotated[
        Path | None, arg(metavar="DIR", help_behavior_hint="(default: pose/ of $HALLO4_WEIGHTS)")
    ] = None
    """the folder of the networks"""
    workers: WorkersOption = None
    """processes that share the files of a folder"""
    ray: RayOption = None
    """a Ray cluster that shares them; all its machines must see both folders under these paths"""
    quiet: FlagCreatePairsOff[bool] = False
    """say only what went wrong, and what to know of the result"""


def run(words: Sequence[str]) -> None:
    """Parse the words after `hallo4 keypoints`, measure, and print the path of every skeleton."""
    options = parse(Keypoints, list(words), prog="hallo4 keypoints")

    from hallo4.lock import sole_writer
    from hallo4.motion import PersonChoice
    from hallo4.pose.files import plan_jobs

    PersonChoice.of(options.person)
    jobs = plan_jobs(options.source, options.output)
    alone = not options.source.is_dir()
    with sole_writer(jobs[0].skeleton if alone else options.output):
        _do(options, jobs, alone)


def _do(options: Keypoints, jobs: Sequence[Job], alone: bool) -> None:
    """Measure what is not finished, alone with where the results go."""
    from hallo4.engine import open_engine
    from hallo4.pose.files import Measure
    from hallo4.pose.loading import chosen_estimator

    estimator = chosen_estimator(options.estimator, options.weights)
    settings = (estimator, options.device, options.weights, options.person)
    left = [job for job in jobs if not job.is_done(estimator, options.person)]
    _say(
        options,
        f"{len(jobs) - len(left)} of {len(jobs)} are finished already and are kept",
        len(left) < len(jobs),
    )
    problems = []
    alone_here = options.ray is None and min(options.workers or 1, len(left)) <= 1
    with open_engine(1 if alone_here else options.workers, options.ray) as engine:
        if alone_here:
            done = _one_by_one(left, Measure, settings, options.quiet)
        else:
            done = _shared(engine, left, Measure, settings)
        for number, item in enumerate(done):
            _report(item, alone)
            if item.problem:
                problems.append(item)
            _say(options, f"{number + 1} of {len(left)} done", not alone)
    if problems:
        _fail(problems, len(left), alone)


def _shared(
    engine: Engine, jobs: Sequence[Job], make: Callable[..., Callable[..., Done]], settings: tuple[Any, ...]
) -> Iterator[Done]:
    """Measure in the workers of `engine`."""
    from hallo4.engine import Stage
    from hallo4.pose.files import Done

    for outcome in engine.map(Stage(make, settings), jobs):
        yield outcome.value or Done(outcome.item, problem=f"{outcome.item.source}: {outcome.reason}")


def _one_by_one(
    jobs: Sequence[Job], make: Callable[..., Callable[..., Done]], settings: tuple[Any, ...], quiet: bool
) -> Iterator[Done]:
    """Measure in this process, with a bar for every file on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    measure = make(settings) if jobs else None
    console = Console(stderr=True)
    for job in jobs:
        if quiet or not console.is_terminal:
            yield measure(job)
            continue
        with Progress(console=console, transient=True) as bars:
            task = bars.add_task(job.source.name, total=None)
            item = measure(job, partial(_show, bars, task))
        yield item


def _show(bars: Any, task: Any, done: int, total: int) -> None:
    bars.update(task, completed=done, total=total)


def _report(item: Done, alone: bool) -> None:
    """The path of the skeleton on stdout; notes and problems on stderr, named by file where there are
    several."""
    import sys

    name = "" if alone else f"{item.job.source.name}: "
    for note in item.notes:
        print(f"note: {name}{note}", file=sys.stderr)
    if item.problem is None:
        print(item.job.skeleton)
    elif not alone:
        print(f"problem: {item.problem}", file=sys.stderr)


def _fail(problems: list[Done], tried: int, alone: bool) -> None:
    from hallo4.errors import InputError

    if alone:
        raise InputError(problems[0].problem)
    raise InputError(
        f"{len(problems)} of {tried} files could not be measured, such as {problems[0].job.source.name}; "
        "each is named above with what to do. The others are finished; the same command tries only what is "
        "missing."
    )


def _say(options: Keypoints, words: str, wanted: bool) -> None:
    import sys

    if wanted and not options.quiet:
        print(words, file=sys.stderr, flush=True)
