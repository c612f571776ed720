"""Known ratings make known pairs, and every pair that is not made has a reason."""

import math
from dataclasses import replace

import pytest
from preference_records import both, clip, condition, rating

from hallo4.errors import InputError
from hallo4.preference import GoldAnswer, MachineScore, PreferenceStore
from hallo4.preference.curate import Curation, curate, gap_weights, motion_difference, pair_id
from hallo4.preference.evidence import matcher
from hallo4.preference.ranking import Comparison, fit_davidson
from hallo4.preference.trust import agreement, require_agreement

ALL = Curation(evidence="scores", choose="all", held_out_fraction=0.0)


@pytest.fixture
def rate(store):
    """rate(k0=[(alignment, fidelity), ...]): one (score, score) per rater."""

    def add(**scores):
        for name, of_raters in scores.items():
            for number, values in enumerate(of_raters):
                for axis, value in zip(("alignment", "fidelity"), values, strict=True):
                    store.add_rating(rating(f"r{number}", axis, clip_id=name, value=value))

    return add


def made(store, curation=ALL):
    return {(p.winner, p.loser): p for p in curate(store, curation).pairs}


# ---------------------------------------------------------------------- scores


def test_known_scores_make_known_pairs(store, rate):
    rate(k0=[(5, 4), (4, 4), (5, 5)], k1=[(2, 2), (2, 3), (1, 2)], k2=[(4, 4), (4, 4), (4, 4)])
    pairs = made(store)
    assert set(pairs) == {("k0", "k1"), ("k2", "k1")}
    best = pairs["k0", "k1"]
    assert best.axes["alignment"] == {
        "winner": pytest.approx(14 / 3, abs=1e-6), "loser": pytest.approx(5 / 3, abs=1e-6),
        "n": 3, "spread": pytest.approx(1 / math.sqrt(3), abs=1e-6),
    }  # fmt: skip
    assert best.gap == pytest.approx((3 + (13 - 7) / 3) / 2)
    assert (best.weight, best.split, best.condition_id, best.segment_labels) == (1.0, "train", "c0", None)
    assert best.pair_id == pair_id("k0", "k1") != pair_id("k1", "k0")
    assert curate(store, ALL).dropped == {"small gap": 1}
    store.write_pairs(list(pairs.values()))
    assert list(store.pairs().values()) == list(pairs.values())


def test_the_widest_pair_of_a_condition_is_taken(store, rate):
    rate(k0=[(5, 4)] * 3, k1=[(1, 1)] * 3, k2=[(4, 3)] * 3)
    curated = curate(store, replace(ALL, choose="widest"))
    assert [(p.winner, p.loser) for p in curated.pairs] == [("k0", "k1")]
    assert curated.dropped == {"small gap": 1, "not widest": 1}


def test_one_rater_is_too_few_and_the_number_is_per_axis(store, rate):
    rate(k0=[(5, 5)] * 3, k1=[(1, 1)] * 2)
    store.add_rating(rating("r9", "alignment", clip_id="k1", value=1.0))
    assert curate(store, ALL).dropped == {"few raters": 1, "not rated": 2}
    assert set(made(store, replace(ALL, min_raters=2))) == {("k0", "k1")}


def test_a_clip_that_is_worse_on_one_axis_wins_nothing(store, rate):
    rate(k0=[(5, 3)] * 3, k1=[(1, 4)] * 3)
    assert curate(store, ALL).dropped == {"worse on an axis": 1, "not rated": 2}
    assert set(made(store, replace(ALL, pareto=False))) == {("k0", "k1")}


@pytest.mark.parametrize(("axis", "order"), [("alignment", "k0 k2 k1"), ("fidelity", "k1 k0 k2")])
def test_of_one_axis_the_other_is_not_looked_at(store, rate, axis, order):
    """Who wins by one axis may lose by the other, and need not be rated there."""
    rate(k0=[(5, 3)] * 3, k1=[(1, 5)] * 3)
    for number in range(3):
        value = {"alignment": 3.0, "fidelity": 1.0}[axis]
        store.add_rating(rating(f"r{number}", axis, clip_id="k2", value=value))
    best, middle, worst = order.split()
    pairs = made(store, replace(ALL, axes=(axis,)))
    assert set(pairs) == {(best, middle), (middle, worst), (best, worst)}
    for pair in pairs.values():
        assert set(pair.axes) == {axis}
        assert pair.gap == pair.axes[axis]["winner"] - pair.axes[axis]["loser"]
    assert pairs[best, worst].gap == 4.0


