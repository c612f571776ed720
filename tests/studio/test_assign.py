"""Who is asked what: quotas, checks, sides and order, without a server."""

from collections import Counter

import pytest
from studio_people import ONCE, rate_everything

from hallo4.preference import Clip, GoldAnswer
from hallo4.preference.gold import GOLD_SYSTEM
from hallo4.studio import assign
from hallo4.studio.assign import REPEAT_AFTER, Question, gold_questions, next_draw, questions, remaining, slot
from hallo4.studio.study import Checks, Quotas

BLOCK = 20


def clip(condition, name, system="some"):
    return Clip(
        f"c{condition:03d}-{name}", f"c{condition:03d}", system, 0, "ckpt", {},
        f"clips/{condition}{name}.mp4", "0" * 64, 25.0, 50, 64, 64, "procedural", None,
    )  # fmt: skip


def clips(conditions, each=3):
    return [clip(c, f"k{k}") for c in range(conditions) for k in range(each)]


def make_plan(asked, gold=(), quotas=ONCE.quotas, seed=0, **checks):
    return assign.make_plan(asked, gold, quotas, seed, Checks(**checks))


GOLD = tuple(Question(f"g{i}", (f"g{i}-a", f"g{i}-b")) for i in range(5))


def lonely_run(plan, rater, count=1000):
    """All draws of one rater who is alone."""
    history, taken = [], {}
    while len(history) < count and (draw := next_draw(plan, rater, history, taken)):
        history.append(draw)
        if draw.role == "plain":
            taken.setdefault(draw.question, set()).add(rater)
    return history


def test_questions_are_all_pairs_of_a_condition_and_none_between_conditions():
    found = questions([*clips(3), clip(9, "alone")])
    assert len(found) == len(set(found)) == 3 * 3
    assert all(name.startswith(q.condition_id) for q in found for name in q.clips)
    assert all(q.clips == tuple(sorted(q.clips)) for q in found)


def test_in_score_mode_every_clip_is_asked_about_alone():
    assert [q.clips for q in questions(clips(2, 2), "score")] == [(c.clip_id,) for c in clips(2, 2)]


def test_spoilt_clips_are_asked_about_in_gold_questions_only():
    spoilt = clip(0, "spoilt", GOLD_SYSTEM)
    found = [*clips(2), spoilt]
    assert all(spoilt.clip_id not in q.clips for q in questions(found))
    by_id = {c.clip_id: c for c in found}
    answers = [GoldAnswer(spoilt.clip_id, "c000-k0", axis, "b") for axis in ("alignment", "fidelity")]
    assert gold_questions(by_id, answers) == [Question("c000", ("c000-k0", spoilt.clip_id))]


def test_a_gold_pair_is_no_ordinary_question():
    asked = questions(clips(3))
    plan = make_plan(asked, asked[:2])
    assert set(plan.wanted) == set(asked[2:])


@pytest.mark.parametrize(
    ("conditions", "overlap", "expected"), [(20, 0.2, 12), (7, 0.2, 5), (5, 0.0, 0), (4, 1.0, 12)]
)
def test_the_overlap_is_exactly_its_share_rounded_up(conditions, overlap, expected):
    plan = make_plan(questions(clips(conditions)), quotas=Quotas(1, overlap))
    assert sum(wanted == 3 for wanted in plan.wanted.values()) == expected
    assert set(plan.wanted.values()) <= {1, 3}


def test_overlap_shows_up_early_and_conditions_take_turns():
    plan = make_plan(questions(clips(30)))
    order = list(plan.wanted)
    assert sum(plan.wanted[question] == 3 for question in order[:20]) == 4
    assert len({question.condition_id for question in order[:30]}) == 30


def test_seed_and_rater_decide_everything():
    plan = make_plan(questions(clips(10)), GOLD, seed=1)
    again = make_plan(questions(reversed(clips(10))), reversed(GOLD), seed=1)
    assert lonely_run(plan, "anna") == lonely_run(again, "anna")
    assert lonely_run(plan, "anna") != lonely_run(plan, "bert")
    assert lonely_run(plan, "anna") != lonely_run(make_plan(questions(clips(10)), GOLD, seed=2), "anna")


def test_every_block_has_one_gold_and_one_repeat():
    history = lonely_run(make_plan(questions(clips(100)), GOLD), "anna", 10 * BLOCK)
    for block in range(10):
        roles = Counter(draw.role for draw in history[block * BLOCK : (block + 1) * BLOCK])
        assert roles == {"plain": 18, "gold": 1, "repeat": 1}
    plan = make_plan([])
    places = {
        tuple(slot(plan, rater, at) for at in range(BLOCK)) for rater in ("anna", "bert", "cleo", "dora")
    }
    assert len(places) > 1, "checks at the same places for all could be guessed"


def test_gold_questions_take_turns():
    history = lonely_run(make_plan(questions(clips(100)), GOLD), "anna", 10 * BLOCK)
    assert set(Counter(draw.question for draw in history if draw.role == "gold").values()) == {2}


