"""The functions of a video, and of its reference where it has one, that `video_metrics` is made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hallo4.evaluation.look.beside import Beside
from hallo4.evaluation.look.portrait import Portrait
from hallo4.evaluation.look.video import Look
from hallo4.evaluation.measures import arrays, dynamics
from hallo4.evaluation.measures.identity import cosine_similarity, faces_found, similarity_transform
from hallo4.motion import layout
from hallo4.types import Skeleton

MAX_LAG_FRAMES = 15
_ENOUGH_FRAMES = 8  # curves shorter than this are not correlated


@dataclass(frozen=True)
class VideoPair:
    """A measured video and its reference, if it has one: what was seen of either, and of both side by side.

    `beside` is None where there is no reference, or a video is its own, which gives the reference's own
    values of metrics that judge one video `alone`.
    """

    video: Look
    reference: Look | None = None
    beside: Beside | None = None

    def common(self) -> int:
        """Frames that both have."""
        return 0 if self.reference is None else min(len(self.video), len(self.reference))


# ---------------------------------------------------------------------- functions of a pair


def mean_of(values: np.ndarray | None) -> float:
    """Mean of the finite values; NaN without any."""
    if values is None or not len(values) or not np.isfinite(values).any():
        return math.nan
    return float(np.nanmean(values))


def beside(name: str) -> Callable[[VideoPair], float]:
    """Mean of a curve of `Beside`."""
    return lambda pair: math.nan if pair.beside is None else mean_of(getattr(pair.beside, name))


def _curves(a: np.ndarray, b: np.ndarray | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Both curves over their common frames, gaps filled from both sides; None if too little of either is
    known.
    """
    frames = 0 if b is None else min(len(a), len(b))
    if b is None or frames < _ENOUGH_FRAMES:
        return None
    one, other = _filled(a[:frames]), _filled(b[:frames])
    return None if one is None or other is None else (one, other)


def _filled(curve: np.ndarray) -> np.ndarray | None:
    known = np.flatnonzero(np.isfinite(curve))
    if 2 * len(known) < len(curve):
        return None
    return np.interp(np.arange(len(curve)), known, curve[known])


def following(
    measure: Callable[[np.ndarray, np.ndarray], float], sound: bool = False
) -> Callable[[VideoPair], float]:
    """`measure` of the video's mouth and the reference's, or with `sound` the loudness of its own sound."""

    def of(pair: VideoPair) -> float:
        true = None if pair.reference is None else pair.reference.mouth
        curves = _curves(pair.video.mouth, pair.video.loudness if sound else true)
        return math.nan if curves is None else measure(*curves)

    return of


def lag(measured: np.ndarray, true: np.ndarray) -> float:
    """`best_lag_frames` within 15 frames and a third of the clip."""
    return arrays.best_lag_frames(measured, true, MAX_LAG_FRAMES)


def of_sync(name: str) -> Callable[[VideoPair], float]:
    """A field of SyncNet's score."""
    return lambda pair: math.nan if pair.video.sync is None else float(getattr(pair.video.sync, name))


def of_faces(encoder: str) -> Callable[[VideoPair], float]:
    """Mean of `identity_curve`."""
    return lambda pair: mean_of(identity_curve(pair, encoder))


def portrait_of(pair: VideoPair) -> Portrait | None:
    """The portrait beside the video, else the one beside its reference."""
    return pair.video.portrait or (None if pair.reference is None else pair.reference.portrait)


def identity_curve(pair: VideoPair, encoder: str | None = None) -> np.ndarray | None:
    """[T]: cosine of every face with that of the portrait, or where there is none with the first face of the
    reference; None where either shows no face at all. `encoder` None: ArcFace, else coarse colours.
    """
    encoder = encoder or ("csim" if "csim" in pair.video.faces else "portrait_similarity")
    vectors, portrait = pair.video.faces.get(encoder), portrait_of(pair)
    true = portrait.faces.get(encoder) if portrait is not None else None
    if portrait is None and pair.reference is not None:
        true = _first_face(pair.reference, encoder)
    if vectors is None or true is None or not np.linalg.norm(true) > 0:
        return None
    return cosine_similarity(vectors, true)


