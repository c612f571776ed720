"""One process at a time: the second is told who the first is, and a dead one holds nothing."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from hallo4.errors import OutputError
from hallo4.lock import WaitingNote, in_turn, sole_worker, sole_writer

# Tests of a disk without locks; pytest undoes the filter of the package.
pytestmark = pytest.mark.filterwarnings("ignore:flock not supported")

HOLD = """
import errno, fcntl, sys
from pathlib import Path
if sys.argv[2] == "disk without locks":
    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")
    fcntl.flock = flock
from hallo4.lock import sole_worker
with sole_worker(Path(sys.argv[1]), "talk.mp4", "Wait."):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["disk with locks", "disk without locks"])
def holder(request, tmp_path, monkeypatch):
    """Another process that holds `tmp_path / "a.lock"`, on a disk that knows locks or on one that does
    not."""
    if request.param == "disk without locks":

        def flock(*_):
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr(fcntl, "flock", flock)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "a.lock"), request.param],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_is_told_who_the_first_is(tmp_path, holder):
    with (
        pytest.raises(OutputError) as caught,
        sole_worker(tmp_path / "a.lock", "talk.mp4", "Choose another output."),
    ):
        pytest.fail("both hold it")
    said = str(caught.value)
    assert said.startswith((
        f"talk.mp4: another hallo4 (process {holder.pid}, since 20",
        f"talk.mp4: another process ({holder.pid} on {socket.gethostname()}, by its lock {tmp_path}/a.lock",
    ))  # fmt: skip
    assert said.endswith(") is working on it. Choose another output.")
    holder.communicate("")
    with sole_worker(tmp_path / "a.lock", "talk.mp4", ""):
        pass
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_what_a_dead_process_held_is_taken_over(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "a.lock").exists()
    with sole_worker(tmp_path / "a.lock", "talk.mp4", ""):
        assert str(os.getpid()) in (tmp_path / "a.lock").read_text()
        with pytest.raises(OutputError, match=str(os.getpid())), sole_worker(tmp_path / "a.lock", "b", ""):
            pytest.fail("both hold it")
    assert not list(tmp_path.iterdir())


def test_two_threads_of_one_process_are_kept_apart_too(tmp_path):
    with (
        sole_worker(tmp_path / "a.lock", "a", ""),
        pytest.raises(OutputError, match=rf"a: this process \({os.getpid()}\), since"),
        sole_worker(tmp_path / "a.lock", "a", ""),
    ):
        pytest.fail("both hold it")


def test_an_error_inside_lets_go(tmp_path):
    with pytest.raises(ZeroDivisionError), sole_worker(tmp_path / "a.lock", "a", ""):
        raise ZeroDivisionError
    with sole_worker(tmp_path / "a.lock", "a", ""):
        pass


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[1]", b'{"hallo4_process": 1'])
def test_a_lock_file_with_anything_in_it_is_no_obstacle(tmp_path, content):
    (tmp_path / "a.lock").write_bytes(content)
    with sole_worker(tmp_path / "a.lock", "a", ""):
        pass


def test_a_place_without_room_for_it_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match=r"a: its lock .* cannot be made \(.*\)\. Choose") as caught,
        sole_worker(tmp_path / "file" / "a.lock", "a", "Wait."),
    ):
        pytest.fail("it cannot be held")
    assert "\n" not in str(caught.value)


def _work_in_turn(path):
    with in_turn(path), pytest.raises(OutputError), sole_writer(path):
        pytest.fail("both hold it")


@pytest.mark.parametrize("end", ["signal", "end of work"])
def test_who_comes_in_turn_waits_for_the_first_however_it_ends(tmp_path, end):
    script = HOLD.replace("sole_worker", "in_turn").replace(', "talk.mp4", "Wait."', "")
    words = [sys.executable, "-c", script, str(tmp_path / "clips"), "disk with locks"]
    first = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "held\n"
    stop = first.kill if end == "signal" else first.stdin.close
    later = threading.Timer(0.5, stop)
    later.start()
    note = rf"clips: another hallo4 \(process {first.pid}, since .*\) is working on it; waiting for it"
    with pytest.warns(WaitingNote, match=note):
        _work_in_turn(tmp_path / "clips")
    later.join()
    first.wait()
    first.stdout.close()
    assert not list(tmp_path.iterdir())
