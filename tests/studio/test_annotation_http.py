"""The server: answers are kept once, can be taken back once, and nothing acknowledged is lost."""

import os
import shutil
import sqlite3
import threading

import pytest
from studio_people import ONCE, Person, study, token

pytest.importorskip("fastapi", reason="the extra `studio` is not installed")
from fastapi.testclient import TestClient

from hallo4.errors import InputError, OutputError
from hallo4.preference import PreferenceStore
from hallo4.preference.database import Table
from hallo4.studio.annotate import open_studio, serve


@pytest.fixture
def studio(store_folder):
    with open_studio(store_folder, study=ONCE) as found:
        yield found


@pytest.fixture
def client(studio):
    return TestClient(studio.app)


@pytest.fixture
def anna(studio, client):
    return Person(client, studio.keys, "anna")


def ratings(store_folder, axis=None):
    return [r for r in PreferenceStore.open(store_folder).ratings() if axis in (None, r.axis)]


# ---------------------------------------------------------------------- answers


def test_an_answer_becomes_one_rating_per_axis(studio, anna, store_folder):
    question = anna.questions()["questions"][0]
    said = anna.answer(question, "left", "cannot_judge", flags_right=["unsafe"], shown_ms=4321)
    assert said.json()["done"] == 1
    studio.session.seal()
    first, second = ratings(store_folder)
    assert (first.axis, second.axis) == ("alignment", "fidelity")
    assert second.value == "cannot_judge"
    assert {"a": first.clip_a, "b": first.clip_b}[first.value] == first.left_clip_id
    right = next(clip for clip in first.clips if clip != first.left_clip_id)
    assert (first.rater_id, first.flags, first.shown_ms) == ("anna", {right: ("unsafe",)}, 4321)
    assert (first.role, first.simulated, first.ui_version) == ("plain", False, "1")


def test_the_same_submission_twice_counts_once(studio, anna, store_folder):
    question = anna.questions()["questions"][0]
    words = anna.words(question)
    once, twice = anna.post("/api/answer", words), anna.post("/api/answer", words)
    assert (once.status_code, twice.status_code) == (200, 200)
    assert once.json() == twice.json()
    studio.session.seal()
    assert len(ratings(store_folder)) == 2


def test_another_answer_to_an_answered_question_is_refused(studio, anna, store_folder):
    question = anna.questions()["questions"][0]
    anna.answer(question, "left", "left")
    other = anna.answer(question, "right", "right")
    assert other.status_code == 409
    studio.session.seal()
    assert all({"a": r.clip_a, "b": r.clip_b}[r.value] == r.left_clip_id for r in ratings(store_folder))


def test_reload_and_restart_show_the_same_questions(store_folder):
    with open_studio(store_folder) as studio:
        anna = Person(TestClient(studio.app), studio.keys, "anna")
        anna.answer(anna.questions()["questions"][0])
        before = anna.questions()
        assert anna.questions() == before
        keys = studio.keys
    with open_studio(store_folder) as studio:
        anna.client = TestClient(studio.app)
        after = anna.questions()
        assert [q["token"] for q in after["questions"]] == [q["token"] for q in before["questions"]]
        assert after["done"] == 1
        assert studio.keys == keys, "links live on"


def test_the_next_question_is_there_beforehand(anna):
    hand = anna.questions()["questions"]
    assert len(hand) == 2
    assert all(anna.get(question["media"]).status_code == 200 for question in hand)
    assert anna.answer(hand[0]).json()["questions"][0] == hand[1]
    assert anna.get(hand[0]["media"]).status_code == 200, "it may be undone"
    anna.answer(hand[1])
    assert anna.get(hand[0]["media"]).status_code == 404, "what is sealed is put away"


def test_undo_opens_the_last_answer_again(studio, anna, store_folder):
    first, second = anna.questions()["questions"]
    found = anna.answer(first, "left", "right", flags_left=["broken"]).json()
    assert found["undo"] == first["token"]
    again = anna.post("/api/undo", {"token": first["token"]}).json()
    assert [q["token"] for q in again["questions"]] == [first["token"], second["token"]]
    assert again["questions"][0]["before"] == {
        "answers": {"alignment": "left", "fidelity": "right"}, "flags_left": ["broken"], "flags_right": [],
    }  # fmt: skip
    assert (again["done"], again["undo"]) == (0, None)
    assert anna.post("/api/undo", {"token": first["token"]}).json() == again, "undone once"
    assert anna.get(first["media"]).status_code == 200
    assert anna.answer(first, "tie", "tie").status_code == 200
    studio.session.seal()
    assert [r.value for r in ratings(store_folder)] == ["tie", "tie"]


