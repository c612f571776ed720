"""Behind a real proxy with TLS and a prefix: nginx, with the very configuration that the docs give."""

import pytest
from nginx_proxy import NGINX, OPENSSL, Nginx
from studio_browser import NEEDS_CHROMIUM, Keys, Page, Server
from studio_people import study, token

httpx = pytest.importorskip("httpx2")

pytestmark = [
    pytest.mark.skipif(NGINX is None, reason="there is no nginx on this machine"),
    pytest.mark.skipif(OPENSSL is None, reason="there is no openssl on this machine"),
]


@pytest.fixture
def hall(store_folder):
    made = Server(store_folder, path="/rate", study=study(quotas={"per_rater": 2}))
    yield made
    made.stop()


@pytest.fixture
def proxy(hall, tmp_path):
    (tmp_path / "nginx").mkdir()
    with Nginx(tmp_path / "nginx", hall.port) as found:
        hall.reach(found.base)
        yield found


def test_a_rater_over_tls_from_joining_to_the_code(hall, proxy):
    with httpx.Client(base_url=proxy.base + "/", verify=proxy.trusting(), timeout=60) as client:
        page = client.get("")
        assert page.status_code == 200
        assert page.headers["strict-transport-security"]
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert client.get(proxy.base + "?invite=x").status_code == 308
        body = {"invite": hall.opened.keys.invite, "rater": "anna", "key": token(), "consent": True}
        assert client.post("api/join", json=body).status_code == 200
        signed = {"Authorization": f"Bearer anna:{body['key']}"}
        found = client.get("api/questions", headers=signed).json()
        while found["questions"]:
            question = found["questions"][0]
            video = client.get(question["media"], headers={"Range": "bytes=0-99"})
            assert (video.status_code, len(video.content)) == (206, 100)
            words = {
                "token": question["token"], "submit_id": token(), "flags_left": [], "flags_right": [],
                "answers": {"alignment": "left", "fidelity": "tie"}, "shown_ms": 900, "ui_version": "t",
            }  # fmt: skip
            found = client.post("api/answer", json=words, headers=signed).json()
        assert len(client.post("api/finish", json={}, headers=signed).json()["ended"]["code"]) == 10
        assert client.post("api/answer", content=b" " * 100_000, headers=signed).status_code == 413
        assert client.get("../admin").status_code in (403, 404), "outside of the path is nothing"
    assert len(hall.ratings()) == 4


@pytest.mark.slow
@pytest.mark.parametrize("phone", [False, True])
@NEEDS_CHROMIUM[1]
@NEEDS_CHROMIUM[2]
def test_a_real_browser_over_tls(hall, proxy, phone):
    size = (390, 844) if phone else (1280, 800)
    with Page(*size, phone=phone, arguments=["--ignore-certificate-errors"]) as page:
        if phone:
            page.join(hall, "thumbs")
        else:
            page.join(hall, "keys")
        page.rate("1", "w")
        page.watch()
        page.press("3", "q", Keys.ENTER)
        page.until("document.body.dataset.view === 'done'")
        page.element("finish").click()
        page.until("!document.getElementById('code').hidden")
        assert len(page.element("code-text").text) == 10
        assert page.complaints() == []
    assert len(hall.ratings()) == 4