def test_a_repeat_swaps_the_sides_of_an_old_question_and_is_asked_once():
    history = lonely_run(make_plan(questions(clips(60)), GOLD), "anna")
    repeats = [(at, draw) for at, draw in enumerate(history) if draw.role == "repeat"]
    assert len(repeats) >= 8
    for at, draw in repeats:
        first = history[draw.repeat_of]
        assert (first.role, first.question) == ("plain", draw.question)
        assert first.swapped is not draw.swapped
        assert at - draw.repeat_of > REPEAT_AFTER
    assert len({draw.repeat_of for _, draw in repeats}) == len(repeats)


def test_nobody_gets_an_ordinary_question_twice():
    history = lonely_run(make_plan(questions(clips(40)), GOLD), "anna")
    plain = [draw.question for draw in history if draw.role == "plain"]
    assert len(plain) == len(set(plain)) == 120


@pytest.mark.parametrize("rater", ["anna", "bert", "cleo"])
def test_sides_are_balanced_at_any_time(rater):
    plain = [d for d in lonely_run(make_plan(questions(clips(60))), rater) if d.role == "plain"]
    lead = 0
    for draw in plain:
        lead += 1 if draw.swapped else -1
        assert abs(lead) <= 2
    fours = Counter(tuple(draw.swapped for draw in plain[at : at + 4]) for at in range(0, len(plain), 4))
    assert len(fours) >= 4, "no pattern that a rater could learn"


def test_single_clips_have_no_sides():
    plan = make_plan(questions(clips(10), "score"))
    assert not any(draw.swapped for draw in lonely_run(plan, "anna"))


def test_together_raters_fill_every_quota_and_no_more():
    plan = make_plan(questions(clips(25)), GOLD)
    histories = rate_everything(plan, ["anna", "bert", "cleo", "dora"])
    answers = Counter(draw.question for own in histories.values() for draw in own if draw.role == "plain")
    assert answers == Counter(dict(plan.wanted))
    for own in histories.values():
        plain = [draw.question for draw in own if draw.role == "plain"]
        assert len(plain) == len(set(plain))


def test_what_others_hold_is_not_handed_out():
    plan = make_plan(questions(clips(1)), quotas=Quotas(1))
    taken = {question: {"bert"} for question in plan.wanted}
    assert next_draw(plan, "anna", [], taken) is None
    del taken[next(iter(plan.wanted))]
    assert next_draw(plan, "anna", [], taken).question == next(iter(plan.wanted))


def test_without_gold_its_slot_is_an_ordinary_question():
    history = lonely_run(make_plan(questions(clips(20))), "anna", BLOCK)
    assert Counter(draw.role for draw in history) == {"plain": 19, "repeat": 1}


@pytest.mark.parametrize("per_rater", [None, 25])
@pytest.mark.parametrize("practice", [0, 2])
def test_what_is_left_falls_by_one_whatever_a_question_was_for(per_rater, practice):
    """From the number that is announced nobody can tell which questions are checks."""
    plan = make_plan(questions(clips(14)), GOLD, Quotas(1, per_rater=per_rater), practice=practice)
    history, taken, announced = [], {}, []
    while True:
        announced.append(remaining(plan, "anna", history, len(plan.open_to("anna", taken))))
        draw = next_draw(plan, "anna", history, taken)
        if draw is None:
            break
        history.append(draw)
        if draw.role == "plain":
            taken.setdefault(draw.question, set()).add("anna")
    assert {"gold", "repeat"} <= {draw.role for draw in history}
    assert announced == list(range(len(history), -1, -1))
    assert sum(draw.role == "practice" for draw in history) == practice
    assert len(history) - practice == (per_rater or 42 + sum(d.role in ("gold", "repeat") for d in history))


def test_practice_comes_first_and_is_known():
    plan = make_plan(questions(clips(20)), GOLD, practice=3)
    history = lonely_run(plan, "anna")
    assert [draw.role for draw in history[:4]] == ["practice"] * 3 + [slot(plan, "anna", 0)]
    assert {draw.question for draw in history[:3]} <= set(GOLD)


def test_without_checks_there_are_none():
    plan = make_plan(questions(clips(30)), GOLD, gold_every=None, repeat_every=None)
    assert {draw.role for draw in lonely_run(plan, "anna")} == {"plain"}


def test_where_clips_are_scored_both_of_a_gold_pair_are_asked_about_in_turn():
    found = clips(3)
    by_id = {c.clip_id: c for c in found}
    answers = [
        GoldAnswer("c000-k0", "c000-k1", "alignment", "a"),
        GoldAnswer("c001-k2", "c001-k0", "fidelity", "a"),
    ]
    gold = gold_questions(by_id, answers, "score")
    assert [q.clips for q in gold] == [("c000-k0",), ("c000-k1",), ("c001-k0",), ("c001-k2",)]
    plan = make_plan(questions(clips(200), "score"), gold)
    asked = [draw.question.clips[0] for draw in lonely_run(plan, "anna") if draw.role == "gold"]
    pairs = [set(two) for two in zip(asked[::2], asked[1::2])]
    assert all(two in ({"c000-k0", "c000-k1"}, {"c001-k0", "c001-k2"}) for two in pairs)
