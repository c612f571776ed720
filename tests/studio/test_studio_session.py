"""Long runs of the studio's rules, without HTTP and without videos: checks, leases, progress."""

import pytest
from studio_people import ONCE, study, token

from hallo4.preference import Clip, Condition, GoldAnswer, PreferenceStore
from hallo4.studio import progress
from hallo4.studio.media import View
from hallo4.studio.record import Answered
from hallo4.studio.refused import Refused
from hallo4.studio.session import LEASE_MS, UNDO_MS, Session

CONDITIONS = 30


class NoMedia:
    """Stands in for BlindMedia where nobody looks."""

    def view(self, clips):
        return View(64, 64, 80, 50, 25.0, (0, 0, 1, 1))


class Clock:
    now = 1_000_000_000_000

    def __call__(self):
        return self.now


@pytest.fixture
def store(tmp_path):
    """30 conditions x 3 clips, and two gold questions."""
    made = PreferenceStore.create(tmp_path / "store")
    for c in range(CONDITIONS):
        made.add_condition(
            Condition(f"c{c:02d}", f"p{c}", f"w{c}", "conditions/p.png", "conditions/a.wav", None)
        )
        for k in range(3):
            made.add_clip(
                Clip(f"c{c:02d}-k{k}", f"c{c:02d}", f"system{k}", 0, "ckpt", {}, f"clips/{c}-{k}.mp4",
                     "0" * 64, 25.0, 50, 64, 64, "procedural", None)
            )  # fmt: skip
    for c in (0, 3):
        made.add_gold(GoldAnswer(f"c{c:02d}-k0", f"c{c:02d}-k2", "alignment", "a"))
    return made


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def open_session(store, clock):
    def make(asks=ONCE):
        return Session(store, NoMedia(), asks, now_ms=clock)

    return make


def join(session, *raters):
    for rater in raters:
        session.join(rater, token())


def answer(session, rater, alignment, fidelity="tie", flags=()):
    """Answer the question on the screen; `alignment` may be a function of (left, right) clip ids."""
    hand = session.questions(rater)["questions"]
    if not hand:
        return False
    if callable(alignment):
        alignment = alignment(*session._state.tasks[hand[0]["token"]].shown)
    session.answer(
        rater,
        Answered(
            *(hand[0]["token"], token(), {"alignment": alignment, "fidelity": fidelity}, {}, flags, ()),
            *(3000, "1", session.now_ms()),
        ),
    )
    session.now_ms.now += 5000
    return True


def open_to(session, rater):
    """The ordinary questions that the rater has not had and that nobody else fills."""
    return set(session._plan().open_to(rater, session._taken(rater)))


def answers_until_done(session, rater):
    count = 0
    while answer(session, rater, "tie"):
        count += 1
    return count


def rank(clip):
    """0 for the best clip of a condition: "k0" in the first, "k2" in the second, "k1" in the third ..."""
    return (int(clip[1:3]) + int(clip[-1])) % 3


def attentive(left, right):
    return "left" if rank(left) < rank(right) else "right"


def always_left(left, right):
    return "left"


def test_gold_and_repeats_reach_the_store(open_session, store):
    session = open_session()
    join(session, "anna")
    for _ in range(60):
        answer(session, "anna", attentive)
    session.seal()
    found = [r for r in store.ratings() if r.axis == "alignment"]
    events = {r.event_id: r for r in found}
    by_role = {role: [r for r in found if r.role == role] for role in ("plain", "gold", "repeat")}
    assert {role: len(of) for role, of in by_role.items()} == {"plain": 54, "gold": 3, "repeat": 3}
    for again in by_role["repeat"]:
        first = events[again.repeat_of]
        assert first.clips == again.clips
        assert first.left_clip_id != again.left_clip_id
        assert first.value == again.value, "an attentive rater does not mind the sides"


def test_the_organiser_sees_who_does_not_look(open_session, store, clock):
    session = open_session(study())
    join(session, "anna", "bert", "lefty")
    for _ in range(70):
        for rater in ("anna", "bert"):
            answer(session, rater, attentive)
        answer(session, "lefty", always_left)
    session.seal()
    found = progress.overview(*session.overview(), session.study, store, clock())
    raters = {rater["rater"]: rater for rater in found["raters"]}
    assert raters["anna"]["gold"]["mean"] == 1.0
    assert raters["lefty"]["gold"]["mean"] < progress.TARGETS["gold"]
    assert raters["anna"]["consistency"]["mean"] == 1.0 > raters["lefty"]["consistency"]["mean"]
    assert raters["lefty"]["left"]["mean"] == 1.0
    assert raters["anna"]["answered"] == 70
    assert raters["anna"]["median_s"] == 3.0
    assert raters["anna"]["last_10_min"] in (39, 40), "one in 15 seconds"
    assert found["axes"]["fidelity"]["tie"] == 1.0
    assert found["left"]["mean"] > 0.6
    assert found["problems"] == []


