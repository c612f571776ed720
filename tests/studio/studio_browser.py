"""What tests of the page drive: the studio as a server, and a Chromium in front of it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest
from studio_people import ONCE, given

from hallo4.preference import PreferenceStore

uvicorn = pytest.importorskip("uvicorn", reason="the extra `studio` is not installed")
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

from selenium.common.exceptions import (  # noqa: E402
    ElementClickInterceptedException,
    ElementNotInteractableException,
    JavascriptException,
)
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

from hallo4.studio.annotate import open_studio  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
NEEDS_CHROMIUM = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
    pytest.mark.skipif(DRIVER is None, reason="there is no chromedriver on this machine"),
]
WAIT_S = 60

SERVER = """
import sys
from hallo4.studio.annotate import serve
from hallo4.studio.study import read_study
study = read_study(sys.argv[3]) if len(sys.argv) > 3 else None
serve([sys.argv[1]], port=int(sys.argv[2]), study=study,
      on_ready=lambda links: print(links[0].rate, links[0].admin, flush=True))
"""


class Hall:
    """What both kinds of server have: a store, a port, links."""

    def __init__(self, folder, path="", study=ONCE):
        self.folder, self.path, self.study = folder, path, study
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.start()

    def ratings(self):
        return PreferenceStore.open(self.folder).ratings()

    def given(self):
        return given(PreferenceStore.open(self.folder))


class Server(Hall):
    """The studio in a thread of this process."""

    def start(self):
        self.studio = ExitStack()
        self.opened = self.studio.enter_context(open_studio(self.folder, path=self.path, study=self.study))
        self.reach(f"http://127.0.0.1:{self.port}")
        app = self.opened.app
        config = uvicorn.Config(app, port=self.port, log_level="warning", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()

    def reach(self, base):
        """Links for an address at which it is reached."""
        links = self.opened.links(base)
        self.rate, self.admin = links.rate, links.admin

    def stop(self):
        self.server.should_exit = True
        self.thread.join(WAIT_S)
        self.studio.close()


class ServerProcess(Hall):
    """`serve` in a process of its own, which can be killed."""

    def start(self):
        words = [sys.executable, "-c", SERVER, str(self.folder), str(self.port)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        self.rate, self.admin = self.process.stdout.readline().split()

    def stop(self, how=signal.SIGINT):
        self.process.send_signal(how)
        assert self.process.wait(WAIT_S) in (0, -how)


class Browser:
    """One headless Chromium with a fresh profile; `arguments` are switches of its own."""

    def __init__(self, width=1280, height=800, phone=False, calm=False, arguments=()):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        arguments = [
            *arguments,
            "--headless=new",
            "--disable-gpu",
            "--mute-audio",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ]
        arguments += ["--no-sandbox"] if os.geteuid() == 0 else []
        arguments += ["--force-prefers-reduced-motion"] if calm else []
        for argument in [*arguments, f"--window-size={width},{height}"]:
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        if phone:
            metrics = {"width": width, "height": height, "pixelRatio": 2, "touch": True}
            options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        if not phone:
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.driver.quit()

    def js(self, code, *arguments):
        return self.driver.execute_script(f"return {code}", *arguments)

    def until(self, code):
        """Wait for a state of the page, which may just be loading: code that fails then is tried again."""
        wait = WebDriverWait(self.driver, WAIT_S, 0.1, [JavascriptException])
        wait.until(lambda _: self.js(code), f"never came: {code}")

    def click(self, selector):
        """Bring an element into view and click it, once it stands still and nothing lies over it."""
        self.until(f"document.querySelector({json.dumps(selector)})")
        element = self.driver.find_element(By.CSS_SELECTOR, selector)
        still = """(async (element) => {
            const frame = () => new Promise(requestAnimationFrame);
            const place = () => JSON.stringify(element.getBoundingClientRect());
            element.scrollIntoView({ block: "center", behavior: "instant" });
            await frame();
            const before = place();
            await frame();
            await frame();
            return place() === before;
        })(arguments[0])"""

        def clicked(_):
            if not self.js(still, element):
                return False
            element.click()
            return True

        ignored = [ElementClickInterceptedException, ElementNotInteractableException]
        WebDriverWait(self.driver, WAIT_S, 0.1, ignored).until(clicked, f"cannot be clicked: {selector}")

    def press(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()

    def element(self, name):
        return self.driver.find_element(By.ID, name)

    def complaints(self):
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


class Page(Browser):
    """One browser with one rater."""

    def join(self, server, name):
        """From the link to the first question, by keyboard alone."""
        self.driver.get(server.rate)
        self.until("document.body.dataset.view === 'intro'")
        languages = self.js("document.querySelectorAll('.languages a').length")
        self.press(*[Keys.TAB] * (languages + 1), name, Keys.TAB, Keys.SPACE, Keys.TAB, Keys.ENTER)
        self.until("document.body.dataset.view === 'rating'")

    def token(self):
        return self.js("document.getElementById('stage').dataset.token")

    def watch(self):
        self.until("document.body.classList.contains('watched')")

    def rate(self, *keys):
        """Watch, answer with these keys, wait until the next question is there."""
        self.watch()
        done = self.js("document.getElementById('ring').ariaLabel")
        self.press(*keys, Keys.ENTER)
        self.until(f"document.getElementById('ring').ariaLabel !== {json.dumps(done)}")

    def draft(self):
        return self.js(
            "JSON.parse(Object.entries(localStorage).find(([k]) => k.startsWith('hallo4-studio.draft.'))[1])"
        )

    def pressed(self):
        found = "[...document.querySelectorAll('.choice[aria-pressed=true]')].map((b) => b.dataset.value)"
        return self.js(found)
