"""Workers that die are replaced, and all of them end with the process that asked for them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import small_stages as stages

from hallo4.engine import Stage, open_engine
from hallo4.engine.stage import ATTEMPTS
from hallo4.errors import Hallo4Error

ROOT, HERE = Path(__file__).parent.parent.parent, Path(__file__).parent


@pytest.fixture(params=["processes", "ray"])
def new_engine(request):
    """Opened by the test itself, which may spoil it."""
    if request.param == "ray":
        address = request.getfixturevalue("ray_cluster")
        return lambda: open_engine(ray=address)
    return lambda: open_engine(2)


def test_networks_are_loaded_once_in_each_worker(new_engine):
    with new_engine() as engine:
        found = [o.result() for o in engine.map(Stage(stages.process_id), range(20))]
    assert all(opened == worked for opened, worked in found)
    assert 1 <= len(set(found)) <= 2


def test_a_worker_that_is_killed_loses_nothing(new_engine, tmp_path):
    with new_engine() as engine:
        outcomes = list(engine.map(Stage(stages.Mortal, (tmp_path, 4, ATTEMPTS - 1)), range(12)))
    assert [o.result() for o in outcomes] == [n * n for n in range(12)]
    assert len(list(tmp_path.iterdir())) == ATTEMPTS - 1


def test_a_record_that_kills_its_workers_is_given_up(new_engine, tmp_path):
    with new_engine() as engine:
        outcomes = list(engine.map(Stage(stages.Mortal, (tmp_path, 4, 99)), range(8)))
    assert [o.result() for o in outcomes if o.item != 4] == [n * n for n in range(8) if n != 4]
    assert outcomes[4].reason.startswith(f"{ATTEMPTS} workers ended while they worked on it; the last one")
    assert len(list(tmp_path.iterdir())) == ATTEMPTS


def test_workers_that_die_whatever_they_do_end_the_run(new_engine):
    with pytest.raises(Hallo4Error, match="3 workers ended while they loaded"), new_engine() as engine:
        list(engine.map(Stage(stages.dies_opening), range(3)))


def test_a_local_death_is_called_by_its_name(tmp_path):
    with open_engine(2) as engine:
        (outcome,) = engine.map(Stage(stages.Mortal, (tmp_path, 0, 99)), [0])
    assert outcome.reason.endswith(f"was ended by signal {signal.SIGKILL.name}.")


# Without a main guard, as people write scripts.
SCRIPT = """
import small_stages
from hallo4.engine import Stage, open_engine
print("started", flush=True)
with open_engine(2) as engine:
    print([o.result() for o in engine.map(Stage(small_stages.square), range(4))], flush=True)
"""
SLEEPERS = """
import small_stages
from hallo4.engine import Stage, open_engine
with open_engine(2) as engine:
    for done, outcome in enumerate(engine.map(Stage(small_stages.sleeper, 60), range(9))):
        print(outcome.result(), flush=True)
"""


def started(words, **options):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, HERE)))}
    return subprocess.Popen([sys.executable, *words], text=True, env=environment, **options)


@pytest.mark.parametrize("how", ["file", "stdin", "command"])
def test_a_script_without_a_main_guard_has_workers_and_runs_once(tmp_path, how):
    (tmp_path / "script.py").write_text(SCRIPT)
    words = {"file": [tmp_path / "script.py"], "stdin": ["-"], "command": ["-c", SCRIPT]}[how]
    piped = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    assert started(words, **piped).communicate(SCRIPT, timeout=60) == ("started\n[0, 1, 4, 9]\n", "")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_workers_end_with_their_parent_also_in_the_middle_of_their_work(how):
    """A kill, Ctrl-C (which a terminal sends to all of them) and a polite request."""
    parent = started(
        ["-c", SLEEPERS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # may be ignored
    )  # fmt: skip
    workers = {int(parent.stdout.readline()) for _ in range(2)}
    if how == signal.SIGINT:
        os.killpg(parent.pid, how)
    else:
        parent.send_signal(how)
    end = time.monotonic() + 20
    while parent.poll() is None or any(map(lives, workers)):
        assert time.monotonic() < end, "a worker lives on"
        time.sleep(0.05)
    parent.stdout.close()


def lives(process_id: int) -> bool:
    try:
        with open(f"/proc/{process_id}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