def test_ties_make_no_pair_even_without_a_gap(store, rate):
    rate(k0=[(3, 3)] * 3, k1=[(3, 3)] * 3)
    assert curate(store, replace(ALL, min_gap=0.0)).dropped == {"small gap": 1, "not rated": 2}


def test_a_gap_that_is_just_enough_is_enough(store, rate):
    rate(k0=[(4, 3.5)] * 3, k1=[(2, 2.5)] * 3)
    assert made(store, replace(ALL, min_gap=1.5))["k0", "k1"].gap == 1.5
    assert not made(store, replace(ALL, min_gap=1.51))


def test_what_cannot_be_judged_is_not_counted_and_the_last_answer_is(store, rate):
    rate(k0=[(5, 5)] * 3, k1=[(1, 1)] * 3)
    store.add_ratings(both("r0", clip_id="k1", value="cannot_judge"))
    assert curate(store, ALL).dropped == {"few raters": 1, "not rated": 2}
    store.add_ratings(both("r0", clip_id="k1", value=2.0))
    assert made(store)["k0", "k1"].axes["fidelity"]["loser"] == pytest.approx(4 / 3, abs=1e-6)


def test_gold_and_repeats_are_no_evidence(store, rate):
    rate(k0=[(5, 5)] * 2, k1=[(1, 1)] * 2)
    for name, value in (("k0", 5.0), ("k1", 1.0)):
        store.add_ratings(both("r8", clip_id=name, value=value, role="gold"))
        store.add_ratings(both("r0", clip_id=name, value=value, role="repeat", repeat_of="e0"))
    assert not made(store)


def test_flagged_clips_and_spoilt_ones_are_never_paired(store, rate):
    rate(k0=[(5, 5)] * 3, k1=[(1, 1)] * 3, k2=[(1, 1)] * 3)
    store.add_clip(clip("k3", system="gold-check"))
    store.add_clip(clip("k4", system="truth"))
    rate(k3=[(1, 1)] * 3, k4=[(5, 5)] * 3)
    assert set(made(store)) == {("k0", "k1"), ("k0", "k2")}
    store.add_rating(rating("r1", clip_id="k1", value=1.0, flags={"k1": ("unsafe",)}))
    assert set(made(store)) == {("k0", "k2")}
    assert curate(store, ALL).dropped["flagged"] == 2


@pytest.mark.parametrize(
    ("a", "b", "difference"),
    [(3.0, 3.0, 0), (4.0, 3.0, 0.25), (3.0, 4.0, 0.25), (2.0, 0.0, 1), (0.0, 0.0, 0), (None, 1.0, None)],
)
def test_motion_difference_is_of_the_larger(a, b, difference):
    assert motion_difference(clip(motion_amplitude=a), clip(motion_amplitude=b)) == difference


def test_a_pair_of_a_still_and_a_lively_clip_is_dropped(tmp_path):
    store = PreferenceStore.create(tmp_path / "s")
    store.add_condition(condition())
    for name, amplitude in (("k0", 2.0), ("k1", 3.0), ("k2", 2.4), ("k3", None)):
        store.add_clip(clip(name, motion_amplitude=amplitude))
        value = 5.0 if name == "k0" else 1.0
        for rater in range(3):
            store.add_ratings(both(f"r{rater}", clip_id=name, value=value))
    curated = curate(store, ALL)
    assert {(p.winner, p.loser) for p in curated.pairs} == {("k0", "k2"), ("k0", "k3")}
    assert curated.dropped["motion"] == 1
    assert curated.of_unknown_motion == 1
    assert len(made(store, replace(ALL, max_motion_difference=None))) == 3


# ---------------------------------------------------------------------- comparisons and machine scores


def compare(store, a, b, outcomes, axes=("alignment", "fidelity")):
    """One rater per outcome: "a", "tie" or "b"."""
    for number, value in enumerate(outcomes):
        for axis in axes:
            store.add_rating(rating(f"r{number}", axis, clip_a=a, clip_b=b, value=value))


