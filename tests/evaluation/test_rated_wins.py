"""Win rates from several raters per clip: closed forms, and how often nothing looks like something."""

import math

import numpy as np
import pytest

from hallo4.errors import ShapeError
from hallo4.evaluation.statistics import bootstrap_interval, holm, rated_wins, sign_test, wilson_interval

# ---------------------------------------------------------------------- Wilson


@pytest.mark.parametrize(
    ("wins", "n", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3 (score without continuity correction).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(wins, n, low, high):
    interval = wilson_interval(wins, n)
    assert interval.mean == wins / n
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=6e-5)


# ---------------------------------------------------------------------- the sign test


def test_the_sign_test_counts_tosses_of_a_fair_coin():
    assert sign_test(10, 0) == 2 / 1024
    assert sign_test(8, 2) == 2 * (1 + 10 + 45) / 1024
    assert sign_test(5, 5) == 1.0
    assert sign_test(0, 0) == 1.0
    assert sign_test(3, 9) == sign_test(9, 3)
    lengthy = sum(math.comb(60, k) for k in range(60 + 1) if abs(k - 30) >= 10) / 2**60
    assert sign_test(40, 20) == pytest.approx(lengthy, rel=1e-12)


def test_the_sign_test_keeps_its_promise():
    # Over all outcomes of 12 fair tosses, p is at most 5 % in at most 5 % of them.
    rejected = sum(math.comb(12, k) for k in range(13) if sign_test(k, 12 - k) <= 0.05) / 2**12
    assert 0.01 < rejected <= 0.05


def test_holm_multiplies_the_smallest_by_all_the_next_by_one_less_and_never_falls():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.5, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({"only": 0.02}) == {"only": 0.02}
    assert holm({}) == {}


# ---------------------------------------------------------------------- win rates by clip


def test_each_clip_counts_once_and_ties_count_half():
    won = rated_wins([[1, 1, 1], [1, 0.5, 0], [0], [0.5, 0.5], []])
    assert won.win_rate.mean == pytest.approx((1 + 0.5 + 0 + 0.5) / 4)
    assert won.decisive.mean == pytest.approx((1 + 1 / 3) / (1 + 2 / 3 + 1))
    assert won.tie_rate == pytest.approx((1 / 3 + 1) / 4)
    assert (won.win_rate.n, won.win_rate.undefined) == (4, 1)
    assert (won.decisive.n, won.decisive.undefined) == (3, 2)
    assert won.p_value == 1.0  # one clip won by majority, one lost


def test_the_interval_is_the_bootstrap_over_clips():
    rng = np.random.default_rng(0)
    clips = [list(rng.choice([0.0, 0.5, 1.0], 3)) for _ in range(40)]
    won = rated_wins(clips, seed=3).win_rate
    plain = bootstrap_interval([np.mean(clip) for clip in clips], seed=3)
    assert (won.mean, won.low, won.high) == pytest.approx((plain.mean, plain.low, plain.high))


def test_unanimous_clips_are_not_certain():
    assert rated_wins([[1.0, 1.0, 1.0]] * 10).win_rate == wilson_interval(10, 10)
    assert wilson_interval(10, 10).low < 0.75


def test_raters_who_copy_each_other_add_nothing():
    rng = np.random.default_rng(1)
    once = [[float(v)] for v in rng.integers(0, 2, 50)]
    assert rated_wins([clip * 9 for clip in once]) == rated_wins(once)


def test_swapping_the_sides_mirrors_the_rate():
    rng = np.random.default_rng(2)
    clips = [list(rng.choice([0.0, 0.5, 1.0], 3)) for _ in range(30)]
    one, other = rated_wins(clips), rated_wins([[1 - v for v in clip] for clip in clips])
    assert one.win_rate.mean == pytest.approx(1 - other.win_rate.mean)
    assert one.win_rate.low == pytest.approx(1 - other.win_rate.high)
    assert one.p_value == other.p_value


def test_another_outcome_is_an_error():
    with pytest.raises(ShapeError, match=r"0\.7"):
        rated_wins([[0.7]])


@pytest.mark.parametrize(("clips", "raters"), [(100, 3), (33, 9)])
def test_equal_systems_seldom_look_different(clips, raters):
    """Type I error at most 7 % where raters of a clip agree; pooling them doubles it at least."""
    rng = np.random.default_rng(7)
    studies, by_clip, by_sign, pooled = 200, 0, 0, 0
    for study in range(studies):
        better = 1 / (1 + np.exp(-1.5 * rng.standard_normal((clips, 1))))  # of each clip, 0.5 in the mean
        votes = (rng.random((clips, raters)) < better).astype(float)
        won = rated_wins(votes.tolist(), seed=study)
        naive = wilson_interval(votes.sum(), votes.size)
        by_clip += not won.win_rate.low <= 0.5 <= won.win_rate.high
        by_sign += won.p_value <= 0.05
        pooled += not naive.low <= 0.5 <= naive.high
    assert by_clip / studies <= 0.07
    assert by_sign / studies <= 0.07
    assert pooled / studies >= 0.12
