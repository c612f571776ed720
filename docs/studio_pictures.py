"""Take the pictures of the studio that the pages show (`python docs/studio_pictures.py`), with Chromium."""

import argparse
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import product
from pathlib import Path

import uvicorn
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from hallo4.studio.make import open_makers

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "demo"


@contextmanager
def serving(app: Callable) -> Iterator[str]:
    """The address of an application while it is served."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = uvicorn.Config(app, port=port, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def studio(folder: Path) -> Iterator[str]:
    """A studio in `folder`, and its link."""
    with open_makers(folder) as makers, serving(makers.app) as base:
        yield makers.link(base)


@contextmanager
def browser(
    link: str, width: int, height: int, theme: str, view: str = "studio"
) -> Iterator[webdriver.Chrome]:
    """A Chromium that has opened the link and shows a view of the page."""
    options = webdriver.ChromeOptions()
    for argument in (
        "--headless=new",
        "--mute-audio",
        "--no-sandbox" if os.geteuid() == 0 else "--no-first-run",
    ):
        options.add_argument(argument)
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        size = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": size["mobile"]})
        theme_now = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", theme_now)
        driver.get(link)
        until(driver, f"document.body.dataset.view === '{view}'")
        yield driver
    finally:
        driver.quit()


def until(driver: webdriver.Chrome, code: str, seconds: float = 120) -> None:
    """Wait until a piece of JavaScript is true."""
    WebDriverWait(driver, seconds, 0.1).until(lambda _: driver.execute_script(f"return {code}"), code)


def bring(driver: webdriver.Chrome, motion: bool = True) -> None:
    """Put the demo's files into the form, and wait until it shows what will be made."""
    files = {"portrait": "portrait.png", "voice": "speech.wav"} | (
        {"motion": "keypoints.json"} if motion else {}
    )
    for role, name in files.items():
        driver.find_element(By.CSS_SELECTOR, f"[data-role={role}] input").send_keys(str(DEMO / name))
        until(driver, f"document.querySelector('[data-role={role}] .file-facts').textContent.match(/\\d/)")
    until(
        driver, "document.getElementById('look-picture').complete && !document.querySelector('.look.stale')"
    )


def go(driver: webdriver.Chrome, title: str, **settings: str) -> None:
    """Fill in the rest and press the button."""
    driver.execute_script("document.getElementById('settings').open = true")
    for name, value in settings.items():
        field = driver.find_element(By.ID, name)
        field.clear()
        field.send_keys(value)
    driver.find_element(By.ID, "title").send_keys(title)
    driver.find_element(By.CSS_SELECTOR, "[value=no_real_person]").click()
    before = len(driver.find_elements(By.CSS_SELECTOR, ".job"))
    driver.find_element(By.ID, "go").click()
    until(driver, f"document.querySelectorAll('.job').length > {before}")
    driver.execute_script("document.getElementById('settings').open = false")


def save(driver: webdriver.Chrome, path: Path) -> None:
    """What is on the screen, as a small picture."""
    picture = Image.open(BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    picture.thumbnail((1360, 1360))
    picture.save(path, quality=82, method=6)


def show_running(driver: webdriver.Chrome) -> None:
    """Two videos, and a third in the making."""
    until(driver, "document.querySelector('.job[data-status=running] img[alt^=\"The newest\"]')", 600)
    driver.execute_script(
        "(innerWidth > 900 ? document.body : document.getElementById('gallery')).scrollIntoView()"
    )


def show_form(driver: webdriver.Chrome) -> None:
    """The form with files, and what will be made of them; on a phone scrolled to the latter."""
    bring(driver)
    driver.execute_script("document.getElementById('settings').open = true")
    driver.execute_script(
        "(innerWidth > 900 ? document.body : document.getElementById('look')).scrollIntoView()"
    )


def show_errors(driver: webdriver.Chrome) -> None:
    """A file that cannot be used, and a press on the button with nothing in the form."""
    slot = driver.find_element(By.CSS_SELECTOR, "[data-role=voice] input")
    slot.send_keys(str(ROOT / "README.md"))
    until(driver, "document.querySelector('[data-role=voice] .wrong').textContent")
    driver.find_element(By.ID, "go").click()
    until(driver, "document.getElementById('form-wrong').textContent")
    driver.execute_script("scrollTo(0, 0)")


def show_compare(driver: webdriver.Chrome) -> None:
    """Two finished videos side by side."""
    for number in (0, 1):
        script = "document.querySelectorAll('.job[data-status=done] [data-do=compare]')[arguments[0]].click()"
        driver.execute_script(script, number)
    until(driver, "[...document.querySelectorAll('#compare video')].every((video) => video.readyState >= 2)")
    driver.execute_script(
        "for (const video of document.querySelectorAll('#compare video')) video.currentTime = 1"
    )
    until(driver, "[...document.querySelectorAll('#compare video')].every((video) => !video.seeking)")


def show_focus(driver: webdriver.Chrome) -> None:
    """What has the keyboard's focus after a few presses of the tabulator."""
    ActionChains(driver).send_keys(*[Keys.TAB] * 3).perform()
    until(driver, "document.activeElement !== document.body")


LOADED = "[...document.querySelectorAll('video[src]')].every((video) => video.readyState >= 1)"
SIZES = {"desk": (1360, 980), "phone": (390, 844)}
VIEWS: dict[str, Callable[[webdriver.Chrome], None]] = {
    "running": show_running, "form": show_form, "errors": show_errors, "compare": show_compare,
    "focus": show_focus,
}  # fmt: skip
KEPT = {
    ("empty", "desk", "light"): "studio_empty.webp",
    ("running", "desk", "light"): "studio_desk.webp",
    ("running", "phone", "dark"): "studio_phone.webp",
    ("form", "phone", "light"): "studio_form.webp",
    ("compare", "desk", "dark"): "studio_compare.webp",
}
"""View, size and theme of the pictures that the pages show; the others are for a look at all of them."""


def main(folder: Path, everything: bool) -> None:
    """Take the pictures of an empty studio, then make videos, and take the others."""
    with tempfile.TemporaryDirectory() as home, studio(Path(home) / "studio") as link:

        def take(view: str, show: Callable[[webdriver.Chrome], None]) -> None:
            for size, theme in product(SIZES, ("light", "dark")):
                name = KEPT.get((view, size, theme))
                if name is None and not everything:
                    continue
                with browser(link, *SIZES[size], theme) as driver:
                    show(driver)
                    until(driver, "[...document.images].every((picture) => picture.complete)")
                    until(driver, LOADED)  # else a wheel turns over them
                    save(driver, folder / (name or f"{view}_{size}_{theme}.webp"))

        take("empty", lambda driver: None)
        with browser(link, *SIZES["desk"], "light") as driver:
            bring(driver)
            go(driver, "Hello, first try", seed="0")
            go(driver, "The same, another performance", seed="7")
            until(driver, "document.querySelectorAll('.job video').length === 2", 600)
            go(driver, "Finer", seed="7", steps="12")
        for view, show in VIEWS.items():
            take(view, show)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs" / "media")
    options.add_argument("--all", action="store_true", help="every view in both sizes and both themes")
    chosen = options.parse_args()
    main(chosen.folder, chosen.all)
