"""The page for makers in a real Chromium: from nothing to a file, at desk and phone size, with real files, a
pretended microphone and a pretended camera."""

from contextlib import contextmanager

import numpy as np
import pytest
from studio_makers import png_of, serving, wav_of

pytest.importorskip("uvicorn", reason="the extra `studio` is not installed")
pytest.importorskip("selenium", reason="selenium is not installed")

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from studio_browser import NEEDS_CHROMIUM, WAIT_S, Browser

from hallo4.media import probe_video, read_provenance
from hallo4.motion import default_rest_pose, draw_skeleton, idle_motion
from hallo4.studio.make import open_makers

pytestmark = [pytest.mark.slow, *NEEDS_CHROMIUM]


@contextmanager
def studio(folder, model):
    with open_makers(folder, [str(model)], ["cpu"]) as makers, serving(makers) as address:
        yield makers, address


@pytest.fixture(scope="module")
def server(tiny_model_folder, tmp_path_factory):
    with studio(tmp_path_factory.mktemp("makers") / "studio", tiny_model_folder) as opened:
        yield opened


@pytest.fixture
def empty_server(tiny_model_folder, tmp_path):
    with studio(tmp_path / "studio", tiny_model_folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def files(portrait_u8, hum, tmp_path_factory):
    """Real files: a portrait, a voice, and what a microphone and a camera are pretended to give."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "me <b>&.png").write_bytes(png_of(portrait_u8))
    (folder / "notes.txt").write_text("no sound")
    wav_of(hum(0.6), folder)
    _write_y4m(folder / "camera.y4m")
    return folder


def _write_y4m(path):
    """A camera that looks at a drawn skeleton, so that a person is found in it without any network."""
    skeleton = idle_motion(default_rest_pose(320, 240), 50, seed=3)
    with path.open("wb") as file:
        file.write(b"YUV4MPEG2 W320 H240 F25:1 Ip A1:1 C420jpeg\n")
        for frame_u8 in draw_skeleton(skeleton, 320, 240):
            red, green, blue = np.moveaxis(frame_u8.astype(np.float32), -1, 0)
            luma = 0.299 * red + 0.587 * green + 0.114 * blue
            planes = [luma, (128 + (blue - luma) * 0.564)[::2, ::2], (128 + (red - luma) * 0.713)[::2, ::2]]
            file.write(b"FRAME\n" + b"".join(p.clip(0, 255).astype(np.uint8).tobytes() for p in planes))


class Page(Browser):
    """One browser that has opened the link."""

    def __init__(self, server, **more):
        super().__init__(**more)
        self.makers, self.base = server
        self.driver.get(self.makers.link(self.base))
        self.until("document.body.dataset.view === 'studio'")

    def put(self, role, path):
        self.driver.find_element(By.CSS_SELECTOR, f"[data-role={role}] input").send_keys(str(path))
        self.here(role)

    def here(self, role):
        self.until(f"document.querySelector('[data-role={role}] .file-facts').textContent.match(/\\d/)")

    def text(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector).text

    def looked(self):
        self.until("!document.getElementById('look-body').hidden && !document.querySelector('.look.stale')")
        self.until("document.getElementById('look-picture').naturalWidth > 0")  # decoded after it is shown

    def go(self, title, consent="agreed"):
        self.element("title").send_keys(title)
        self.click(f"[value={consent}]")
        self.click("#go")
        self.until(f"[...document.querySelectorAll('.job h3')].some((e) => e.textContent === '{title}')")

    def done(self, title):
        """Wait for a video; the selector of its card."""
        code = f"""(() => {{
            const cards = [...document.querySelectorAll('.job')];
            const card = cards.find((e) => e.querySelector('h3').textContent === '{title}');
            if (card?.dataset.status !== 'done' || !card.querySelector('video')) return null;
            card.id = 'card-{title}';
            return '#' + card.id;
        }})()"""
        self.until(code)
        return self.js(code)

    def save_downloads_in(self, folder):
        how = {"behavior": "allow", "downloadPath": str(folder)}
        self.driver.execute_cdp_cmd("Browser.setDownloadBehavior", how)

    def downloaded(self, path):
        """Chromium gives a file its name once it is whole."""
        WebDriverWait(self.driver, WAIT_S, 0.1).until(lambda _: path.is_file(), f"never came: {path}")
        return path

    def record(self, role, seconds=1.2):
        self.click(f"[data-role={role}] .record")
        self.until("document.getElementById('recorder').dataset.state === 'ready'")
        self.press(Keys.ENTER)  # Start has the focus
        self.until(
            f"parseInt(document.getElementById('recorder-clock').textContent.slice(2)) >= {int(seconds)}"
        )
        self.press(Keys.ENTER)
        self.until("document.getElementById('recorder').dataset.state === 'done'")
        self.press(Keys.ENTER)
        self.until("!document.getElementById('recorder').open")
        self.here(role)


SIZES = [{}, {"width": 390, "height": 844, "phone": True}]


@pytest.mark.parametrize("size", SIZES, ids=["desk", "phone"])
def test_from_an_empty_page_to_the_file_with_microphone_and_camera(empty_server, files, tmp_path, size):
    devices = (
        "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={files / 'voice.wav'}",
        f"--use-file-for-fake-video-capture={files / 'camera.y4m'}",
    )  # fmt: skip
    with Page(empty_server, arguments=devices, **size) as page:
        page.save_downloads_in(tmp_path)
        assert page.js("location.hash") == "", "the key does not stay in the address bar"
        assert "No videos yet" in page.text("#empty")
        page.click("#go")
        assert page.text("#form-wrong") == "Add a portrait: a picture of one person."
        page.put("portrait", files / "me <b>&.png")
        assert page.text("[data-role=portrait] .file-name") == "me <b>&.png"
        assert page.text("#look-hint") == "Add a voice, or a driving video with sound."
        page.record("voice")
        assert page.text("[data-role=voice] .file-name").startswith("my voice")
        page.record("motion")
        page.looked()
        assert page.js("document.getElementById('look-picture').naturalWidth") == 512
        assert "frames" in page.text("#look-length")
        page.click("#go")
        assert "Say whether the person agreed" in page.text("#form-wrong")
        assert page.js("document.activeElement.name") == "consent"
        page.go("First")
        card = page.done("First")
        page.until(f"document.querySelector('{card} video').readyState >= 2")
        page.js(f"document.querySelector('{card} video').play()")
        page.until(f"document.querySelector('{card} video').currentTime > 0.1")
        assert page.js("document.documentElement.scrollWidth <= innerWidth")
        page.click(f"{card} [data-do=download]")
        saved = page.downloaded(tmp_path / "First.mp4")
        assert page.complaints() == []
    assert probe_video(saved).duration_s > 0.8
    assert "agreed" in read_provenance(saved)["consent"]


def test_on_a_phone_again_compare_and_delete(server, files):
    with Page(server, width=390, height=844, phone=True) as page:
        page.put("portrait", files / "me <b>&.png")
        page.put("voice", files / "voice.wav")
        page.looked()
        page.go("Phone")
        first = page.done("Phone")
        page.click(f"{first} [data-do=again]")
        assert page.js("document.getElementById('settings').open && document.activeElement.id === 'seed'")
        assert page.text("[data-role=voice] .file-name") == "voice.wav"
        assert page.js("document.querySelector('[name=consent]:checked')") is None, "asked for every video"
        page.element("seed").clear()
        page.element("seed").send_keys("8")
        labels = "[...document.getElementById('speed').options].map((option) => option.textContent)"
        assert page.js(labels) == [
            "Full quality: 2 steps",
            "Fast: 1 step, about 2 times as fast",
            "Draft: 1 step, about 4 times as fast",
        ]
        page.element("speed").send_keys("Draft")
        assert page.js("document.getElementById('guidance_scale').placeholder") == "1, by the speed"
        page.element("title").clear()
        page.go("Other", "no_real_person")
        second = page.done("Other")
        page.click(f"{first} [data-do=compare]")
        assert page.js(f"document.querySelector('{first} [data-do=compare]').ariaPressed") == "true"
        page.click(f"{second} [data-do=compare]")
        page.until("document.getElementById('compare').open")
        rows = "[...document.getElementById('compare-rows').rows].map((row) => row.innerText.split('\\t'))"
        assert page.js(rows) == [["Seed", "0", "8"], ["Speed", "Full quality", "Draft"]]
        page.click("#compare-play")
        page.until("document.getElementById('compare-a').currentTime > 0.1")
        now = "document.getElementById('compare-{}').currentTime"
        page.until(f"Math.abs({now.format('a')} - {now.format('b')}) < 0.08")
        page.press(Keys.ESCAPE)
        page.until("!document.getElementById('compare').open")
        assert page.js("document.documentElement.scrollWidth") <= 390
        small = """[...document.querySelectorAll('button, .quiet, select, input[type=number]')]
            .filter((b) => b.offsetParent).map((b) => [b.id || b.textContent, b.offsetWidth, b.offsetHeight])
            .filter(([, w, h]) => w < 40 || h < 40)"""
        assert page.js(small) == []
        page.click(f"{second} [data-do=delete]")
        assert page.text(f"{second} [data-do=delete]") == "Delete for ever?", "asks once"
        page.press(Keys.TAB)
        assert page.text(f"{second} [data-do=delete]") == "Delete", "until the focus goes elsewhere"
        page.click(f"{second} [data-do=delete]")
        page.click(f"{second} [data-do=delete]")
        page.until(f"!document.querySelector('{second}')")
        assert page.complaints() == []


def test_what_cannot_be_used_is_said_where_it_was_put(server, files):
    with Page(server) as page:
        page.driver.find_element(By.CSS_SELECTOR, "[data-role=voice] input").send_keys(
            str(files / "notes.txt")
        )
        page.until("document.querySelector('[data-role=voice] .wrong').textContent.startsWith('notes.txt: ')")
        drop = """(() => {
            const what = new DataTransfer();
            what.items.add(new File(['nothing'], 'dropped.png'));
            const event = new DragEvent('drop', { dataTransfer: what, bubbles: true, cancelable: true });
            return document.querySelector('[data-role=portrait] .drop').dispatchEvent(event);
        })()"""
        assert page.js(drop) is False, "the browser does not open the file itself"
        page.until(
            "document.querySelector('[data-role=portrait] .wrong').textContent.includes('dropped.png')"
        )
        page.put("portrait", files / "me <b>&.png")
        page.put("voice", files / "voice.wav")
        assert page.text("[data-role=voice] .wrong") == ""
        page.looked()
        page.js("document.getElementById('settings').open = true")
        page.element("steps").send_keys("0")
        page.click("[value=agreed]")
        page.click("#go")
        assert page.text("#form-wrong").startswith("Steps: ")
        assert page.js("document.activeElement.id") == "steps"


def test_every_control_has_a_name_and_the_page_one_heading_of_the_first_order(server):
    with Page(server) as page:
        nameless = """[...document.querySelectorAll('button, input, select, textarea, progress, meter')]
            .filter((e) => !(e.labels?.length || e.ariaLabel || e.textContent.trim()))
            .map((e) => e.outerHTML.slice(0, 80)).filter((html) => !/recorder-|hidden/.test(html))"""
        assert page.js(nameless) == []
        assert page.js("document.querySelectorAll('h1').length") == 1
        assert page.js("document.querySelectorAll('[id]').length") == page.js(
            "new Set([...document.querySelectorAll('[id]')].map((e) => e.id)).size"
        )
        page.driver.get(page.base + "/")
        page.until("document.body.dataset.view === 'studio'")  # the key is remembered
        page.js("localStorage.clear()")
        page.driver.get(page.base + "/?fresh")
        page.until("document.body.dataset.view === 'closed'")
        assert "Open your link" in page.text("[data-for=closed]")
