"""Bradley-Terry with ties: closed forms, planted strengths, and that the order of answers does not matter."""

import math

import numpy as np
import pytest

from hallo4.errors import InputError, ShapeError
from hallo4.preference.ranking import Comparison, Davidson, fit_davidson, rank


def table(**counts):
    """table(xy=(wins of x, ties, wins of y)) -> comparisons, each on a clip of its own."""
    found = []
    for names, per_outcome in counts.items():
        for outcome, count in zip((1.0, 0.5, 0.0), per_outcome, strict=True):
            found += [Comparison((names, outcome, n), names[0], names[1], outcome) for n in range(count)]
    return found


def planted(strengths, nu, per_pair, seed=0):
    """Draw outcomes from the model itself."""
    names = tuple(strengths)
    model = Davidson(names, np.array([strengths[name] for name in names]), nu)
    rng = np.random.default_rng(seed)
    return [
        Comparison((i, a, b), a, b, float(rng.choice([1.0, 0.5, 0.0], p=model.probabilities(a, b))))
        for a in names
        for b in names
        if a < b
        for i in range(per_pair)
    ]


def test_two_players_are_fitted_exactly():
    model = fit_davidson(table(xy=(6, 2, 2)), prior=0)
    assert model.probabilities("x", "y") == pytest.approx((0.6, 0.2, 0.2))
    assert model.strengths[0] - model.strengths[1] == pytest.approx(math.log(3))
    assert model.nu == pytest.approx(0.2 / math.sqrt(0.6 * 0.2))
    assert model.expected("x", "y") == pytest.approx(0.7)


def test_without_ties_it_is_bradley_terry():
    # Wins in a circle of three with known odds: x:y = 2:1, y:z = 3:1, x:z = 6:1 fit s = ln(6, 3, 1) exactly.
    model = fit_davidson(table(xy=(20, 0, 10), yz=(30, 0, 10), xz=(60, 0, 10)), prior=0)
    assert model.nu == 0
    assert np.exp(model.strengths - model.strengths[2]) == pytest.approx([6, 3, 1], rel=1e-6)
    assert model.probabilities("y", "z") == pytest.approx((0.75, 0, 0.25))


def test_the_fit_gives_every_player_the_points_it_made():
    """The score equations of the likelihood: expected points are the observed ones, ties too."""
    comparisons = planted({"p": 1.0, "q": 0.2, "r": 0.0, "s": -1.2}, 0.7, 40, seed=1)
    model = fit_davidson(comparisons, prior=0)
    for name in model.names:
        own = [c for c in comparisons if name in (c.a, c.b)]
        made = sum(c.outcome if c.a == name else 1 - c.outcome for c in own)
        expected = sum(model.expected(name, c.b if c.a == name else c.a) for c in own)
        assert made == pytest.approx(expected, abs=1e-6)
    ties = sum(c.outcome == 0.5 for c in comparisons)
    assert sum(model.probabilities(c.a, c.b)[1] for c in comparisons) == pytest.approx(ties, abs=1e-6)


def test_planted_strengths_are_recovered():
    truth = {"p": 1.1, "q": 0.3, "r": -0.2, "s": -1.2}
    model = fit_davidson(planted(truth, 0.8, 1500))
    assert model.strengths == pytest.approx(list(truth.values()), abs=0.1)
    assert model.nu == pytest.approx(0.8, abs=0.08)


def test_order_and_side_of_the_answers_change_nothing():
    comparisons = planted({"p": 0.5, "q": 0.0, "r": -0.5}, 0.5, 20)
    turned = [Comparison(c.clip, c.b, c.a, 1 - c.outcome) for c in reversed(comparisons)]
    assert fit_davidson(turned).strengths == pytest.approx(fit_davidson(comparisons).strengths)


def test_a_winner_of_everything_is_finite_with_a_prior_and_an_error_without():
    unbeaten = table(xy=(5, 0, 0))
    assert 1 < fit_davidson(unbeaten).strengths[0] < 10
    with pytest.raises(InputError, match="infinite"):
        fit_davidson(unbeaten, prior=0)
    with pytest.raises(InputError, match="no comparisons"):
        fit_davidson([])
    with pytest.raises(ShapeError, match=r"0\.7"):
        fit_davidson([Comparison(0, "x", "y", 0.7)])
    with pytest.raises(ShapeError):
        fit_davidson([Comparison(0, "x", "x", 1.0)])


def test_newtons_method_does_not_overshoot():
    # Nearly all ties and two who never met: a full step from the start would leave for infinity.
    model = fit_davidson(table(xy=(26, 0, 0), yz=(0, 964, 0)))
    for a, b, points in (("x", "y", 26), ("y", "z", 482)):
        played = 26 if a == "x" else 964
        assert played * model.expected(a, b) == pytest.approx(points, abs=0.2)  # but for the prior
    assert np.abs(model.strengths).max() < 25


def test_against_all_is_the_mean_over_the_others():
    model = fit_davidson(table(xy=(6, 2, 2), xz=(3, 3, 4), yz=(2, 1, 7)))
    expected = (model.expected("x", "y") + model.expected("x", "z")) / 2
    assert model.expected_against_all("x") == pytest.approx(expected)
    assert Davidson(("x",), np.zeros(1), 1.0).expected_against_all("x") == 0.5


def test_rank_gives_the_best_first_with_intervals_over_clips():
    comparisons = planted({"p": 0.8, "q": 0.0, "r": -0.8}, 0.5, 60)
    ranking = rank(comparisons, resamples=200)
    assert list(ranking) == ["p", "q", "r"]
    assert all(i.low < i.mean < i.high for i in ranking.values())
    assert ranking["p"].low > ranking["r"].high
    assert ranking == rank(comparisons, resamples=200)
    copies = rank([c for c in comparisons for _ in range(5)], resamples=200)
    assert copies["p"].high - copies["p"].low == pytest.approx(
        ranking["p"].high - ranking["p"].low, rel=0.15
    ), "five raters who copy each other make nothing surer"
    assert rank(table(xy=(1, 0, 0)))["x"].low is None


def test_the_intervals_cover_the_truth():
    truth = {"p": 0.6, "q": 0.0, "r": -0.6}
    covered = [
        interval.low <= truth[name] <= interval.high
        for seed in range(25)
        for name, interval in rank(planted(truth, 0.5, 40, seed), resamples=200).items()
    ]
    assert np.mean(covered) > 0.85
