"""How fast a motion may be and still be followed: amplitude and phase of generated over driving motion.

    person at rest --sine of one frequency, or "ma" so often a second--> skeleton, sound, rendered truth
    skeleton, sound --> model --> instrument --> coordinates of driven joints, or opening of the mouth
    these --least squares at that frequency--> complex amplitude
    response = amplitude generated / amplitude driving               gain |response|, delay from its phase

Both are measured by the instrument, on generated and on rendered frames, so that its own damping cancels;
only `truth` is compared with the skeleton itself, to show that damping. A response of 1 follows exactly;
below 1 the motion is damped. Skeletons at 25 fps can say up to 12.5 Hz; a model that is given every fourth
frame only cannot follow beyond 3.1 Hz; none can do better than its `autoencoder`, measured like a model.
"""

from __future__ import annotations

import cmath
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hallo4.engine import THIS_PROCESS, Engine
from hallo4.errors import InputError
from hallo4.evaluation.look.instrument import load_observer, measure
from hallo4.evaluation.report import Row
from hallo4.evaluation.run import Job, Progress, named_models, within
from hallo4.evaluation.show import charts
from hallo4.evaluation.show.page import page
from hallo4.evaluation.show.table import Grid
from hallo4.evaluation.statistics import RESAMPLES, expanded, interval_text
from hallo4.evaluation.suites import generators
from hallo4.evaluation.suites.world import episode_seed
from hallo4.models.observer import KEY_POINTS
from hallo4.types import FPS, Audio
from hallo4.version import __version__
from hallo4.world.look import DRAWN, WorldName, named_beside

if TYPE_CHECKING:
    from hallo4.world import Episode

FRAMES = 65
FREQUENCIES_HZ = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.25, 8.0, 10.0, 12.5)
SOUND_RATE_HZ = 16_000
SKELETON_RHO = 2
"""Skeletons a frame, for models that take more than one."""


@dataclass(frozen=True)
class Part:
    """What is moved: how far (`amplitude`), from where (`shift` against rest; both of the frame width), and
    the joints and axis it is read from. Without joints it is the mouth, moved by what is said."""

    amplitude: float = 0.0
    joints: tuple[str, ...] = ()
    axis: int = 0
    shift: float = 0.0


PARTS = {
    "head": Part(0.04, ("nose", "left_eye", "right_eye"), 0),
    "hands": Part(0.05, ("left_wrist", "right_wrist"), 1, shift=-0.1),
    "mouth": Part(),
}
"""The head sways from side to side; the hands go up and down, higher than at rest, where the frame ends; the
mouth says "ma" once in a period, with silence between where that is long."""

FASTEST_MOUTH_HZ = 8.0
"""Above, lips that glide from one sound to the next (`world.visemes`) hardly move, in the truth too."""

MOUTH = ("mouth_open", "mouth_wide")
STATES = (*MOUTH, "blink", "brow", "smile")


def driven_episode(
    seed: int, part: str, frequency_hz: float, size_px: int = 128, world: WorldName = DRAWN
) -> Episode:
    """Someone who does nothing but move one `part` as a cosine, or (mouth) say "ma" so often; FRAMES frames,
    with SKELETON_RHO skeletons each.

    A cosine, so that at half the frame rate, where only its turning points are seen, it is there at all.
    """
    from hallo4.world import Episode, sample_identity
    from hallo4.world.episode import draw_clip
    from hallo4.world.framing import square
    from hallo4.world.performance import Performance, neutral_performance
    from hallo4.world.speech import Speech, babble
    from hallo4.world.truth import Truth, skeleton_of
    from hallo4.world.visemes import mouth_curves, speaking_frames

    identity, still = sample_identity(seed, world), neutral_performance()
    places = np.arange(SKELETON_RHO * FRAMES) / SKELETON_RHO
    curves = {name: np.repeat(value, len(places), axis=0) for name, value in vars(still).items()}
    speech = Speech(Audio(np.zeros(round(FRAMES / FPS * SOUND_RATE_HZ), np.float32), SOUND_RATE_HZ), ())
    if part == "mouth":
        speech = babble(identity.voice, frequency_hz, FRAMES / FPS)
        for name, curve in zip(MOUTH, mouth_curves(speech.phonemes, FRAMES, identity.vigour), strict=True):
            curves[name] = np.repeat(curve, SKELETON_RHO)
    else:
        wave = PARTS[part].amplitude * np.cos(2 * np.pi * frequency_hz * places / FPS)
        for name in ("head",) if part == "head" else ("left_wrist", "right_wrist"):
            curves[name][:, PARTS[part].axis] += (PARTS[part].shift + wave).astype(np.float32)
    performance, view = Performance(**curves), square(size_px)
    portrait_u8, frames_u8 = draw_clip(identity, performance, slice(None, None, SKELETON_RHO), view)
    speaking = speaking_frames(speech.phonemes, FRAMES)
    p = performance
    return Episode(
        seed=seed,
        identity=identity,
        performance=performance,
        phonemes=speech.phonemes,
        portrait_u8=portrait_u8,
        rest=skeleton_of(identity, still, view),
        frames_u8=frames_u8,
        audio=speech.audio,
        skeleton=skeleton_of(identity, performance, view, SKELETON_RHO * FPS),
        truth=Truth(**{name: getattr(p, name)[::SKELETON_RHO] for name in STATES}, speaking=speaking),
    )


