"""Agreement: published worked examples, an independent slow implementation, and what each figure must do."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from preference_records import both, rating

from hallo4.preference import GoldAnswer
from hallo4.preference.agreement import (
    alpha_interval,
    cohen_kappa,
    kappa_against_rest,
    krippendorff_alpha,
    left_share,
    rater_reports,
)
from hallo4.preference.answers import Question, flagged, latest_answers, votes

# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section C and D: four observers, twelve
# units, missing values; he gives 0.743 (nominal) and 0.815 (ordinal).
OBSERVERS = [
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
]
PUBLISHED = [
    [float(value) for value in unit if value != "."]
    for unit in zip(*(row.split() for row in OBSERVERS), strict=True)
]


def slow_alpha(units, level):
    """Straight from the definition: mean squared difference within units over that among all values."""
    pairable = [unit for unit in units if len(unit) > 1]
    everything = [value for unit in pairable for value in unit]

    def apart(c, k):
        if level == "nominal":
            return float(c != k)
        low, high = min(c, k), max(c, k)
        between = sum(low <= value <= high for value in everything)
        return (between - (everything.count(low) + everything.count(high)) / 2) ** 2

    observed = sum(
        sum(apart(c, k) for c, k in itertools.permutations(unit, 2)) / (len(unit) - 1) for unit in pairable
    ) / len(everything)
    n = len(everything)
    expected = sum(apart(c, k) for c, k in itertools.permutations(everything, 2)) / (n * (n - 1))
    return 1 - observed / expected


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815)])
def test_alpha_is_the_published_one(level, published):
    assert krippendorff_alpha(PUBLISHED, level) == pytest.approx(published, abs=0.0005)


@pytest.mark.parametrize("level", ["nominal", "ordinal"])
@pytest.mark.parametrize("seed", range(4))
def test_alpha_is_what_the_definition_says(level, seed):
    rng = np.random.default_rng(seed)
    units = [list(rng.integers(1, 6, rng.integers(0, 5)).astype(float)) for _ in range(15)]
    assert krippendorff_alpha(units, level) == pytest.approx(slow_alpha(units, level), abs=1e-12)


def test_alpha_at_its_ends():
    assert krippendorff_alpha([[1, 1], [5, 5], [3, 3, 3]]) == 1.0
    assert krippendorff_alpha([[0, 1], [1, 0]], "nominal") < 0
    assert math.isnan(krippendorff_alpha([[2, 2], [2, 2]]))
    assert math.isnan(krippendorff_alpha([[1], [2], []]))
    rng = np.random.default_rng(0)
    guesses = rng.integers(0, 3, (3000, 3)).astype(float).tolist()
    assert abs(krippendorff_alpha(guesses)) < 0.03


def test_ordinal_alpha_knows_that_a_miss_by_one_is_small():
    near = [[1, 2], [4, 5], [2, 1], [5, 4]]
    far = [[1, 5], [4, 2], [2, 4], [5, 1]]
    assert krippendorff_alpha(near, "ordinal") > krippendorff_alpha(near, "nominal")
    assert krippendorff_alpha(near, "ordinal") > krippendorff_alpha(far, "ordinal")


def test_only_the_order_of_ordinal_values_counts():
    stretched = [[{1: 1, 2: 2, 3: 10, 4: 11, 5: 1000}[v] for v in unit] for unit in PUBLISHED]
    assert krippendorff_alpha(stretched) == pytest.approx(krippendorff_alpha(PUBLISHED))


def test_the_interval_holds_alpha_and_counts_units():
    interval = alpha_interval(PUBLISHED, "ordinal")
    assert interval.mean == pytest.approx(0.815, abs=0.0005)
    assert interval.low < interval.mean <= interval.high <= 1.0
    assert (interval.n, interval.undefined) == (11, 1)
    assert alpha_interval(PUBLISHED, "ordinal") == interval
    assert alpha_interval([[1.0]]).mean is None
    assert alpha_interval([[2.0, 2.0]]).mean is None


def test_units_of_one_clip_are_resampled_together():
    rng = np.random.default_rng(3)
    units, groups = [], []
    for clip in range(20):
        noise = 0.3 if clip % 2 else 2.0  # half of the clips are hard to judge, in all their units
        for _ in range(6):
            centre = rng.uniform(1, 5)
            units.append([float(np.clip(round(centre + rng.normal(0, noise)), 1, 5)) for _ in range(3)])
            groups.append(clip)
    alone, together = alpha_interval(units), alpha_interval(units, groups=groups)
    assert alone.mean == together.mean
    assert together.high - together.low > 1.1 * (alone.high - alone.low)


def test_alpha_of_six_copies_is_no_surer_than_of_one():
    rng = np.random.default_rng(4)
    once = [[float(v) for v in rng.integers(1, 6, 3)] for _ in range(30)]
    copies = alpha_interval(once * 6, groups=list(range(30)) * 6)
    assert copies.high - copies.low == pytest.approx(
        alpha_interval(once).high - alpha_interval(once).low, rel=0.1
    )


# ---------------------------------------------------------------------- kappa


def test_kappa_is_the_textbook_one():
    # Two readers of 50 proposals, 20 yes-yes, 5 and 10 split, 15 no-no: (0.7 - 0.5) / (1 - 0.5).
    assert cohen_kappa(np.array([[20, 5], [10, 15]])) == pytest.approx(0.4)
    assert cohen_kappa(np.diag([3, 4])) == pytest.approx(1.0)
    assert cohen_kappa(np.array([[0, 5], [5, 0]])) == pytest.approx(-1.0)
    assert math.isnan(cohen_kappa(np.zeros((2, 2))))
    assert math.isnan(cohen_kappa(np.array([[7, 0], [0, 0]])))


def test_with_two_raters_the_rest_is_the_other_one():
    table = [("x", 1.0, 1.0)] * 20 + [("y", 1.0, 0.0)] * 5 + [("z", 0.0, 1.0)] * 10 + [("w", 0.0, 0.0)] * 15
    found = {Question("fidelity", (f"{n}",)): {"one": a, "two": b} for n, (_, a, b) in enumerate(table)}
    assert kappa_against_rest(found) == pytest.approx({"one": 0.4, "two": 0.4})


def test_each_question_weighs_the_same_however_many_answered_it():
    few = {Question("fidelity", (f"few{n}",)): {"r": 1.0, "x": float(n % 2)} for n in range(4)}
    many = {
        Question("fidelity", (f"many{n}",)): {"r": 0.0} | {f"o{i}": float(n == 0) for i in range(5)}
        for n in range(4)
    }
    # r says 1 four times (others agree twice) and 0 four times (others agree three times).
    assert kappa_against_rest(few | many)["r"] == pytest.approx(cohen_kappa(np.array([[3, 1], [2, 2]])))


def test_the_odd_one_out_has_the_lowest_kappa():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 200).astype(float)
    found = {
        Question("fidelity", (f"{n}",)): {"a": t, "b": t, "careless": float(rng.integers(0, 2))}
        for n, t in enumerate(truth)
    }
    kappa = kappa_against_rest(found)
    assert kappa["careless"] < 0.2 < kappa["a"] == pytest.approx(kappa["b"], abs=0.1)


# ---------------------------------------------------------------------- one rater


def test_what_a_rater_said_last_counts():
    first, second = rating(value="a"), rating(value="b")
    assert latest_answers([first, second]) == [second]
    turned = rating(clip_a="k1", clip_b="k0", value="a")  # the same question, clips named the other way round
    assert latest_answers([first, turned]) == [turned]
    assert votes([first, turned], "comparison") == {Question("alignment", ("k0", "k1")): {"r0": 0.0}}


def test_gold_questions_repeats_and_passes_are_no_votes():
    said = [
        rating("r0", value="a"),
        rating("r1", value="tie"),
        rating("r2", value="cannot_judge"),
        rating("r3", value="b", role="gold"),
        rating("r4", value="b", role="repeat", repeat_of="e0"),
        rating("r5", clip_id="k0", value=2.0),
    ]
    assert votes(said, "comparison") == {Question("alignment", ("k0", "k1")): {"r0": 1.0, "r1": 0.5}}
    assert votes(said, "score") == {Question("alignment", ("k0",)): {"r5": 2.0}}
    assert votes(said, "comparison", "fidelity") == {}


def test_gold_accuracy_knows_the_answer_whichever_way_it_is_written():
    gold = [GoldAnswer("k1", "k0", "fidelity", "a"), GoldAnswer("k0", "k2", "fidelity", "tie")]
    fidelity = {"axis": "fidelity", "role": "gold"}
    said = [
        rating("good", value="b", **fidelity),
        rating("good", clip_a="k2", clip_b="k0", value="tie", **fidelity),
        rating("good", clip_a="k1", clip_b="k2", value="a", **fidelity),  # no known answer
        rating("bad", value="a", **fidelity),
        rating("bad", clip_a="k0", clip_b="k2", value="cannot_judge", **fidelity),
        rating("bad", axis="alignment", value="b", role="gold"),  # known on fidelity only
    ]
    bad, good = rater_reports(said, gold)
    assert (good.gold.mean, good.gold.n) == (1.0, 2)
    assert (bad.gold.mean, bad.gold.n) == (0.0, 2)
    assert bad.cannot_judge == pytest.approx(1 / 3)


def test_consistency_compares_a_repeat_with_the_first_time_by_clip_not_by_side():
    first = rating(value="a", left_clip_id="k0", event_id="one")
    other = rating(axis="fidelity", value="tie", event_id="two")
    repeat = {"role": "repeat", "left_clip_id": "k1"}
    same = rating(clip_a="k1", clip_b="k0", value="b", repeat_of="one", **repeat)
    unlike = rating(axis="fidelity", value="a", repeat_of="two", **repeat)
    lost = rating(value="a", repeat_of="gone", **repeat)
    (report,) = rater_reports([first, other, same, unlike, lost])
    assert (report.consistency.mean, report.consistency.n) == (0.5, 2)


def test_the_left_side_is_counted_where_it_is_known():
    said = [
        rating(value="a", left_clip_id="k0"),
        rating(axis="fidelity", value="b", left_clip_id="k0"),
        rating("r1", clip_a="k0", clip_b="k2", value="b", left_clip_id="k2"),
        rating("r1", axis="fidelity", clip_a="k0", clip_b="k2", value="b"),  # side unknown
        rating("r2", value="tie", left_clip_id="k0"),
    ]
    assert left_share(said).mean == pytest.approx((0.5 + 1.0) / 2)  # by pair of clips
    reports = {report.rater_id: report for report in rater_reports(said)}
    assert (reports["r0"].left.mean, reports["r1"].left.mean) == (0.5, 1.0)
    assert reports["r2"].left.n == 0


def test_a_pull_to_the_left_shows_in_the_interval():
    rng = np.random.default_rng(0)
    said = [
        rating(clip_a="k0", clip_b=f"m{n}", value="a" if left == (rng.random() < 0.75) else "b",
               left_clip_id="k0" if left else f"m{n}")
        for n, left in enumerate(rng.random(200) < 0.5)
    ]  # fmt: skip
    assert left_share(said).low > 0.6


def test_a_report_says_who_is_simulated_and_how_fast():
    said = [
        rating("s", simulated=True, shown_ms=ms, clip_a="k0", clip_b=f"m{ms}") for ms in (1000, 3000, 8000)
    ]
    (report,) = rater_reports(said)
    assert report.simulated
    assert report.median_shown_s == 3.0
    assert report.kappa is None
    assert report.gold.n == 0


def test_flags_set_clips_aside():
    broken = {name: {name: ("broken",)} for name in ("k0", "k1")}
    said = [
        rating("r0", clip_id="k0", flags=broken["k0"]),
        rating("r1", clip_id="k0"),
        rating("r0", clip_id="k1", flags=broken["k1"]),
        *[rating(rater, clip_id="k1") for rater in ("r1", "r2")],
        rating("r0", clip_id="k2", flags={"k2": ("unsafe",)}),
        *[rating(rater, clip_id="k2") for rater in ("r1", "r2")],
        *both("r3", clip_a="k3", clip_b="k4", flags={"k4": ("identity_lost",)}),
    ]
    assert flagged(said) == {"k0", "k2", "k4"}, "of two clips that were compared, the flagged one alone"
    assert flagged([*said, replace(said[0], event_id="later", flags={})]) == {"k2", "k4"}
    assert flagged(said, {"r0", "r3"}) == {"k2"}, "who is excluded still keeps what is unsafe from others"
