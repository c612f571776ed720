"""The door: slow, endless and too many requests get nowhere, and nobody else notices."""

import socket
import threading
import time

import pytest
from studio_people import Person, token

pytest.importorskip("fastapi", reason="the extra `studio` is not installed")
import uvicorn
from fastapi.testclient import TestClient

from hallo4.errors import InputError
from hallo4.studio import door, guard
from hallo4.studio.annotate import open_studio, serve
from hallo4.studio.door import listen, server_config
from hallo4.studio.keys import load_keys
from hallo4.studio.limits import Limit, Limits
from hallo4.studio.refused import Refused


@pytest.fixture
def address(store_folder, monkeypatch):
    """A studio that listens, and gives up after half a second."""
    monkeypatch.setattr(door, "HEADERS_S", 0.5)
    monkeypatch.setattr(guard, "BODY_LIMIT_S", 0.5)
    with open_studio(store_folder) as studio, socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(server_config(studio.app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield listening.getsockname()
        server.should_exit = True
        thread.join()


def said_after(connection, *pieces, every=0.0):
    """What the server says, and after how long, to a request that comes in pieces; "": it hung up."""
    begun = time.monotonic()
    connection.settimeout(30)
    try:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(every)
        heard = connection.recv(100)
    except OSError:
        heard = b""
    return heard, time.monotonic() - begun


POST = b"POST /api/join HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"


def test_who_sends_nothing_or_a_byte_at_a_time_is_hung_up_on(address):
    with socket.create_connection(address) as silent:
        assert said_after(silent)[0] == b""
    with socket.create_connection(address) as slow:
        heard, took = said_after(slow, *[b"G", b"E", b"T", b" "] * 100, every=0.1)
        assert (heard, took < 20) == (b"", True)
    with socket.create_connection(address) as headers:
        line = b"GET / HTTP/1.1\r\nHost: x\r\n"
        heard, _ = said_after(headers, line, *[b"X-A: b\r\n"] * 100, every=0.1)
        assert heard == b""


def test_a_body_that_does_not_come_is_not_waited_for(address):
    with socket.create_connection(address) as slow:
        assert said_after(slow, POST, b"{")[0].startswith(b"HTTP/1.1 408")


def test_a_connection_may_be_used_again_and_the_next_request_has_its_time(address):
    with socket.create_connection(address) as patient:
        for _ in range(3):
            heard, _ = said_after(patient, b"GET /static/icon.svg HTTP/1.1\r\nHost: x\r\n\r\n")
            assert heard.startswith(b"HTTP/1.1 200")
            while not heard.endswith(b"</svg>\n"):  # the picture may come in parts
                heard += patient.recv(1 << 16)
            time.sleep(0.3)
        heard, _ = said_after(patient, b"GET /", *[b"x"] * 50, every=0.1)
        assert heard == b""


@pytest.mark.parametrize(
    "request_line",
    [b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00", b"GET /\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", b"GET / HTTP/1.1\r\nA" * 3000],
)  # fmt: skip
def test_nonsense_is_refused_and_the_page_lives_on(address, request_line):
    with socket.create_connection(address) as odd:
        heard, _ = said_after(odd, request_line)
        assert heard == b"" or heard.startswith(b"HTTP/1.1 4")
    with socket.create_connection(address) as plain:
        assert said_after(plain, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")[0].startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("host", ["", " "])
def test_an_empty_host_does_not_listen_everywhere(host, store_folder):
    with pytest.raises(InputError, match="--host is empty, which would let everyone in"), listen(host, 0):
        pass
    with pytest.raises(InputError, match="--host is empty"):
        serve([store_folder], host=host, port=0)


# ---------------------------------------------------------------------- keys


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", "null", '{"invite": "", "admin": ""}', '{"invite": null, "admin": null}',
     '{"invite": "ab", "admin": "cd", "place": "ef"}', '{"invite": 5, "admin": 6}', "not json",
     '{"invite": "0011223344556677", "admin": ""}', '{"invite": "0011223344556677"}',
     '{"invite": "0011223344556677", "admin": "zz112233445566770011223344556677"}'],
)  # fmt: skip
def test_a_damaged_key_file_locks_and_never_opens(store_folder, content):
    keys = store_folder / "studio" / "keys.json"
    keys.parent.mkdir()
    keys.write_text(content)
    with pytest.raises(InputError, match=r"keys\.json") as error, open_studio(store_folder):
        pass
    assert "\n" not in str(error.value)
    assert keys.read_text() == content, "nothing is made anew unasked"


def test_keys_of_an_older_hallo4_are_kept_and_get_an_address(tmp_path):
    path = tmp_path / "keys.json"
    path.write_text('{"invite": "0011223344556677", "admin": "00112233445566770011223344556677"}')
    keys = load_keys(path)
    assert (keys.invite, keys.admin) == ("0011223344556677", "00112233445566770011223344556677")
    assert load_keys(path) == keys
    assert len(keys.place) == 8


@pytest.mark.parametrize("word", ["", "None", "null", "undefined", " ", "0", "\x00"])
def test_an_empty_word_is_no_key(store_folder, word):
    with open_studio(store_folder) as studio:
        client = TestClient(studio.app)
        assert not studio.keys.is_admin(word)
        assert not studio.keys.is_invite(word)
        for headers in (
            {},
            {"Authorization": "Bearer "},
            {"Authorization": "Bearer"},
            {"Authorization": ":"},
        ):
            assert client.get("/api/admin/overview", headers=headers).status_code == 401
        body = {"invite": "", "rater": "eve", "key": token(), "consent": True}
        assert client.post("/api/join", json=body).status_code == 403


# ---------------------------------------------------------------------- cross-site, cookies, too many


FOREIGN = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}


def test_a_cookie_is_no_key_and_none_is_set(store_folder):
    with open_studio(store_folder) as studio:
        client = TestClient(studio.app)
        anna = Person(client, studio.keys, "anna")
        for cookie in (
            f"token={studio.keys.admin}",
            f"rater=anna:{anna.key}",
            f"Authorization=Bearer {anna.key}",
        ):
            for path in ("/api/questions", "/api/admin/overview", "/api/tones"):
                found = client.get(path, headers={"Cookie": cookie})
                assert found.status_code == 401
                assert "set-cookie" not in found.headers


def test_another_site_can_send_nothing_in_a_rater_s_name(store_folder):
    """A form or a simple request of another site carries no Authorization header and no JSON."""
    with open_studio(store_folder) as studio:
        client = TestClient(studio.app)
        anna = Person(client, studio.keys, "anna")
        words = anna.words(anna.questions()["questions"][0])
        for path, body in (
            ("/api/answer", words),
            ("/api/join", {}),
            ("/api/finish", {}),
            ("/api/sound_check", {}),
        ):
            assert client.post(path, json=body, headers=FOREIGN).status_code in (401, 422)
            assert client.post(path, data={"x": "1"}, headers={**anna.headers, **FOREIGN}).status_code in (
                401,
                415,
            )
            preflight = client.options(path, headers={**FOREIGN, "Access-Control-Request-Method": "POST"})
            assert preflight.status_code == 405
            assert not [name for name in preflight.headers if name.startswith("access-control")]
        assert anna.questions()["done"] == 0


def test_a_bucket_is_emptied_and_fills_again():
    now = [0.0]
    bucket = Limits(lambda: now[0])
    limit = Limit(3, 0.5)
    for _ in range(3):
        bucket.take(limit, "anna")
    with pytest.raises(Refused) as error:
        bucket.take(limit, "anna")
    assert error.value.status == 429
    bucket.take(limit, "bert")
    now[0] += 2
    bucket.take(limit, "anna")
    with pytest.raises(Refused):
        bucket.take(limit, "anna")


def test_three_hundred_joins_at_once_are_too_many(store_folder, monkeypatch):
    monkeypatch.setattr("hallo4.studio.routes.JOINING", Limit(100, 0.0))
    with open_studio(store_folder) as studio:
        client = TestClient(studio.app)
        codes = [Person(client, studio.keys, f"rater-{n}").joined.status_code for n in range(220)]
        assert codes.count(200) == 100
        assert codes[-1] in (403, 429)
        assert client.get("/").status_code == 200


def test_one_rater_s_haste_is_not_the_others_trouble(store_folder):
    with open_studio(store_folder) as studio:
        client = TestClient(studio.app)
        hasty, calm = Person(client, studio.keys, "hasty"), Person(client, studio.keys, "calm")
        codes = {hasty.get("/api/questions").status_code for _ in range(80)}
        assert codes == {200, 429}
        assert calm.get("/api/questions").status_code == 200
        strangers = {client.get("/api/questions").status_code for _ in range(120)}
        assert strangers == {401, 429}
        assert calm.get("/api/questions").status_code == 200


# ---------------------------------------------------------------------- several stores


def test_several_stores_have_an_address_each_and_share_nothing(store_folder, tmp_path):
    import shutil

    from hallo4.studio.annotate import _together

    other_folder = shutil.copytree(store_folder, tmp_path / "secret-system-name")
    with open_studio(store_folder) as one, open_studio(other_folder) as other:
        client = TestClient(_together([one, other], "/hub"), follow_redirects=False)
        assert client.get("/").status_code == client.get("/api/questions").status_code == 404
        for before in ("", "/hub"):
            for studio in (one, other):
                assert client.get(f"{before}/{studio.keys.place}/").status_code == 200
                assert client.get(f"{before}/{studio.keys.place}").status_code == 200, (
                    "the page adds the slash"
                )
                assert client.get(f"{before}/{studio.keys.place}/static/rate.js").status_code == 200
        body = {"invite": one.keys.invite, "rater": "anna", "key": token(), "consent": True}
        assert client.post(f"/{other.keys.place}/api/join", json=body).status_code == 403
        assert client.post(f"/{one.keys.place}/api/join", json=body).status_code == 200
        signed = {"Authorization": f"Bearer anna:{body['key']}"}
        assert client.get(f"/{one.keys.place}/api/questions", headers=signed).status_code == 200
        assert client.get(f"/{other.keys.place}/api/questions", headers=signed).status_code == 401
        assert one.keys.place != other.keys.place
        assert "secret" not in other.links("https://x.example/hub").rate
        for path in ("/../", f"/{one.keys.place}/../{other.keys.place}/api/questions", "/nowhere/"):
            assert client.get(path, headers=signed).status_code in (401, 404)


def test_a_store_that_is_named_twice_is_said(store_folder):
    with pytest.raises(InputError, match="named twice"):
        serve([store_folder, store_folder], port=0)