def amplitude(curve: np.ndarray, frequency_hz: float) -> complex:
    """Complex amplitude of a cosine of that frequency in `curve` [T] at 25 fps: cos(2 pi f t + phase) times r
    gives r e^(i phase). Beside it a straight line is fitted, which slow drift may be."""
    time_s = np.arange(len(curve)) / FPS
    angle = 2 * np.pi * frequency_hz * time_s
    columns = np.stack([np.cos(angle), -np.sin(angle), np.ones_like(time_s), time_s], axis=1)
    real, imaginary, *_ = np.linalg.lstsq(columns, curve.astype(np.float64), rcond=1e-9)[0]
    return complex(real, imaginary)


def response(measured_px: np.ndarray, driving_px: np.ndarray, frequency_hz: float) -> complex:
    """Mean over joints of amplitude measured over amplitude driving; coordinates [T, J] of one axis."""
    ratios = [
        amplitude(measured_px[:, joint], frequency_hz) / amplitude(driving_px[:, joint], frequency_hz)
        for joint in range(measured_px.shape[1])
    ]
    return complex(np.mean(ratios))


def evaluate_motion(
    models: Sequence[str],
    clips: int = 8,
    seed: int = 0,
    frequencies_hz: Sequence[float] = FREQUENCIES_HZ,
    out: str | os.PathLike[str] | None = None,
    on_progress: Progress | None = None,
    engine: Engine = THIS_PROCESS,
    world: WorldName | None = None,
) -> dict[str, Any]:
    """The response of each of `models` (names, folders, `truth`, `autoencoder:MODEL`; or `NAME=` and one of
    these, to call it so) by part and frequency.

    `report["responses"][model][part]` is a list, one entry a frequency: `hz`, `gain` and `delay_frames` with
    95 % intervals (resampled clips; the mean response is taken first, so that noise of random phase averages
    out), and `clips`, each clip's own [real, imaginary] response. At half the frame rate there is no delay to
    be seen: None. With `out` it is written as JSON with a page and the rows beside it; the same call goes
    on after a stop.

    `world`: where the people are from (None: where the models were trained).

    InputError for numbers out of range, or models of two worlds; CheckpointError for a model that cannot be
    loaded, OutputError, Cancelled on Ctrl-C.
    """
    for hz in frequencies_hz:
        if not 0 < hz <= FPS / 2:
            raise InputError(f"a frequency is {hz:g} Hz; at {FPS:g} fps 0 to {FPS / 2:g} Hz can be shown.")
    within(clips=(clips, 1, 10_000))
    place = generators.asked_world(named_models(models).values(), world, out)
    shown = {part: [hz for hz in frequencies_hz if moves(part, hz)] for part in PARTS}
    amplitudes = {name: part.amplitude for name, part in PARTS.items() if part.joints}
    settings = {"frames": FRAMES, "fps": FPS, "version": __version__, "amplitude_of_width": amplitudes}
    settings["world"] = place

    def figures(named: Mapping[str, str], rows: list[Row]) -> dict[str, Any]:
        of = {(row.system, row.clip): complex(*row.facts["response"]) for row in rows}

        def entry(model: str, part: str, hz: float) -> dict[str, Any]:
            return _entry(hz, [of[model, generators.clip_of((part, hz, clip))] for clip in range(clips)])

        responses = {m: {part: [entry(m, part, hz) for hz in shown[part]] for part in PARTS} for m in named}
        return {"clips": clips, "seed": seed, "settings": settings, "responses": responses}

    items = [(part, hz, clip) for part in PARTS for hz in shown[part] for clip in range(clips)]
    decides = {"parts": PARTS, "seed": seed, "frames": FRAMES, **named_beside(place)}
    return generators.report_of_models(
        "motion", models, items, _Judge, (seed, place), decides, out, on_progress, engine, figures, _page
    )


