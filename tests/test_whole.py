"""Whole files and folders: what stood there stays until the new one is complete, whatever happens."""

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hallo4 import whole
from hallo4.whole import place_folder, temporary_beside, whole_file, whole_folder, write_whole

PACKAGE = Path(whole.__file__).parent.parent
KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from hallo4.whole import whole_file, whole_folder
target = Path(sys.argv[2])
with dict(file=whole_file, folder=whole_folder)[sys.argv[1]](target) as made:
    (made if sys.argv[1] == "file" else made / "a.txt").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_while_writing(kind, target):
    words = [sys.executable, "-c", KILLED_WHILE_WRITING, kind, str(target)]
    assert subprocess.run(words, check=False, cwd=PACKAGE).returncode == -signal.SIGKILL


def interrupted(kind, target):
    with kind(target) as made:
        (made if kind is whole_file else made / "a").write_text("half")
        raise ZeroDivisionError


def temporaries(folder):
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


def test_a_file_is_there_whole_and_nothing_else(tmp_path):
    write_whole(tmp_path / "a.json", "é")
    write_whole(tmp_path / "b.bin", b"\x00")
    assert (tmp_path / "a.json").read_bytes() == "é".encode()
    assert sorted(os.listdir(tmp_path)) == ["a.json", "b.bin"]


def test_the_name_of_a_temporary_file_says_whose_it_is(tmp_path):
    name = temporary_beside(tmp_path / "a.json").name
    assert name.startswith(f".hallo4-{os.getpid()}-")
    assert whole._TEMPORARY.fullmatch(name)["host"] == whole._host()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_kill_leaves_what_was_there_and_the_next_write_cleans_up(tmp_path, kind):
    target = tmp_path / "target"
    if kind == "file":
        target.write_text("old")
    else:
        target.mkdir()
        (target / "a.txt").write_text("old")
    killed_while_writing(kind, target)
    assert (target if kind == "file" else target / "a.txt").read_text() == "old"
    assert len(temporaries(tmp_path)) == 1
    write_whole(tmp_path / "other", "new")
    assert temporaries(tmp_path) == []