def test_a_late_copy_of_an_undone_submission_changes_nothing(studio, anna, store_folder):
    question = anna.questions()["questions"][0]
    words = anna.words(question, "left", "left")
    anna.post("/api/answer", words)
    anna.post("/api/undo", {"token": question["token"]})
    assert anna.post("/api/answer", words).json()["done"] == 0
    studio.session.seal()
    assert ratings(store_folder) == []


def test_only_the_last_answer_can_be_undone(studio, anna, store_folder):
    first, second = anna.questions()["questions"]
    anna.answer(first)
    anna.answer(second)
    assert anna.post("/api/undo", {"token": first["token"]}).status_code == 409
    assert len(ratings(store_folder, "fidelity")) == 1, "sealed by the next answer"
    studio.session.seal()
    assert anna.post("/api/undo", {"token": second["token"]}).status_code == 409


def test_closing_the_studio_seals_everything(store_folder):
    with open_studio(store_folder) as studio:
        anna = Person(TestClient(studio.app), studio.keys, "anna")
        anna.answer(anna.questions()["questions"][0])
        assert ratings(store_folder) == []
    assert len(ratings(store_folder)) == 2


def test_answers_of_a_killed_server_are_sealed_by_the_next(store_folder, tmp_path):
    with open_studio(store_folder) as studio:
        anna = Person(TestClient(studio.app), studio.keys, "anna")
        anna.answer(anna.questions()["questions"][0])
        killed = shutil.copytree(store_folder, tmp_path / "killed")
    (killed / "store.lock").unlink()
    assert ratings(killed) == []
    with open_studio(killed):
        pass
    assert len(ratings(killed)) == 2


def test_an_answer_before_the_end_of_the_clip_is_refused(anna):
    question = anna.questions()["questions"][0]
    assert anna.answer(question, shown_ms=300).status_code == 422
    assert anna.answer(question, shown_ms=800).status_code == 200


def test_an_answer_of_the_wrong_kind_is_refused(anna):
    question = anna.questions()["questions"][0]
    assert anna.answer(question, 4, "left").status_code == 422
    assert anna.answer(question, "a", "left").status_code == 422


def test_single_clips_on_a_scale(store_folder):
    with open_studio(store_folder, study=study(mode="score")) as studio:
        anna = Person(TestClient(studio.app), studio.keys, "anna")
        question = anna.questions()["questions"][0]
        assert question["clips"] == 1
        assert anna.answer(question, "left", 3).status_code == 422
        assert anna.answer(question, 4, 2, flags_right=["broken"]).status_code == 422
        assert anna.answer(question, 4, "cannot_judge").status_code == 200
    first, second = ratings(store_folder)
    assert (first.kind, first.value, second.value, first.left_clip_id) == ("score", 4.0, "cannot_judge", None)


# ---------------------------------------------------------------------- several at once


def test_raters_in_parallel_never_corrupt_each_other(studio, store_folder):
    people = [Person(TestClient(studio.app), studio.keys, f"rater-{i}") for i in range(4)]
    wrong = []

    def work(person):
        try:
            while hand := person.questions()["questions"]:
                words = person.words(hand[0])
                for _ in range(2):  # every submission twice
                    said = person.post("/api/answer", words)
                    assert said.status_code == 200, said.text
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    studio.session.seal()
    store = PreferenceStore.open(store_folder)
    found = [r for r in store.ratings() if r.axis == "fidelity"]
    assert store.problems == []
    raters = {}
    for rating in found:
        if rating.role == "plain":
            raters.setdefault(rating.clips, []).append(rating.rater_id)
    assert sorted(map(len, raters.values())) == [1] * 8 + [3] * 3, "11 pairs, of which 20 % three times"
    assert all(len(set(names)) == len(names) for names in raters.values())
    events = [rating.event_id for rating in store.ratings()]
    assert len(events) == len(set(events)) == 2 * len(found)


def test_a_second_server_on_the_store_is_refused(studio, store_folder):
    with pytest.raises(OutputError, match=rf"process \({os.getpid()}\)"), open_studio(store_folder):
        pass


# ---------------------------------------------------------------------- full disk


@pytest.fixture
def disk(studio, monkeypatch):
    """disk["full"] = "events" makes every insertion into that table fail."""
    state, insert = {"full": None}, Table._insert

    def failing(table, *of):
        if table.name == state["full"]:
            insert(table, *of)
            raise sqlite3.OperationalError("database or disk is full")
        insert(table, *of)

    monkeypatch.setattr(Table, "_insert", failing)
    return state


