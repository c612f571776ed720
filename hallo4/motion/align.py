"""Fit the pose at rest to points that were seen in a portrait, however noisy they are.

    whole    size and place of the figure, found from head and shoulders
    head     its own size, place and tilt
    body     back under the middle of the shoulders, from where a leaning head has drawn it
    person   how this face and these shoulders differ from the mean, along the modes of `rest_pose`

Hands and elbows follow the body: portraits show them too differently to be found from a few points.
The person is the most probable one under a normal prior. All other steps correct no more than what noise
cannot explain (a shrinkage as of James and Stein), so the framing of a portrait that is framed like those of
the portrait world stays as it is. Points are complex numbers here (x + iy), in sides of the square that
`default_rest_pose` holds in the middle of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hallo4.motion import layout
from hallo4.motion.rest_pose import default_rest_pose, rest_modes
from hallo4.types import KEYPOINTS, Skeleton

HEAD_NOISE, SHOULDER_NOISE = 0.02, 0.03
"""Standard deviation along x and y that is expected of a seen point, in sides of the square.

A little more than the observer's own, whose errors at neighbouring points go together.
"""

LEAST_HEAD_POINTS = 10
SIZES = (0.3, 2.5)
"""Sizes of a figure, in multiples of the mean one, that a portrait may show."""
LARGEST_MISFIT = 0.04
"""Head and shoulders of a person lie nearer than this to the fitted pose (median), in its own sizes."""

_CAUTION = 3.0
"""A correction has to explain this many times what noise would before any of it is kept."""

_SHOULDERS = [layout.LEFT_SHOULDER, layout.RIGHT_SHOULDER]
_HEAD = [layout.NOSE, layout.LEFT_EYE, layout.RIGHT_EYE, layout.LEFT_EAR, layout.RIGHT_EAR]
_HEAD += [*range(layout.FACE.start, layout.FACE.stop)]
_BODY = [point for point in range(KEYPOINTS) if point not in _HEAD]


def align_rest(
    points_px: np.ndarray, seen: np.ndarray, indices: np.ndarray, width_px: int, height_px: int
) -> tuple[Skeleton, bool]:
    """The pose at rest of the person whose points were seen in a picture of `width_px` x `height_px`.

    `points_px` [P, 2]: points in the picture; `seen` [P] bool: those to trust; `indices` [P]: their places
    among the 133. Returns one frame and True, or `default_rest_pose` and False where the seen points make no
    plausible person: too few of a head, a figure too small or large, or points all over the place.
    """
    default = default_rest_pose(width_px, height_px)
    side_px, middle_px = min(width_px, height_px), np.array([width_px, height_px]) / 2
    indices, trusted = np.asarray(indices), np.asarray(seen) & np.isfinite(points_px).all(axis=-1)
    goal = _complex((np.asarray(points_px, np.float64)[trusted] - middle_px) / side_px)
    places = indices[trusted]
    if np.isin(places, _HEAD).sum() < LEAST_HEAD_POINTS:
        return default, False
    mean = _complex((default.points_px[0] - middle_px) / side_px)
    fitted = _fit(mean, _complex(rest_modes()), _Seen(places, goal))
    if fitted is None:
        return default, False
    points = np.stack([fitted.real, fitted.imag], axis=-1) * side_px + middle_px
    return Skeleton(
        points[None].astype(np.float32), default.confidence, default.fps, default.width_px, default.height_px
    ), True


def figure_square(pose: Skeleton) -> tuple[float, float, float]:
    """(left, top, side) in pixels of the square that frames a pose as portraits of the world are framed."""
    figure = _HEAD + _SHOULDERS
    framed = _complex(default_rest_pose(1, 1).points_px[0])
    seen = _Seen(np.array(figure), _complex(pose.points_px[0, figure]))
    side, corner = _similarity(framed, seen, np.ones(len(framed)), upright=True)
    return corner.real, corner.imag, side.real


@dataclass(frozen=True)
class _Seen:
    """Points that were seen: their `places` among the 133 and where they lie (`goal`, complex)."""

    places: np.ndarray
    goal: np.ndarray

    def of(self, part: list[int]) -> _Seen:
        chosen = np.isin(self.places, part)
        return _Seen(self.places[chosen], self.goal[chosen])


def _fit(pose: np.ndarray, modes: np.ndarray, seen: _Seen) -> np.ndarray | None:
    """The four steps; all 133 points [133], or None if no plausible person comes out."""
    # What one coordinate of a point varies by before the person is known: their shape, and noise.
    noise = np.full(len(pose), HEAD_NOISE**2)
    noise[_SHOULDERS] = SHOULDER_NOISE**2
    variance = (np.abs(modes) ** 2).sum(axis=0) / 2 + noise
    figure = seen.of(_HEAD + _SHOULDERS)
    size, shift = _similarity(pose, figure, variance, upright=True)
    if not SIZES[0] <= size.real <= SIZES[1]:
        return None
    keep = _certain(pose, size * pose + shift, figure, variance, parameters=3)
    size = 1 + keep * (size - 1)
    pose = size * pose + keep * shift

    head = seen.of(_HEAD)
    turn, shift = _similarity(pose, head, variance)
    keep = _certain(pose, turn * pose + shift, head, variance, parameters=4)
    turn = 1 + keep * (turn - 1)
    pose[_HEAD] = turn * pose[_HEAD] + keep * shift

    shoulders = seen.of(_SHOULDERS)
    if len(shoulders.places) == 2:
        shift = (shoulders.goal - pose[shoulders.places]).mean()
        # What is wrong with their width, and most of what is wrong with how they are seen, cancels out.
        shift *= _sure(2 * np.abs(shift) ** 2 / HEAD_NOISE**2, parameters=2)
        pose[_BODY] += shift

    modes = size * modes
    modes[:, _HEAD] *= turn

    pose = pose + _person(pose, modes, figure, noise) @ modes
    if np.median(np.abs(pose[figure.places] - figure.goal)) > LARGEST_MISFIT * size.real:
        return None

    return pose


def _similarity(
    pose: np.ndarray, seen: _Seen, variance: np.ndarray, upright: bool = False
) -> tuple[complex, complex]:
    """Factor and shift that bring `pose` nearest to what was seen; the factor is real where `upright`."""
    weight = 1 / variance[seen.places]
    weight = weight / weight.sum()
    start, goal = pose[seen.places], seen.goal
    start_mean, goal_mean = weight @ start, weight @ goal
    product = weight @ ((goal - goal_mean) * np.conj(start - start_mean))
    factor = (product.real if upright else product) / (weight @ np.abs(start - start_mean) ** 2)
    return complex(factor), goal_mean - factor * start_mean


def _certain(
    before: np.ndarray, after: np.ndarray, seen: _Seen, variance: np.ndarray, parameters: int
) -> float:
    """The part of a correction of pose `before` to `after` to keep: 0 if noise alone could explain it."""
    misfit = [np.abs(pose[seen.places] - seen.goal) ** 2 / variance[seen.places] for pose in (before, after)]
    won = misfit[0].sum() - misfit[1].sum()
    return _sure(won, parameters)


def _sure(won: float, parameters: int) -> float:
    """The same for a correction that wins this much misfit, in variances; noise wins one per parameter."""
    return max(0.0, 1 - _CAUTION * parameters / max(won, 1e-9))


def _person(pose: np.ndarray, modes: np.ndarray, seen: _Seen, noise: np.ndarray) -> np.ndarray:
    """The most probable amounts [modes] of the modes: linear regression with a standard normal prior."""
    scale = 1 / np.sqrt(noise[seen.places])
    ways, misfit = scale * modes[:, seen.places], scale * (seen.goal - pose[seen.places])
    ways = np.concatenate([ways.real, ways.imag], axis=1)  # [modes, 2 P]
    misfit = np.concatenate([misfit.real, misfit.imag])
    return np.linalg.solve(ways @ ways.T + np.eye(len(ways)), ways @ misfit)


def _complex(points: np.ndarray) -> np.ndarray:
    points = points.astype(np.float64)
    return points[..., 0] + 1j * points[..., 1]
