"""A study from joining to the code: names, practice, quotas, gold, flags, codes, deletion."""

import csv
import io

import pytest
from studio_people import events, rate_all, study

pytest.importorskip("fastapi", reason="the extra `studio` is not installed")

from hallo4.errors import InputError
from hallo4.preference import GoldAnswer, PreferenceStore
from hallo4.studio.raters import exclude_raters
from hallo4.studio.sheets import answer_sheet, payment_sheet
from hallo4.studio.state import fold

GOLD = ("condition-0-gamma9-dpo", "condition-0-wavy-beta")


# ---------------------------------------------------------------------- names


@pytest.mark.parametrize("name", ["annotator-7", "Annotator-7"])
def test_a_name_in_the_ratings_cannot_be_taken(opened, store_folder, name):
    """Whose name was in ratings that came another way, their answers could be overridden under it."""
    studio, join = opened()
    anna = join("annotator-7" if name == "annotator-7" else "Annotator-7")
    rate_all(anna, count=2)
    studio.session.seal()
    with studio.session.store.database.writing() as connection:  # as if the ratings had been imported
        connection.execute("DELETE FROM events")
        connection.execute("UPDATE revisions SET revision = revision + 1 WHERE name = 'events'")
    assert join(name).joined.status_code == 409
    assert join("somebody-else").joined.status_code == 200


def test_the_study_takes_no_more_than_its_raters(opened):
    _, join = opened(study(quotas={"raters": 2}))
    assert [join(f"r{n}-x").joined.status_code for n in range(3)] == [200, 200, 403]


def test_a_platform_s_person_takes_part_once_under_a_drawn_name(opened, store_folder):
    platform = {"parameters": ("PID", "SESSION"), "participant": "PID"}
    studio, join = opened(study(platform=platform, end={"redirect": "https://x.example/?cc={code}&p={PID}"}))
    one = join(None, participant={"PID": "=p1", "SESSION": "s", "EXTRA": "no"})
    name = one.joined.json()["rater"]
    assert name.startswith("rater-")
    assert join(None, participant={"PID": "=p1"}).joined.status_code == 409
    assert join(None, participant={}).joined.status_code == 422
    assert join("chosen", participant={"PID": "p2"}).joined.status_code == 422
    again = one.client.post("/api/join", json={
        "invite": studio.keys.invite, "rater": None, "key": one.key, "consent": True,
        "participant": {"PID": "=p1"},
    })  # fmt: skip
    assert again.json()["rater"] == name, "the same browser comes back"
    one.name = name
    rate_all(one)
    ended = one.post("/api/finish", {}).json()["ended"]
    assert ended["redirect"] == f"https://x.example/?cc={ended['code']}&p=%3Dp1"
    ratings = PreferenceStore.open(store_folder).ratings()
    assert {r.rater_id for r in ratings} == {name}
    (row,) = csv.DictReader(io.StringIO(payment_sheet(studio.session.store).decode()))
    assert (row["rater"], row["PID"], row["SESSION"]) == (name, "'=p1", "s"), "no formula"
    assert (row["ended"], row["code"]) == ("nothing left", ended["code"])
    assert "EXTRA" not in str(events(studio.session.store))


# ---------------------------------------------------------------------- what comes when


def test_progress_does_not_betray_checks(opened, store_folder):
    """With every answer one less is to go, whatever the question was for."""
    studio, join = opened(study(quotas={"per_rater": 9}, checks={"gold_every": 4, "repeat_every": 8}))
    anna = join("anna")
    left = [anna.questions()["left"]]
    while hand := anna.questions()["questions"]:
        left.append(anna.answer(hand[0], "left", "tie").json()["left"])
    assert left == list(range(9, -1, -1))
    roles = [task.given.role for task in studio.session._state.history("anna")]
    assert {"gold", "plain"} <= set(roles)
    assert len(roles) == 9


