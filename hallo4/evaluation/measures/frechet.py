"""Distances between two sets of feature vectors: Frechet (FID, FVD, E-FID) and kernel (KID).

The features come from somewhere else (`networks/`, or files that the user brings); here is only
mathematics, in float64. Rows are samples: [N, D]. Nothing is subsampled, regularised or shrunk behind the
user's back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hallo4.errors import InputError, ShapeError

_ROWS_AT_ONCE = 1024
_NARROW, _FEW = 256, 512  # up to this width and number a singular value decomposition takes no time


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
    Compare only values of equal N.

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


Groups = Sequence[np.ndarray]
"""The vectors of a set in groups [n, D], of which one after the other is left out."""
Left = tuple[int | None, int | None]
"""The groups that are left out of both sets; None: none."""


def frechet_without(a: Groups, b: Groups, left: Sequence[Left]) -> list[float]:
    """`frechet_distance` of two sets without each of the groups `left` out.

    Wide vectors of which there are many (FID) take their covariances from sums over groups, and the trace of
    (S_a S_b)^(1/2) from the eigenvalues of L'S_b L, S_a = L L': a fraction of the time of a singular value
    decomposition, and exact to about 1e-7 of the traces. Errors as `frechet_distance`.
    """
    if a[0].shape[1] <= _NARROW or min(sum(map(len, a)), sum(map(len, b))) <= _FEW:
        return [frechet_distance(_kept(a, i), _kept(b, j)) for i, j in left]
    whole_a, whole_b = _features(np.concatenate(a), np.concatenate(b))
    centre = whole_a.mean(axis=0)  # of both, so that sums of squares lose no digits
    sums = [[_Sums.of(group - centre) for group in side] for side in (a, b)]
    totals = [_Sums.of(whole - centre) for whole in (whole_a, whole_b)]
    del whole_a, whole_b
    found = []
    for places in left:
        kept = [t if i is None else t.less(s[i]) for t, s, i in zip(totals, sums, places, strict=True)]
        found.append(_of_moments(*kept[0].moments(), *kept[1].moments()))
    return found


def kernel_without(a: Groups, b: Groups, left: Sequence[Left]) -> list[float]:
    """`kernel_distance` of two sets without each of the groups `left` out, from the sums of every two groups.
    Errors as `frechet_distance`.
    """
    _features(np.concatenate(a), np.concatenate(b))
    a, b = ([np.asarray(group, np.float64) for group in side] for side in (a, b))
    aa, bb, ab = (np.array([[_kernel_sum(g, h) for h in y] for g in x]) for x, y in ((a, a), (b, b), (a, b)))
    for sums, side in ((aa, a), (bb, b)):
        sums[np.diag_indices(len(side))] -= [_diagonal(group) for group in side]
    found = []
    for places in left:
        keep_a, keep_b = (
            np.arange(len(s)) != (-1 if i is None else i) for s, i in zip((a, b), places, strict=True)
        )
        n, m = (
            sum(len(g) for g, k in zip(s, keep, strict=True) if k) for s, keep in ((a, keep_a), (b, keep_b))
        )
        within = aa[keep_a][:, keep_a].sum() / (n * (n - 1)) + bb[keep_b][:, keep_b].sum() / (m * (m - 1))
        found.append(float(within - 2 * ab[keep_a][:, keep_b].sum() / (n * m)))
    return found


@dataclass(frozen=True)
class _Sums:
    """Of rows [n, D]: their number, sum [D] and sum of outer products [D, D]."""

    n: int
    total: np.ndarray
    outer: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> _Sums:
        return cls(len(rows), rows.sum(axis=0), rows.T @ rows)

    def less(self, other: _Sums) -> _Sums:
        """Without the rows of another."""
        return _Sums(self.n - other.n, self.total - other.total, self.outer - other.outer)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean, and covariance with n - 1."""
        mean = self.total / self.n
        return mean, (self.outer - self.n * np.outer(mean, mean)) / (self.n - 1)


def _of_moments(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
    from scipy.linalg import eigvalsh

    try:
        root = np.linalg.cholesky(cov_a)
    except np.linalg.LinAlgError:  # not all directions are there
        values, vectors = np.linalg.eigh(cov_a)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
    product = root.T @ cov_b @ root
    overlap = np.sqrt(np.maximum(eigvalsh(product, overwrite_a=True, check_finite=False), 0.0)).sum()
    distance = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * overlap
    return float(max(distance, 0.0))


def _kept(groups: Groups, left: int | None) -> np.ndarray:
    return np.concatenate([group for place, group in enumerate(groups) if place != left])


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Kernel distance (KID): the unbiased estimate of squared MMD with the kernel (x.y / D + 1)^3.

    Binkowski et al. 2018, section 4, over all pairs; torch-fidelity and torchmetrics give the mean over
    random subsets of 1,000 rows instead, which estimates the same number with more spread. Its expectation
    is 0 for two samples of one distribution whatever their size, so single values can be negative. Errors
    as `frechet_distance`.
    """
    return kernel_without([a], [b], [(None, None)])[0]


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
