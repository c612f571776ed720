"""Worker processes start from any script, tell what is wrong in one line, and end with their parent."""

import os
import re
import subprocess
import sys
import time
from concurrent.futures import as_completed
from pathlib import Path

import pytest

from hallo4 import errors
from hallo4.errors import Hallo4Error, InputError
from hallo4.processes import worker_pool

# Without a main guard, as people write scripts.
SCRIPT = """
from operator import mul
from hallo4.processes import worker_pool
print("started", flush=True)
with worker_pool(2) as pool:
    print(sorted(job.result() for job in [pool.submit(mul, 3, n) for n in range(4)]), flush=True)
"""


@pytest.mark.parametrize("how", ["file", "stdin", "command"])
def test_a_script_without_a_main_guard_has_workers_and_runs_once(tmp_path, how):
    (tmp_path / "script.py").write_text(SCRIPT)
    words = {"file": [tmp_path / "script.py"], "stdin": ["-"], "command": ["-c", SCRIPT]}[how]
    made = subprocess.run(
        [sys.executable, *words],
        input=SCRIPT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert made.stdout == "started\n[0, 3, 6, 9]\n"
    assert not made.stderr


def test_a_worker_that_dies_is_one_line():
    with pytest.raises(Hallo4Error, match="a worker process ended before its work"), worker_pool(1) as pool:
        pool.submit(os._exit, 3).result()


def test_an_error_of_the_work_comes_out_as_it_is():
    with pytest.raises(ValueError, match="invalid literal"), worker_pool(1) as pool:
        pool.submit(int, "x").result()


def test_workers_are_prepared():
    with worker_pool(1, os.putenv, ("HALLO4_TEST", "1")) as pool:
        assert next(as_completed([pool.submit(os.getpid)])).result() != os.getpid()


@pytest.mark.parametrize("workers", [0, -1])
def test_fewer_than_one_worker_is_refused(workers):
    with pytest.raises(InputError, match=f"workers is {workers}"), worker_pool(workers):
        pytest.fail("there is no such pool")


ORPHANS = """
import os, time
from hallo4.processes import worker_pool
with worker_pool(2) as pool:
    workers = {job.result() for job in [pool.submit(os.getpid) for _ in range(8)]}
    for _ in range(2):
        pool.submit(time.sleep, 60)
    print(*workers, flush=True)
    time.sleep(60)
"""


def test_workers_end_with_their_parent_also_in_the_middle_of_their_work():
    parent = subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, text=True)
    workers = [int(word) for word in parent.stdout.readline().split()]
    assert workers
    parent.kill()
    parent.wait()
    parent.stdout.close()  # its workers hold the other end
    end = time.monotonic() + 20
    while any(map(_lives, workers)):
        assert time.monotonic() < end, "a worker lives on"
        time.sleep(0.05)


def _lives(process_id: int) -> bool:
    try:
        with open(f"/proc/{process_id}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_whatever_starts_processes_has_them_end_with_their_parent():
    """So what is true here of workers and parents is true of every command."""
    starts = re.compile(
        r"\b((import|from) (multiprocessing|subprocess)|os\.(fork|spawn|exec|system|popen)"
        r"|ProcessPoolExecutor\()"
    )
    texts = {path: path.read_text() for path in Path(errors.__file__).parent.rglob("*.py")}
    starters = [path for path, text in texts.items() if starts.search(text)]
    assert starters
    assert [path for path in starters if "end_with_parent, daemon=True).start()" not in texts[path]] == []
