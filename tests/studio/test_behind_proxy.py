"""Behind a proxy with a path: addresses are relative, requests arrive with the path or without it."""

import base64
import hashlib
import re
from importlib import resources
from urllib.parse import urljoin

import pytest
from studio_people import Person, token

pytest.importorskip("fastapi", reason="the extra `studio` is not installed")
from fastapi.testclient import TestClient

from hallo4.cli import main
from hallo4.errors import InputError
from hallo4.studio.address import OWN_NAMES, read_public_url
from hallo4.studio.annotate import open_studio

PATH = "/user/anna%40lab.example/proxy/8421"
"""As it is sent; JupyterHub encodes names like this."""
PLAIN = "/user/anna@lab.example/proxy/8421"
S = "https://"
HUB = S + "hub.example"
OTHER = "elsewhere.example"
FORGED = {
    "Host": OTHER, "Origin": S + OTHER, "X-Forwarded-Host": OTHER, "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Proto": "javascript", "Forwarded": f"host={OTHER}",
}  # fmt: skip


@pytest.fixture
def studio(store_folder):
    with open_studio(store_folder, path=PATH) as found:
        yield found


@pytest.fixture
def client(studio):
    return TestClient(studio.app, follow_redirects=False)


def routes_of(app):
    return [route.path for route in app.routes]


# ---------------------------------------------------------------------- what is relative


def test_no_file_of_the_pages_has_an_absolute_address():
    seen = 0
    for item in resources.files("hallo4.studio").joinpath("static").iterdir():
        text = item.read_text()
        seen += len(re.findall(r"[\"'`(=](?:\./)?(?:static|api|media)/|\"\./[a-z]+\.js\"", text))
        assert not re.findall(r"[\"'`(]/(?=[A-Za-z$])[^\"'`]*", text), item.name
        assert "location.origin" not in text, item.name
    assert seen > 15, "the expression does find addresses"


@pytest.mark.parametrize("page", ["/", "/admin"])
@pytest.mark.parametrize("before", ["", PATH])
def test_what_a_page_asks_for_lies_beside_it(client, before, page):
    """Resolved as a browser does, under a path that is taken off or left on."""
    content = client.get(before + page)
    assert content.status_code == 200
    found = re.findall(r"(?:href|src)=\"([^\"]+)\"", content.text)
    assert len(found) >= 4
    for name in found:
        address = urljoin(f"{HUB}{PATH}{page}", name)
        inside = address.removeprefix(f"{HUB}{PATH}/")
        assert inside != address, f"{name} leads out"
        assert client.get(f"{before}/{inside}").status_code == 200


def test_the_video_of_a_question_is_beside_the_page(studio, client):
    anna = Person(client, studio.keys, "anna")
    media = anna.questions()["questions"][0]["media"]
    assert re.fullmatch(r"media/[0-9a-f]{32}", media)
    for before in ("", PATH):
        assert client.get(f"{before}/{media}").headers["content-type"] == "video/mp4"


def test_the_one_inline_script_is_the_one_that_the_policy_names(client):
    """It adds a forgotten slash, which no file could do: without the slash none is found."""
    inline = re.findall(r"<script>(.*?)</script>", client.get("/").text)
    assert len(inline) == 1
    assert "<script>" not in client.get("/admin").text
    digest = base64.b64encode(hashlib.sha256(inline[0].encode()).digest()).decode()
    policy = client.get("/").headers["content-security-policy"]
    assert f"script-src 'self' 'sha256-{digest}';" in policy


# ---------------------------------------------------------------------- with the path and without


@pytest.mark.parametrize("before", ["", PATH, PLAIN])
def test_everything_works_with_the_path_and_without_it(studio, client, before):
    body = {"invite": studio.keys.invite, "rater": "anna", "key": token(), "consent": True}
    assert client.post(before + "/api/join", json=body).status_code == 200
    signed = {"Authorization": f"Bearer anna:{body['key']}"}
    question = client.get(before + "/api/questions", headers=signed).json()["questions"][0]
    said = {
        "token": question["token"], "submit_id": token(),
        "answers": {"alignment": "left", "fidelity": "tie"},
        "flags_left": [], "flags_right": [], "shown_ms": 5000, "ui_version": "1",
    }  # fmt: skip
    assert client.post(before + "/api/answer", json=said, headers=signed).json()["done"] == 1
    organiser = {"Authorization": f"Bearer {studio.keys.admin}"}
    found = client.get(before + "/api/admin/overview", headers=organiser).json()
    assert [rater["rater"] for rater in found["raters"]] == ["anna"]
    export = client.get(before + "/api/admin/export/ratings.jsonl", headers=organiser)
    assert len(export.text.splitlines()) == 2


@pytest.mark.parametrize("before", ["", PATH])
def test_a_path_opens_no_door(studio, client, before):
    assert client.get(before + "/api/questions").status_code == 401
    assert client.get(before + "/api/admin/overview").status_code == 401
    twice = PATH + PATH + "/"
    for path in ("/static/../keys.json", "/media/..%2f..%2fkeys.json", "/static//etc/passwd", twice):
        found = client.get(path if path == twice else before + path)
        assert found.status_code == 404, path
        assert "content-security-policy" in found.headers