def test_left_overs_of_the_living_and_of_other_machines_stay(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    elsewhere = f".hallo4-{dead.pid}-another.1-0123456789ab.part"
    living = f".hallo4-{os.getppid()}-{whole._host()}-0123456789ab.part"
    named_alike = f".hallo4-{dead.pid}-{whole._host()}-notes.part"
    gone = f".hallo4-{dead.pid}-{whole._host()}-0123456789ab.part"
    for name in (elsewhere, living, named_alike, gone, "a.json.part"):
        (tmp_path / name).write_text("kept")
    write_whole(tmp_path / "a.json", "x")
    assert set(os.listdir(tmp_path)) == {elsewhere, living, named_alike, "a.json", "a.json.part"}
    assert (tmp_path / "a.json.part").read_text() == "kept"


@pytest.mark.parametrize("step", ["write", "fsync", "rename"])
def test_a_disk_that_fails_leaves_the_old_file(tmp_path, monkeypatch, step):
    target = tmp_path / "a.json"
    target.write_text("old")

    def fail(*_):
        raise OSError(errno.ENOSPC, "full")

    steps = {"write": (Path, "write_bytes"), "fsync": (os, "fsync"), "rename": (os, "replace")}
    monkeypatch.setattr(*steps[step], fail)
    with pytest.raises(OSError, match="full"):
        write_whole(target, "new")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


WRITERS = {
    "bytes": lambda path: path.write_bytes(bytes(50_000)),
    "numpy": lambda path: np.save(path.open("wb"), np.zeros(50_000)),
    "torch": lambda path: torch.save({"x": torch.zeros(50_000)}, path),
    "safetensors": lambda path: save_file({"x": torch.zeros(50_000)}, path),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_an_oserror_that_names_the_file_whatever_a_library_says(tmp_path, writer):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError) as caught, whole_file(tmp_path / "a") as path:
            WRITERS[writer](path)
        with pytest.raises(OSError) as other, whole_folder(tmp_path / "b") as path:
            WRITERS[writer](path / "part")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename == str(tmp_path / "a")
    assert other.value.filename == str(tmp_path / "b")
    assert caught.value.strerror
    assert os.listdir(tmp_path) == []


def test_other_errors_of_the_block_stay_what_they_are(tmp_path):
    with pytest.raises(RuntimeError, match="no"), whole_file(tmp_path / "a"):
        raise RuntimeError("no")
    with pytest.raises(FileNotFoundError) as caught, whole_file(tmp_path / "a"):
        (tmp_path / "source").read_bytes()
    assert caught.value.filename == str(tmp_path / "source")


def test_what_is_no_regular_file_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for target in (tmp_path / "pipe", tmp_path / "folder", Path("/dev/null")):
        with pytest.raises(OSError, match="not a regular file"):
            write_whole(target, "x")
    assert (tmp_path / "pipe").is_fifo()
    assert Path("/dev/null").is_char_device()
    assert sorted(os.listdir(tmp_path)) == ["folder", "pipe"]


def test_a_link_stays_and_its_file_is_replaced_with_the_rights_it_had(tmp_path):
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "real.json").chmod(0o600)
    (tmp_path / "link.json").symlink_to("real.json")
    write_whole(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == "new"
    assert (tmp_path / "real.json").stat().st_mode & 0o777 == 0o600


def test_an_error_in_the_block_leaves_what_was_there(tmp_path):
    for kind in (whole_file, whole_folder):
        with pytest.raises(ZeroDivisionError):
            interrupted(kind, tmp_path / "new")
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_is_replaced_as_a_whole(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(whole, "_exchange", lambda *_: False)
    for content in ("old", "new"):
        with whole_folder(tmp_path / "deep" / "model") as building:
            (building / content).mkdir()
            (building / content / "a").write_text(content)
    assert os.listdir(tmp_path / "deep") == ["model"]
    assert os.listdir(tmp_path / "deep" / "model") == ["new"]


def test_a_folder_set_aside_by_a_killed_move_comes_back(tmp_path, monkeypatch):
    # A disk that cannot exchange names, and a kill between the two renames.
    (tmp_path / ".hallo4-model.older").mkdir()
    (tmp_path / ".hallo4-model.older" / "old").touch()
    (tmp_path / "building").mkdir()
    (tmp_path / "building" / "new").touch()
    replace = os.replace

    def fail(one, other):
        if Path(one).name == "building":
            raise OSError(errno.EIO, "broken")
        replace(one, other)

    monkeypatch.setattr(whole, "_exchange", lambda *_: False)
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="broken"):
        place_folder(tmp_path / "building", tmp_path / "model")
    assert os.listdir(tmp_path / "model") == ["old"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_new_folder_has_the_rights_of_the_one_that_it_replaces(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(whole, "_exchange", lambda *_: False)
    (tmp_path / "model").mkdir()
    (tmp_path / "model").chmod(0o2710)
    with whole_folder(tmp_path / "model"):
        pass
    assert (tmp_path / "model").stat().st_mode & 0o7777 == 0o2710


@pytest.mark.parametrize("target", [".", "..", "/", "/proc", "link"])
def test_a_folder_that_programs_stand_in_is_not_replaced(tmp_path, monkeypatch, target):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to("../here")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(OSError, match="cannot be replaced"), whole_folder(target):
        pytest.fail("no work is done")
    assert os.listdir(tmp_path) == ["here"]


def test_a_loop_of_links_is_an_error_of_the_disk(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for write in (
        lambda: write_whole(tmp_path / "loop", b""),
        lambda: whole_folder(tmp_path / "loop").__enter__(),
    ):
        with pytest.raises(OSError, match="its links lead in a circle"):
            write()