def test_practice_is_told_and_kept_out_of_the_ratings(opened, store_folder):
    studio, join = opened(study(quotas={"per_rater": 2}, checks={"practice": 2, "gold_every": None}))
    anna = join("anna")
    found = anna.questions()
    assert [q["practice"] for q in found["questions"]] == [True, True]
    assert (found["left"], found["done"]) == (4, 0)
    lessons = []
    for _ in range(2):
        hand = anna.questions()["questions"]
        left = studio.session._state.tasks[hand[0]["token"]].given.left
        better = "left" if left == GOLD[0] else "right"
        said = anna.answer(
            hand[0], "tie", better if not lessons else {"left": "right", "right": "left"}[better]
        )
        lessons.append((said.json()["lesson"], better))
        assert said.json()["undo"] is None, "what was told cannot be answered again"
    assert [(of["right"], of["better"] == {"fidelity": better}) for of, better in lessons] == [
        (True, True), (False, True),
    ]  # fmt: skip
    assert rate_all(anna) == 2
    assert anna.questions()["done"] == 2
    studio.session.seal()
    assert len(PreferenceStore.open(store_folder).ratings()) == 4


def test_a_sound_check_comes_before_the_first_question(opened, monkeypatch):
    monkeypatch.setattr("hallo4.studio.routes.random_count", lambda: 3)
    _, join = opened(study(checks={"sound_check": True}))
    anna = join("anna")
    assert anna.questions() == {**anna.questions(), "questions": [], "sound_check": True, "left": 1}
    check = anna.get("/api/tones").json()
    sound = anna.get("/" + check["media"])
    assert (sound.headers["content-type"], sound.content[:4]) == ("audio/wav", b"RIFF")
    assert anna.post("/api/sound_check", {"token": check["token"], "count": 4}).status_code == 409
    assert anna.post("/api/sound_check", {"token": check["token"], "count": 3}).status_code == 409, (
        "tones are used once"
    )
    check = anna.get("/api/tones").json()
    assert len(anna.post("/api/sound_check", {"token": check["token"], "count": 3}).json()["questions"]) == 2
    assert len(anna.questions()["questions"]) == 2, "it is remembered"


def test_the_quota_ends_with_a_code_of_one_s_own(opened):
    studio, join = opened(study(quotas={"per_rater": 3}))
    anna, bert = join("anna"), join("bert")
    assert anna.post("/api/finish", {}).status_code == 409, "there are questions left"
    assert rate_all(anna) == 3
    assert anna.questions()["ended"] is None
    assert anna.questions()["undo"], "until the end the last answer may be changed"
    ended = anna.post("/api/finish", {}).json()
    assert anna.post("/api/finish", {}).json() == ended == anna.questions()
    assert (ended["undo"], ended["ended"]["stopped"], ended["questions"]) == (None, False, [])
    rate_all(bert)
    other = bert.post("/api/finish", {}).json()["ended"]["code"]
    assert len(other) == len(ended["ended"]["code"]) == 10
    assert other != ended["ended"]["code"]
    state = fold(studio.session._memory._journal.read().values())
    assert {name: of.reason for name, of in state.ended.items()} == {"anna": "complete", "bert": "complete"}


def test_who_gets_gold_questions_wrong_is_stopped(opened):
    asks = study(checks={"gold_every": 4, "repeat_every": None, "stop_below": 0.5, "stop_after": 2},
                 end={"stopped_code": "SORRY"})  # fmt: skip
    studio, join = opened(asks)
    careful, careless = join("careful"), join("careless")

    def better(person, hand, right):
        task = studio.session._state.tasks[hand[0]["token"]]
        good = "left" if task.given.left == GOLD[0] else "right"
        return good if right else {"left": "right", "right": "left"}[good]

    for person, right in ((careful, True), (careless, False)):
        while hand := person.questions()["questions"]:
            assert person.answer(hand[0], "tie", better(person, hand, right)).status_code == 200
    assert careful.questions()["ended"] is None
    ended = careless.questions()["ended"]
    assert (ended["code"], ended["stopped"], ended["redirect"]) == ("SORRY", True, None)
    gold = [t for t in studio.session._state.history("careless") if t.given.role == "gold" and t.answered]
    assert len(gold) == 2
    assert careless.post("/api/answer", {**careless.words({"token": "0" * 32})}).status_code == 404


