"""What the network may do: little, with keys, and nothing that leaves the room."""

import json
import stat

import pytest
from studio_people import Person, events, token

pytest.importorskip("fastapi", reason="the extra `studio` is not installed")
from fastapi.testclient import TestClient

from hallo4.errors import InputError, MissingExtraError
from hallo4.preference import PreferenceStore
from hallo4.studio.annotate import open_studio
from hallo4.studio.guard import BODY_LIMIT_BYTES
from hallo4.studio.keys import load_keys


@pytest.fixture
def studio(store_folder):
    with open_studio(store_folder) as found:
        yield found


@pytest.fixture
def client(studio):
    return TestClient(studio.app)


@pytest.fixture
def anna(studio, client):
    return Person(client, studio.keys, "anna")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../annotate.py", "/static/..%2fannotate.py", "/static/%2e%2e/%2e%2e/ratings.jsonl",
        "/static//etc/passwd", "/static/rate.html%00.css", "/media/../keys.json",
        "/media/..%2f..%2fkeys.json",
        "/media/%2e%2e%2fevents.jsonl", "/openapi.json", "/docs", "/api/admin/export/../events.jsonl",
    ],
)  # fmt: skip
def test_no_path_leads_out(client, studio, path):
    found = client.get(path, headers={"Authorization": f"Bearer {studio.keys.admin}"})
    assert found.status_code == 404
    assert studio.keys.admin not in found.text


@pytest.mark.parametrize("path", ["/", "/admin", "/static/rate.js", "/api/questions", "/nowhere", "/media/x"])
def test_every_answer_is_dressed(client, path):
    headers = client.get(path, headers={"Origin": "https://elsewhere.example"}).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert not [name for name in headers if name.startswith("access-control")], "no other origin may read"
    assert "server" not in headers
    assert "set-cookie" not in headers
    assert headers["cache-control"] in ("no-store", "no-cache")


def test_pages_need_nothing_from_elsewhere_and_no_inline_code(client):
    for path in ("/", "/admin"):
        page = client.get(path).text
        assert "http://" not in page
        assert "https://" not in page
        assert "style=" not in page
        assert " onclick" not in page
        for address in page.split('src="')[1:] + page.split('href="')[1:]:
            name = address.split('"')[0]
            assert client.get(name).status_code == 200, name


def test_an_unchanged_page_is_not_sent_again(client):
    first = client.get("/static/rate.js")
    again = client.get("/static/rate.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_only_small_json_is_read(anna):
    question = anna.questions()["questions"][0]
    words = anna.words(question)
    plain = {**anna.headers, "Content-Type": "text/plain"}
    assert anna.client.post("/api/answer", content=json.dumps(words), headers=plain).status_code == 415
    form = anna.client.post("/api/answer", data={"token": question["token"]}, headers=anna.headers)
    assert form.status_code == 415
    kind = {**anna.headers, "Content-Type": "application/json; charset=utf-8"}
    padded = json.dumps(words) + " " * BODY_LIMIT_BYTES
    assert anna.client.post("/api/answer", content=padded, headers=kind).status_code == 413
    pieces = (b" " * 1000 for _ in range(1000))  # no length is told beforehand
    assert anna.client.post("/api/answer", content=pieces, headers=kind).status_code == 413
    for broken in ("", "{", "[]", "null", '"x"', "[" * 5000, "\xff"):
        said = anna.client.post("/api/answer", content=broken.encode("latin-1"), headers=kind)
        assert said.status_code == 422, broken[:10]
    assert anna.client.post("/api/answer", content=json.dumps(words), headers=kind).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"more": 1}, {"answers": None}, {"answers": {}}, {"answers": {"alignment": "left"}},
        *[{"answers": {"alignment": "left", "fidelity": said}} for said in (None, True, 2.5, "better", 10)],
        {"answers": {"alignment": "left", "fidelity": "left", "beauty": "left"}},
        {"flags_left": ["ugly"]}, {"flags_left": ["unsafe"] * 4}, {"flags_left": "unsafe"}, {"shown_ms": -1},
        {"shown_ms": "5000"}, {"shown_ms": 10**12}, {"ui_version": "x" * 41}, {"ui_version": "a b"},
        {"token": "../../etc/passwd"}, {"submit_id": "x"},
    ],
)  # fmt: skip
def test_answers_are_checked_strictly(anna, change):
    question = anna.questions()["questions"][0]
    assert anna.answer(question, **change).status_code == 422
    assert anna.questions()["done"] == 0


