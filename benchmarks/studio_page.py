"""How soon the page of the studio can be used while a video is made: `python benchmarks/studio_page.py`.

Opens a studio in a temporary folder with one worker on the CPU, starts a job that lasts longer than the
measurement, and loads the page in headless Chromium again and again, without its cache. Measured from the
start of the navigation: when the form can be filled in, and when the running job stands in the gallery.

Prints one JSON line: median and maximum of both in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from studio_memory import begin, wait_for

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
from studio_pictures import browser, serving, until

from hallo4.studio.make import open_makers

WATCH = """
const seen = {};
window.seen = seen;
const look = () => {
  const ready = document.body?.dataset.view === 'studio';
  if (ready) seen.form ??= performance.now();
  if (ready && document.querySelector('.job[data-status=running]')) seen.job ??= performance.now();
  if (!seen.job) requestAnimationFrame(look);
};
look();
"""


def main() -> None:
    """Load, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loads", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, open_makers(Path(home) / "studio", devices=["cpu"]) as makers:
        job = begin(makers.queue, Path(home), seconds=60.0, steps=200)
        wait_for(makers.queue, job, "running")
        times: dict[str, list[float]] = {"form_ms": [], "job_ms": []}
        with serving(makers.app) as base, browser(makers.link(base), 1280, 800, "light") as driver:
            driver.execute_cdp_cmd("Network.enable", {})
            driver.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": True})
            driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
            for _ in range(options.loads):
                driver.get(base + "/")
                until(driver, "window.seen?.job")
                seen = driver.execute_script("return window.seen")
                times["form_ms"].append(seen["form"])
                times["job_ms"].append(seen["job"])
        assert makers.queue.view(job).status == "running", "the job ended before the last load"
        makers.queue.cancel(job)
    found = {
        name: {"median": round(statistics.median(values)), "max": round(max(values))}
        for name, values in times.items()
    }
    print(json.dumps({"loads": options.loads, **found}))


if __name__ == "__main__":
    main()
