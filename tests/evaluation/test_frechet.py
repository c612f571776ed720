"""Frechet and kernel distances against closed forms, and what few samples do to them."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from hallo4.errors import InputError, ShapeError
from hallo4.evaluation.measures.frechet import (
    frechet_distance,
    frechet_without,
    kernel_distance,
    kernel_without,
)


def _with_moments(rng, rows, mean, covariance):
    """Rows whose sample mean and sample covariance are exactly these."""
    raw = rng.normal(size=(rows, len(mean)))
    raw -= raw.mean(axis=0)
    raw = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw.T))).T
    return raw @ np.linalg.cholesky(covariance).T + mean


@pytest.mark.parametrize("rows", [9, 40, 500], ids=["barely enough", "some", "many"])
def test_closed_form_of_commuting_gaussians(rows):
    rng = np.random.default_rng(0)
    mean_a, mean_b = rng.normal(size=8), rng.normal(size=8)
    spread_a, spread_b = rng.uniform(0.5, 2, 8), rng.uniform(0.5, 2, 8)
    a = _with_moments(rng, rows, mean_a, np.diag(spread_a**2))
    b = _with_moments(rng, rows + 3, mean_b, np.diag(spread_b**2))
    expected = ((mean_a - mean_b) ** 2).sum() + ((spread_a - spread_b) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_agrees_with_the_matrix_square_root_where_that_one_works():
    rng = np.random.default_rng(1)
    a = rng.normal(size=(300, 24)) @ rng.normal(size=(24, 24))
    b = rng.normal(size=(200, 24)) @ rng.normal(size=(24, 24)) + 0.3
    root = sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    textbook = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(textbook, rel=1e-8)


def test_is_exact_where_covariances_are_singular():
    """Two rows in 512 dimensions: each set is a segment, so the distance is one of segments."""
    along = np.zeros(512)
    along[0] = 1.0
    a = np.stack([-3 * along, 3 * along])  # variance 18
    across = np.zeros(512)
    across[1] = 1.0
    b = np.stack([-2 * across, 2 * across])  # variance 8, at a right angle
    assert frechet_distance(a, 2 * a) == pytest.approx((np.sqrt(72) - np.sqrt(18)) ** 2)
    assert frechet_distance(a, b) == pytest.approx(18 + 8)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_is_symmetric_and_scales_with_the_square():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(30, 50)), rng.normal(size=(70, 50)) + 0.2
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-10)
    assert frechet_distance(3 * a, 3 * b) == pytest.approx(9 * frechet_distance(a, b), rel=1e-10)


def test_few_samples_of_one_distribution_look_far_apart():
    """The bias that makes FIDs of different N incomparable: it falls like 1/N, and is no distance at all."""
    rng = np.random.default_rng(3)
    width = 64
    values = {n: frechet_distance(*rng.normal(size=(2, n, width))) for n in (32, 128, 512, 2048)}
    assert values[32] > 3 * values[128] > 9 * values[512] > 27 * values[2048] > 0
    assert values[2048] * 2048 == pytest.approx(values[512] * 512, rel=0.2)


@pytest.mark.parametrize(("rows", "width"), [(60, 5), (700, 300), (600, 700)])
def test_without_a_group_is_the_distance_of_the_rest(rows, width):
    """Narrow, wide with covariances of full rank, and wide without: by sums over groups, and one by one."""
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, rows, width)) * np.exp(-np.arange(width) / (width / 4)) + 30.0
    b = b + 0.1
    groups = [np.array_split(side, 6) for side in (a, b)]
    left = [(None, None), (0, 0), (3, None), (None, 5)]

    def rest(side, place):
        return np.concatenate([group for i, group in enumerate(groups[side]) if i != place])

    for without, distance in ((frechet_without, frechet_distance), (kernel_without, kernel_distance)):
        expected = [distance(rest(0, i), rest(1, j)) for i, j in left]
        traces = a.var(axis=0).sum() if distance is frechet_distance else abs(expected[0])
        assert without(*groups, left) == pytest.approx(expected, abs=2e-6 * traces)


def test_kernel_distance_has_no_bias_and_sees_a_shift():
    rng = np.random.default_rng(5)
    same = [kernel_distance(*rng.normal(size=(2, 24, 16))) for _ in range(300)]
    shifted = [
        kernel_distance(rng.normal(size=(24, 16)), rng.normal(size=(24, 16)) + 0.5) for _ in range(300)
    ]
    error = np.std(same) / np.sqrt(len(same))
    assert abs(np.mean(same)) < 4 * error, "unbiased: zero within its own error"
    assert min(same) < 0 < np.mean(shifted) - 20 * error
    biased = [frechet_distance(*rng.normal(size=(2, 24, 16))) for _ in range(20)]
    assert min(biased) > 5


def test_kernel_distance_is_the_sum_it_says_it_is():
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(5, 3)), rng.normal(size=(4, 3))

    def kernel(x, y):
        return (x @ y / 3 + 1) ** 3

    within_a = np.mean([kernel(a[i], a[j]) for i in range(5) for j in range(5) if i != j])
    within_b = np.mean([kernel(b[i], b[j]) for i in range(4) for j in range(4) if i != j])
    between = np.mean([kernel(x, y) for x in a for y in b])
    assert kernel_distance(a, b) == pytest.approx(within_a + within_b - 2 * between)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_what_is_no_feature_is_refused(distance):
    good = np.random.default_rng(7).normal(size=(10, 4))
    bad = good.copy()
    bad[3, 1] = np.nan
    with pytest.raises(InputError, match="1 of 10 feature vectors of the second set"):
        distance(good, bad)
    for other in (good[:1], good[:, :3], good[0]):
        with pytest.raises(ShapeError):
            distance(good, other)
