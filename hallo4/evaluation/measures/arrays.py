"""Measures of one clip, as pure functions of arrays. A value that does not exist (no blink to correlate with)
is NaN.

Lengths that differ raise ShapeError; inputs that are not finite raise InputError: both would be a wrong
number otherwise.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from hallo4.errors import InputError, ShapeError

MAX_LAG_FRAMES = 5
CLOSED_BELOW = 0.15
SILENCE_MARGIN_FRAMES = 3
PSNR_CAP_DB = 60.0
_CONSTANT = 1e-6  # a curve with less standard deviation than this has no correlation with anything
_SSIM_WINDOW, _SSIM_SIGMA = 11, 1.5
_gaussian = np.exp(-0.5 * ((np.arange(_SSIM_WINDOW) - _SSIM_WINDOW // 2) / _SSIM_SIGMA) ** 2)
_SSIM_WEIGHTS = (_gaussian / _gaussian.sum()).tolist()
_FRAMES_AT_ONCE = 4

# ---------------------------------------------------------------------- curves, [T] each


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation; NaN when either curve is constant or there are fewer than three frames."""
    a, b = _curves(a, b)
    if len(a) < 3 or a.std() < _CONSTANT or b.std() < _CONSTANT:
        return math.nan
    a, b = a - a.mean(), b - b.mean()
    return float(np.clip((a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum()), -1, 1))


def following(measured: np.ndarray, true: np.ndarray) -> float:
    """Correlation of a measured curve with the one it should follow: 0 when it stands still while the truth
    moves.

    NaN only when the truth itself is constant, so that a model never leaves the mean by doing nothing.
    """
    measured, true = _curves(measured, true)
    if measured.std() < _CONSTANT <= true.std() and len(true) >= 3:
        return 0.0
    return correlation(measured, true)