# ---------------------------------------------------------------------- flags


def test_an_unsafe_clip_is_shown_to_nobody_any_more(opened):
    studio, join = opened(study())
    anna, bert = join("anna"), join("bert")
    first = anna.questions()["questions"][0]
    left = studio.session._state.tasks[first["token"]].shown[0]
    while True:  # until bert holds a question with that clip
        hand = bert.questions()["questions"]
        held = [q for q in hand if left in studio.session._state.tasks[q["token"]].given.clips]
        if held or not hand:
            break
        bert.answer(hand[0])
    assert held
    anna.answer(first, flags_left=["unsafe"])
    assert bert.get(held[0]["media"]).status_code == 410
    tokens = [q["token"] for q in bert.questions()["questions"]]
    assert held[0]["token"] not in tokens
    for person in (anna, bert, join("cleo")):
        while hand := person.questions()["questions"]:
            assert left not in studio.session._state.tasks[hand[0]["token"]].given.clips
            person.answer(hand[0])


def test_a_flag_that_is_taken_back_hides_nothing(opened):
    studio, join = opened(study())
    anna = join("anna")
    first = anna.questions()["questions"][0]
    anna.answer(first, flags_left=["unsafe"])
    assert studio.session._state.unsafe_clips
    anna.post("/api/undo", {"token": first["token"]})
    assert not studio.session._state.unsafe_clips
    assert anna.get(first["media"]).status_code == 200


def test_unsafe_flags_of_ratings_from_elsewhere_hide_their_clip_too(opened, store_folder):
    from dataclasses import replace

    studio, join = opened()
    rate_all(join("anna"), count=2)
    studio.session.seal()
    store = studio.session.store
    rating = store.ratings()[0]
    store.add_rating(
        replace(rating, event_id="from-elsewhere", rater_id="x", flags={rating.clip_a: ("unsafe",)})
    )
    studio.session._memory._left_at = None  # as at a start
    with studio.session._turn():
        assert studio.session._state.unsafe_clips == {rating.clip_a}


# ---------------------------------------------------------------------- raters


def test_an_excluded_rater_is_asked_no_more_and_their_questions_are_asked_again(opened, store_folder):
    studio, join = opened(study(quotas={"per_question": 1}))
    anna = join("anna")
    rate_all(anna)
    assert join("bert").questions()["questions"] == []
    list(exclude_raters(PreferenceStore.open(store_folder), ["anna"], None, "does not look"))
    assert anna.questions()["ended"]["stopped"]
    assert len(join("cleo").questions()["questions"]) == 2
    with pytest.raises(InputError, match="has no rater nobody"):
        list(exclude_raters(studio.session.store, ["nobody"], None, "x"))


def test_sheets_have_a_row_per_answer_and_per_rater(opened, store_folder):
    studio, join = opened(study(quotas={"per_rater": 4}, checks={"gold_every": 4, "repeat_every": None}))
    anna = join("anna")
    rate_all(anna, "left", "cannot_judge")
    anna.post("/api/finish", {})
    store = studio.session.store
    answers = list(csv.DictReader(io.StringIO(answer_sheet(store).decode())))
    assert len(answers) == 8
    assert {(a["rater"], a["question"], a["value"]) for a in answers} >= {
        ("anna", "fidelity", "cannot_judge")
    }
    (row,) = csv.DictReader(io.StringIO(payment_sheet(store).decode()))
    assert (row["answers"], row["gold_asked"], row["gold_right"], row["ended"]) == (
        "4",
        "1",
        "0.000",
        "complete",
    )
    headers = {"Authorization": f"Bearer {studio.keys.admin}"}
    for name, content in (("answers.csv", answer_sheet(store)), ("payment.csv", payment_sheet(store))):
        assert anna.client.get(f"/api/admin/export/{name}", headers=headers).content == content
        assert anna.get(f"/api/admin/export/{name}").status_code == 401