@pytest.mark.parametrize(
    "path", ["/user/anna%40lab.example/proxy/842", PATH + "1/", PATH + "1/admin", "/user/", "/proxy/8421/"]
)
def test_a_path_that_only_resembles_it_is_not_there(client, path):
    assert client.get(path).status_code == 404


def test_without_a_public_address_no_path_is_taken_off(store_folder):
    with open_studio(store_folder) as studio:
        client = TestClient(studio.app)
        assert client.get("/").status_code == 200
        assert client.get(PATH + "/").status_code == 404


# ---------------------------------------------------------------------- redirects


@pytest.mark.parametrize("before", ["", PATH])
def test_slashes_at_the_end_lead_back_under_the_path(client, before):
    """No redirect names a scheme or a host: the studio's own are not the browser's."""
    found = client.get(before + "/admin/", headers=FORGED)
    assert found.status_code == 308
    assert urljoin(f"{HUB}{PATH}/admin/", found.headers["location"]) == f"{HUB}{PATH}/admin"
    for path in ("/static/rate.js/", "/api/questions/", "/nowhere/"):
        assert client.get(before + path, headers=FORGED).status_code == 404, path


def test_the_path_alone_gets_its_slash(client):
    found = client.get(PATH, headers=FORGED)
    assert (found.status_code, found.headers["location"]) == (308, PATH + "/")
    assert "content-security-policy" in found.headers


@pytest.mark.parametrize("path", ["/", "/admin", "/static/rate.js"])
def test_no_header_of_the_request_changes_a_page(client, path):
    plain, found = client.get(path), client.get(path, headers=FORGED)
    assert (found.content, dict(found.headers)) == (plain.content, dict(plain.headers))


# ---------------------------------------------------------------------- --public-url


@pytest.mark.parametrize(
    ("text", "base", "path"),
    [
        (HUB + "/user/anna/proxy/8421/", HUB + "/user/anna/proxy/8421", "/user/anna/proxy/8421"),
        (HUB + "/user/anna/proxy/8421", HUB + "/user/anna/proxy/8421", "/user/anna/proxy/8421"),
        (HUB + PATH + "/", HUB + PATH, PATH),
        (HUB + ":8000", HUB + ":8000", ""),
        (S + "[::1]:8000/rate/", S + "[::1]:8000/rate", "/rate"),
        ("HTTPS://hub.example/A~b", HUB + "/A~b", "/A~b"),
    ],
)
def test_public_addresses(text, base, path):
    found = read_public_url(text)
    assert (found.base, found.path) == (base, path)


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "/user/anna/proxy/8421", "hub.example/rate", "hub.example:8421/rate", S, S + "/rate",
        "ftp://hub.example/rate", "javascript:alert(1)", HUB + ":port/", HUB + ":99999/", S + "[::1/rate",
        S + "anna:word@hub.example/rate", HUB + "/rate?token=1", HUB + "/rate?", HUB + "/#rate",
        HUB + "//elsewhere.example", HUB + "/a//b", HUB + "/rate//", HUB + "/a/../b", HUB + "/a/%2e%2e/b",
        HUB + "/./a", HUB + "/a b", HUB + "/a\nb", HUB + "/a\\b", HUB + "\\@elsewhere.example/",
        *(f"{HUB}/{name}/" for name in OWN_NAMES),
    ],
)  # fmt: skip
def test_what_is_no_public_address_is_said_in_one_line(text):
    with pytest.raises(InputError, match=r"--public-url .*such as https://hub.example/user/") as error:
        read_public_url(text)
    assert "\n" not in str(error.value)


def test_every_name_of_the_studio_s_own_is_refused_as_a_path(studio):
    own = {path.split("/")[1] for path in routes_of(studio.app)} - {""}
    assert own == set(OWN_NAMES)


def test_a_wrong_address_is_said_before_anything_is_opened(store_folder, capsys):
    assert main(["prefer", "annotate", str(store_folder), "--public-url", "hub.example/rate"]) == 2
    said = capsys.readouterr().err
    assert "--public-url 'hub.example/rate'" in said
    assert not (store_folder / "studio").exists()


@pytest.mark.parametrize(
    ("given", "base"),
    [
        (["--public-url", HUB + "/rate/"], re.escape(HUB) + "/rate"),
        ([], r"http://127.0.0.1:\d+"),
    ],
)
def test_the_links_that_are_printed(store_folder, monkeypatch, capsys, given, base):
    uvicorn = pytest.importorskip("uvicorn")
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)
    assert main(["prefer", "annotate", str(store_folder), "--port", "0", *given]) == 0
    said = capsys.readouterr().err
    assert re.search(rf"raters: +{base}/#invite=[0-9a-f]{{16}}\s", said)
    assert re.search(rf"organiser: +{base}/admin#token=[0-9a-f]{{32}}\s", said)
