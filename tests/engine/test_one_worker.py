"""A single worker for work from outside, and who may start processes at all."""

import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from hallo4 import errors
from hallo4.engine.processes import one_worker

PACKAGE = Path(errors.__file__).parent


def set_home():
    os.environ["HOME"] = "/prepared"


def test_it_is_another_process_that_was_prepared_and_stays_the_same():
    with one_worker(set_home) as pool:
        assert pool.submit(os.getenv, "HOME").result() == "/prepared"
        assert os.getenv("HOME") != "/prepared"
        assert len({os.getpid(), *(pool.submit(os.getpid).result() for _ in range(3))}) == 2


def test_an_error_of_the_work_comes_out_as_it_is():
    with pytest.raises(ValueError, match="invalid literal"), one_worker(set_home) as pool:
        pool.submit(int, "x").result()


def test_its_end_is_said():
    with pytest.raises(BrokenProcessPool), one_worker(set_home) as pool:
        pool.submit(os._exit, 3).result()


ASLEEP = """
import os, time
from hallo4.engine.processes import one_worker
with one_worker(os.getpid) as pool:
    worker = pool.submit(os.getpid).result()
    pool.submit(time.sleep, 60)
    print(worker, flush=True)
    time.sleep(60)
"""


def test_it_ends_with_its_parent_in_the_middle_of_its_work():
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    words = [sys.executable, "-c", ASLEEP]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        worker = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    end = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and "Z" not in Path(f"/proc/{worker}/stat").read_text().split()[2]:
        assert time.monotonic() < end, "the worker lives on"
        time.sleep(0.05)


def test_whatever_starts_processes_has_them_end_with_their_parent():
    """So what is true here of workers and parents is true of every command."""
    starts = re.compile(
        r"\b((import|from) (multiprocessing|subprocess)|os\.(fork|spawn|exec|system|popen)"
        r"|ProcessPoolExecutor\()"
    )
    texts = {path: path.read_text() for path in PACKAGE.rglob("*.py")}
    starters = [path for path, text in texts.items() if starts.search(text)]
    assert starters
    assert [path for path in starters if "end_with_parent, daemon=True).start()" not in texts[path]] == []
