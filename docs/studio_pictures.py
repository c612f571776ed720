"""Take the pictures of the studio that the pages show (`python docs/studio_pictures.py`), with Chromium."""

import os
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import uvicorn
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from hallo4.studio.make import open_makers

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "demo"
PICTURES = {"studio_desk.webp": (1360, 980, "light"), "studio_phone.webp": (390, 844, "dark")}
"""Name -> width and height in pixels of the page, and theme."""


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


def main(folder: Path) -> None:
    """Make two videos, have a third in the making, and take both pictures."""
    with tempfile.TemporaryDirectory() as home, studio(Path(home) / "studio") as link:
        for name, (width, height, theme) in PICTURES.items():
            with browser(link, width, height, theme) as driver:
                bring(driver)
                if width > 600:
                    go(driver, "Hello, first try", seed="0")
                    go(driver, "The same, another performance", seed="7")
                    until(driver, "document.querySelectorAll('.job video').length === 2", 600)
                    go(driver, "Finer", seed="7", steps="200")
                    until(
                        driver,
                        "document.querySelector('.job[data-status=running] img[alt^=\"The newest\"]')",
                    )
                    driver.execute_script("scrollTo(0, 0)")
                else:
                    driver.execute_script("document.getElementById('gallery').scrollIntoView()")
                until(driver, "[...document.querySelectorAll('img')].every((picture) => picture.complete)")
                save(driver, folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "media")