@pytest.mark.parametrize(
    "name", ["", "a", "x" * 33, "two words", "../up", "-dash", "name\n", "ümlaut", "a<b>"]
)
def test_pseudonyms_are_checked(studio, client, name):
    assert Person(client, studio.keys, name).joined.status_code == 422


def test_a_name_belongs_to_its_key(studio, client, anna):
    assert anna.joined.status_code == 200
    again = {"invite": studio.keys.invite, "rater": "anna", "key": anna.key, "consent": True}
    assert anna.post("/api/join", again).status_code == 200, "the same person may come back"
    assert Person(client, studio.keys, "anna").joined.status_code == 409
    assert Person(client, studio.keys, "ANNA").joined.status_code == 409


def test_without_consent_or_invitation_nobody_rates(studio, client):
    body = {"invite": studio.keys.invite, "rater": "eve", "key": token(), "consent": True}
    assert client.post("/api/join", json={**body, "consent": False}).status_code == 422
    assert client.post("/api/join", json={**body, "invite": "guess"}).status_code == 403
    assert client.post("/api/join", json={**body, "invite": "ü"}).status_code == 403
    assert client.get("/api/questions").status_code == 401
    for key in (f"eve:{body['key']}", "eve:", ":", "eve", f"anna:{token()}"):
        assert client.get("/api/questions", headers={"Authorization": f"Bearer {key}"}).status_code == 401


def test_nobody_answers_for_another(studio, client, anna):
    bert = Person(client, studio.keys, "bert")
    question = anna.questions()["questions"][0]
    assert bert.answer(question).status_code == 404
    anna.answer(question)
    assert bert.post("/api/undo", {"token": question["token"]}).status_code == 404


def test_progress_and_export_are_for_the_organiser(studio, client, anna, store_folder):
    for path in ("/api/admin/overview", "/api/admin/export/ratings.jsonl"):
        assert client.get(path).status_code == 401
        assert anna.get(path).status_code == 401
    anna.answer(anna.questions()["questions"][0], "left", "tie", flags_left=["broken"])
    headers = {"Authorization": f"Bearer {studio.keys.admin}"}
    found = client.get("/api/admin/overview", headers=headers).json()
    assert found["questions"]["answers"] == 1
    assert [rater["answered"] for rater in found["raters"]] == [1]
    assert [flag["flag"] for flag in found["flags"]] == ["broken"]
    export = client.get("/api/admin/export/ratings.jsonl", headers=headers)
    ratings = PreferenceStore.open(store_folder).ratings()
    assert export.text == "".join(rating.to_json() + "\n" for rating in ratings)
    assert len(export.text.splitlines()) == 2, "also what could still be undone"
    assert client.get("/api/admin/export/events.jsonl", headers=headers).status_code == 404


def test_keys_are_for_their_owner_and_a_damaged_file_is_named(store_folder):
    path = store_folder / "keys.json"
    keys = load_keys(path)
    assert load_keys(path) == keys
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("{}")
    with pytest.raises(InputError, match=r"keys\.json"):
        load_keys(path)


def test_keys_are_in_no_event(studio, anna, store_folder):
    anna.questions()
    log = json.dumps(events(PreferenceStore.open(store_folder)))
    assert anna.key not in log
    assert studio.keys.invite not in log


def test_without_the_extra_the_way_to_it_is_named(store_folder, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "hallo4.studio.routes", raising=False)
    monkeypatch.delitem(sys.modules, "hallo4.studio.guard", raising=False)
    with pytest.raises(MissingExtraError, match=r"hallo4\[studio\]"), open_studio(store_folder):
        pass