def test_votes_of_two_clips_are_a_share_on_the_scale(store):
    compare(store, "k1", "k0", ["b", "b", "tie"])
    compare(store, "k0", "k2", ["a", "b", "tie"])
    pairs = made(store, replace(ALL, evidence="comparisons"))
    assert set(pairs) == {("k0", "k1")}
    won = pairs["k0", "k1"].axes["alignment"]
    assert (won["winner"], won["loser"]) == pytest.approx((1 + 4 * 2.5 / 3, 1 + 4 * 0.5 / 3), abs=1e-6)
    assert won["n"] == 3
    assert pairs["k0", "k1"].gap == pytest.approx(4 * 2 / 3)
    assert curate(store, replace(ALL, evidence="comparisons")).dropped == {"small gap": 1, "not rated": 1}


def test_votes_are_the_same_from_either_side(store):
    compare(store, "k1", "k0", ["b", "b", "tie"])
    match = matcher(store, "comparisons", store.ratings())
    one, other = match("fidelity", "k0", "k1"), match("fidelity", "k1", "k0")
    assert (one.first.mean, one.second.mean) == pytest.approx((other.second.mean, other.first.mean))
    assert one.first.mean > one.second.mean
    assert match("fidelity", "k0", "k2") is None


def test_bradley_terry_uses_all_votes_of_a_condition(store):
    compare(store, "k0", "k1", ["a", "a", "a", "b"])
    compare(store, "k1", "k2", ["a", "a", "a", "b"])
    pairs = made(store, replace(ALL, evidence="bradley_terry", min_gap=0.5))
    assert ("k0", "k2") in pairs, "never compared with each other"
    model = fit_davidson(
        [
            Comparison(n, a, b, 1.0 if n < 3 else 0.0)
            for a, b in (("k0", "k1"), ("k1", "k2"))
            for n in range(4)
        ]
    )
    won = pairs["k0", "k2"].axes["fidelity"]
    assert won["winner"] == pytest.approx(1 + 4 * model.expected_against_all("k0"), abs=1e-6)
    assert won["n"] == 4


def test_two_clips_alone_mean_the_same_either_way(store):
    compare(store, "k0", "k1", ["a"] * 7 + ["tie"] + ["b"] * 2)
    direct = made(store, replace(ALL, evidence="comparisons", min_gap=0.1))["k0", "k1"]
    fitted = made(store, replace(ALL, evidence="bradley_terry", min_gap=0.1))["k0", "k1"]
    assert fitted.gap == pytest.approx(direct.gap, abs=0.05)  # but for the prior


def test_machine_scores_need_no_raters_but_one_scorer(store):
    for name, value in (("k0", 4.5), ("k1", 2.0)):
        for axis in ("alignment", "fidelity"):
            store.add_score(MachineScore(name, axis, value, {}, "one", "1"))
    machine = replace(ALL, evidence="machine")
    assert made(store, machine)["k0", "k1"].gap == 2.5
    store.add_score(MachineScore("k2", "fidelity", 1.0, {}, "two", "1"))
    with pytest.raises(InputError, match="scores by one, two"):
        curate(store, machine)
    assert set(made(store, replace(machine, scorer="one"))) == {("k0", "k1")}


def test_evidence_that_is_not_there_is_an_error_that_says_what_is(store):
    with pytest.raises(InputError, match="no ratings of kind score that count; there are no ratings at all"):
        curate(store, ALL)
    compare(store, "k0", "k1", ["a"])
    with pytest.raises(InputError, match="there are comparison"):
        curate(store, ALL)
    with pytest.raises(InputError, match=r"has no machine scores\. Make them"):
        curate(store, Curation(evidence="machine"))
    with pytest.raises(InputError, match="has no machine scores by judge"):
        curate(store, Curation(evidence="machine", scorer="judge"))


