"""What becomes of a long video: the metrics of the world, part by part, from its beginning to its end.

    episode of a minute --> model --> instrument --> parts of five seconds --metrics, clip by clip--> curves
    slope of each clip's curve, and last minus first part --> mean over clips with its interval: the drift

A window is told only of the few frames before it, so that errors may be handed on. `truth` and
`autoencoder:MODEL` show what a video without drift looks like: part of every curve is what the clips are
about, and only the difference to theirs is drift.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hallo4.errors import InputError
from hallo4.evaluation import generators
from hallo4.evaluation.dynamics import drift_per_second
from hallo4.evaluation.instrument import load_observer, measure
from hallo4.evaluation.named_paths import named_models
from hallo4.evaluation.processes import work_by_model
from hallo4.evaluation.report_files import write_with_picture
from hallo4.evaluation.row_store import row_store
from hallo4.evaluation.statistics import bootstrap_interval
from hallo4.evaluation.world import episode_seed
from hallo4.evaluation.world_metrics import METRICS, Clip, make_clip, metric_interval
from hallo4.outputs import refuse_output
from hallo4.types import FPS
from hallo4.version import __version__

PART_S = 5.0
FEWEST_PARTS = 3
LONGEST_S = 600.0
DRIFTING = (
    "face_similarity", "colour_overlap", "ssim", "sharpness_ratio", "background_flicker",
    "joint_error_fraction", "hand_error_fraction", "jitter_ratio",
    "lip_sync_correlation", "mouth_closed_in_silence",
)  # fmt: skip
"""The metrics that are followed: who and where it is, how sharp, how steady, how well it moves and speaks."""

Progress = Callable[[int, int], None]
Rows = list[dict[str, list[float | None]]]
"""Of every clip of a model: metric -> its curve."""


def part_of(clip: Clip, span: slice) -> Clip:
    """The frames `span` of a clip, with all that is known about them."""

    def cut(thing: Any) -> Any:
        return replace(thing, **{f.name: getattr(thing, f.name)[span] for f in fields(thing)})

    arrays = ("frames_u8", "true_frames_u8", "true_points_px", "visible")
    wholes = {name: cut(getattr(clip, name)) for name in ("measured", "measured_truth", "truth")}
    return replace(clip, **{name: getattr(clip, name)[span] for name in arrays}, **wholes)


def part_values(clip: Clip, part_frames: int) -> dict[str, list[float]]:
    """Every metric of `DRIFTING` in each whole part of `part_frames`; NaN where a part has no value."""
    starts = range(0, len(clip.frames_u8) - part_frames + 1, part_frames)
    parts = [part_of(clip, slice(start, start + part_frames)) for start in starts]
    return {name: [METRICS[name].of(part) for part in parts] for name in DRIFTING}


def evaluate_drift(
    models: Sequence[str],
    clips: int = 6,
    seed: int = 0,
    seconds: float = 60.0,
    out: str | os.PathLike[str] | None = None,
    on_progress: Progress | None = None,
    workers: int = 1,
) -> dict[str, Any]:
    """Curves and drift of each of `models` (names, folders, `truth`, `autoencoder:MODEL`; or `NAME=` and
    one of these, to call it so).

    `report["curves"][model][metric]` is a list with `start_s` and the mean over clips with its interval, one
    entry a part of five seconds; `report["drift"][model][metric]` has `per_minute`, the slope of a clip's own
    curve, and `last_minus_first`. Part of every curve is what the clips are about, so `report["beyond"]` has,
    of each model whose ceiling is among `models` (`of`: its autoencoder alone, else `truth`), by how much
    more than it the model changed, clip by clip. With `out` it is written as JSON with a picture and the rows
    beside it; the same call goes on after a stop.

    InputError for numbers out of range, CheckpointError for a model that cannot be loaded, OutputError,
    Cancelled on Ctrl-C.
    """
    if not FEWEST_PARTS * PART_S <= seconds <= LONGEST_S:
        raise InputError(
            f"seconds is {seconds:g}; drift is looked for in {FEWEST_PARTS * PART_S:g} to {LONGEST_S:g} s."
        )
    if clips < 1:
        raise InputError(f"{clips} clips; at least one is needed.")
    named = named_models(models)
    if out is not None:
        refuse_output(out, map(generators.owner, named.values()))
    with (
        nullcontext()
        if out is None
        else row_store(out, {"drift": DRIFTING, "seed": seed, "seconds": seconds}) as store
    ):
        found = work_by_model(_Judge, named, (seed, seconds), range(clips), workers, on_progress, store)
        rows = {model: [of[clip] for clip in range(clips)] for model, of in found.items()}
        report = {
            "models": list(named),
            "clips": clips,
            "seed": seed,
            "settings": {"seconds": seconds, "part_s": PART_S, "version": __version__},
            "metrics": {
                name: {"definition": METRICS[name].definition, "unit": METRICS[name].unit}
                for name in DRIFTING
            },
            "curves": {
                model: {name: _curve(name, [row[name] for row in of]) for name in DRIFTING}
                for model, of in rows.items()
            },
            "drift": {
                model: {name: _drift([row[name] for row in of]) for name in DRIFTING}
                for model, of in rows.items()
            },
            "beyond": {
                model: _beyond(rows[model], rows[base], base) for model, base in _ceilings(named).items()
            },
        }
        return report if out is None else write_with_picture(report, Path(out), draw_drift)


class _Judge:
    """Model and instrument of one process: clip -> the same and its metrics, part by part."""

    def __init__(self, settings: tuple[str, int, float]) -> None:
        model, self.seed, self.seconds = settings
        self.generate = generators.load_generator(model)
        self.size_px = generators.frame_size_px(model)
        self.observer = load_observer()

    def __call__(self, clip: int) -> tuple[int, dict[str, list[float | None]]]:
        from hallo4.world import make_episode

        episode = make_episode(episode_seed(self.seed, clip), self.seconds, self.size_px)
        frames_u8 = self.generate(episode, episode.seed)
        measured, measured_truth = (measure(self.observer, f) for f in (frames_u8, episode.frames_u8))
        whole = make_clip(episode, frames_u8, measured, measured_truth)
        values = part_values(whole, round(PART_S * FPS))
        return clip, {n: [v if math.isfinite(v) else None for v in of] for n, of in values.items()}


def _curve(name: str, rows: list[list[float | None]]) -> list[dict[str, Any]]:
    return [
        {"start_s": index * PART_S, **metric_interval(name, values).as_json()}
        for index, values in enumerate(zip(*rows, strict=True))
    ]


def _drift(rows: list[list[float | None]]) -> dict[str, Any]:
    """Of clips' curves; a part without a value (nobody silent in it, say) is left out of the slope."""
    curves = np.array(rows, dtype=np.float64)  # None is NaN
    slopes = [60 * drift_per_second(curve, fps=1 / PART_S) for curve in curves]
    return {
        "per_minute": bootstrap_interval([s if math.isfinite(s) else math.nan for s in slopes]).as_json(),
        "last_minus_first": bootstrap_interval([_step(row) for row in rows]).as_json(),
    }


