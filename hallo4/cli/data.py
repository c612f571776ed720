"""`hallo4 data prepare`, `look` and `prune`: folders of real videos become clips to train on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from hallo4.cli.options import RayOption, WorkersOption, parse
from hallo4.ranges import Episodes, Frames, Level, NotNegative, Pixels, Share


@dataclass(frozen=True)
class Prepare:
    """Find the clips of one speaking person in videos and encode them, for `hallo4 train ... --set
    prepared=SHARDS`. The same command makes only what is new or has changed.

    Beside NAME.mp4 may lie NAME.keypoints.json (else the person is looked for), NAME.portrait.png (else
    another frame of the shot is the reference), NAME.licence.txt and, for a model with text, NAME.prompt.txt.
    """

    sources: Annotated[
        Positional[tuple[Path, ...]], arg(metavar="SOURCE ...", help_behavior_hint="(required)")
    ]
    """videos, or folders of videos with all folders in them"""
    output: Annotated[Path, arg(aliases=("-o",), metavar="SHARDS")]
    """the folder to write to; it belongs to one model"""
    model: Annotated[str, arg(metavar="NAME_OR_DIR")] = "tiny-dit"
    """for whose autoencoder and sound the clips are encoded"""
    frames: Annotated[Frames | None, arg(metavar="N", help_behavior_hint="(default: a window)")] = None
    """frames of a clip, at 25 a second"""
    min_face_px: Annotated[Pixels, arg(metavar="N")] = 16.0
    """drop clips in which the face is less wide, in pixels of the model's frame"""
    min_sharpness: Annotated[NotNegative, arg(metavar="X")] = 0.12
    """drop blurred faces: about 0.6 is sharp, 0.15 is soft"""
    min_found: Annotated[Share, arg(metavar="SHARE")] = 0.95
    """drop clips in which the face is seen in fewer of the frames"""
    min_speech: Annotated[Share, arg(metavar="SHARE")] = 0.3
    """drop clips in which there is speech for less of the time"""
    min_sync_confidence: Annotated[NotNegative, arg(metavar="X")] = 0.0
    """drop clips of which SyncNet is less sure that lips and sound belong together, such as 3 (0: it is not
    asked)"""
    syncnet: Annotated[
        Path | None, arg(metavar="FILE", help_behavior_hint="(default: of `hallo4 weights fetch syncnet`)")
    ] = None
    """SyncNet's weights, syncnet_v2.model"""
    min_level: Annotated[Level, arg(metavar="N")] = 12.0
    """drop clips that are darker on average (0 to 255)"""
    min_fps: Annotated[NotNegative, arg(metavar="N")] = 20.0
    """drop videos with fewer frames a second"""
    hands: Literal["any", "seen", "unseen"] = "any"
    """keep only clips with a hand in view, or only those without"""
    people: Literal["one", "any"] = "one"
    """any: keep clips in which several people are seen"""
    person: Annotated[str, arg(metavar="largest|left|right|N|X,Y")] = "largest"
    """whom to follow where there are several"""
    estimator: Literal["auto", "dwpose", "light"] = "auto"
    """what finds keypoints where none lie beside a video"""
    speech: Literal["auto", "silero", "energy"] = "auto"
    """how speech is detected; energy goes by loudness alone"""
    licence: Annotated[str, arg(metavar="TEXT")] = "unknown"
    """the licence of all videos without NAME.licence.txt; it stands in every record"""
    device: Annotated[str, arg(metavar="auto|cpu|cuda")] = "auto"
    """where the model computes"""
    weights: Annotated[
        Path | None, arg(metavar="DIR", help_behavior_hint="(default: pose/ of $HALLO4_WEIGHTS)")
    ] = None
    """the folder of the estimator's networks"""
    workers: WorkersOption = None
    """processes that share the work; the result is the same"""
    ray: RayOption = None
    """a Ray cluster that shares the work; all its machines must see SOURCE and SHARDS under these paths"""
    quiet: FlagCreatePairsOff[bool] = False
    """say only what went wrong"""


@dataclass(frozen=True)
class Look:
    """Print what was kept, what was dropped and why, and write a page with pictures of it."""

    shards: Annotated[Positional[Path], arg(metavar="SHARDS")]
    """a folder of `hallo4 data prepare`"""
    output: Annotated[
        Path | None, arg(aliases=("-o",), metavar="HTML", help_behavior_hint="(default: SHARDS/look.html)")
    ] = None
    """the page"""
    shown: Annotated[Episodes, arg(metavar="N")] = 60
    """how many clips of each kind to show"""


