"""Take the pictures of the rating page and the organiser's page (`python docs/rating_pictures.py`).

With Chromium: two pictures for the pages, each of a desk in the light theme and a phone in the dark one. With
a folder as its second word the script also leaves every single picture there, in both themes and sizes.
"""

import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from studio_pictures import ROOT, browser, serving, until

from hallo4.preference import PreferenceStore, make_gold
from hallo4.preference.candidates import Source, add_clip_of_frames
from hallo4.preference.conditions import add_world_condition, world_episode
from hallo4.preference.gold import coarse
from hallo4.studio.annotate import Studio, open_studio
from hallo4.studio.study import read_study

DESK, PHONE = (1360, 900), (390, 844)
VIEWS = {
    "desk-light": (DESK, "light"),
    "phone-dark": (PHONE, "dark"),
    "desk-dark": (DESK, "dark"),
    "phone-light": (PHONE, "light"),
}
SHOWN = 2
"""So many of them are in the pictures for the pages; the others are for who looks."""


def make_store(folder: Path) -> None:
    """Two people of the portrait world, each in three versions, and gold questions."""
    store = PreferenceStore.create(folder)
    for number in range(2):
        condition = add_world_condition(store, number, 1.2, 192)
        frames = world_episode(store, condition).frames_u8
        blurred = np.stack([coarse(frame[None])[0] for frame in frames]) // 2 + frames // 2
        for name, version in (("one", frames), ("two", np.roll(frames, 4, axis=0)), ("three", blurred)):
            add_clip_of_frames(store, condition, [version], Source(name, name, 0, {}))
    make_gold(store, 2)
    store.close()


def join(driver: webdriver.Chrome, name: str) -> None:
    """From the consent note over the sound check to the first question."""
    until(driver, "document.body.dataset.view === 'intro'")
    driver.find_element(By.ID, "rater").send_keys(name)
    driver.find_element(By.ID, "consent").click()
    driver.find_element(By.ID, "begin").click()
    until(driver, "document.body.dataset.view === 'rating'")


def answer(driver: webdriver.Chrome, keys: str) -> None:
    """Watch, answer each question, go on."""
    until(driver, "document.body.classList.contains('watched')")
    before = driver.find_element(By.ID, "stage").get_attribute("data-token")
    body = driver.find_element(By.TAG_NAME, "body")
    body.send_keys(keys)
    body.send_keys(Keys.ENTER)
    next_one = f"document.getElementById('stage').dataset.token !== '{before}'"
    until(driver, f"{next_one} || document.body.dataset.view === 'done'")


class Pictures(dict[str, Image.Image]):
    """Pictures by name, each also saved in a folder, if there is one."""

    def __init__(self, folder: Path | None) -> None:
        super().__init__()
        self.folder = folder

    def __setitem__(self, name: str, picture: Image.Image) -> None:
        super().__setitem__(name, picture)
        if self.folder is not None:
            picture.save(self.folder / f"{name}.png")


def taken(driver: webdriver.Chrome) -> Image.Image:
    """What is on the screen."""
    return Image.open(BytesIO(driver.get_screenshot_as_png())).convert("RGB")


def beside(left: Image.Image, right: Image.Image, path: Path) -> None:
    """Both at one height, as a small picture."""
    height = 900
    scaled = [
        p.resize((round(p.width * height / p.height), height), Image.Resampling.LANCZOS)
        for p in (left, right)
    ]
    whole = Image.new("RGB", (sum(p.width for p in scaled) + 24, height), "white")
    whole.paste(scaled[0], (0, 0))
    whole.paste(scaled[1], (scaled[0].width + 24, 0))
    whole.save(path, quality=80, method=6)


def views(studio: Studio, base: str, found: Pictures, wanted: dict) -> None:
    """Every page in both sizes and themes: some raters work meanwhile."""
    links = studio.links(base)
    for number, (name, (size, theme)) in enumerate(wanted.items()):
        with browser(links.rate, *size, theme, "intro") as driver:
            found[f"intro-{name}"] = taken(driver)
            join(driver, f"rater-{number}")
            until(driver, "document.body.classList.contains('watched')")
            driver.find_element(By.CSS_SELECTOR, ".axis .choice[data-value=left]").click()
            time.sleep(0.5)  # its colour fades in
            found[f"rating-{name}"] = taken(driver)
            driver.find_element(By.CSS_SELECTOR, ".axis .choice[data-value=left]").click()
            answer(driver, "1121")
            driver.execute_script("document.getElementById('help').click()")
            found[f"guide-{name}"] = taken(driver)
            driver.execute_script("document.getElementById('guide').close()")
            while driver.execute_script("return document.body.dataset.view") == "rating":
                answer(driver, "1213")
            driver.find_element(By.ID, "finish").click()
            until(driver, "!document.getElementById('code').hidden")
            found[f"done-{name}"] = taken(driver)
    for name, (size, theme) in wanted.items():
        with browser(links.admin, *size, theme, "board") as driver:
            found[f"organiser-{name}"] = taken(driver)


def main(folder: Path, every: Path | None) -> None:
    """Make a store, rate in it, take the pictures."""
    study = (ROOT / "docs" / "study.toml").read_text()
    study = study[: study.index("[platform]")].replace("sound_check = true", "sound_check = false")
    study = study.replace("practice = 2 ", "practice = 0 ").replace("per_rater = 40", "per_rater = 4")
    study = study.replace("stop_below = 0.5 ", "# stop_below ")
    with tempfile.TemporaryDirectory() as home:
        store, file = Path(home) / "store", Path(home) / "study.toml"
        file.write_text(study)
        make_store(store)
        with open_studio(store, study=read_study(file)) as studio:
            studio.make_copies()
            found = Pictures(every)
            with serving(studio.app) as base:
                views(studio, base, found, dict(list(VIEWS.items())[: None if every else SHOWN]))
    for name, page in (("rating_page", "rating"), ("organiser_page", "organiser")):
        beside(found[f"{page}-desk-light"], found[f"{page}-phone-dark"], folder / f"{name}.webp")


if __name__ == "__main__":
    places = [Path(word) for word in sys.argv[1:]]
    main(places[0] if places else ROOT / "docs" / "media", places[1] if len(places) > 1 else None)