def test_agreement_of_equal_and_of_opposite_raters(open_session, store, clock):
    session = open_session(study(quotas={"per_question": 2}))
    join(session, "anna", "bert")
    while any([answer(session, "anna", attentive, "tie"), answer(session, "bert", attentive, "left")]):
        pass
    session.seal()
    found = progress.overview(*session.overview(), session.study, store, clock())
    assert found["axes"]["alignment"]["alpha"]["mean"] == 1.0
    assert found["axes"]["fidelity"]["alpha"]["mean"] < 0.1
    questions = found["questions"]
    assert questions["answers"] == questions["answers_wanted"] == 2 * 88
    assert questions["overlap_full"] == questions["overlapping"] == questions["all"] == 88


def test_what_is_not_answered_for_long_is_open_to_others(open_session, clock):
    session = open_session(study(quotas={"per_question": 1}))
    join(session, "sleepy", "anna")
    held = [session._state.tasks[q["token"]].question for q in session.questions("sleepy")["questions"]]
    before = open_to(session, "anna")
    assert len(before) == 88 - len(held)
    assert not before & set(held)
    clock.now += LEASE_MS + 1
    assert open_to(session, "anna") == before | set(held)
    announced = session.questions("anna")["left"]
    assert answers_until_done(session, "anna") == announced, "checks are announced too"
    asked = {task.question for task in session._state.history("anna")}
    assert set(held) <= asked
    kept = [session._state.tasks[q["token"]].question for q in session.questions("sleepy")["questions"]]
    assert kept == held, "it stays with who holds it"


def test_after_two_minutes_an_answer_is_sealed(open_session, store, clock):
    session = open_session()
    join(session, "anna")
    answer(session, "anna", "tie")
    token = session._state.by_rater["anna"][0]
    assert session.questions("anna")["undo"] == token
    clock.now += UNDO_MS
    assert session.questions("anna")["undo"] is None
    assert len(store.ratings()) == 2
    with pytest.raises(Refused):
        session.undo("anna", token)


def test_new_clips_and_gold_are_taken_up_while_serving(open_session, store):
    session = open_session()
    join(session, "anna")
    before = open_to(session, "anna")
    store.add_clip(
        Clip(
            "c05-k9",
            "c05",
            "late",
            0,
            "ckpt",
            {},
            "clips/late.mp4",
            "0" * 64,
            25.0,
            50,
            64,
            64,
            "procedural",
            None,
        )
    )
    announced = session.questions("anna")["left"]
    added = open_to(session, "anna") - before
    assert sorted(question.clips for question in added) == [(f"c05-k{k}", "c05-k9") for k in range(3)]
    assert answers_until_done(session, "anna") == announced, "checks are announced too"


def test_what_cannot_be_shown_to_one_is_taken_from_all(open_session, store):
    session = open_session(study())
    join(session, "anna", "bert")
    while True:  # until both hold the same question
        hands = {who: session.questions(who)["questions"] for who in ("anna", "bert")}
        held = {
            who: {session._state.tasks[q["token"]].question: q["token"] for q in hands[who]} for who in hands
        }
        if common := set(held["anna"]) & set(held["bert"]):
            break
        answer(session, "anna", "tie")
    bad = common.pop()
    session.media_failed(held["anna"][bad], "its file is damaged")
    for who in ("anna", "bert"):
        tokens = [q["token"] for q in session.questions(who)["questions"]]
        assert len(tokens) == 2
        assert held[who][bad] not in tokens
        while answer(session, who, "tie"):
            assert bad not in [t.question for t in session._state.history(who)]
    assert any("its file is damaged" in line for line in session.overview()[2])


def test_an_answer_about_a_clip_that_left_the_store_stops_no_rater(open_session, store):
    session = open_session()
    join(session, "anna", "bert")
    answer(session, "anna", "tie")
    gone = session._state.history("anna")[0].given.clips[0]
    with store.database.writing() as connection:
        connection.execute("DELETE FROM clips WHERE key = ?", (gone,))
        connection.execute("UPDATE revisions SET revision = revision + 1 WHERE name = 'clips'")
    again = open_session()
    answer(again, "anna", "tie")
    (about_it,) = (task for task in again._state.history("anna") if gone in task.given.clips)
    with pytest.raises(Refused, match="no such video") as refused:
        again.clips_of(about_it.given.token)
    assert refused.value.status == 404
    assert answer(again, "bert", "left")
    again.seal()
    _, _, problems = again.overview()
    assert [line for line in problems if gone in line]
    assert {r.rater_id for r in store.ratings()} == {"anna", "bert"}


def test_a_new_session_goes_on_where_the_old_one_was(open_session):
    session = open_session()
    join(session, "anna")
    for _ in range(30):
        answer(session, "anna", attentive)
    before = session.questions("anna")
    again = open_session()
    assert again.questions("anna") == before
    assert [t.given for t in again._state.history("anna")] == [
        t.given for t in session._state.history("anna")
    ]
