"""A real Chromium for the tests of the pages."""

import os
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
NEEDS_CHROMIUM = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
    pytest.mark.skipif(DRIVER is None, reason="there is no chromedriver on this machine"),
]
WAIT_S = 60


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
        WebDriverWait(self.driver, WAIT_S, 0.1).until(lambda _: self.js(code), f"never came: {code}")

    def press(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()

    def element(self, name):
        return self.driver.find_element(By.ID, name)

    def complaints(self):
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