def identity_against(pair: VideoPair) -> str | None:
    """What the faces of the video are compared with, in words for the report; None: with nothing."""
    portrait, of = portrait_of(pair), "" if pair.video.portrait is not None else " of the reference"
    if portrait is not None:
        return f"portrait {portrait.name}{of}" if portrait.faces else None
    if pair.reference is None:
        return None
    seen = any(_first_face(pair.reference, encoder) is not None for encoder in pair.reference.faces)
    return "first face of the reference" if seen else None


def _first_face(look: Look, encoder: str) -> np.ndarray | None:
    vectors = look.faces.get(encoder, np.zeros((0, 1)))
    found = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    return vectors[found[0]] if len(found) else None


def found_rate(pair: VideoPair) -> float:
    """Share of frames whose face can be set upright: those that CSIM and face similarity are taken of."""
    skeleton = pair.video.skeleton
    return math.nan if skeleton is None else float(faces_found(skeleton).mean())


def of_both(measure: Callable[..., float], *points: Sequence[int]) -> Callable[[VideoPair], float]:
    """A keypoint metric over the common frames; NaN without keypoints of both or with another aspect
    ratio.
    """

    def of(pair: VideoPair) -> float:
        if pair.reference is None or pair.beside is None or pair.beside.psnr_db is None:
            return math.nan
        a, b = pair.video.skeleton, pair.reference.skeleton
        if a is None or b is None:
            return math.nan
        frames = pair.common()
        return measure(_cut(a, frames), _cut(b, frames), *points)

    return of


def _cut(skeleton: Skeleton, frames: int) -> Skeleton:
    points, confidence = skeleton.points_px[:frames], skeleton.confidence[:frames]
    return replace(skeleton, points_px=points, confidence=confidence)


def of_hands(measure: Callable[[Skeleton], float]) -> Callable[[VideoPair], float]:
    """`measure` of the video's keypoints."""
    return lambda pair: math.nan if pair.video.skeleton is None else measure(pair.video.skeleton)


def of_speed(part: int) -> Callable[[VideoPair], float]:
    """Mean speed of a part (0 whole, 1 subject, 2 background) in percent of the width per second."""
    return lambda pair: 100 * mean_of(pair.video.speed[:, part])


def of_drift(
    curve: Callable[[VideoPair], np.ndarray | None], scale: float = 1.0
) -> Callable[[VideoPair], float]:
    """Slope per second of a curve of the pair."""

    def of(pair: VideoPair) -> float:
        values = curve(pair)
        return math.nan if values is None else scale * dynamics.drift_per_second(values)

    return of


def sharpness_ratio(pair: VideoPair) -> float:
    """Sharpness over the reference's, over their common frames; NaN where sizes differ."""
    frames = pair.common()
    if not frames:
        return math.nan
    true = float(pair.reference.sharpness[:frames].mean())
    same_size = (pair.video.info.width_px, pair.video.info.height_px) == (
        pair.reference.info.width_px,
        pair.reference.info.height_px,
    )
    if true <= 0 or not same_size:
        return math.nan
    return float(pair.video.sharpness[:frames].mean()) / true


def length_difference_s(pair: VideoPair) -> float:
    """Length of the video less that of its reference."""
    return math.nan if pair.reference is None else (len(pair.video) - len(pair.reference)) / 25


EXPRESSION_POINTS = (31, 42, 47, 59, 62, 65, 68, 71, 74, 77, 80, 85, 89)
"""Face points that every detector of this package knows: chin, brows, corners of the eyes, lips."""


def expression_features(look: Look) -> np.ndarray | None:
    """[n, 26]: face points in an upright frame of eyes and nose, in percent of the interocular distance, of
    the frames in which all are seen; None if there is none. The stand-in for expression coefficients in
    `e_fid[landmarks]`.
    """
    skeleton = look.skeleton
    if skeleton is None:
        return None
    rigid = [layout.LEFT_EYE, layout.RIGHT_EYE, layout.NOSE]
    target = np.array([[50.0, 0.0], [-50.0, 0.0], [0.0, 60.0]])
    needed = [*rigid, *EXPRESSION_POINTS]
    rows = []
    for t in np.flatnonzero((skeleton.confidence[:, needed] >= layout.SEEN).all(axis=1)):
        points = skeleton.points_px[t].astype(np.float64)
        transform = similarity_transform(points[rigid], target)
        rows.append((points[list(EXPRESSION_POINTS)] @ transform[:, :2].T + transform[:, 2]).ravel())
    return np.array(rows) if rows else None
