"""`evaluate_world`: a model against the truth of episodes outside its training data.

    episode i (seed EVALUATION_SEEDS + 10,000 seed + i)
        -> frames of the model -> the instrument -> metrics: a row, kept at once, so a stopped run goes on
    rows -> means, intervals, win rates -> report.json, report.png
    these and some clips made again, to be looked at -> report.html

Seeds of the portrait world are divided so that nothing is ever judged on what it learned from: models train
on seeds below 1,000,000, the instrument on those or on 2,000,000 and up, and evaluation starts at 5,000,000.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hallo4.errors import Cancelled, InputError
from hallo4.evaluation import generators, metrics
from hallo4.evaluation.instrument import OBSERVER_FOLDER, load_observer, measure
from hallo4.evaluation.report import build_report, draw_report
from hallo4.evaluation.report_files import write_text, write_with_picture
from hallo4.evaluation.report_rows import WorldRow
from hallo4.evaluation.row_store import Row, RowStore, row_store
from hallo4.evaluation.world_metrics import METRICS, clip_values, make_clip
from hallo4.evaluation.world_page import Shown, chosen_rows, world_page
from hallo4.motion import draw_skeleton
from hallo4.outputs import refuse_output
from hallo4.processes import shared_work
from hallo4.world import Episode, make_episode
from hallo4.world.episode import MAX_TEMPO

TRAINING_SEEDS = range(0, 1_000_000)
INSTRUMENT_SEEDS = range(2_000_000, 3_000_000)
EVALUATION_SEEDS = 5_000_000
EPISODES_PER_SEED = 10_000

INSTRUMENT_METRICS = (
    *("lip_sync_correlation", "lip_sync_abs_lag_frames", "mouth_open_error", "mouth_closed_in_silence"),
    *("blink_correlation", "brow_correlation", "joint_error_fraction", "hand_error_fraction"),
    *("face_error_fraction", "joint_missing_fraction"),
)
"""What is stated of the instrument itself, measured on the rendered frames of the same episodes."""

Progress = Callable[[int, int, Row], None]
"""(clips done, clips in all, the newest row)."""


@dataclass(frozen=True)
class WorldSettings:
    """Everything that decides a row, and how many rows there are."""

    model: str
    against: str | None
    episodes: int
    seed: int
    seconds: float
    tempo: float
    size_px: int
    steps: int | None
    guidance_scale: float | None
    observer: str


def episode_seed(seed: int, clip: int) -> int:
    """The seed of the world for clip `clip` of an evaluation with `seed`."""
    return EVALUATION_SEEDS + seed * EPISODES_PER_SEED + clip


def evaluate_world(
    model: str,
    against: str | None = None,
    episodes: int = 40,
    seed: int = 0,
    seconds: float = 3.2,
    tempo: float = 1.0,
    steps: int | None = None,
    guidance_scale: float | None = None,
    out: str | os.PathLike[str] | None = None,
    on_progress: Progress | None = None,
    workers: int = 1,
    observer: str | os.PathLike[str] | None = None,
    players: int = 4,
) -> dict[str, Any]:
    """Measure `model` (a name, a folder, `truth` or `autoencoder[:MODEL]`) on unseen episodes; returns the
    report.

    Bodies move `tempo` times as fast as people of the world do; lips keep to the sound. With
    `against` the second model makes the same clips from the same noise seeds, and win rates are added.
    With `out` the report is written there, and beside it a picture, the rows, and a page with `players` clips
    to look at, from the worst to the best; the same call goes on after a stop, and one with more `episodes`
    reuses what is there. `workers` processes share the clips and the cores.

    InputError for numbers out of range, CheckpointError for a model or observer that cannot be loaded,
    OutputError before any work if `out` cannot be written, Cancelled on Ctrl-C.
    """
    _check(episodes, seed, seconds, tempo, workers, players)
    folder = OBSERVER_FOLDER if observer is None else Path(observer)
    out = None if out is None else Path(out)
    if out is not None:
        refuse_output(out, [*(generators.owner(name) for name in (model, against) if name), folder])
    size_px = generators.frame_size_px(model)
    settings = WorldSettings(
        model, against, episodes, seed, seconds, tempo, size_px, steps, guidance_scale, os.fspath(folder)
    )
    weights = [generators.weights_digest(name) for name in (model, against) if name is not None]
    with nullcontext() if out is None else _row_store(out, settings, weights) as store:
        kept_rows = () if store is None else store.rows(WorldRow)
        rows = {row["clip"]: row for row in kept_rows if row["clip"] < episodes}
        todo = [clip for clip in range(episodes) if clip not in rows]
        try:
            for row in shared_work(_Judge, settings, todo, workers):
                rows[row["clip"]] = row
                if store is not None:
                    store.add(row)
                if on_progress is not None:
                    on_progress(len(rows), episodes, row)
        except KeyboardInterrupt:
            kept = f"they are kept in {store.path}; the same command goes on" if store else "nothing was kept"
            raise Cancelled(f"Stopped after {len(rows)} of {episodes} clips: {kept}.") from None
        # A report may travel: it names the package's own observer, not where it lies. Names stay when weights
        # change, hashes do not.
        named = asdict(settings) | ({"observer": "embedded"} if folder == OBSERVER_FOLDER else {})
        named["observer_weights"] = generators.folder_digest(folder)
        named["weights"] = weights
        report = build_report(named, [rows[clip] for clip in range(episodes)])
        if out is None:
            return report
        report = write_with_picture(report, out, draw_report)
        rows_shown = chosen_rows(report, players)
        shown = list(map(_Judge(settings).show, rows_shown)) if rows_shown else []
        write_text(out.with_suffix(".html"), world_page(report, shown))
        return report


def judge_clip(
    clip: int,
    episode: Episode,
    models: dict[str, generators.Generator],
    observer: Any,
) -> Row:
    """One row: every metric of each of `models` ("model", "against") on an episode, and of the instrument on
    the truth."""
    measured_truth = measure(observer, episode.frames_u8)
    rendered = make_clip(episode, episode.frames_u8, measured_truth, measured_truth)
    row: Row = {
        "clip": clip,
        "episode_seed": episode.seed,
        "frames": len(episode.frames_u8),
        "instrument": {name: _plain(METRICS[name].of(rendered)) for name in INSTRUMENT_METRICS},
        "curves": {
            "true": _rounded(episode.truth.mouth_open),
            "instrument": _rounded(measured_truth.mouth_open),
        },
        "seconds": {},
    }
    for side, generate in models.items():
        started_s = time.monotonic()
        frames_u8 = generate(episode, episode.seed)
        row["seconds"][side] = round(time.monotonic() - started_s, 3)
        measured = measured_truth if frames_u8 is episode.frames_u8 else measure(observer, frames_u8)
        values = clip_values(make_clip(episode, frames_u8, measured, measured_truth))
        row[side] = {name: _plain(value) for name, value in values.items()}
        row["curves"][side] = _rounded(measured.mouth_open)
    return row


def skeleton_gate(episode: Episode, through: generators.Generator) -> dict[str, float]:
    """PSNR and SSIM of the skeleton drawings of an episode after an autoencoder, each drawing a picture of
    its own, as models take them."""
    height, width = episode.frames_u8.shape[1:3]
    drawings = draw_skeleton(episode.skeleton, width, height)
    singles = (replace(episode, frames_u8=drawing[None]) for drawing in drawings)
    decoded = np.concatenate([through(single, episode.seed) for single in singles])
    return {
        "skeleton_psnr_db": metrics.psnr_db(decoded, drawings),
        "skeleton_ssim": metrics.ssim(decoded, drawings),
    }


# ---------------------------------------------------------------------- work, here or in processes


class _Judge:
    """The loaded models and instrument of one process."""

    def __init__(self, settings: WorldSettings):
        self.settings = settings
        self.observer = load_observer(settings.observer)
        names = {"model": settings.model, "against": settings.against}
        self.names = {side: name for side, name in names.items() if name is not None}
        self.models = {
            side: generators.load_generator(name, settings.steps, settings.guidance_scale)
            for side, name in self.names.items()
        }

    def episode(self, clip: int) -> Episode:
        seed = episode_seed(self.settings.seed, clip)
        return make_episode(seed, self.settings.seconds, self.settings.size_px, self.settings.tempo)

    def show(self, row: Row) -> Shown:
        """The clip of a row with its frames, which rows do not keep: the same seeds make the same frames."""
        episode = self.episode(row["clip"])
        made = {side: generate(episode, episode.seed) for side, generate in self.models.items()}
        return Shown(row, episode.audio, {"truth": episode.frames_u8, **made})

    def __call__(self, clip: int) -> Row:
        episode = self.episode(clip)
        row = judge_clip(clip, episode, self.models, self.observer)
        for side, name in self.names.items():
            if generators.is_autoencoder(name):
                row[side] |= skeleton_gate(episode, self.models[side])
        return row


def _row_store(out: Path, settings: WorldSettings, weights: list[str]) -> RowStore:
    """Rows beside the report, in a file named after everything that decides them."""
    decides = {**asdict(settings), "episodes": None, "observer": None, "weights": weights}
    decides["metrics"] = sorted(METRICS)
    return row_store(out, decides, Path(settings.observer))


def _check(episodes: int, seed: int, seconds: float, tempo: float, workers: int, players: int) -> None:
    for name, value, low, high in (
        ("episodes", episodes, 1, EPISODES_PER_SEED),
        ("seed", seed, 0, 100_000),
        ("seconds", seconds, 0.4, 60.0),
        ("tempo", tempo, 1.0, MAX_TEMPO),
        ("workers", workers, 1, 256),
        ("players", players, 0, 100),
    ):
        if not low <= value <= high:
            raise InputError(f"{name} is {value}; allowed is {low} to {high}.")


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _rounded(curve: np.ndarray) -> list[float]:
    return np.round(curve.astype(np.float64), 3).tolist()
