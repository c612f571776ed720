"""Machine scores: what the instrument measures, on the two axes that people rate.

::

    clip of the world  --metrics of evaluation against the truth--> axis score 0..1 --> 1 + 4 x score
    clip of files      --mouth : loudness, body : skeleton,
                         colours : portrait------------------------> the same, by a scorer of its own

A machine score is a stand-in for raters where there are none, and never a judge of the model that was trained
on it. Every measured value behind it is kept in `parts`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hallo4.engine import THIS_PROCESS, Engine, Outcome, Stage, raise_lost
from hallo4.errors import Cancelled
from hallo4.evaluation.look.instrument import OBSERVER_FOLDER, Measurement, measure, true_key_points
from hallo4.evaluation.measures import arrays as metrics
from hallo4.evaluation.measures.speech import loudness_dbfs
from hallo4.evaluation.metric import axis_scores
from hallo4.evaluation.suites.generators import folder_digest, text_digest
from hallo4.evaluation.suites.world_metrics import AXES as WORLD_AXES
from hallo4.evaluation.suites.world_metrics import JOINTS, METRICS, clip_values, make_clip
from hallo4.media import load_audio, load_image, read_frames
from hallo4.models.observer import KEY_POINTS
from hallo4.motion import load_skeleton
from hallo4.preference.conditions import SOUND_RATE_HZ, world_episode
from hallo4.preference.evidence import on_scale
from hallo4.preference.schema import AXES, Axis, Clip, Condition, MachineScore
from hallo4.preference.store import PreferenceStore
from hallo4.preference.watch import observer
from hallo4.types import FPS
from hallo4.version import __version__
from hallo4.world import Episode

WORLD_SCORER, FILES_SCORER = "world-truth", "observer-only"
KEPT = (
    *("lip_sync_correlation", "joint_error_fraction", "blink_correlation", "brow_correlation"),
    *("ssim", "psnr_db", "jitter_ratio", "motion_amplitude_ratio", "mouth_closed_in_silence"),
)
"""Measured values of a clip of the world that are stored as `parts`, of both axes and beyond."""

FILES_AXES: dict[Axis, tuple[str, ...]] = {
    "alignment": ("loudness_following", "skeleton_following"),
    "fidelity": ("colour_overlap", "smoothness"),
}
"""Each axis is the mean of its parts, of those that are known, each from 0 up to 1."""

Values = Mapping[str, float]
Progress = Callable[[int, int, Clip], None]
_BODY = [list(KEY_POINTS).index(name) for name in JOINTS]


@dataclass(frozen=True)
class WorldTruth:
    """An episode, and what the observer sees in its rendered frames: motion is compared with that."""

    episode: Episode
    seen: Measurement


@dataclass(frozen=True)
class Judgement:
    """Scores in [0, 1] per axis (an axis that cannot be measured is missing), and the values behind them."""

    scorer: str
    axes: Mapping[Axis, float]
    parts: Values


def score_clips(
    store: PreferenceStore, on_progress: Progress | None = None, engine: Engine = THIS_PROCESS
) -> int:
    """Score every clip that has no score of this version on one of the axes; returns how many were added.

    The scores of a clip are added together or not at all. A clip of which an axis cannot be measured is
    looked at again by every call. The workers of `engine` share the clips, and see the store under one path.

    InputError: a clip's file is missing or damaged; all others are scored first. OutputError: another process
    scores the store. Cancelled on Ctrl-C: what is scored is kept.
    """
    with store.sole_writer_of("scores"):
        return _score_clips(store, on_progress, engine)


def _score_clips(store: PreferenceStore, on_progress: Progress | None, engine: Engine) -> int:
    version = scorer_version()
    scored = {(s.clip_id, s.axis) for s in store.scores().values() if s.scorer_version == version}
    clips = store.clips().values()
    todo = [clip for clip in clips if any((clip.clip_id, axis) not in scored for axis in AXES)]
    todo.sort(key=lambda clip: clip.condition_id)  # the truth of a condition is drawn once
    done = added = 0
    lost: list[Outcome] = []
    try:
        for outcome in engine.map(Stage(_Scorer, (store.folder, version)), todo):
            if outcome.error is not None:
                lost.append(outcome)
                continue
            clip, scores = outcome.item, outcome.result()
            added += store.add_scores(scores)
            done += 1
            if on_progress is not None:
                on_progress(done, len(todo), clip)
    except KeyboardInterrupt:
        raise Cancelled(
            f"stopped; {added} scores are kept in {store.folder}; the same command goes on."
        ) from None
    raise_lost(lost, len(todo), "clips", f"the scores of the others are kept in {store.folder}")
    return added


class _Scorer:
    """What a worker does: a clip -> its scores. The truth of a condition is drawn once for clips
    of it that follow each other."""

    def __init__(self, settings: tuple[Path, str]) -> None:
        folder, self.version = settings
        self.store = PreferenceStore.open(folder)
        self.condition: Condition | None = None
        self.truth: WorldTruth | None = None

    def __call__(self, clip: Clip) -> list[MachineScore]:
        condition = self.store.conditions()[clip.condition_id]
        if condition != self.condition:
            self.condition, self.truth = condition, world_truth(self.store, condition)
        return machine_scores(self.store, clip, condition, self.truth, self.version)


def scorer_version() -> str:
    """Changes with the package, the instrument and the definition of the axes."""
    definition = text_digest(repr({axis: list(parts) for axis, parts in WORLD_AXES.items()}))
    return f"{__version__} {folder_digest(OBSERVER_FOLDER)} {definition}"


def world_truth(store: PreferenceStore, condition: Condition) -> WorldTruth | None:
    """The truth of a condition of the world; None for one of files."""
    episode = world_episode(store, condition)
    return None if episode is None else WorldTruth(episode, measure(observer(), episode.frames_u8))


def machine_scores(
    store: PreferenceStore, clip: Clip, condition: Condition, truth: WorldTruth | None, version: str
) -> list[MachineScore]:
    """The scores of one clip, 1..5 on each axis that can be measured."""
    frames_u8 = np.stack(list(read_frames(store.media_path(clip.path), FPS)))
    seen = measure(observer(), frames_u8)
    if truth is None:
        judgement = judge_files_clip(frames_u8, seen, store, condition)
    else:
        judgement = judge_world_clip(frames_u8, seen, truth)
    parts = {name: float(value) for name, value in judgement.parts.items() if math.isfinite(value)}
    return [
        MachineScore(clip.clip_id, axis, on_scale(share), parts, judgement.scorer, version)
        for axis, share in judgement.axes.items()
    ]


def judge_world_clip(frames_u8: np.ndarray, seen: Measurement, truth: WorldTruth) -> Judgement:
    """Frames [T, H, W, 3] of an episode and what the observer sees in them, against its truth.

    Alignment is lip sync and following of the skeleton; fidelity is expression (blinks, brows), likeness of
    every pixel to the truth (identity, clothes, background: SSIM) and smoothness: `AXES` of the evaluation.
    ShapeError: frames unlike the episode's.
    """
    values = clip_values(make_clip(truth.episode, frames_u8, seen, truth.seen))
    scores = axis_scores(METRICS, values, values)
    axes = {axis: scores[axis][0] for axis in AXES if math.isfinite(scores[axis][0])}
    return Judgement(WORLD_SCORER, axes, {name: values[name] for name in KEPT})


def judge_files_clip(
    frames_u8: np.ndarray, seen: Measurement, store: PreferenceStore, condition: Condition
) -> Judgement:
    """A clip whose truth is not known, from what was asked for: its sound, skeleton and portrait.

    Alignment: the mouth follows the loudness, and body joints follow the skeleton (correlations from 0 up;
    places are not compared, as the skeleton was fitted to the portrait). Fidelity: the frames' colours are
    the portrait's, and joints move no more roughly than the skeleton's. Coarser than the world's scorer.
    """
    audio = load_audio(store.media_path(condition.audio), SOUND_RATE_HZ)
    portrait_u8 = load_image(store.media_path(condition.portrait))
    loudness = 10 ** (loudness_dbfs(audio, len(seen)) / 20)
    parts = {
        "loudness_following": metrics.following(seen.mouth_open, loudness),
        "colour_overlap": metrics.colour_overlap(frames_u8, portrait_u8[None]),
    }
    if condition.skeleton is not None:
        points, visible = true_key_points(load_skeleton(store.media_path(condition.skeleton)))
        frames = min(len(points), len(seen))
        measured, asked = seen.points_px[:frames, _BODY], points[:frames, _BODY]
        shown = visible[:frames, _BODY] & seen.seen[:frames, _BODY]
        parts["skeleton_following"] = joints_following(measured, asked, shown)
        rough, wanted = roughness(measured, shown), roughness(asked, shown)
        parts["smoothness"] = min(1.0, wanted / rough) if rough > 0 else math.nan
    axes: dict[Axis, float] = {}
    for axis, names in FILES_AXES.items():
        known = [max(parts[name], 0.0) for name in names if math.isfinite(parts.get(name, math.nan))]
        if known:
            axes[axis] = float(np.mean(known))
    return Judgement(FILES_SCORER, axes, parts)


def joints_following(measured_px: np.ndarray, asked_px: np.ndarray, visible: np.ndarray) -> float:
    """Correlation of joint coordinates with those asked for, weighted by how much each was to move.

    [T, J, 2] twice and [T, J] -> -1..1; NaN if nothing that is visible was to move.
    """
    total, weight = 0.0, 0.0
    for joint, axis in np.ndindex(*asked_px.shape[1:]):
        frames = visible[:, joint]
        if frames.sum() < 3:
            continue
        measured, asked = (p[frames, joint, axis].astype(np.float64) for p in (measured_px, asked_px))
        value = metrics.following(measured, asked)
        if math.isfinite(value):
            total, weight = total + value * asked.std(), weight + asked.std()
    return float(total / weight) if weight > 0 else math.nan


def roughness(points_px: np.ndarray, visible: np.ndarray) -> float:
    """Mean length of second differences of joints over that of first ones; no matter how large the person.

    [T, J, 2] and [T, J] -> 0 and up; NaN without three frames in a row or without motion.
    """
    steady = visible[2:] & visible[1:-1] & visible[:-2]
    steps = np.linalg.norm(np.diff(points_px.astype(np.float64), axis=0), axis=-1)[1:][steady]
    turns = np.linalg.norm(np.diff(points_px.astype(np.float64), n=2, axis=0), axis=-1)[steady]
    return float(turns.mean() / steps.mean()) if steady.any() and steps.mean() > 0 else math.nan
