"""Progress of an animation on the terminal: a bar with the time left, or plain lines where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

if TYPE_CHECKING:
    from hallo4.pipelines import Progress

STAGES = {
    "read": "reading the inputs",
    "pose": "following the person in the motion",
    "audio": "preparing audio features",
    "preview": "drawing the preview",
    "generate": "generating",
    "write": "writing the video",
}


@contextmanager
def shown_progress(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A callback that shows progress on stderr while the block runs; with `quiet` it shows nothing."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if quiet:
        yield lambda progress: None
    elif console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"))
        with Bars(*columns, TimeElapsedColumn(), console=console, transient=True) as bars:
            yield _on_a_bar(bars)
    else:
        yield _in_lines(console)


def _on_a_bar(bars: Bars) -> Callable[[Progress], None]:
    task = bars.add_task("starting", total=None, said="")

    def show(progress: Progress) -> None:
        for note in progress.notes:
            bars.console.print(f"note: {note}", markup=False)
        bars.update(
            task,
            description=STAGES.get(progress.stage, progress.stage),
            total=progress.frames_total or None,
            completed=progress.frames_done,
            said=_said(progress),
        )

    return show


def _in_lines(console: Console) -> Callable[[Progress], None]:
    """A line for every stage and every tenth of it."""
    last = ("", -1)

    def show(progress: Progress) -> None:
        nonlocal last
        for note in progress.notes:
            console.print(f"note: {note}", markup=False)
        tenth = int(10 * progress.frames_done / progress.frames_total) if progress.frames_total else 0
        if (progress.stage, tenth) != last:
            last = (progress.stage, tenth)
            said = _said(progress)
            stage = STAGES.get(progress.stage, progress.stage)
            console.print(f"{stage}: {said}" if said else stage, markup=False)

    return show


def _said(progress: Progress) -> str:
    if not progress.frames_total:
        return ""
    frames = f"{progress.frames_done:.0f} of {progress.frames_total} frames"
    return frames if progress.eta_s is None else f"{frames}, {_time(progress.eta_s)} left"


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