@pytest.mark.parametrize(
    "wrong",
    [{"min_raters": 0}, {"min_gap": -1}, {"min_gap": float("nan")}, {"held_out_fraction": 1.0},
     {"max_motion_difference": 2.0}],
    ids=str,
)  # fmt: skip
def test_settings_out_of_range_are_named(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Curation(**wrong)


# ---------------------------------------------------------------------- weights


def test_weights_follow_the_gap_within_limits_and_have_mean_one():
    assert gap_weights([1.5, 3.0, 2.25]) == pytest.approx([1.5 / 2.25, 3 / 2.25, 1.0])
    weights = gap_weights([0.1] + [1.0] * 8 + [40.0])
    assert min(weights) == 0.5
    assert max(weights) == 2.0
    assert sum(weights) == pytest.approx(10)
    assert weights == sorted(weights)
    assert gap_weights([2.0]) == pytest.approx([1.0])
    assert gap_weights([]) == []


def test_pairs_carry_their_weight(store, rate):
    rate(k0=[(5, 5)] * 3, k1=[(1, 1)] * 3, k2=[(3, 3)] * 3)
    weights = {pair: p.weight for pair, p in made(store, replace(ALL, weights="gap")).items()}
    assert weights == pytest.approx({("k0", "k1"): 1.5, ("k0", "k2"): 0.75, ("k2", "k1"): 0.75})


# ---------------------------------------------------------------------- whose answers count


@pytest.fixture
def judged(store):
    """k0 beats k1 for three raters who know the gold answer; a fourth gets it wrong and says the opposite."""
    store.add_clip(clip("spoilt", system="gold-check"))
    for good in ("k0", "k1"):
        store.add_gold(GoldAnswer(good, "spoilt", "alignment", "a"))
    for rater, value in (("anna", "a"), ("bert", "a"), ("cleo", "a"), ("careless", "b")):
        store.add_ratings(both(rater, value=value))
        for good in ("k0", "k1"):
            known = {"clip_a": good, "clip_b": "spoilt", "role": "gold"}
            store.add_rating(rating(rater, value=value, **known))
    return store


VOTES = Curation(evidence="comparisons", choose="all", held_out_fraction=0.0)


def test_raters_who_get_gold_questions_wrong_do_not_count(judged):
    found = curate(judged, VOTES)
    (pair,) = found.pairs
    assert (pair.winner, pair.loser, pair.gap) == ("k0", "k1", 4.0)
    assert pair.axes["alignment"]["n"] == 3
    assert dict(found.left_out) == {"careless": "0% of 2 gold answers right"}
    (lax,) = curate(judged, replace(VOTES, min_gold=None)).pairs
    assert (lax.gap, lax.axes["alignment"]["n"]) == (2.0, 4)


def test_excluded_raters_do_not_count(judged):
    assert curate(judged, replace(VOTES, exclude=("anna",))).dropped == {"few raters": 1, "not rated": 2}
    judged.exclude("bert", "asked for it")
    found = curate(judged, VOTES)
    assert (found.pairs, found.left_out["bert"]) == ((), "asked for it")
    with pytest.raises(InputError, match="has no rater nobody"):
        curate(judged, replace(VOTES, exclude=("nobody",)))


def test_an_unsafe_clip_leaves_all_pairs(store):
    for other in ("k1", "k2"):
        for rater in "xyz":
            store.add_ratings(both(rater, clip_a="k0", clip_b=other, value="a"))
    assert len(curate(store, VOTES).pairs) == 2
    store.add_rating(rating("x", clip_a="k1", clip_b="k2", value="tie", flags={"k1": ("unsafe",)}))
    (left,) = curate(store, VOTES).pairs
    assert {left.winner, left.loser} == {"k0", "k2"}, "the clip beside an unsafe one is not to blame"
    store.exclude("x", "never looks")
    assert {p.loser for p in curate(store, replace(VOTES, min_raters=2)).pairs} == {"k2"}, "better safe"


def test_several_questions_about_an_axis_are_one_voice_of_each_rater(store):
    for rater in "xyz":
        for question, value in (("lips", "a"), ("body", "tie")):
            store.add_rating(rating(rater, "alignment", value=value, question=question))
        store.add_rating(rating(rater, "fidelity", value="a"))
        store.add_rating(rating(rater, "overall", value="b", question="overall-quality"))
    (pair,) = curate(store, VOTES).pairs
    assert (pair.axes["alignment"]["winner"], pair.axes["alignment"]["n"]) == (4.0, 3)
    assert set(pair.axes) == {"alignment", "fidelity"}


def test_agreement_is_a_gate(store):
    said = {("k0", "k1"): "aab", ("k0", "k2"): "bba", ("k1", "k2"): "aba"}
    for clips, values in said.items():
        for rater, value in zip("xyz", values, strict=True):
            store.add_ratings(both(rater, clip_a=clips[0], clip_b=clips[1], value=value))
    alphas = curate(store, replace(VOTES, min_gap=0.1)).agreement
    assert set(alphas) == {"alignment", "fidelity"}
    with pytest.raises(InputError, match=r"alignment: raters agree too little to train on \(alpha -0"):
        require_agreement(alphas)
    assert require_agreement(alphas, -1) == []
    alone = PreferenceStore.open(store.folder)
    alphas = agreement(alone.ratings()[:2], "comparison", ("alignment",), alone.clips())
    assert "is not known" in require_agreement(alphas)[0]
