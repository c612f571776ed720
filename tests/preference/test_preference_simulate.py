"""Simulated raters say that they are, and have exactly the faults they are given."""

import statistics
from dataclasses import replace

import pytest
from preference_records import clip, condition

from hallo4.errors import InputError
from hallo4.preference import GoldAnswer, MachineScore
from hallo4.preference.agreement import krippendorff_alpha, left_share, rater_reports
from hallo4.preference.answers import votes
from hallo4.preference.simulate import Simulation, as_seen, simulate, simulated_ratings

AXES = ("alignment", "fidelity")
CONDITIONS = {f"k{c}-{n}": f"c{c}" for c in range(40) for n in range(4)}
QUALITIES = {
    (name, axis): 2.0 + 0.01 * ((7 * i + 3 * a) % 11) + 0.5 * (i // 4 % 3)
    for i, name in enumerate(CONDITIONS)
    for a, axis in enumerate(AXES)
}
EXACT = Simulation(noise_alignment=0, noise_fidelity=0, rater_bias=0, cannot_judge=0, tie_width=0)


def answers(simulation, gold=(), **more):
    return list(simulated_ratings(QUALITIES, CONDITIONS, simulation, gold, **more))


def test_every_rating_is_marked():
    assert all(r.simulated and r.rater_id.startswith("simulated-") for r in answers(Simulation()))
    assert {r.from_json(r.to_json()) == r for r in answers(Simulation(kind="comparison"))} == {True}


def test_the_same_simulation_says_the_same():
    assert answers(Simulation(seed=1)) == answers(Simulation(seed=1)) != answers(Simulation(seed=2))
    events = [r.event_id for r in answers(Simulation(kind="comparison", repeats=0.5))]
    assert len(set(events)) == len(events)


def test_raters_see_a_condition_on_the_whole_scale():
    seen = as_seen(QUALITIES, CONDITIONS, spread=1.0)
    for axis in AXES:
        within = []
        for name in set(CONDITIONS.values()):
            own = [seen[c, axis] for c, of in CONDITIONS.items() if of == name]
            assert statistics.fmean(own) == pytest.approx(3)
            within += [(value - 3) ** 2 for value in own]
        assert sum(within) / (40 * 3) == pytest.approx(1.0)


def test_without_faults_comparisons_follow_the_qualities():
    found = votes(answers(replace(EXACT, kind="comparison")), "comparison")
    for question, said in found.items():
        a, b = (QUALITIES[c, question.axis] for c in question.clips)
        assert set(said.values()) == ({1.0} if a > b else {0.0})
    assert len(found) == 40 * 6 * 2


def test_more_noise_is_less_agreement_on_that_axis_alone():
    alpha = {}
    for noise in (0.2, 2.0):
        said = answers(replace(EXACT, noise_fidelity=noise, noise_alignment=0.2, raters=4))
        alpha[noise] = {
            axis: krippendorff_alpha([list(v.values()) for v in votes(said, "score", axis).values()])
            for axis in AXES
        }
    assert alpha[2.0]["fidelity"] < 0.35 < 0.8 < alpha[0.2]["fidelity"]
    assert alpha[2.0]["alignment"] == pytest.approx(alpha[0.2]["alignment"], abs=0.1)


def test_bias_moves_whole_raters():
    means = {}
    for r in answers(replace(EXACT, rater_bias=0.8, raters=8)):
        means.setdefault(r.rater_id, []).append(r.value)
    assert statistics.stdev(statistics.fmean(v) for v in means.values()) > 0.3


def test_a_pull_to_the_left_is_found_again():
    fair = left_share(answers(replace(EXACT, kind="comparison", noise_alignment=1, noise_fidelity=1)))
    pulled = left_share(
        answers(replace(EXACT, kind="comparison", noise_alignment=1, noise_fidelity=1, left_pull=1.0))
    )
    assert fair.low < 0.5 < fair.high
    assert pulled.low > 0.6


def test_repeats_swap_sides_and_gold_is_asked():
    gold = [GoldAnswer("k0-0", "k0-1", "fidelity", "a")]
    said = answers(replace(EXACT, kind="comparison", repeats=0.3, noise_alignment=0.5), gold)
    events = {r.event_id: r for r in said}
    repeats = [r for r in said if r.role == "repeat"]
    assert 0.2 < len(repeats) / sum(r.role == "plain" for r in said) < 0.4
    for r in repeats:
        first = events[r.repeat_of]
        assert {r.left_clip_id, first.left_clip_id} == set(r.clips) == set(first.clips)
        assert r.axis == first.axis
    assert [r.axis for r in said if r.role == "gold"] == ["fidelity"] * 3
    assert all(report.consistency.mean > 0.8 for report in rater_reports(said, gold))


def test_spoilt_clips_are_asked_about_in_gold_questions_only():
    gold = [GoldAnswer("k0-0", "k0-1", "fidelity", "a")]
    for kind in ("score", "comparison"):
        said = answers(replace(EXACT, kind=kind), gold, spoilt={"k0-1"})
        assert {r.role for r in said if "k0-1" in r.clips} <= {"gold"}
    far = QUALITIES | {("k0-1", axis): -100.0 for axis in AXES}
    apart = as_seen(far, CONDITIONS, 1.0, {"k0-1"})
    assert apart["k0-0", "fidelity"] == pytest.approx(
        as_seen({k: v for k, v in QUALITIES.items() if k[0] != "k0-1"}, CONDITIONS, 1.0)["k0-0", "fidelity"]
    )


def test_a_store_is_filled_once(store):
    for n, name in enumerate(("k0", "k1", "k2")):
        for axis in AXES:
            store.add_score(MachineScore(name, axis, 2.0 + n, {}, "world-truth", "1"))
    assert simulate(store, Simulation(raters=2)) == 12
    assert simulate(store, Simulation(raters=2)) == 0
    assert simulate(store, Simulation(raters=3)) == 6, "the same two and one more"
    store.add_condition(condition("c1"))
    store.add_clip(clip("m0", of="c1"))
    store.add_score(MachineScore("m0", "fidelity", 3.0, {}, "world-truth", "1"))
    assert simulate(store, Simulation(raters=2)) == 2, "only what is new"


def test_simulated_raters_need_one_scorer(store):
    with pytest.raises(
        InputError, match=r"need the scores of exactly one scorer; found none\. `hallo4 prefer score`"
    ):
        simulate(store)
    store.add_score(MachineScore("k0", "fidelity", 3.0, {}, "one", "1"))
    store.add_score(MachineScore("k0", "fidelity", 3.0, {}, "two", "1"))
    with pytest.raises(InputError, match="found one, two"):
        simulate(store)
    with pytest.raises(InputError, match="noise_fidelity is -1"):
        Simulation(noise_fidelity=-1)