def moves(part: str, frequency_hz: float) -> bool:
    """Whether the world moves `part` that fast."""
    return bool(PARTS[part].joints) or frequency_hz <= FASTEST_MOUTH_HZ


class _Judge:
    """Model and instrument of one process: a job of (part, hz, clip) -> its response [real, imaginary]."""

    def __init__(self, settings: tuple[Mapping[str, str], int, WorldName]) -> None:
        names, self.seed, self.world = settings
        self.models = generators.OneModel(names)
        self.observer = load_observer()

    def __call__(self, job: Job) -> list[Row]:
        (system,) = job.stamps
        name, hz, clip = job.item
        part = PARTS[name]
        generate, size_px = self.models(system)
        episode = driven_episode(episode_seed(self.seed, clip), name, hz, size_px, self.world)
        frames_u8 = generate(episode, episode.seed)
        if part.joints:
            points_px = episode.skeleton.points_px[::SKELETON_RHO]
            driving = points_px[:, [KEY_POINTS[joint] for joint in part.joints], part.axis]
        else:
            driving = episode.truth.mouth_open[:, None]
        if frames_u8 is not episode.frames_u8:
            driving = self._seen(episode.frames_u8, part)
        value = response(self._seen(frames_u8, part), driving, hz)
        return [Row(job.clip, system, facts={"response": [value.real, value.imag]})]

    def _seen(self, frames_u8: np.ndarray, part: Part) -> np.ndarray:
        measured = measure(self.observer, frames_u8)
        if not part.joints:
            return measured.mouth_open[:, None]
        return measured.points_px[:, [list(KEY_POINTS).index(joint) for joint in part.joints], part.axis]


def _entry(hz: float, values: Sequence[complex]) -> dict[str, Any]:
    complex_values = np.array(values)
    mean = complex(complex_values.mean())
    ends: dict[str, tuple[float | None, float | None]] = {"gain": (None, None), "delay": (None, None)}
    if len(values) > 1:
        drawn = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
        means = complex_values[drawn].mean(axis=1)
        low, high = expanded(abs(mean), np.abs(means), len(values))
        ends["gain"] = (max(0.0, low), high)
        angles = expanded(0.0, -np.angle(means * mean.conjugate()), len(values))
        ends["delay"] = tuple(_frames(-cmath.phase(mean) + angle, hz) for angle in angles)
    delay = _frames(-cmath.phase(mean), hz)
    # At half the frame rate frames see only the turning points: any delay looks like a smaller gain. And
    # what does not move at all has no delay.
    if hz >= FPS / 2 or mean == 0:
        delay, ends["delay"] = None, (None, None)
    return {
        "hz": hz,
        "gain": {"mean": abs(mean), "low": ends["gain"][0], "high": ends["gain"][1], "n": len(values)},
        "delay_frames": {
            "mean": delay, "low": ends["delay"][0], "high": ends["delay"][1], "n": len(values),
        },
        "clips": [[round(value.real, 4), round(value.imag, 4)] for value in values],
    }  # fmt: skip


def _frames(angle: float, hz: float) -> float:
    return float(angle / (2 * math.pi * hz) * FPS)


def motion_grids(report: Mapping[str, Any]) -> list[Grid]:
    """A table of every model: gain and delay by part and frequency."""
    head = ["part", "Hz", "gain", "delay, frames"]
    return [
        Grid(
            model,
            "mean [95 % interval]",
            head,
            [
                [part, f"{entry['hz']:g}", *(interval_text(entry[what]) for what in ("gain", "delay_frames"))]
                for part, entries in parts.items()
                for entry in entries
            ],
        )
        for model, parts in report["responses"].items()
    ]


def _page(report: Mapping[str, Any]) -> str:
    figures = []
    for name, title in (("gain", "gain"), ("delay_frames", "delay, frames")):
        for part in PARTS:
            curves = [
                (model, [e["hz"] for e in of[part]], [e[name] for e in of[part]], charts.colour_of(place))
                for place, (model, of) in enumerate(report["responses"].items())
            ]
            figures.append(charts.lines(curves, f"{part}: {title}", "Hz"))
    lead = (
        f"{report['clips']} people of the world {report['settings']['world']} per frequency, seed "
        f"{report['seed']}: a gain of 1 follows exactly, below it motion is damped."
    )
    said = {"notes": report["notes"], "version": report["settings"]["version"], "legend": report["models"]}
    return page("How fast motion may be", lead, said, grids=motion_grids(report), figures=figures)