def test_four_questions_become_four_ratings_about_two_axes(opened, store_folder):
    from test_study import EXAMPLE

    from hallo4.studio.study import Checks, Platform, read_study

    asks = read_study(EXAMPLE)
    from dataclasses import replace

    studio, join = opened(replace(asks, checks=Checks(), platform=Platform()))
    anna = join("anna")
    hand = anna.questions()["questions"]
    said = {"lip-sync": "left", "body-motion": "tie", "expression": "right", "identity": "cannot_judge"}
    assert anna.answer(hand[0], answers={**said, "identity": 3}).status_code == 422
    assert anna.answer(hand[0], answers=said).status_code == 200
    studio.session.seal()
    ratings = PreferenceStore.open(store_folder).ratings()
    assert [(r.asked, r.axis) for r in ratings] == [(q.name, q.axis) for q in asks.questions]
    assert anna.post("/api/finish", {}).status_code == 409


def test_gold_in_score_mode_is_both_clips(opened, store_folder):
    store = PreferenceStore.open(store_folder)
    store.add_gold(GoldAnswer("condition-1-gamma9-dpo", "condition-1-wavy-beta", "fidelity", "a"))
    store.close()
    asks = study(mode="score", checks={"gold_every": 4, "repeat_every": None}, scale={"points": 7})
    studio, join = opened(asks)
    anna = join("anna")
    good = {"condition-0-gamma9-dpo", "condition-1-gamma9-dpo"}
    while hand := anna.questions()["questions"]:
        (clip,) = studio.session._state.tasks[hand[0]["token"]].given.clips
        assert anna.answer(hand[0], 4, 7 if clip in good else 1).status_code == 200
    studio.session.seal()
    ratings = PreferenceStore.open(store_folder).ratings()
    assert {r.value for r in ratings if r.axis == "alignment"} == {3.0}, "4 of 7 is 3 of 5"
    from hallo4.preference.agreement import rater_reports

    (report,) = rater_reports(ratings, PreferenceStore.open(store_folder).gold())
    assert report.gold.n >= 1
    assert report.gold.mean == 1.0


@pytest.mark.patient
def test_the_server_s_clock_counts_too(opened):
    """How long a question was looked at is not the page's word alone."""
    studio, join = opened()
    now = [1_000_000_000_000]
    studio.session.now_ms = lambda: now[0]
    anna = join("anna")
    hand = anna.questions()["questions"]
    assert anna.answer(hand[0], shown_ms=50_000).status_code == 422
    now[0] += 800
    assert anna.answer(hand[0], shown_ms=50_000).status_code == 200
    assert anna.answer(hand[1], shown_ms=50_000).status_code == 422, "it was loaded, not seen"
    now[0] += 5000
    assert anna.answer(hand[1], shown_ms=3000).status_code == 200
    studio.session.seal()
    assert [r.shown_ms for r in studio.session.store.ratings()[::2]] == [1000, 3000]


def test_a_submission_is_one_answer(opened, store_folder):
    """The id of one answer with another's words is refused, not acknowledged and dropped."""
    _, join = opened()
    anna = join("anna")
    first, second = anna.questions()["questions"]
    words = anna.words(first)
    assert anna.post("/api/answer", words).status_code == 200
    assert (
        anna.post("/api/answer", {**anna.words(second), "submit_id": words["submit_id"]}).status_code == 409
    )
    changed = {**words, "answers": {"alignment": "right", "fidelity": "right"}}
    assert anna.post("/api/answer", changed).status_code == 409
    assert anna.post("/api/answer", words).json()["done"] == 1