@dataclass(frozen=True)
class Prune:
    """Remove what no clip of the index needs any more: shards of videos and options that are gone, and what
    was found in these videos."""

    shards: Annotated[Positional[Path], arg(metavar="SHARDS")]
    """a folder of `hallo4 data prepare`"""


def run(words: Sequence[str]) -> None:
    """Parse the words after `hallo4 data` and do it; the path of the result is the last line on stdout."""
    commands = {"prepare": Prepare, "look": Look, "prune": Prune}
    options = parse(commands, list(words), prog="hallo4 data", description=__doc__)
    _WORK[type(options)](options)


def _prepare(options: Prepare) -> None:
    from hallo4.data import ClipFilters, PrepareSettings, prepare_videos
    from hallo4.data.contact_sheet import table_of
    from hallo4.data.index import UNUSABLE
    from hallo4.engine import open_engine

    chosen = [field.name for field in fields(ClipFilters)]
    filters = ClipFilters(**{name: getattr(options, name) for name in chosen})
    settings = PrepareSettings(
        *(options.model, options.frames, filters, options.estimator, options.person, options.speech),
        *(options.licence, options.device, options.weights, options.syncnet),
    )
    with _Progress(options.quiet) as on_progress, open_engine(options.workers, options.ray) as engine:
        prepared = prepare_videos(options.sources, options.output, settings, engine, on_progress)
    for problem in prepared.problems:
        print(f"problem: {problem}", file=sys.stderr)
    if not options.quiet:
        for note in prepared.notes:
            print(f"note: {note}", file=sys.stderr)
        made = ", ".join(f"{name} {count}" for name, count in prepared.made.items())
        print(f"recomputed: {made or 'nothing'}", file=sys.stderr)
        _print_table(table_of(prepared.rows))
    if not any(row.kept for row in prepared.rows):
        from hallo4.errors import InputError

        raise InputError(
            f"no clip was kept of {len({row.source for row in prepared.rows})} videos, such as for "
            f"{prepared.rows[0].reasons!r}. See all reasons: hallo4 data look {options.output}."
        )
    unusable = {row.source for row in prepared.rows if row.reasons == UNUSABLE}
    if unusable and not options.quiet:
        print(f"{len(unusable)} videos could not be used and are named above", file=sys.stderr)
    print(options.output)


def _look(options: Look) -> None:
    from hallo4.data.contact_sheet import table_of, write_contact_sheet
    from hallo4.data.index import read_index, read_stamp
    from hallo4.media.files import check_folder

    stamp = read_stamp(options.shards)
    target = check_folder(options.output or options.shards / "look.html")
    print(f"clips of {stamp.clip_frames} frames for {stamp.model}")
    _print_table(table_of(read_index(options.shards)))
    write_contact_sheet(options.shards, target, options.shown)
    print(target)


def _prune(options: Prune) -> None:
    from hallo4.data import prune_shards

    done = prune_shards(options.shards)
    print(
        f"removed: {done.shards} shards, {done.findings} findings, {done.texts} texts; "
        f"{done.bytes_freed / 1e6:.1f} MB are free again",
        file=sys.stderr,
    )
    if done.clips_left:
        print(
            f"{done.clips_left} clips that are not needed lie in shards with others and stay", file=sys.stderr
        )
    print(options.shards)


def _print_table(lines: list[tuple[str, str, str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name, side in (("verdict", "left"), ("clips", "right"), ("seconds", "right"), ("also", "right")):
        table.add_column(name, justify=side)
    for line in lines:
        table.add_row(*line)
    Console().print(table)


class _Progress:
    """A bar for what is being done, on a terminal; else a line for every tenth of it."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet

    def __enter__(self) -> Callable[[str, int, int], None]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bars = Progress(*columns, console=console, disable=self._quiet or not console.is_terminal)
        self._bars.start()
        self._tasks: dict[str, object] = {}
        self._plain = not self._quiet and not console.is_terminal
        return self._show

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def _show(self, what: str, done: int, total: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total)
        self._bars.update(self._tasks[what], completed=done, total=total)
        if self._plain and (done == total or done % max(1, total // 10) == 0):
            print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)


_WORK: dict[type, Any] = {Prepare: _prepare, Look: _look, Prune: _prune}
