"""More is better, whatever a metric's goal is."""

import math
from typing import get_args

import numpy as np
import pytest

from hallo4.evaluation.metric import Better, goodness
from hallo4.evaluation.report import metric_interval
from hallo4.evaluation.show.page import SIGNS
from hallo4.evaluation.statistics import bootstrap_interval
from hallo4.evaluation.suites.video_metrics import VIDEO_METRICS
from hallo4.evaluation.suites.world_metrics import METRICS

WORST_TO_BEST = {
    "higher": [-1.0, 0.0, 3.0],
    "lower": [3.0, 0.0, -1.0],
    "near 0": [-3.0, 2.0, -1.0, 0.0],
    "near 1": [0.0, 0.1, 5.0, 0.5, 1.0],
    "near the reference": [4.5, 0.0, 1.5, 2.0],
    "higher, to the reference": [-1.0, 0.0, 1.9, 2.0],
}


@pytest.mark.parametrize("better", WORST_TO_BEST)
def test_nearer_to_the_goal_is_more(better):
    scores = goodness(better, np.array(WORST_TO_BEST[better]), 2.0)
    assert np.isfinite(scores).all()
    assert (np.diff(scores) > 0).all()


def test_every_goal_has_a_sign_and_is_tested_and_every_metric_has_a_goal():
    assert set(get_args(Better)) == set(WORST_TO_BEST) == set(SIGNS)
    assert {m.better for m in (*METRICS.values(), *VIDEO_METRICS.values())} <= set(WORST_TO_BEST)


def test_half_and_double_are_as_far_from_one_and_twice_the_reference_is_no_gain():
    assert goodness("near 1", 0.5) == goodness("near 1", 2.0) == -math.log(2)
    assert goodness("higher, to the reference", 4.0, 2.0) == 2.0
    each = goodness("near the reference", np.array([1.0, 5.0]), np.array([2.0, 5.5]))
    assert each.tolist() == [-1.0, -0.5]


@pytest.mark.parametrize("better", WORST_TO_BEST)
def test_no_value_has_no_score_and_no_reference_none_where_it_counts(better):
    assert np.isnan(goodness(better, math.nan, 1.0))
    assert np.isnan(goodness(better, 1.0, None)) == ("the reference" in better)


def test_an_unknown_goal_is_refused():
    with pytest.raises(ValueError, match="'highest'"):
        goodness("highest", 1.0)


@pytest.mark.parametrize(
    ("name", "values", "ends"),
    [
        ("mouth_closed_in_silence", [1.0, 1.0, 0.9], (None, 1.0)),
        ("lip_sync_correlation", [0.99, 0.9, 0.99], (None, 1.0)),
        ("lip_sync_abs_lag_frames", [0.0, 0.0, 1.0], (0.0, None)),
        ("jitter_ratio", [0.01, 1.0, 0.01], (0.0, None)),
        ("lip_sync_lag_frames", [0.0, 0.0, 1.0], (None, None)),
    ],
)
def test_the_interval_of_a_metric_ends_where_its_values_can_lie(name, values, ends):
    free, kept = bootstrap_interval(values), metric_interval(METRICS[name], values)
    assert kept.low == (free.low if ends[0] is None else ends[0])
    assert kept.high == (free.high if ends[1] is None else ends[1])
    assert free != kept or ends == (None, None), "the example must pass its end"


def test_an_end_never_passes_the_mean():
    outside = bootstrap_interval([-0.05, -0.03, -0.04])
    odd = outside.within(0.0, 1.0)
    assert odd.low == odd.mean == outside.mean
    assert odd.high == outside.high
    inverted = metric_interval(METRICS["ssim"], [-0.05, -0.03, -0.04])
    assert inverted.low < inverted.mean < inverted.high


def test_amounts_that_are_compared_with_the_reference_have_no_interval_below_zero():
    values = [0.1, 0.1, 9.0]
    assert bootstrap_interval(values).low < 0
    for name in ("hand_variance", "temporal_flicker"):
        assert metric_interval(VIDEO_METRICS[name], values).low == 0
    slope = metric_interval(VIDEO_METRICS["colour_drift"], values)
    assert slope == bootstrap_interval(values), "a slope may be negative"
