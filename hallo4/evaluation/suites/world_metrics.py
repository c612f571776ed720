"""The table of metrics of the portrait world, and which of them decide who wins a clip."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hallo4.errors import ShapeError
from hallo4.evaluation.look.instrument import Measurement, no_person, true_key_points
from hallo4.evaluation.measures import arrays
from hallo4.evaluation.measures.identity import faces_alike
from hallo4.evaluation.measures.keypoints import hand_variance
from hallo4.evaluation.metric import Metric
from hallo4.models.observer import KEY_POINTS

if TYPE_CHECKING:
    from hallo4.world import Episode, Truth

_FINGERTIPS = tuple(name for name in KEY_POINTS if name.endswith("_tip"))
JOINTS = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder"),
    *("left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    *_FINGERTIPS,
)
"""The body: 11 joints and 10 fingertips. The other key points belong to the face."""
HANDS = ("left_wrist", "right_wrist", *_FINGERTIPS)
FACE = tuple(name for name in KEY_POINTS if name not in JOINTS)


@dataclass(frozen=True)
class Clip:
    """One generated clip beside its truth.

    `frames_u8` and `true_frames_u8` [T, H, W, 3]; `measured` and `measured_truth`: what the instrument says
    of either; `true_points_px` [T, P, 2] and `visible` [T, P]: the truth itself; `truth`: its curves [T].
    """

    frames_u8: np.ndarray
    true_frames_u8: np.ndarray
    measured: Measurement
    measured_truth: Measurement
    true_points_px: np.ndarray
    visible: np.ndarray
    truth: Truth


def make_clip(
    episode: Episode, frames_u8: np.ndarray, measured: Measurement, measured_truth: Measurement
) -> Clip:
    """Put `frames_u8` [T, H, W, 3] beside their episode; ShapeError if they are longer, shorter or of another
    size."""
    if frames_u8.shape != episode.frames_u8.shape:
        raise ShapeError(
            f"Episode {episode.seed} has frames {list(episode.frames_u8.shape)}; "
            f"the model made {list(frames_u8.shape)}. Evaluate at the model's own size."
        )
    points_px, visible = true_key_points(episode.skeleton)
    return Clip(frames_u8, episode.frames_u8, measured, measured_truth, points_px, visible, episode.truth)


# ---------------------------------------------------------------------- the metrics


def _joint_error(names: tuple[str, ...]) -> Callable[[Clip], float]:
    places = _places(names)

    def error(clip: Clip) -> float:
        return arrays.joint_error_fraction(
            clip.measured.points_px[:, places],
            clip.true_points_px[:, places],
            clip.visible[:, places],
            clip.frames_u8.shape[2],
        )

    return error


def _joint_motion(measure: Callable[..., float]) -> Callable[[Clip], float]:
    def ratio(clip: Clip) -> float:
        generated, rendered = clip.measured.points_px[:, _BODY], clip.measured_truth.points_px[:, _BODY]
        return measure(generated, rendered, clip.visible[:, _BODY])

    return ratio


def _places(names: tuple[str, ...]) -> list[int]:
    order = list(KEY_POINTS)
    return [order.index(name) for name in names]


_BODY, _HAND_PLACES = _places(JOINTS), _places(HANDS)
_UPRIGHT = _places(("right_eye", "left_eye", "nose", "mouth_right", "mouth_left"))


def _face_similarity(clip: Clip) -> float:
    sides = []
    for seen, frames_u8 in ((clip.measured, clip.frames_u8), (clip.measured_truth, clip.true_frames_u8)):
        points = seen.points_px[:, _UPRIGHT].astype(np.float64)
        points[~(seen.seen & clip.visible)[:, _UPRIGHT].all(axis=1)] = math.nan
        sides += [frames_u8, points]
    alike = faces_alike(*sides)
    return float(np.nanmean(alike)) if np.isfinite(alike).any() else math.nan


def _hand_variance_ratio(clip: Clip) -> float:
    own, true = (_hand_variance(clip, seen) for seen in (clip.measured, clip.measured_truth))
    return own / true if true > 0 else math.nan


def _hand_variance(clip: Clip, seen: Measurement) -> float:
    skeleton, places = no_person(len(seen), *clip.frames_u8.shape[2:0:-1]), list(KEY_POINTS.values())
    skeleton.points_px[:, places], skeleton.confidence[:, places] = seen.points_px, seen.seen & clip.visible
    return hand_variance(skeleton)


# fmt: off
_MEASURED: dict[str, Metric] = {
    "lip_sync_correlation": Metric(
        ("correlation of measured and true mouth opening, without shifting; 0 for a mouth that stands "
        "still"), "-1..1", "higher", lambda c: arrays.following(c.measured.mouth_open, c.truth.mouth_open)
    ),
    "lip_sync_lag_frames": Metric(
        "shift in -5..5 with the largest correlation of mouth opening; positive: the mouth is late",
        "frames of 40 ms", "near 0",
        lambda c: arrays.best_lag_frames(c.measured.mouth_open, c.truth.mouth_open)
    ),
    "lip_sync_abs_lag_frames": Metric(
        "size of that shift, so that early and late clips do not cancel", "frames of 40 ms", "lower",
        lambda c: abs(arrays.best_lag_frames(c.measured.mouth_open, c.truth.mouth_open))
    ),
    "mouth_open_error": Metric(
        "mean absolute difference of measured and true mouth opening", "of full opening", "lower",
        lambda c: arrays.mean_absolute_error(c.measured.mouth_open, c.truth.mouth_open)
    ),
    "mouth_amplitude_ratio": Metric(
        "standard deviation of measured over true mouth opening", "ratio", "near 1",
        lambda c: arrays.amplitude_ratio(c.measured.mouth_open, c.truth.mouth_open)
    ),
    "mouth_closed_in_silence": Metric(
        "share of silent frames (none spoken within 3) with a measured opening below 0.15", "0..1",
        "higher", lambda c: arrays.mouth_closed_in_silence(c.measured.mouth_open, c.truth.speaking)
    ),
    "mouth_wide_correlation": Metric(
        "correlation of measured and true mouth width", "-1..1", "higher",
        lambda c: arrays.following(c.measured.mouth_wide, c.truth.mouth_wide)
    ),
    "blink_correlation": Metric(
        "correlation of measured and true closing of the eyes; undefined without a blink", "-1..1",
        "higher", lambda c: arrays.following(c.measured.blink, c.truth.blink)
    ),
    "brow_correlation": Metric(
        "correlation of measured and true height of the brows", "-1..1", "higher",
        lambda c: arrays.following(c.measured.brow, c.truth.brow)
    ),
    "joint_error_fraction": Metric(
        "mean distance of measured and true body joints and fingertips, over those visible in the truth",
        "of the frame width", "lower", _joint_error(JOINTS)
    ),
    "hand_error_fraction": Metric(
        "the same for wrists and fingertips alone", "of the frame width", "lower", _joint_error(HANDS)
    ),
    "face_error_fraction": Metric(
        "the same for chin, brows, corners of the eyes and lips", "of the frame width", "lower",
        _joint_error(FACE)
    ),
    "joint_missing_fraction": Metric(
        "share of body joints and fingertips, visible in the truth, that are not seen", "0..1", "lower",
        lambda c: arrays.missing_fraction(c.measured.seen[:, _BODY], c.visible[:, _BODY])
    ),
    "hand_missing_fraction": Metric(
        "the same of wrists and fingertips alone", "0..1", "lower",
        lambda c: arrays.missing_fraction(c.measured.seen[:, _HAND_PLACES], c.visible[:, _HAND_PLACES])
    ),
    "hand_variance_ratio": Metric(
        ("HKV (variance of wrists and fingertips over time in shoulder widths), generated over rendered, "
        "both measured"), "ratio", "near 1", _hand_variance_ratio
    ),
    "motion_amplitude_ratio": Metric(
        "spread of body joints around their mean, generated over rendered, both measured", "ratio",
        "near 1", _joint_motion(arrays.motion_amplitude_ratio)
    ),
    "jitter_ratio": Metric(
        "mean second difference of body joints, generated over rendered, both measured", "ratio", "near 1",
        _joint_motion(arrays.jitter_ratio)
    ),
    "background_flicker": Metric(
        "mean change from frame to frame of pixels that stand still in the truth", "levels of 255", "lower",
        lambda c: arrays.background_flicker(c.frames_u8, c.true_frames_u8)
    ),
    "colour_overlap": Metric(
        ("shared part of the colours (8x8x8 bins) of each generated and rendered frame: skin, hair, "
        "clothes"), "0..1", "higher", lambda c: arrays.colour_overlap(c.frames_u8, c.true_frames_u8)
    ),
    "face_similarity": Metric(
        "mean cosine of coarse colours of the face, wherever it is, with the rendered face of the moment",
        "-1..1", "higher", _face_similarity
    ),
    "sharpness_ratio": Metric(
        "mean squared Laplacian, generated over rendered", "ratio", "near 1",
        lambda c: arrays.sharpness_ratio(c.frames_u8, c.true_frames_u8)
    ),
    "ssim": Metric(
        "structural similarity to the rendered frames (Gaussian window 11, sigma 1.5, RGB)", "-1..1",
        "higher", lambda c: arrays.ssim(c.frames_u8, c.true_frames_u8)
    ),
    "psnr_db": Metric(
        "peak signal-to-noise ratio to the rendered frames, per frame (at most 60), then the mean", "dB",
        "higher", lambda c: arrays.psnr_db(c.frames_u8, c.true_frames_u8)
    ),
}
# fmt: on

AXES: dict[str, dict[str, Callable[[float], float]]] = {
    "alignment": {
        "lip_sync_correlation": lambda r: max(r, 0.0),
        "joint_error_fraction": lambda e: max(1.0 - e / 0.10, 0.0),
    },
    "fidelity": {
        "blink_correlation": lambda r: max(r, 0.0),
        "brow_correlation": lambda r: max(r, 0.0),
        "ssim": lambda s: max(s, 0.0),
        "jitter_ratio": lambda q: math.exp(-abs(math.log(q))) if q > 0 else 0.0,
    },
}
"""The metrics that decide who wins a clip, and that machine scores of the world are made of, each with the
points of a value: correlations and SSIM from 0 up, a joint error of 10 % of the frame counts 0, jitter q
counts min(q, 1/q)."""

PROTOCOL = (
    "whole clips of unseen people at 25 fps, generated from portrait, sound and skeleton; mouth, eyes and "
    "joints as the embedded instrument sees them, against what the renderer knows; clips without a value "
    "left out"
)
METRICS: dict[str, Metric] = {
    name: replace(
        measured,
        source="hallo4, of the portrait world",
        protocol=PROTOCOL,
        axis=next((axis for axis, parts in AXES.items() if name in parts), None),
        points=next((parts[name] for parts in AXES.values() if name in parts), None),
    )
    for name, measured in _MEASURED.items()
}
"""Every metric of a generated clip by its name in the report."""


SKELETON_METRICS: dict[str, Metric] = {
    "skeleton_psnr_db": Metric(
        "PSNR of single skeleton drawings through the autoencoder", "dB", "higher", arrays.psnr_db
    ),
    "skeleton_ssim": Metric(
        "SSIM of single skeleton drawings through the autoencoder", "-1..1", "higher", arrays.ssim
    ),
}
"""Of an autoencoder alone, and its drawings and the true ones [T, H, W, 3]."""


def clip_values(clip: Clip) -> dict[str, float]:
    """All metrics of a clip; NaN where one is not defined."""
    return {name: metric.of(clip) for name, metric in METRICS.items()}