@pytest.mark.parametrize("table", ["events", "ratings"])
def test_a_full_disk_loses_nothing(studio, anna, store_folder, disk, table):
    first, second = anna.questions()["questions"]
    anna.answer(first)
    words = anna.words(second)
    disk["full"] = table
    refused = anna.post("/api/answer", words)
    assert refused.status_code == 507
    assert str(store_folder) not in refused.text
    assert "kept here" in refused.json()["error"]
    disk["full"] = None
    accepted = anna.post("/api/answer", words)
    assert accepted.status_code == 200
    assert accepted.json()["done"] == 2
    studio.session.seal()
    assert len(ratings(store_folder)) == 4
    assert PreferenceStore.open(store_folder).problems == []


def test_a_full_disk_before_the_first_question(anna, disk):
    disk["full"] = "events"
    assert anna.get("/api/questions").status_code == 507
    disk["full"] = None
    assert len(anna.questions()["questions"]) == 2


def test_a_full_disk_while_a_copy_is_made(anna, monkeypatch):
    from hallo4.studio import media

    real = media.compose

    def full(*_):
        raise OutputError("no space left")

    monkeypatch.setattr(media, "compose", full)
    question = anna.questions()["questions"][0]
    assert anna.get(question["media"]).status_code == 507
    monkeypatch.setattr(media, "compose", real)
    again = anna.questions()["questions"][0]
    assert again == question
    assert anna.get(again["media"]).status_code == 200


# ---------------------------------------------------------------------- what cannot be shown


def test_a_damaged_clip_is_taken_out_and_named_to_the_organiser(studio, client, anna, store_folder):
    for path in (store_folder / "clips").iterdir():
        if "condition-0" not in path.name:
            path.write_bytes(b"not what was recorded")
    answered = 0
    while hand := anna.questions()["questions"]:
        status = {q["token"]: anna.get(q["media"]).status_code for q in hand}
        assert set(status.values()) <= {200, 410}
        if status[hand[0]["token"]] == 200:
            answered += anna.answer(hand[0]).status_code == 200
    assert answered == 2, "of condition 0; its third pair is gold"
    headers = {"Authorization": f"Bearer {studio.keys.admin}"}
    problems = client.get("/api/admin/overview", headers=headers).json()["problems"]
    assert len(problems) == 9
    assert all("sha256" in line for line in problems)
    assert Person(client, studio.keys, "bert").questions()["left"] <= 2, "others do not meet them"


def test_a_corrupt_event_is_named_and_the_rest_is_kept(store_folder):
    with open_studio(store_folder) as studio:
        anna = Person(TestClient(studio.app), studio.keys, "anna")
        anna.answer(anna.questions()["questions"][0])
        before = [q["token"] for q in anna.questions()["questions"]]
        with studio.session.store.database.writing() as connection:  # the second question that was given
            connection.execute("UPDATE events SET record = substr(record, 1, 40) || '#' WHERE row = 3")
    with open_studio(store_folder) as studio:
        anna.client = TestClient(studio.app)
        after = anna.questions()
        assert after["done"] == 1
        assert before[1] in [q["token"] for q in after["questions"]]
        _, _, problems = studio.session.overview()
        assert any("events row 3" in line for line in problems)


def test_nothing_to_rate_is_said_at_once(tmp_path):
    PreferenceStore.create(tmp_path / "empty")
    with pytest.raises(InputError, match="no two clips of one condition"), open_studio(tmp_path / "empty"):
        pass


def test_a_port_in_use_is_one_line(store_folder):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(InputError, match="--port"):
        serve([store_folder], port=other.getsockname()[1])
    with pytest.raises(InputError, match="--port"):
        serve([store_folder], port=123456)


def test_nobody_waits_at_the_port_before_the_server_can_answer(store_folder, monkeypatch):
    import socket

    from hallo4.studio import annotate

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    tried = []

    def connects() -> bool:
        with socket.socket() as page:
            return page.connect_ex(("127.0.0.1", port)) == 0

    copies = annotate._make_copies
    monkeypatch.setattr(annotate, "_make_copies", lambda *of: (tried.append(connects()), copies(*of)))
    monkeypatch.setattr(annotate, "run_server", lambda app, door: tried.append(connects()))
    serve([store_folder], port=port)
    assert tried == [False, True]


def test_unknown_tokens(anna):
    anna.questions()
    assert anna.get(f"/media/{token()}").status_code == 404
    assert anna.answer({"token": token()}).status_code == 404
    assert anna.post("/api/undo", {"token": token()}).status_code == 404
