"""The page in a real Chromium: by keyboard alone, by touch, interrupted, and two raters at once."""

import json
import signal
import threading

from studio_browser import NEEDS_CHROMIUM, By, Keys, Page, ServerProcess
from studio_clips import SYSTEMS

from hallo4.preference import PreferenceStore

pytestmark = NEEDS_CHROMIUM


def test_by_keyboard_alone(server, tmp_path):
    with Page() as page:
        page.join(server, "keys-only")
        first = page.token()
        page.rate("1", "w", "u", "k", "k")
        page.rate("3", "r")
        page.watch()
        page.driver.save_screenshot(str(tmp_path / "desk.png"))
        page.press("z")
        page.until("document.getElementById('toast').textContent.includes('open again')")
        assert page.pressed() == ["right", "cannot_judge"], "what was said before is there again"
        page.press("2", Keys.ENTER)
        page.until("document.querySelectorAll('.choice[aria-pressed=true]').length === 0")
        page.rate("2", "e")
        assert page.complaints() == []
        looked = page.js("performance.getEntriesByType('resource').map((e) => e.name).join(' ')")
        shown = page.js("document.documentElement.outerHTML")
        assert not [name for name in (*SYSTEMS, "condition-") if name in looked or name in shown]
    server.studio.close()
    ratings, given = server.ratings(), server.given()
    said = [(r.axis, r.value, r.flags) for r in ratings]
    left = {given[first]["clips"][0]: "a", given[first]["clips"][1]: "b"}[given[first]["left"]]
    flags = {given[first]["left"]: ("unsafe",)}
    other = next(clip for clip in given[first]["clips"] if clip != given[first]["left"])
    flags[other] = ("broken",)
    assert said[:2] == [("alignment", left, flags), ("fidelity", "tie", flags)]
    assert [r.value for r in ratings[2:4]] == ["tie", "cannot_judge"]
    assert len(ratings) == 6
    assert all(r.shown_ms >= 700 for r in ratings)


def test_what_is_on_a_side_is_what_is_stored_and_both_are_in_step(server):
    with Page() as page:
        page.join(server, "looker")
        page.watch()
        page.press(Keys.SPACE, Keys.HOME)
        page.press(*[Keys.ARROW_RIGHT] * 3)
        page.until("document.getElementById('time').value === '3'")
        page.until("!document.querySelector('video').seeking")
        colours = """(() => ['left', 'right'].map((id) => {
            const canvas = document.getElementById(id);
            const pen = canvas.getContext('2d');
            return [...pen.getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data];
        }))()"""
        left, right = page.js(colours)
        given = server.given()[page.token()]
    green = {"secretnet-alpha": 56, "wavy-beta": 136, "gamma9-dpo": 216}
    other = next(clip for clip in given["clips"] if clip != given["left"])
    for colour, clip in ((left, given["left"]), (right, other)):
        system = next(name for name in green if clip.endswith(name))
        assert abs(colour[1] - green[system]) < 15, (colour, clip)
    assert abs(left[0] - right[0]) < 25, "the red wave moves with the frames, alike in both"


def test_nothing_can_be_said_before_it_was_watched(server):
    with Page(calm=True) as page:
        page.join(server, "eager")
        page.until("!document.getElementById('big-play').hidden")
        page.press("1", "q", Keys.ENTER)
        assert page.pressed() == []
        assert page.element("gate").text == "Watch both to the end"
        page.press(Keys.SPACE)
        page.watch()
        page.press("1", "q")
        assert page.pressed() == ["left", "left"]
        assert page.element("gate").text == "Save and next"


def test_a_reload_keeps_question_and_choices(server):
    with Page() as page:
        page.join(server, "reloader")
        page.rate("1", "q")
        page.watch()
        page.press("3", "i")
        token = page.token()
        page.driver.refresh()
        page.until("document.body.classList.contains('watched')")
        assert page.token() == token
        assert page.pressed() == ["right"]
        assert page.draft()["flags"] == {"identity_lost": "left"}
        page.press("e", Keys.ENTER)
        page.until("document.getElementById('ring').ariaLabel.includes('2 in all')")


