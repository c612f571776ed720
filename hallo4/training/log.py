"""What a run says: JSON lines for programs, a curve and one line of progress for people."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from hallo4.errors import MissingExtraError, OutputError
from hallo4.json_file import read_json_lines
from hallo4.ranges import Whole
from hallo4.whole import write_whole


class RunLog:
    """`log.jsonl` of a run folder, one object per line.

    Opening it to resume at `step` drops the lines of later steps: they will be written again. OutputError:
    it cannot be written.
    """

    def __init__(self, folder: Path, step: int):
        self.path = folder / "log.jsonl"
        kept = [record for record in read_log(folder) if record["step"] <= step] if step else []
        text = "".join(json.dumps(record) + "\n" for record in kept)
        try:
            if not self.path.exists() or self.path.read_bytes() != text.encode():
                write_whole(self.path, text)
        except OSError as error:
            raise self._cannot_write(error) from error

    def write(self, step: int, **record: Any) -> None:
        """Append one line; numbers that JSON does not know (infinity, not a number) become null."""
        line = json.dumps({"step": step, **_finite(record)}, allow_nan=False)
        try:
            with self.path.open("a") as file:
                file.write(line + "\n")
        except OSError as error:
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> OutputError:
        return OutputError(
            f"{self.path}: cannot be written ({error.strerror}). Free the disk; the same command goes on "
            "from the last checkpoint."
        )


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Every line of `folder/log.jsonl` in order, without one that a kill has cut; empty when there is
    none."""
    path = Path(folder) / "log.jsonl"
    return list(read_json_lines(path, _LogLine)) if path.exists() else []


@dataclass(frozen=True)
class _LogLine:
    """What every line of a log has."""

    step: Whole
    loss: float | None = None
    metrics: dict[str, float | None] | None = None


def plot_log(folder: Path) -> Path | None:
    """Draw the curves of a run to `folder/loss.png`: loss, every metric, every value of the previews.

    Returns the path, or None when nothing is logged yet. MissingExtraError without matplotlib.
    """
    try:
        from matplotlib.figure import Figure  # drawn without pyplot: no global state, no display
    except ImportError as error:
        raise MissingExtraError("Loss curves need matplotlib: pip install 'hallo4[train]'.") from error
    curves: dict[str, list[tuple[int, float]]] = {}
    for record in read_log(folder):
        values = {"loss": record.get("loss"), **record.get("metrics", {})}
        values |= {f"preview: {name}": value for name, value in record.get("preview", {}).items()}
        for name, value in values.items():
            if value is not None:
                curves.setdefault(name, []).append((record["step"], value))
    if not curves:
        return None
    columns = min(3, len(curves))
    rows = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(4.5 * columns, 3 * rows), layout="constrained")
    for axes, (name, points) in zip(figure.subplots(rows, columns, squeeze=False).flat, curves.items()):
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, linewidth=1, marker="." if len(points) < 30 else None)
        axes.set(title=name, xlabel="step")
        if min(values) > 0 and max(values) > 20 * min(values):
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
    path = Path(folder) / "loss.png"
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=80)
    write_whole(path, picture.getvalue())
    return path


class Means:
    """Running means of named numbers, and a count of samples, from one line of the log to the next."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}
        self._samples = 0

    def add(self, values: Mapping[str, float]) -> None:
        """One more value of each name."""
        for name, value in values.items():
            total, number = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + value, number + 1)

    def count(self, samples: int) -> None:
        """So many samples more."""
        self._samples += samples

    def joined(self, of_all: Sequence[Means]) -> Means:
        """Means over the values of several processes; each has counted the samples of all."""
        together = Means()
        together._samples = self._samples
        for means in of_all:
            for name, (total, number) in means._sums.items():
                before, counted = together._sums.get(name, (0.0, 0))
                together._sums[name] = (before + total, counted + number)
        return together

    def take(self) -> tuple[dict[str, float], int]:
        """(mean of each name, samples) since the last call."""
        means, samples = {name: total / number for name, (total, number) in self._sums.items()}, self._samples
        self.__init__()
        return means, samples


class ProgressLine:
    """A bar on a terminal, plain lines (at most one in `pause_s` seconds) in a file. A context manager."""

    def __init__(self, name: str, quiet: bool = False, pause_s: float = 30.0):
        self.name = name
        self.pause_s = pause_s
        self.console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=quiet)
        self._said_s = -math.inf
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(20),
            TextColumn("{task.fields[text]}"),
            console=self.console,
        )
        self._task = self._bar.add_task(name, total=1.0, text="")
        self.start(0.0)

    def __enter__(self) -> ProgressLine:
        if self.console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._bar.stop()

    def start(self, fraction: float) -> None:
        """The clock starts now, with `fraction` of the work done before: the time left is reckoned from
        here."""
        self._start_s, self._start_fraction = time.monotonic(), fraction

    def update(self, fraction: float, text: str) -> None:
        """Show `text` and the time left."""
        now_s, done = time.monotonic(), fraction - self._start_fraction
        if done > 0:
            text += f", {clock((now_s - self._start_s) * (1.0 - fraction) / done)} left"
        self._bar.update(self._task, completed=fraction, text=text)
        if not self.console.is_terminal and (now_s - self._said_s >= self.pause_s or fraction >= 1.0):
            self._said_s = now_s
            self.say(f"{100 * fraction:.1f}%, {text}")

    def say(self, text: str) -> None:
        """One line that stays."""
        self.console.print(f"{self.name}: {text}", markup=False)


def clock(seconds: float) -> str:
    """3725 -> `1:02:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
