"""Intervals: closed forms, coverage of a known truth, and what they must not invent."""

import math

import numpy as np
import pytest
from scipy.stats import t as student_t

from hallo4.evaluation import statistics
from hallo4.evaluation.statistics import (
    bootstrap_interval,
    groups_of,
    jackknife_interval,
    rated_wins,
    sign_flip_test,
    wilson_interval,
)


def test_bootstrap_covers_the_true_mean_about_as_often_as_it_says(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 2000)
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        interval = bootstrap_interval(rng.exponential(2.0, 40), seed=trial)
        covered += interval.low <= 2.0 <= interval.high
    assert 0.88 <= covered / 300 <= 0.98


@pytest.mark.parametrize("clips", [2, 3, 4, 6, 10])
def test_few_clips_have_intervals_that_hold_the_true_mean_as_often_as_many_do(monkeypatch, clips):
    """Without the stretch: 51, 74, 78, 86 and 91 of 100."""
    monkeypatch.setattr(statistics, "RESAMPLES", 1000)
    rng = np.random.default_rng(clips)
    intervals = [bootstrap_interval(rng.normal(2.0, 1.0, clips), seed=trial) for trial in range(500)]
    covered = np.mean([interval.low <= 2.0 <= interval.high for interval in intervals])
    assert 0.91 <= covered <= 0.985


def test_bootstrap_width_is_that_of_the_normal_theory_for_many_clips():
    values = np.random.default_rng(1).normal(5.0, 3.0, 400)
    interval = bootstrap_interval(values)
    half = 1.96 * values.std() / 20
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_the_same_key_gives_the_same_interval_and_another_key_nearly_so():
    values = np.sqrt(np.arange(10.0))
    assert bootstrap_interval(values, 3) == bootstrap_interval(values, 3)
    assert bootstrap_interval(values, 3) != bootstrap_interval(values, 4)


def test_one_clip_has_no_interval_and_none_has_no_mean():
    assert bootstrap_interval([0.7]).as_json() == {"mean": 0.7, "low": None, "high": None, "n": 1}
    assert bootstrap_interval([]).as_json() == {"mean": None, "low": None, "high": None, "n": 0}
    assert rated_wins([[1.0]]).win_rate.as_json() == {"mean": 1.0, "low": None, "high": None, "n": 1}


def test_undefined_clips_are_counted_and_leave_the_mean_alone():
    interval = bootstrap_interval([1.0, float("nan"), 3.0, None])
    assert (interval.mean, interval.n, interval.undefined) == (2.0, 2, 2)


def test_ten_wins_of_ten_are_not_certain():
    z_squared = 1.959963984540054**2
    rate = rated_wins([[1.0]] * 10).win_rate
    assert (rate.mean, rate.high) == pytest.approx((1.0, 1.0))
    assert rate.low == pytest.approx(10 / (10 + z_squared))  # Wilson's bound for n of n


def test_sign_flips_are_exact_for_few_clips_and_never_certain():
    assert sign_flip_test([1, 1, 1, 1, 1]) == 2 / 2**5
    assert sign_flip_test([1.0, -1.0]) == 1
    assert sign_flip_test([3, 1, 2, math.nan, -1]) == 6 / 16  # 7, 5 and 5, and the same below
    assert sign_flip_test([0.3]) is None
    rng = np.random.default_rng(0)
    assert sign_flip_test(rng.normal(size=60) + 2) < 0.001
    alarms = [sign_flip_test(rng.normal(size=10)) < 0.05 for _ in range(300)]
    assert 0.01 < np.mean(alarms) < 0.09


def test_the_jackknife_of_a_mean_is_the_textbook_interval():
    values = np.random.default_rng(1).normal(size=12)
    without = [np.delete(values, part).mean() for part in groups_of(12)]
    interval = jackknife_interval(values.mean(), [without], 12)
    half = student_t.ppf(0.975, 11) * values.std(ddof=1) / math.sqrt(12)
    assert interval.mean == pytest.approx(values.mean())
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=1e-9)
    assert jackknife_interval(values.mean(), [without], 2).low is None


def test_the_jackknife_of_two_independent_sets_adds_their_variances():
    a, b = np.random.default_rng(2).normal(size=(2, 15))
    without = [
        [np.delete(a, i).mean() - b.mean() for i in range(15)],
        [a.mean() - np.delete(b, i).mean() for i in range(15)],
    ]
    interval = jackknife_interval(a.mean() - b.mean(), without, 15)
    half = student_t.ppf(0.975, 14) * math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 15)
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=1e-9)


def test_groups_are_even_and_hold_every_clip_once():
    for clips in (3, 19, 20, 47):
        groups = groups_of(clips)
        assert sorted(np.concatenate(groups)) == list(range(clips))
        assert max(map(len, groups)) - min(map(len, groups)) <= 1


def test_stretched_ends_stay_where_values_can_lie():
    values = [1.0, 1.0, 0.9]
    stretched = bootstrap_interval(values)
    assert stretched.high > 1.01
    kept = stretched.within(0.0, 1.0)
    assert (kept.mean, kept.low, kept.high, kept.n) == (stretched.mean, stretched.low, 1.0, 3)
    assert bootstrap_interval([0.5]).within(0, 1) == bootstrap_interval([0.5])
    assert bootstrap_interval([]).within(0, 1) == bootstrap_interval([])


def test_never_and_always_end_at_the_rate_itself():
    for n in range(2, 200):
        assert wilson_interval(0, n).low == 0.0
        assert wilson_interval(n, n).high == 1.0
        assert 0 < wilson_interval(0, n).high < 1 > wilson_interval(n, n).low > 0
