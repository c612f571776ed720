"""Memory of the studio over many jobs: `python benchmarks/studio_memory.py [--jobs 100] [--every 10]`.

Opens a studio in a temporary folder, puts jobs into its queue one after the other, and reads the resident
memory of the server and of its worker from /proc (Linux) after every so many. The worker keeps the model
loaded between jobs, so the first jobs grow it; after that it has to stay where it is.

Prints one JSON line: megabytes of server and worker by number of jobs, and by how much each grew over the
second half.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from hallo4.studio.make import open_makers
from hallo4.studio.make.settings import JobBody, Settings, UploadBody

DEMO = Path(__file__).parents[1] / "demo"


def resident_mb(pid: int) -> float:
    """Resident memory of a process, without what it shares with others' files."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def workers_of(pid: int) -> list[int]:
    """Processes below a process, at any depth, whichever of its threads started them."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(word) for found in lists for word in found.read_text().split()]
    return children + [below for child in children for below in workers_of(child)]


def sent(queue, role: str, name: str, content: bytes) -> str:
    """A file, as the page sends it; its id."""
    uploads = queue.uploads
    begun = uploads.begin(UploadBody(role=role, name=name, size=len(content)), queue.used_uploads())
    uploads.add(begun.id, 0, content)
    return uploads.look_at(begun.id).id


def begin(queue, home: Path, seconds: float, steps: int, seed: int = 0) -> str:
    """A job with the demo's portrait and a hum, added to the queue; its id."""
    samples = np.sin(np.arange(round(16_000 * seconds)) / 9).astype(np.float32) / 4
    soundfile.write(home / "voice.wav", samples, 16_000)
    portrait, voice = (DEMO / "portrait.png").read_bytes(), (home / "voice.wav").read_bytes()
    files = {
        "portrait": sent(queue, "portrait", "portrait.png", portrait),
        "voice": sent(queue, "voice", "voice.wav", voice),
    }
    settings = Settings(**files, seed=seed, steps=steps)
    return queue.add(JobBody(settings=settings, consent="no_real_person")).id


def wait_for(queue, job: str, *statuses: str) -> None:
    """Wait until a job has one of the statuses."""
    while queue.view(job).status not in statuses:
        time.sleep(0.02)


def main() -> None:
    """Make the videos, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--every", type=int, default=10)
    options = parser.parse_args()
    measured: dict[str, dict[int, float]] = {"server_mb": {}, "worker_mb": {}}
    with tempfile.TemporaryDirectory() as home, open_makers(Path(home) / "studio", devices=["cpu"]) as makers:
        started = time.monotonic()
        for number in range(1, options.jobs + 1):
            job = begin(makers.queue, Path(home), seconds=0.6, steps=1, seed=number)
            wait_for(makers.queue, job, "done", "failed")
            assert makers.queue.view(job).status == "done", makers.queue.view(job).text
            if number % options.every == 0:
                measured["server_mb"][number] = round(resident_mb(os.getpid()), 1)
                measured["worker_mb"][number] = round(sum(map(resident_mb, workers_of(os.getpid()))), 1)
        seconds = time.monotonic() - started
    grown = {}
    for name, values in measured.items():
        kept = list(values.values())
        grown[f"{name}_second_half"] = round(kept[-1] - kept[len(kept) // 2], 1)
    print(json.dumps({"jobs": options.jobs, "seconds": round(seconds, 1), **measured, **grown}))


if __name__ == "__main__":
    main()
