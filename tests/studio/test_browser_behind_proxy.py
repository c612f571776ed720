"""The page in a real Chromium behind a proxy with a path."""

import shutil

import pytest
from prefix_proxy import PrefixProxy
from studio_browser import NEEDS_CHROMIUM, By, Keys, Page, Server

pytestmark = NEEDS_CHROMIUM


@pytest.fixture(params=[False, True], ids=["taken-off", "left-on"])
def behind(request, store_folder):
    """(server, proxy): the proxy takes its path off, and the studio knows nothing of it, or leaves it on."""
    path = "/user/u/proxy/8533"
    server = Server(store_folder, path if request.param else "")
    with PrefixProxy({path: server.port}, keep_path=request.param) as proxy:
        server.reach(proxy.base)
        yield server, proxy
    server.stop()


def test_behind_a_proxy_with_a_path(behind, tmp_path):
    server, proxy = behind
    with Page() as page:
        page.join(server, "hubbed")
        assert page.js("location.href") == proxy.base + "/"
        page.rate("1", "w")
        page.watch()
        page.press("h")
        page.until("document.getElementById('guide').open")
        resume = page.js("document.getElementById('resume').value")
        assert resume.startswith(proxy.base + "/?lang=en#rater=hubbed&key=")
        page.press(Keys.ESCAPE)
        page.until("!document.getElementById('guide').open")
        page.driver.save_screenshot(str(tmp_path / "behind.png"))
        page.press("z")
        page.until("document.getElementById('toast').textContent.includes('open again')")
        page.press(Keys.ENTER)
        page.until("document.getElementById('ring').ariaLabel.includes('1 in all')")
        looked = page.js("performance.getEntriesByType('resource').map((e) => e.name)")
        page.driver.get(server.admin.replace("/admin#", "/admin/#"))
        page.until("document.body.dataset.view === 'board'")
        assert page.js("location.href") == proxy.base + "/admin"
        assert "hubbed" in page.element("raters").text
        page.driver.save_screenshot(str(tmp_path / "behind-progress.png"))
        looked += page.js("performance.getEntriesByType('resource').map((e) => e.name)")
        for part in ("/static/studio.css", "/static/icon.svg", "/api/answer", "/media/", "/static/admin.css"):
            assert any(name.startswith(proxy.base + part) for name in looked), part
        assert [name for name in looked if not name.startswith(proxy.base + "/")] == []
        assert page.complaints() == []
    assert proxy.stray == []
    with Page() as page:
        page.driver.get(resume)
        page.until("document.body.dataset.view === 'rating'")
        assert "1 in all" in page.js("document.getElementById('ring').ariaLabel"), "the link brings back"
    server.studio.close()
    assert [(r.rater_id, r.value) for r in server.ratings()][1] == ("hubbed", "tie")


def test_a_path_without_its_slash_comes_to_the_page(behind):
    server, proxy = behind
    with Page() as page:
        page.driver.get(server.rate.replace("/#", "?token=hub#"))
        page.until("document.body?.dataset.view === 'intro'")
        assert page.js("location.href") == proxy.base + "/"
        assert f"{server.path or proxy.paths[0]}/?token=hub" in proxy.asked or server.path, (
            "the query is kept"
        )


def test_two_studios_of_one_host_do_not_mix(server, store_template, tmp_path):
    """What a browser remembers belongs to the path: else a studio would sign in with the other's rater."""
    other = Server(shutil.copytree(store_template, tmp_path / "other"))
    with PrefixProxy({"/proxy/1": server.port, "/proxy/2": other.port}) as proxy, Page() as page:
        server.reach(proxy.host + "/proxy/1")
        other.reach(proxy.host + "/proxy/2")
        page.join(server, "first")
        page.watch()
        page.press("1")
        token = page.token()
        page.driver.get(other.admin)
        page.until("document.body.dataset.view === 'board'")
        page.join(other, "second")
        page.rate("2", "w")
        page.driver.get(server.rate)
        page.until("document.body.dataset.view === 'rating'")
        assert page.token() == token
        assert page.pressed() == ["left"], "what was chosen is there still"
        page.driver.get(server.admin.split("#")[0])
        page.until("document.body.dataset.view === 'closed'")
        assert proxy.stray == []
    other.stop()


def test_a_proxy_that_wants_a_sign_in_costs_no_answer(server):
    """Its page with status 200 is no word of the studio: nothing counts as saved, the rater stays known."""
    with PrefixProxy({"/hub": server.port}) as proxy, Page() as page:
        server.reach(proxy.base)
        page.join(server, "expired")
        page.watch()
        page.press("3", "q")
        proxy.sign_in = True
        page.press(Keys.ENTER)
        page.until("!document.getElementById('banner').hidden")
        assert "HTTP 200) is not from the studio" in page.element("banner-text").text
        assert page.pressed() == ["right", "left"]
        proxy.sign_in = False
        page.until("document.getElementById('ring').ariaLabel.includes('1 in all')")
        page.until("document.getElementById('banner').hidden")
        page.driver.get(server.admin)
        page.until("document.body.dataset.view === 'board'")
        proxy.sign_in = True
        page.driver.find_element(By.CSS_SELECTOR, "[data-export]").click()
        page.until("document.getElementById('banner-text').textContent.includes('HTTP 200, text/html')")
        assert page.complaints() == []