def best_lag_frames(measured: np.ndarray, true: np.ndarray, max_lag: int = MAX_LAG_FRAMES) -> float:
    """The shift in -max_lag..max_lag with the largest correlation; positive: the measured curve comes late.

    At lag k, measured[t + k] is compared with true[t] over the frames that both have, which are at least two
    thirds: of T frames no lag is beyond T / 3. Of equal lags the one nearest to zero counts. NaN when no lag
    has a correlation.
    """
    measured, true = _curves(measured, true)
    # A few frames correlate by chance, and the largest of many such correlations would win.
    max_lag = min(max_lag, len(true) // 3)
    lags = sorted(range(-max_lag, max_lag + 1), key=abs)
    scores = [_correlation_at(measured, true, lag) for lag in lags]
    if all(math.isnan(score) for score in scores):
        return math.nan
    best = max(range(len(lags)), key=lambda i: -math.inf if math.isnan(scores[i]) else round(scores[i], 12))
    return float(lags[best])


def _correlation_at(measured: np.ndarray, true: np.ndarray, lag: int) -> float:
    frames = len(true) - abs(lag)
    if frames < 3:
        return math.nan
    late, early = max(lag, 0), max(-lag, 0)
    return correlation(measured[late : late + frames], true[early : early + frames])


def mean_absolute_error(a: np.ndarray, b: np.ndarray) -> float:
    """Mean of |a - b|."""
    a, b = _curves(a, b)
    return float(np.abs(a - b).mean())


def amplitude_ratio(measured: np.ndarray, true: np.ndarray) -> float:
    """Standard deviation of `measured` over that of `true`; NaN when `true` is constant."""
    measured, true = _curves(measured, true)
    return float(measured.std() / true.std()) if true.std() >= _CONSTANT else math.nan


def silent_frames(speaking: np.ndarray, margin: int = SILENCE_MARGIN_FRAMES) -> np.ndarray:
    """[T] bool: frames with `speaking` 0 whose `margin` neighbours on either side are so too.

    Lips close a little after a sound and open a little before one; the margin keeps those frames out.
    """
    spoken = np.convolve(np.asarray(speaking) > 0, np.ones(2 * margin + 1), mode="full")
    return spoken[margin : margin + len(speaking)] < 0.5


def mouth_closed_in_silence(mouth_open: np.ndarray, speaking: np.ndarray) -> float:
    """Share of `silent_frames` in which `mouth_open` is below 0.15; NaN when the clip has no silence."""
    mouth_open, speaking = _curves(mouth_open, speaking)
    silent = silent_frames(speaking)
    return float((mouth_open[silent] < CLOSED_BELOW).mean()) if silent.any() else math.nan


# ---------------------------------------------------------------------- joints, [T, P, 2] pixels, visible [T,
# P]


def joint_error_fraction(
    measured_px: np.ndarray, true_px: np.ndarray, visible: np.ndarray, width_px: int
) -> float:
    """Mean distance between measured and true joints over all visible ones, as a fraction of the frame's
    width."""
    visible = _joints(measured_px, true_px, visible)
    if not visible.any():
        return math.nan
    distance = np.linalg.norm(measured_px.astype(np.float64) - true_px, axis=-1)
    return float(distance[visible].mean() / width_px)


def missing_fraction(seen: np.ndarray, visible: np.ndarray) -> float:
    """Share of the joints visible in the truth [T, P] that are not `seen` [T, P] in the measured frames."""
    seen, visible = np.asarray(seen, bool), np.asarray(visible, bool)
    if seen.shape != visible.shape:
        raise ShapeError(
            f"Seen and visible joints must have one shape; found {seen.shape} and {visible.shape}."
        )
    return float((~seen[visible]).mean()) if visible.any() else math.nan


def motion_amplitude_ratio(measured_px: np.ndarray, reference_px: np.ndarray, visible: np.ndarray) -> float:
    """How far joints move around their mean, measured over reference: 1 is the same, 0 a still picture.

    Each joint counts with the standard deviation of its position over the frames in which it is visible, if
    these are at least eight. NaN when the reference stands still.
    """
    visible = _joints(measured_px, reference_px, visible)
    moved, reference = 0.0, 0.0
    for joint in np.flatnonzero(visible.sum(axis=0) >= 8):
        frames = visible[:, joint]
        moved += math.sqrt(measured_px[frames, joint].astype(np.float64).var(axis=0).sum())
        reference += math.sqrt(reference_px[frames, joint].astype(np.float64).var(axis=0).sum())
    return moved / reference if reference >= _CONSTANT else math.nan


def jitter_ratio(measured_px: np.ndarray, reference_px: np.ndarray, visible: np.ndarray) -> float:
    """Mean length of the second difference of joint positions, measured over reference: 1 is as smooth as it.

    Counts where a joint is visible in three frames in a row. Measure the reference with the same instrument,
    since the instrument's own noise is in both.
    """
    visible = _joints(measured_px, reference_px, visible)
    steady = visible[2:] & visible[1:-1] & visible[:-2]
    if not steady.any():
        return math.nan
    measured = np.linalg.norm(np.diff(measured_px.astype(np.float64), n=2, axis=0), axis=-1)[steady].mean()
    reference = np.linalg.norm(np.diff(reference_px.astype(np.float64), n=2, axis=0), axis=-1)[steady].mean()
    return float(measured / reference) if reference >= _CONSTANT else math.nan


# ---------------------------------------------------------------------- pictures, [T, H, W, 3] uint8


def psnr_db(frames_u8: np.ndarray, true_u8: np.ndarray) -> float:
    """Peak signal-to-noise ratio for peak 255, of each frame over its pixels and channels, then the mean of
    frames.

    A frame counts with at most 60 dB, so that an identical one (infinite) leaves a mean.
    """
    return float(psnr_of_frames_db(frames_u8, true_u8).mean())


def psnr_of_frames_db(frames_u8: np.ndarray, true_u8: np.ndarray) -> np.ndarray:
    """[T] float64: `psnr_db` of every frame by itself."""
    _pictures(frames_u8, true_u8)
    values = []
    for frame, true in zip(frames_u8, true_u8, strict=True):
        error = ((frame.astype(np.float64) - true) ** 2).mean()
        values.append(PSNR_CAP_DB if error == 0 else min(PSNR_CAP_DB, 10 * math.log10(255.0**2 / error)))
    return np.array(values)


def ssim(frames_u8: np.ndarray, true_u8: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004, eq. 13), mean of frames, channels and pixels.

    Gaussian window of 11 with sigma 1.5, K = (0.01, 0.03), population variances, only where the window fits.
    Scikit-image's `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)`.
    """
    return float(ssim_of_frames(frames_u8, true_u8).mean())


def ssim_of_frames(frames_u8: np.ndarray, true_u8: np.ndarray) -> np.ndarray:
    """[T] float64: `ssim` of every frame by itself."""
    _pictures(frames_u8, true_u8)
    if min(frames_u8.shape[1:3]) < _SSIM_WINDOW:
        raise ShapeError(
            f"SSIM needs frames of {_SSIM_WINDOW}x{_SSIM_WINDOW} or more; found {frames_u8.shape[1:3]}."
        )
    chunks = [slice(start, start + _FRAMES_AT_ONCE) for start in range(0, len(frames_u8), _FRAMES_AT_ONCE)]
    values = [_ssim_of_planes(_planes(frames_u8[chunk]), _planes(true_u8[chunk])) for chunk in chunks]
    return torch.cat(values).numpy()


def _ssim_of_planes(a: Tensor, b: Tensor) -> Tensor:
    """[n, 3, H, W] float64 in [0, 1] -> [n]."""
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    variance_a = _window_mean(a * a) - mean_a**2
    variance_b = _window_mean(b * b) - mean_b**2
    covariance = _window_mean(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similar = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return (similar / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2))).mean(dim=(1, 2, 3))


def _window_mean(planes: Tensor) -> Tensor:
    # Eleven shifted sums along each axis: many times faster than a grouped convolution in float64 on a CPU.
    for axis in (-1, -2):
        size = planes.shape[axis] - _SSIM_WINDOW + 1
        mean = torch.zeros_like(planes.narrow(axis, 0, size))
        for offset, weight in enumerate(_SSIM_WEIGHTS):
            mean.add_(planes.narrow(axis, offset, size), alpha=weight)
        planes = mean
    return planes


def background_flicker(frames_u8: np.ndarray, true_u8: np.ndarray, still_levels: int = 2) -> float:
    """Mean absolute change from frame to frame, in levels of 0..255, of the pixels that stand still in the
    truth.

    A pixel stands still if no channel of it moves by more than `still_levels` over the whole true clip. NaN
    without such pixels or with one frame.
    """
    _pictures(frames_u8, true_u8)
    still = (true_u8.max(axis=0).astype(int) - true_u8.min(axis=0) <= still_levels).all(axis=-1)  # [H, W]
    if len(frames_u8) < 2 or not still.any():
        return math.nan
    return float(np.abs(np.diff(frames_u8[:, still].astype(np.int16), axis=0)).mean())


def sharpness_ratio(frames_u8: np.ndarray, true_u8: np.ndarray) -> float:
    """Mean squared Laplacian of brightness over that of the truth: below 1 is blurred, above 1 noisy or
    ringing."""
    _pictures(frames_u8, true_u8)
    true = float(sharpness_of_frames(true_u8).mean())
    return float(sharpness_of_frames(frames_u8).mean()) / true if true > 0 else math.nan


def sharpness_of_frames(frames_u8: np.ndarray) -> np.ndarray:
    """[T] float64: mean squared Laplacian of the brightness of [T, H, W, 3] uint8, in squared levels of
    255."""
    energy = []
    for frame in frames_u8:
        grey = frame.astype(np.float64).mean(axis=-1)
        around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
        energy.append(float(((around - 4 * grey[1:-1, 1:-1]) ** 2).mean()))
    return np.array(energy)


def colour_overlap(frames_u8: np.ndarray, true_u8: np.ndarray) -> float:
    """Shared part, 0..1, of the colours of each two frames (histograms of 8 x 8 x 8 bins), mean over T frames
    [T, H, W, 3] uint8; `true_u8` may be one picture [1, H', W', 3] for all. A person's skin, hair and
    clothes, wherever they are."""
    wanted = [_colours(picture) for picture in true_u8]
    if len(wanted) == 1:
        wanted *= len(frames_u8)
    pairs = zip(map(_colours, frames_u8), wanted, strict=True)
    return float(np.mean([np.minimum(one, other).sum() for one, other in pairs]))


def _colours(picture_u8: np.ndarray) -> np.ndarray:
    """[512]: shares of the pixels of [H, W, 3] uint8 in bins of 32 levels."""
    cells = (picture_u8.reshape(-1, 3) >> 5).astype(np.int64) @ np.array([64, 8, 1])
    return np.bincount(cells, minlength=512) / len(cells)


def _planes(frames_u8: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames_u8)).double().div(255).movedim(-1, 1)


# ---------------------------------------------------------------------- what may come in


def _curves(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ShapeError(
            f"Two curves [T] of one length are compared; found {list(a.shape)} and {list(b.shape)}."
        )
    for curve in (a, b):
        bad = int((~np.isfinite(curve)).sum())
        if bad:
            raise InputError(
                f"A curve holds {bad} values that are not finite, of {len(curve)}. Measure it again."
            )
    return a, b


def _joints(measured_px: np.ndarray, reference_px: np.ndarray, visible: np.ndarray) -> np.ndarray:
    if measured_px.shape != reference_px.shape or measured_px.shape[:-1] != visible.shape:
        raise ShapeError(
            "Joints must be [T, P, 2] twice with visible [T, P]; found "
            f"{list(measured_px.shape)}, {list(reference_px.shape)} and {list(visible.shape)}."
        )
    visible = np.asarray(visible, bool)
    for points in (measured_px, reference_px):
        bad = int((~np.isfinite(points[visible])).any(axis=-1).sum())
        if bad:
            raise InputError(f"{bad} visible joints have positions that are not finite. Measure them again.")
    return visible


def _pictures(frames_u8: np.ndarray, true_u8: np.ndarray) -> None:
    for frames in (frames_u8, true_u8):
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not len(frames):
            raise ShapeError(f"Frames must be uint8 [T, H, W, 3]; found {frames.dtype} {list(frames.shape)}.")
    if frames_u8.shape != true_u8.shape:
        raise ShapeError(
            f"Video and truth must have one shape; found {list(frames_u8.shape)} and {list(true_u8.shape)}."
        )
