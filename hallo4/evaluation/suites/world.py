"""`evaluate_world`: a model against the truth of episodes outside its training data.

    episode i (seed EVALUATION_SEEDS + 10,000 seed + i)
        -> frames of the model -> the instrument -> metrics: a row of each model, and one of the truth itself
    rows -> means, intervals, wins -> report.json
    these and some clips made again, to be looked at -> report.html

Seeds of the portrait world are divided so that nothing is ever judged on what it learned from: models train
on seeds below 1,000,000, the instrument on those or on 2,000,000 and up, and evaluation starts at 5,000,000.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hallo4.engine import THIS_PROCESS, Engine
from hallo4.evaluation.look.instrument import OBSERVER_FOLDER, load_observer, measure
from hallo4.evaluation.metric import values_of
from hallo4.evaluation.report import INTERVALS, REFERENCE, SCHEMA, Row, summary, write_report
from hallo4.evaluation.run import Job, Progress, measured_rows, store_of, within
from hallo4.evaluation.show.page import Player, Video, chosen_clips, page, video_url
from hallo4.evaluation.suites import generators
from hallo4.evaluation.suites.world_metrics import METRICS, SKELETON_METRICS, make_clip
from hallo4.motion import draw_skeleton
from hallo4.version import __version__
from hallo4.world import Episode, make_episode
from hallo4.world.episode import MAX_TEMPO
from hallo4.world.framing import HALF_FIGURE, Framing
from hallo4.world.look import WorldName, named_beside

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

ALL_METRICS = METRICS | SKELETON_METRICS
_RANKED_BY = ("lip_sync_correlation", "ssim")
_UNDER_PLAYER = ("lip_sync_correlation", "ssim", "joint_error_fraction", "blink_correlation")


@dataclass(frozen=True)
class WorldSettings:
    """Everything but the models that decides a row, and how many clips there are."""

    episodes: int
    seed: int
    seconds: float
    tempo: float
    size_px: int
    steps: int | None
    guidance_scale: float | None
    world: WorldName
    framing: Framing = HALF_FIGURE
    observer: str | None = None

    def named(self) -> dict[str, Any]:
        """For the report, which names no other framing than the default by not naming it."""
        values = asdict(self)
        values["observer"] = "embedded" if self.observer is None else self.observer
        values["framing"]["head_at"] = list(self.framing.head_at)
        if self.framing.multiple_px == HALF_FIGURE.multiple_px:
            del values["framing"]["multiple_px"]
        if self.framing == HALF_FIGURE:
            del values["framing"]
        return values


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
    engine: Engine = THIS_PROCESS,
    players: int = 4,
    world: WorldName | None = None,
    framing: Framing = HALF_FIGURE,
    observer: str | None = None,
) -> dict[str, Any]:
    """Measure `model` (a name, a folder, `truth` or `autoencoder[:MODEL]`) on unseen episodes; returns the
    report.

    `world`: where the episodes are from (None: where the models were trained); `framing`: how its people are
    seen, on pictures of about the area that the model was trained at, with sides that the models can make;
    `observer`: the folder of the instrument (None: the embedded one), such as one from another seed, which no
    training was judged by. Bodies move `tempo` times as fast as people of the world do; lips keep to the
    sound. With `against` the second model makes the same clips from the same noise seeds, and win rates are
    added.
    With `out` the report is written there, and beside it the rows and a page with `players` clips to look at,
    from the worst to the best; the same call goes on after a stop, and one with more `episodes` or another
    `against` reuses what is there. The workers of `engine` share the clips.

    InputError for numbers out of range, or models of two worlds; CheckpointError for a model that cannot be
    loaded, OutputError before any work if `out` cannot be written, Cancelled on Ctrl-C.
    """
    within(
        episodes=(episodes, 1, EPISODES_PER_SEED),
        seed=(seed, 0, 100_000),
        seconds=(seconds, 0.4, 60.0),
        tempo=(tempo, 1.0, MAX_TEMPO),
        players=(players, 0, 100),
    )
    models = {model: model} | ({} if against is None else {_second(model, against): against})
    place = generators.asked_world(models.values(), world, out)
    if framing != HALF_FIGURE:
        sides = math.lcm(framing.multiple_px, generators.side_multiple_px(models.values()))
        framing = replace(framing, multiple_px=sides)
    settings = WorldSettings(
        *(episodes, seed, seconds, tempo, generators.frame_size_px(model), steps, guidance_scale),
        world=place,
        framing=framing,
        observer=observer,
    )
    framing.view(settings.size_px)  # refused before any work, as is an observer that is not there
    if observer is not None:
        load_observer(observer)
    weights = {name: generators.weights_digest(of) for name, of in models.items()}
    instrument = generators.folder_digest(OBSERVER_FOLDER if observer is None else Path(observer))
    decides = settings.named() | {"episodes": None, "observer": instrument, "metrics": sorted(ALL_METRICS)}
    del decides["world"]
    decides |= named_beside(place)
    with store_of(out, {"world": decides}) as store:
        stamps = {REFERENCE: "truth"} | weights
        jobs = [Job(str(clip), stamps) for clip in range(episodes)]
        rows = measured_rows(_Judge, (settings, models), jobs, store, on_progress, engine)
        # Names stay when weights change, hashes do not.
        named = settings.named() | {"weights": list(weights.values())}
        named |= {"observer_weights": instrument, "version": __version__}
        found = summary(ALL_METRICS, rows, list(models), [tuple(models)] if against is not None else [])
        report = world_report(model, against, named, found, rows)
        if out is not None:
            shown = _players(found, rows, settings, models, players)
            write_report(report, Path(out), _page(report, found, rows, shown))
        return report


def world_report(
    model: str,
    against: str | None,
    settings: Mapping[str, Any],
    found: Mapping[str, Any],
    rows: Sequence[Row],
) -> dict[str, Any]:
    """The report under the keys that others read: `metrics` are those of the model, `instrument` what the
    instrument says of the rendered truth; with a second model its metrics and the pair of both.
    """
    second = None if against is None else _second(model, against)
    own = {key: value for key, value in settings.items() if key not in ("episodes", "seed")}
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": "world",
        "model": model,
        "against": against,
        "episodes": settings["episodes"],
        "seed": settings["seed"],
        "metrics": found["metrics"][model],
        "instrument": found["reference_values"],
        "undefined": {"metrics": found["undefined"][model]},
    }
    if second is not None:
        (pair,) = found["pairs"]
        report["against_metrics"] = found["metrics"][second]
        report["undefined"]["against_metrics"] = found["undefined"][second]
        report |= {key: pair[key] for key in ("difference", "win_rate", "p_value", "p_holm")}
    notes = [
        INTERVALS,
        "Mouth, eyes and joints are measured by a trained instrument; `instrument` is what it says of the "
        "rendered truth of the same episodes.",
    ]
    if settings["episodes"] == 1:
        notes.append("One episode: there is no interval (low and high are null).")
    for name, count in found["undefined"][model].items():
        notes.append(f"{name} is not defined in {count} of {found['clips']} clips.")
    said = {"settings": own, "definitions": found["definitions"], "notes": notes}
    return {**report, **said, "rows": [row.as_json() for row in rows]}


def _second(model: str, against: str) -> str:
    return against if against != model else f"{against} (again)"


def judge_clip(
    episode: Episode, models: Mapping[str, generators.Generator], observer: Any, clip: str = "0"
) -> list[Row]:
    """A row of the rendered truth, which says how good the instrument is, and one of each of `models`."""
    measured_truth = measure(observer, episode.frames_u8)
    rendered = make_clip(episode, episode.frames_u8, measured_truth, measured_truth)
    facts = {"episode_seed": episode.seed, "frames": len(episode.frames_u8)}
    curves = {
        "true": _rounded(episode.truth.mouth_open), "mouth": _rounded(measured_truth.mouth_open),
    }  # fmt: skip
    rows = [Row(clip, REFERENCE, values_of(METRICS, rendered, INSTRUMENT_METRICS), curves, facts)]
    for name, generate in models.items():
        started_s = time.monotonic()
        frames_u8 = generate(episode, episode.seed)
        took = {"seconds": round(time.monotonic() - started_s, 3)}
        measured = measured_truth if frames_u8 is episode.frames_u8 else measure(observer, frames_u8)
        values = values_of(METRICS, make_clip(episode, frames_u8, measured, measured_truth))
        rows.append(Row(clip, name, values, {"mouth": _rounded(measured.mouth_open)}, facts | took))
    return rows


def skeleton_gate(episode: Episode, through: generators.Generator) -> dict[str, float | None]:
    """PSNR and SSIM of the skeleton drawings of an episode after an autoencoder, each drawing a picture of
    its own, as models take them."""
    height, width = episode.frames_u8.shape[1:3]
    drawings = draw_skeleton(episode.skeleton, width, height)
    singles = (replace(episode, frames_u8=drawing[None]) for drawing in drawings)
    decoded = np.concatenate([through(single, episode.seed) for single in singles])
    return {name: metric.of(decoded, drawings) for name, metric in SKELETON_METRICS.items()}


class _Judge:
    """The loaded models and instrument of one process: a job -> the rows that are missing."""

    def __init__(self, settings: tuple[WorldSettings, Mapping[str, str]]):
        self.settings, self.names = settings
        self.observer = load_observer(self.settings.observer)
        self.models: dict[str, generators.Generator] = {}

    def model(self, name: str) -> generators.Generator:
        if name not in self.models:
            own = self.settings.steps, self.settings.guidance_scale
            self.models[name] = generators.load_generator(self.names[name], *own)
        return self.models[name]

    def episode(self, clip: int) -> Episode:
        seed = episode_seed(self.settings.seed, clip)
        own = self.settings
        return make_episode(seed, own.seconds, own.size_px, own.tempo, own.framing, own.world)

    def __call__(self, job: Job) -> list[Row]:
        models = {name: self.model(name) for name in job.stamps if name != REFERENCE}
        episode = self.episode(int(job.clip))
        rows = judge_clip(episode, models, self.observer, job.clip)
        for row in rows:
            if row.system in models and generators.is_autoencoder(self.names[row.system]):
                row.values.update(skeleton_gate(episode, models[row.system]))
        return [row for row in rows if row.system in job.stamps]


def _players(
    found: Mapping[str, Any],
    rows: Sequence[Row],
    settings: WorldSettings,
    models: Mapping[str, str],
    count: int,
) -> list[Player]:
    """Clips with their frames, which rows do not keep: the same seeds make the same frames."""
    chosen = chosen_clips(found, rows, _RANKED_BY, count)
    judge = _Judge((settings, models)) if chosen else None
    by_place = {(row.clip, row.system): row for row in rows}
    players = []
    for clip in chosen:
        episode = judge.episode(int(clip))
        made = {name: judge.model(name)(episode, episode.seed) for name in models}
        truth = by_place[clip, REFERENCE]
        videos = [Video(REFERENCE, _url(episode.frames_u8, episode, "the rendered truth"), {})]
        for name, frames_u8 in made.items():
            values = by_place[clip, name].values
            videos.append(
                Video(name, _url(frames_u8, episode, name), {n: values.get(n) for n in _UNDER_PLAYER})
            )
        curves = {REFERENCE: truth.curves["true"]}
        curves |= {name: by_place[clip, name].curves["mouth"] for name in models}
        players.append(Player(f"clip {clip}", videos, {"mouth opening": curves}))
    return players


def _url(frames_u8: np.ndarray, episode: Episode, name: str) -> str:
    label = {"generator": f"hallo4, {name} in the portrait world", "seed": str(episode.seed)}
    height, width = frames_u8.shape[1:3]
    return video_url(frames_u8, (width, height), episode.audio, label)


def _page(
    report: Mapping[str, Any], found: Mapping[str, Any], rows: Sequence[Row], players: Sequence[Player]
) -> str:
    settings = report["settings"]
    lead = (
        f"{report['episodes']} unseen episodes of {settings['seconds']:g} s in the world "
        f"{settings['world']}{_seen(settings)}, seed {report['seed']}, tempo {settings['tempo']:g}. Grey, "
        "“reference”: what the instrument says of the rendered truth."
    )
    said = {"notes": report["notes"], "version": settings["version"]}
    return page("Evaluation in the portrait world", lead, {**found, **said}, rows, players)


def _seen(settings: Mapping[str, Any]) -> str:
    """How people are seen, in words, if not as half figures."""
    framing = settings.get("framing")
    if framing is None:
        return ""
    x, y = framing["head_at"]
    return (
        f", pictures {framing['aspect']:.3g} times as wide as high, heads of {framing['head_share']:g} of "
        f"the height at {x:g}, {y:g}"
    )


def _rounded(curve: np.ndarray) -> list[float]:
    return np.round(curve.astype(np.float64), 3).tolist()
