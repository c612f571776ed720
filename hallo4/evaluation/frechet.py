"""Distances between two sets of feature vectors: Frechet (FID, FVD, E-FID) and kernel (KID).

The features come from somewhere else (`networks/`, or files that the user brings); here is only
mathematics, in float64. Rows are samples: [N, D]. Nothing is subsampled, regularised or shrunk behind the
user's back.
"""

from __future__ import annotations

import numpy as np

from hallo4.errors import InputError, ShapeError

_ROWS_AT_ONCE = 1024


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Frechet distance of two Gaussians fitted to `a` [N, D] and `b` [M, D]; 0 or more, unit of D
    squared.

    |mean_a - mean_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), covariances with N - 1 (Heusel et al. 2017, eq.
    6).

    With A, B centred and divided by sqrt(N - 1), S_a = A'A, and tr (S_a S_b)^(1/2) is the nuclear norm of A
    B' (its squared singular values are the eigenvalues of S_a S_b). That is exact and real also where N < D
    makes the covariances singular and a matrix square root fails or drifts into complex numbers. Longer
    sets are first reduced by QR, which changes no singular value: O(min(N, D)^2 D).

    The value is biased: with N samples of one and the same distribution it is above 0 and falls like 1/N.
    Compare only values of equal N, and see `frechet_at_infinity`.

    Raises:
        ShapeError: not two matrices of one width, or fewer than two rows.
        InputError: a value that is not finite.
    """
    a, b = _features(a, b)
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    root_a, root_b = _scaled_root(a - mean_a), _scaled_root(b - mean_b)
    overlap = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    distance = ((mean_a - mean_b) ** 2).sum() + (root_a**2).sum() + (root_b**2).sum() - 2 * overlap
    return float(max(distance, 0.0))


def frechet_at_infinity(a: np.ndarray, b: np.ndarray, points: int = 8, seed: int = 0) -> float:
    """The Frechet distance that endless samples would give: the intercept of its straight line over 1/N.

    Chong & Forsyth 2020 (FID-infinity), with plain random subsets of N/4 .. N rows of both sets (theirs are
    Sobol-sampled from a generator, which videos that are there already do not allow). Can be slightly
    negative. Needs 32 rows or more in each set; errors as `frechet_distance`.
    """
    a, b = _features(a, b)
    most = min(len(a), len(b))
    if most < 32:
        raise ShapeError(f"The limit of many samples needs 32 rows or more in both sets; found {most}.")
    rng = np.random.default_rng(seed)
    sizes = np.unique(np.linspace(most // 4, most, points).round().astype(int))
    values = [
        frechet_distance(rng.permutation(a)[:size], rng.permutation(b)[:size]) for size in sizes.tolist()
    ]
    return float(np.polyfit(1.0 / sizes, values, 1)[1])


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Kernel distance (KID): the unbiased estimate of squared MMD with the kernel (x.y / D + 1)^3.

    Binkowski et al. 2018, section 4, over all pairs; torch-fidelity and torchmetrics give the mean over
    random subsets of 1,000 rows instead, which estimates the same number with more spread. Its expectation
    is 0 for two samples of one distribution whatever their size, so single values can be negative. Errors
    as `frechet_distance`.
    """
    a, b = _features(a, b)
    n, m = len(a), len(b)
    within_a = (_kernel_sum(a, a) - _diagonal(a)) / (n * (n - 1))
    within_b = (_kernel_sum(b, b) - _diagonal(b)) / (m * (m - 1))
    return float(within_a + within_b - 2 * _kernel_sum(a, b) / (n * m))


def _scaled_root(centred: np.ndarray) -> np.ndarray:
    """R [min(N, D), D] with R'R the covariance of centred rows [N, D]."""
    rows, width = centred.shape
    root = np.linalg.qr(centred, mode="r") if rows > width else centred
    return root / np.sqrt(rows - 1)


def _kernel_sum(a: np.ndarray, b: np.ndarray) -> float:
    width = a.shape[1]
    parts = (a[start : start + _ROWS_AT_ONCE] for start in range(0, len(a), _ROWS_AT_ONCE))
    return float(sum((((part @ b.T) / width + 1) ** 3).sum() for part in parts))


def _diagonal(a: np.ndarray) -> float:
    return float((((a * a).sum(axis=1) / a.shape[1] + 1) ** 3).sum())


def _features(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ShapeError(
            "Two sets of features [N, D] and [M, D] with two rows or more are compared; found "
            f"{list(a.shape)} and {list(b.shape)}. Give more frames or videos."
        )
    for side, values in (("first", a), ("second", b)):
        bad = int((~np.isfinite(values)).any(axis=1).sum())
        if bad:
            raise InputError(
                f"{bad} of {len(values)} feature vectors of the {side} set are not finite. Leave those "
                "out or compute them again: one NaN makes the distance meaningless."
            )
    return a, b
