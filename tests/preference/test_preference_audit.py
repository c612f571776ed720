"""Shortcuts that a model could learn instead of quality are found, and only those."""

from dataclasses import replace

import numpy as np
import pytest
from preference_records import clip, condition, pair

from hallo4.errors import InputError
from hallo4.preference.audit import (
    audit_motion,
    audit_pairs,
    audit_sources,
    require_sound,
    source_of,
)


def contests(*wins):
    """(winning system, losing system) per pair -> pairs, clips, conditions; a condition for each."""
    pairs, clips, conditions = [], {}, {}
    for n, systems in enumerate(wins):
        conditions[f"c{n}"] = condition(f"c{n}")
        names = [f"k{n}w", f"k{n}l"]
        for name, system in zip(names, systems, strict=True):
            clips[name] = clip(name, of=f"c{n}", system=system)
        pairs.append(pair(*names, of=f"c{n}"))
    return pairs, clips, conditions


def test_a_system_that_always_wins_is_refused():
    data = contests(*[("good", "bad")] * 40)
    audit = audit_pairs(*data)
    assert audit.source.accuracy == 1.0
    assert audit.source.shortcut
    assert audit.source.win_rate["good"].mean == 1.0
    with pytest.raises(
        InputError, match=r"predicts the winner in 100% of pairs \(at most 75%; good wins 100%\)"
    ):
        require_sound(audit)


def test_systems_that_win_in_turn_are_not():
    audit = audit_pairs(*contests(*[("one", "two"), ("two", "one")] * 100))
    assert audit.source.accuracy == pytest.approx(0.5, abs=0.15)
    assert audit.source.win_rate["one"].mean == 0.5
    require_sound(audit)


def test_one_system_alone_tells_nothing():
    audit = audit_pairs(*contests(*[("own", "own")] * 20))
    assert audit.source.accuracy == 0.5
    assert audit.source.mixed == 0.0
    assert audit.source.win_rate["own"].mean is None
    require_sound(audit)


def test_half_of_the_pairs_from_one_system_are_enough():
    """What dpo.md 3.2 asks for: with half of the pairs of one source no guess exceeds 0.75."""
    audit = audit_pairs(*contests(*[("good", "bad"), ("own", "own")] * 30))
    assert audit.source.accuracy == pytest.approx(0.75)
    assert not audit.source.shortcut
    assert audit_pairs(*contests(*[("good", "bad")] * 31 + [("own", "own")] * 29)).source.shortcut


def test_the_guess_is_made_from_other_conditions_only():
    # Every system meets its rival in one condition only: what it did elsewhere says nothing.
    audit = audit_sources(*contests(*[(f"w{n}", f"l{n}") for n in range(30)])[:2])
    assert audit.accuracy == 0.5


def test_a_chain_of_systems_is_seen_through():
    rng = np.random.default_rng(0)
    order = ["e", "d", "c", "b", "a"]
    wins = [tuple(order[i] for i in sorted(rng.choice(5, 2, replace=False))) for _ in range(200)]
    assert audit_sources(*contests(*wins)[:2]).accuracy > 0.95


def test_the_source_is_the_system_and_its_checkpoint():
    assert source_of(clip(system="other")) == "other"
    assert source_of(clip(system="hallo4", checkpoint="tiny-dit-sft")) == "hallo4:tiny-dit-sft"


def test_motion_bias_is_found():
    pairs, clips, _ = contests(*[("own", "own")] * 30)
    rng = np.random.default_rng(0)
    for p in pairs:
        clips[p.loser] = replace(clips[p.loser], motion_amplitude=3.0 + rng.uniform(0, 1))
        clips[p.winner] = replace(clips[p.winner], motion_amplitude=2.7 + rng.uniform(0, 1))
    stiller = audit_motion(pairs, clips)
    assert stiller.biased
    assert stiller.log_ratio.mean < 0
    assert stiller.stiller_wins.low > 0.5
    turned = audit_motion([pair(p.loser, p.winner, of=p.condition_id) for p in pairs], clips)
    assert turned.log_ratio.mean == pytest.approx(-stiller.log_ratio.mean)
    assert turned.stiller_wins.mean == pytest.approx(1 - stiller.stiller_wins.mean)
    assert not turned.biased


def test_unknown_motion_and_no_pairs_are_no_bias():
    pairs, clips, conditions = contests(("own", "own"))
    clips[pairs[0].winner] = replace(clips[pairs[0].winner], motion_amplitude=None)
    assert audit_motion(pairs, clips).log_ratio.n == 0
    empty = audit_pairs([], clips, conditions)
    assert empty.source.accuracy is None
    assert not empty.motion.biased
    require_sound(empty)


def test_a_leak_is_refused():
    pairs, clips, conditions = contests(("own", "own"), ("own", "own"))
    conditions["c1"] = condition("c1", identity="person-c0")
    audit = audit_pairs([pairs[0], replace(pairs[1], split="held_out")], clips, conditions)
    with pytest.raises(InputError, match="identity person-c0"):
        require_sound(audit)
    assert audit.as_json()["leak"]