def test_the_language_that_was_chosen_stays_after_a_reload_and_in_the_resume_link(server):
    with Page() as page:
        page.driver.get(server.rate)
        page.until("document.body.dataset.view === 'intro'")
        page.driver.find_element(By.CSS_SELECTOR, "a[lang=de]").click()
        page.until("document.documentElement.lang === 'de' && document.body.dataset.view === 'intro'")
        assert "invite" not in page.js("location.href")
        page.driver.refresh()
        page.until("document.body.dataset.view === 'intro'")
        assert page.js("document.documentElement.lang") == "de"
        page.element("rater").send_keys("speaks-german")
        page.element("consent").click()
        page.element("begin").click()
        page.until("document.body.dataset.view === 'rating'")
        page.until("document.body.classList.contains('watched')")
        page.press("h")
        page.until("document.getElementById('guide').open")
        videos = "[...document.querySelectorAll('video.source')]"
        assert page.js(f"{videos}.every((video) => video.paused)")
        page.press(Keys.ESCAPE)
        page.until(f"{videos}.some((video) => !video.paused)")
        resume = page.js("document.getElementById('resume').value")
    with Page() as elsewhere:
        elsewhere.driver.get(resume)
        elsewhere.until("document.body.dataset.view === 'rating'")
        assert elsewhere.js("document.documentElement.lang") == "de", (
            "who goes on elsewhere keeps the language"
        )


def test_two_raters_in_parallel_with_double_submits(server):
    wrong, tokens = [], {}

    def work(name):
        try:
            with Page() as page:
                page.join(server, name)
                tokens[name] = []
                for turn in range(4):
                    page.watch()
                    tokens[name].append(page.token())
                    if turn == 2:
                        page.driver.refresh()
                        page.watch()
                    sent = page.js("document.getElementById('ring').ariaLabel")
                    page.press("1", "w", Keys.ENTER, Keys.ENTER, Keys.ENTER)
                    page.until(f"document.getElementById('ring').ariaLabel !== {json.dumps(sent)}")
                assert page.complaints() == []
        except BaseException as error:
            wrong.append((name, error))

    threads = [threading.Thread(target=work, args=(name,)) for name in ("anna", "bert")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    server.studio.close()
    ratings = server.ratings()
    assert [r.rater_id for r in ratings].count("anna") == [r.rater_id for r in ratings].count("bert") == 8
    assert not set(tokens["anna"]) & set(tokens["bert"])
    assert {r.event_id.split("-")[0] for r in ratings} == {*tokens["anna"], *tokens["bert"]}
    assert PreferenceStore.open(server.folder).problems == []


def test_an_answer_waits_for_a_server_that_is_away(store_folder):
    server = ServerProcess(store_folder)
    with Page() as page:
        page.join(server, "patient")
        page.watch()
        page.press("3", "q")
        server.stop(signal.SIGKILL)
        page.press(Keys.ENTER)
        page.until("!document.getElementById('banner').hidden")
        assert "cannot be reached" in page.element("banner-text").text
        assert page.pressed() == ["right", "left"], "the answer is kept on the page"
        server.start()
        page.until("document.getElementById('ring').ariaLabel.includes('1 in all')")
        page.until("document.getElementById('banner').hidden")
    server.stop()
    assert len(server.ratings()) == 2, "an interrupted server leaves nothing behind"


def test_on_a_phone(server, tmp_path):
    with Page(390, 844, phone=True) as page:
        page.join(server, "thumbs")
        page.until("document.body.dataset.clips === '2' && !document.querySelector('video').paused")
        page.driver.save_screenshot(str(tmp_path / "phone.png"))
        box = "((id) => document.getElementById(id).getBoundingClientRect().toJSON())(arguments[0])"
        left, right = page.js(box, "left"), page.js(box, "right")
        assert right["top"] >= left["bottom"], "stacked"
        assert abs(left["width"] - right["width"]) < 0.5
        assert left["width"] >= 180
        assert page.js("document.documentElement.scrollWidth") <= 390
        small = """[...document.querySelectorAll('button')].filter((b) => b.offsetParent)
            .map((b) => [b.id || b.textContent, b.offsetWidth, b.offsetHeight])
            .filter(([, w, h]) => w < 40 || h < 40)"""
        assert page.js(small) == []
        page.watch()
        for axis in ("alignment", "fidelity"):
            page.driver.find_element(By.CSS_SELECTOR, f"[data-axis={axis}] [data-value=tie]").click()
        page.element("submit").click()
        page.until("document.getElementById('ring').ariaLabel.includes('1 in all')")
        assert page.complaints() == []


def test_the_organiser_s_page(server, tmp_path):
    with Page() as page:
        page.join(server, "worker")
        page.rate("1", "q")
        page.driver.get(server.admin)
        page.until("document.body.dataset.view === 'board'")
        assert "worker" in page.element("raters").text
        assert page.js("location.hash") == "", "the key does not stay in the address bar"
        page.driver.save_screenshot(str(tmp_path / "progress.png"))
        page.driver.get(server.admin.split("#")[0])
        page.until("document.body.dataset.view === 'board'")
        assert page.complaints() == []
