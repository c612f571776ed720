"""`hallo4 studio`, killed in the middle of its work: every job ends, once, with its own frames."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx2
import numpy as np
import pytest
from studio_makers import Program, png_of, wav_of

from hallo4.media import read_frames
from hallo4.pipelines import PortraitAnimator

pytest.importorskip("uvicorn", reason="the extra `studio` is not installed")
pytestmark = pytest.mark.slow

COMMAND = "import sys; from hallo4.cli import main; sys.exit(main())"


@contextmanager
def studio(folder, model):
    """The command in a process of its own, and a program that uses it; killed at the end."""
    words = [sys.executable, "-c", COMMAND, "studio", str(folder), "--port", "0", "--model", str(model)]
    process = subprocess.Popen([*words, "--device", "cpu", "--no-browser"], stdout=subprocess.PIPE, text=True)
    try:
        link = process.stdout.readline().strip()
        base, _, key = link.partition("/#key=")
        with httpx2.Client(base_url=base, timeout=30) as client:
            yield process, Program(client, key)
    finally:
        process.kill()
        process.wait()


def workers_of(process):
    """Ids of the processes that it started."""
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes as Linux shows them")
def test_a_server_or_worker_that_is_killed_loses_and_doubles_nothing(
    tiny_model_folder, portrait_u8, hum, tmp_path
):
    folder, png, wav = tmp_path / "studio", png_of(portrait_u8), wav_of(hum(5.0), tmp_path)
    with studio(folder, tiny_model_folder) as (process, program):
        sent = {"portrait": ("me.png", png), "voice": ("voice.wav", wav)}
        settings = {role: program.send(role, *what).json()["id"] for role, what in sent.items()}
        settings |= {"model": "testling", "seed": 3, "steps": 8}
        ids = [program.add(settings | {"seed": 3 + n}).json()["id"] for n in range(2)]
        while not program.wait(ids[0], "running")["live"]:
            time.sleep(0.02)
        before = workers_of(process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert before
    end = time.monotonic() + 20
    while any(map(alive, before)):
        assert time.monotonic() < end, "a worker outlives its server"
        time.sleep(0.05)
    with studio(folder, tiny_model_folder) as (process, program):
        assert {job["id"] for job in program.get("/api/jobs").json()["jobs"]} == set(ids)
        first = program.wait(ids[0], "done")
        assert any(note.startswith("resumed: ") for note in first["notes"])
        while not program.wait(ids[1], "running")["live"]:
            time.sleep(0.02)
        for worker in workers_of(process):
            if b"spawn_main" in Path(f"/proc/{worker}/cmdline").read_bytes():
                os.kill(worker, signal.SIGKILL)
        job = program.wait(ids[1])
        assert (job["status"], "memory may be short" in job["text"]) == ("failed", True)
        program.post(f"/api/jobs/{ids[1]}/resume")
        second = program.wait(ids[1], "done")
        videos = [program.client.get(job["video"]).content for job in (first, second)]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, "Ctrl-C is the way to end it"
    (tmp_path / "me.png").write_bytes(png)
    animator = PortraitAnimator.from_pretrained(tiny_model_folder, device="cpu")
    for n, video in enumerate(videos):
        (tmp_path / "theirs.mp4").write_bytes(video)
        animator.animate(
            *(tmp_path / "me.png", tmp_path / "voice.wav"), output=tmp_path / "ours.mp4", seed=3 + n, steps=8
        )
        ours, theirs = (np.stack(list(read_frames(tmp_path / name))) for name in ("ours.mp4", "theirs.mp4"))
        np.testing.assert_array_equal(ours, theirs)
    left = [
        path.name for path in (folder / "jobs").rglob("*") if "partial" in path.name or ".part" in path.name
    ]
    assert left == []
