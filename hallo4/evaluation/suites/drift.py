"""What becomes of a long video: the metrics of the world, part by part, from its beginning to its end.

    episode of a minute --> model --> instrument --> parts of five seconds --metrics, clip by clip--> curves
    slope of each clip's curve, and last minus first part --> mean over clips with its interval: the drift

A window is conditioned on only a few frames before it, so that errors may accumulate. `truth` and
`autoencoder:MODEL` show what a video without drift looks like: part of every curve is what the clips are
about, and only the difference to theirs is drift.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from hallo4.engine import THIS_PROCESS, Engine
from hallo4.evaluation.look.instrument import load_observer, measure
from hallo4.evaluation.measures.dynamics import drift_per_second
from hallo4.evaluation.report import Row, metric_interval
from hallo4.evaluation.run import Job, Progress, named_models, within
from hallo4.evaluation.show import charts
from hallo4.evaluation.show.page import page
from hallo4.evaluation.show.table import Grid
from hallo4.evaluation.statistics import bootstrap_interval, interval_text
from hallo4.evaluation.suites import generators
from hallo4.evaluation.suites.world import episode_seed
from hallo4.evaluation.suites.world_metrics import METRICS, Clip, make_clip
from hallo4.types import FPS
from hallo4.version import __version__
from hallo4.world.look import WorldName, named_beside

PART_S = 5.0
FEWEST_PARTS = 3
LONGEST_S = 600.0
DRIFTING = (
    "face_similarity", "colour_overlap", "ssim", "sharpness_ratio", "background_flicker",
    "joint_error_fraction", "hand_error_fraction", "jitter_ratio",
    "lip_sync_correlation", "mouth_closed_in_silence",
)  # fmt: skip
"""The metrics that are followed: who and where it is, how sharp, how steady, how well it moves and speaks."""

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
    engine: Engine = THIS_PROCESS,
    world: WorldName | None = None,
) -> dict[str, Any]:
    """Curves and drift of each of `models` (names, folders, `truth`, `autoencoder:MODEL`; or `NAME=` and
    one of these, to call it so).

    `report["curves"][model][metric]` is a list with `start_s` and the mean over clips with its interval, one
    entry a part of five seconds; `report["drift"][model][metric]` has `per_minute`, the slope of a clip's own
    curve, and `last_minus_first`. Part of every curve is what the clips are about, so `report["beyond"]` has,
    of each model whose ceiling is among `models` (`of`: its autoencoder alone, else `truth`), by how much
    more than it the model changed, clip by clip. With `out` it is written as JSON with a page and the rows
    beside it; the same call goes on after a stop.

    `world`: where the people are from (None: where the models were trained).

    InputError for numbers out of range, or models of two worlds; CheckpointError for a model that cannot be
    loaded, OutputError, Cancelled on Ctrl-C.
    """
    within(seconds=(seconds, FEWEST_PARTS * PART_S, LONGEST_S), clips=(clips, 1, 10_000))
    place = generators.asked_world(named_models(models).values(), world, out)

    def figures(named: Mapping[str, str], measured: list[Row]) -> dict[str, Any]:
        rows: dict[str, Rows] = {name: [r.curves for r in measured if r.system == name] for name in named}
        over = {m: {name: [row[name] for row in of] for name in DRIFTING} for m, of in rows.items()}
        said = {name: METRICS[name].as_json() for name in DRIFTING}
        return {
            "clips": clips,
            "seed": seed,
            "settings": {"seconds": seconds, "part_s": PART_S, "world": place, "version": __version__},
            "metrics": {name: {key: of[key] for key in ("definition", "unit")} for name, of in said.items()},
            "curves": {m: {name: _curve(name, of[name]) for name in DRIFTING} for m, of in over.items()},
            "drift": {m: {name: _drift(of[name]) for name in DRIFTING} for m, of in over.items()},
            "beyond": {m: _beyond(rows[m], rows[base], base) for m, base in _ceilings(named).items()},
        }

    decides = {"seed": seed, "seconds": seconds, "metrics": DRIFTING, **named_beside(place)}
    return generators.report_of_models(
        *("drift", models, map(str, range(clips)), _Judge, (seed, seconds, place)),
        *(decides, out, on_progress, engine, figures, _page),
    )


class _Judge:
    """Model and instrument of one process: a job -> the curves of its clip, a value a part."""

    def __init__(self, settings: tuple[Mapping[str, str], int, float, WorldName]) -> None:
        names, self.seed, self.seconds, self.world = settings
        self.models = generators.OneModel(names)
        self.observer = load_observer()

    def __call__(self, job: Job) -> list[Row]:
        from hallo4.world import make_episode

        (system,) = job.stamps
        generate, size_px = self.models(system)
        seed = episode_seed(self.seed, int(job.item))
        episode = make_episode(seed, self.seconds, size_px, world=self.world)
        frames_u8 = generate(episode, episode.seed)
        measured, measured_truth = (measure(self.observer, f) for f in (frames_u8, episode.frames_u8))
        whole = make_clip(episode, frames_u8, measured, measured_truth)
        values = part_values(whole, round(PART_S * FPS))
        curves = {n: [v if math.isfinite(v) else None for v in of] for n, of in values.items()}
        return [Row(job.clip, system, curves=curves)]


def _curve(name: str, rows: list[list[float | None]]) -> list[dict[str, Any]]:
    return [
        {"start_s": index * PART_S, **metric_interval(METRICS[name], values).as_json()}
        for index, values in enumerate(zip(*rows, strict=True))
    ]


def _drift(rows: list[list[float | None]]) -> dict[str, Any]:
    """Of clips' curves; a part without a value (no silence in it, say) is left out of the slope."""
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


def drift_grids(report: Mapping[str, Any]) -> list[Grid]:
    """A table of every model: the first and the last part, and what changed."""
    grids = []
    for model, drift in report["drift"].items():
        beyond = report["beyond"].get(model)
        rows = []
        for name, found in drift.items():
            means = (report["curves"][model][name][part]["mean"] for part in (0, -1))
            ends = ["-" if mean is None else f"{mean:.3g}" for mean in means]
            changes = [found["last_minus_first"], *([beyond["last_minus_first"][name]] if beyond else [])]
            rows.append([name, *ends, *map(interval_text, changes)])
        head = ["metric", "first part", "last part", "last minus first"]
        head += [f"beyond {beyond['of']}"] if beyond else []
        grids.append(Grid(model, "mean [95 % interval] over clips", head, rows))
    return grids


def _page(report: Mapping[str, Any]) -> str:
    middle = [PART_S * (i + 0.5) for i in range(int(report["settings"]["seconds"] // PART_S))]
    figures = []
    for name in DRIFTING:
        series = [
            (model, middle, of[name], charts.colour_of(place))
            for place, (model, of) in enumerate(report["curves"].items())
        ]
        figures.append(charts.lines(series, f"{name}, {report['metrics'][name]['unit']}", "s"))
    length = f"{report['settings']['seconds']:g} s"
    lead = (
        f"{report['clips']} videos of {length} in the world {report['settings']['world']}, seed "
        f"{report['seed']}, in parts of five seconds."
    )
    said = {"notes": report["notes"], "version": report["settings"]["version"], "legend": report["models"]}
    return page("What becomes of long videos", lead, said, grids=drift_grids(report), figures=figures)