def _ceilings(named: Mapping[str, str]) -> dict[str, str]:
    """Name of a model that is no ceiling itself -> name of its own autoencoder, else of the truth."""
    truth = next((name for name, model in named.items() if model == generators.TRUTH), None)
    alone = {
        generators.owner(model): name for name, model in named.items() if generators.is_autoencoder(model)
    }
    ceilings = {truth, *alone.values()}
    found = {name: alone.get(model, truth) for name, model in named.items() if name not in ceilings}
    return {name: base for name, base in found.items() if base is not None}


def _beyond(rows: Rows, base_rows: Rows, base: str) -> dict[str, Any]:
    steps = {
        name: [_step(own[name]) - _step(other[name]) for own, other in zip(rows, base_rows, strict=True)]
        for name in DRIFTING
    }
    return {"of": base, "last_minus_first": {n: bootstrap_interval(v).as_json() for n, v in steps.items()}}


def _step(curve: list[float | None]) -> float:
    return math.nan if curve[0] is None or curve[-1] is None else curve[-1] - curve[0]


def draw_drift(report: dict[str, Any], picture: BinaryIO) -> None:
    """Every metric over time, one line a model. ImportError without matplotlib."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(19, 7), layout="constrained")
    panels = figure.subplots(2, len(DRIFTING) // 2, sharex=True).ravel()
    for panel, name in zip(panels, DRIFTING, strict=True):
        for model, curves in report["curves"].items():
            entries = [entry for entry in curves[name] if entry["mean"] is not None]
            middle_s = [entry["start_s"] + PART_S / 2 for entry in entries]
            (line,) = panel.plot(
                middle_s, [entry["mean"] for entry in entries], "o-", label=model, markersize=3
            )
            if all(entry["low"] is not None for entry in entries):
                low, high = ([entry[end] for entry in entries] for end in ("low", "high"))
                panel.fill_between(middle_s, low, high, color=line.get_color(), alpha=0.2)
        panel.set(title=name, ylabel=report["metrics"][name]["unit"])
        panel.grid(alpha=0.3)
    for panel in panels[len(DRIFTING) // 2 :]:
        panel.set(xlabel="s")
    panels[0].legend(fontsize=8)
    figure.savefig(picture, format="png", dpi=80)
