"""Nobody's face and nobody's speech stand on both sides."""

import random
from collections import Counter

import pytest
from preference_records import both, clip, condition, pair

from hallo4.errors import InputError
from hallo4.preference import PreferenceStore
from hallo4.preference.curate import Curation, curate
from hallo4.preference.split import check_no_leak, groups, hold_out


def chain(*links):
    """condition name -> Condition, from (name, identity, audio)."""
    return {name: condition(name, identity, audio) for name, identity, audio in links}


def test_groups_hang_together_through_faces_and_speeches():
    conditions = chain(
        ("c0", "anna", "hello"), ("c1", "bert", "hello"), ("c2", "bert", "bye"), ("c3", "cleo", "song"),
        ("c4", "dora", "bye"), ("c5", "cleo", "rhyme"),
    )  # fmt: skip
    found = groups(conditions.values())
    assert found == {"c0": "c0", "c1": "c0", "c2": "c0", "c4": "c0", "c3": "c3", "c5": "c3"}
    assert groups(reversed(conditions.values())) == found


def test_a_face_and_a_speech_of_the_same_name_are_not_the_same():
    assert len(set(groups(chain(("c0", "x", "y"), ("c1", "y", "x")).values()).values())) == 2


@pytest.mark.parametrize("seed", range(5))
def test_no_split_leaks(seed):
    rng = random.Random(seed)
    links = [(f"c{n}", f"i{rng.randrange(60)}", f"a{rng.randrange(200)}") for n in range(120)]
    conditions, counts = chain(*links), {name: rng.randrange(1, 4) for name, _, _ in links}
    held = hold_out(counts, conditions, 0.2, seed)
    pairs = [
        pair("k0", "k1", of=name, split="held_out" if name in held else "train")
        for name in conditions
    ]  # fmt: skip
    check_no_leak(pairs, conditions)
    share = sum(counts[name] for name in held) / sum(counts.values())
    assert 0.12 <= share <= 0.21
    assert hold_out(counts, conditions, 0.2, seed) == held


def test_another_seed_holds_out_others_and_none_is_none():
    conditions = chain(*((f"c{n}", f"i{n}", f"a{n}") for n in range(40)))
    counts = dict.fromkeys(conditions, 1)
    assert len(hold_out(counts, conditions, 0.25, 0)) == 10
    assert hold_out(counts, conditions, 0.25, 0) != hold_out(counts, conditions, 0.25, 1)
    assert hold_out(counts, conditions, 0.0) == set()


def test_where_groups_are_few_the_smallest_is_held_out():
    conditions = chain(("c0", "a", "x"), ("c1", "a", "y"), ("c2", "b", "z"))
    assert hold_out({"c0": 5, "c1": 5, "c2": 3}, conditions, 0.1) == {"c2"}


def test_one_group_cannot_be_split():
    with pytest.raises(InputError, match="the 2 pairs are all connected"):
        hold_out({"c0": 1, "c1": 1}, chain(("c0", "a", "x"), ("c1", "b", "x")), 0.1)


def test_a_leak_is_named():
    conditions = chain(("c0", "anna", "x"), ("c1", "anna", "y"))
    pairs = [pair("k0", "k1", of="c0"), pair("k2", "k3", of="c1", split="held_out")]
    said = r"identity anna is both in training \(pair k0-k1\) and held out \(pair k2-k3\)"
    with pytest.raises(InputError, match=said):
        check_no_leak(pairs, conditions)
    with pytest.raises(InputError, match="audio x is both"):
        check_no_leak(pairs, chain(("c0", "anna", "x"), ("c1", "bert", "x")))
    check_no_leak(pairs, chain(("c0", "anna", "x"), ("c1", "bert", "y")))


def test_curated_pairs_do_not_leak(tmp_path):
    store = PreferenceStore.create(tmp_path / "s")
    for n in range(20):
        store.add_condition(condition(f"c{n}", identity=f"i{n // 2}", audio=f"a{n}"))
        for side, value in (("good", 5.0), ("bad", 1.0)):
            name = f"{side}{n}"
            store.add_clip(clip(name, of=f"c{n}"))
            store.add_ratings([r for rater in "xyz" for r in both(rater, clip_id=name, value=value)])
    pairs = curate(store, Curation(held_out_fraction=0.3, evidence="scores")).pairs
    check_no_leak(pairs, store.conditions())
    assert Counter(p.split for p in pairs) == {"train": 14, "held_out": 6}
