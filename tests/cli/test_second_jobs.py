"""A second job for the same output is refused in one line while the first one works, and not afterwards."""

import subprocess
import sys
from pathlib import Path

import killed_commands
import numpy as np
import pytest

from hallo4.cli import main
from hallo4.lock import sole_maker, sole_writer
from hallo4.media import VideoWriter
from hallo4.preference import PreferenceStore

# What the first job of each long command holds; an episode is written in one stroke.
LONG = {
    "animate": "talk.mp4",
    "train": "run",
    "train on preferences": "run",
    "prefer candidates": "store/clips.rows",
    "prefer score": "store/scores.rows",
    "evaluate world": "report.json",
    "evaluate videos": "report.json",
    "keypoints": "points",
    "weights convert": "model",
    "data prepare": "shards",
}

HOLD = """
import sys
from hallo4.lock import sole_maker, sole_writer
with sole_writer(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""

# What the first job holds -> the second job.
SECOND = {
    "report.json": [
        "evaluate world --model truth --episodes 1 -o report.json",
        "evaluate motion --model truth --clips 1 -o report.json",
        "evaluate drift --model truth --clips 1 -o report.json",
        "evaluate videos theirs --against truth --pose files -o report.json",
    ],
    "points": ["keypoints theirs -o points --estimator light", "keypoints truth -o points --estimator light"],
    "points/a.keypoints.json": ["keypoints theirs/a.mp4 -o points/a.keypoints.json"],
    "store/scores.rows": ["prefer score store"],
    "store/clips.rows": [
        "prefer candidates store --model truth --episodes 1 --seconds 0.4 --size-px 64",
        "prefer import store tables --format parquet",
    ],
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PreferenceStore.create("store")
    for folder in ("theirs", "truth"):
        Path(folder).mkdir()
        with VideoWriter(f"{folder}/a.mp4", 64, 64) as writer:
            writer.write(np.zeros((64, 64, 3), np.uint8))
    Path("points").mkdir()
    Path("tables").mkdir()
    return tmp_path


def names_beside(held):
    """Without what an open database has beside it."""
    return sorted(
        path.name for path in Path(held).parent.iterdir() if not path.name.endswith(("-wal", "-shm"))
    )


@pytest.mark.parametrize(("held", "command"), [(held, word) for held in SECOND for word in SECOND[held]])
def test_a_second_job_is_refused_in_one_line(place, capsys, held, command):
    with sole_writer(held):
        before = names_beside(held)
        assert main(command.split()) == 2
        assert names_beside(held) == before
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert "is working on it. Wait for it" in error


@pytest.mark.parametrize("name", LONG)
def test_a_second_job_of_every_long_command_is_refused(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    command = killed_commands.COMMANDS[name]
    command.prepare(tmp_path)
    if name == "prefer candidates":
        PreferenceStore.create("store")
    if name in ("data prepare", "keypoints"):
        Path(LONG[name]).mkdir()
    hold = sole_maker if LONG[name] in ("run", "model") else sole_writer
    with hold(LONG[name]):
        assert main(command.words.split()) == 2
    assert not Path("run").exists(), "nothing is done before"
    *before, error = capsys.readouterr().err.splitlines()
    assert not [line for line in before if "error" in line or "Traceback" in line]
    assert "is working on it. Wait for it" in error


def test_all_long_commands_are_tried():
    assert {*LONG, "world episode"} == set(killed_commands.COMMANDS)


def test_it_says_who_works_and_a_killed_job_holds_nothing(place, capsys):
    words = [sys.executable, "-c", HOLD, "report.json"]
    root = Path(__file__).parents[2]
    first = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(root)}
    )
    assert first.stdout.readline() == "held\n"
    command = "evaluate videos theirs --against truth --pose files --players 0 -o report.json"
    assert main(command.split()) == 2
    assert f"report.json: another hallo4 (process {first.pid}, since 20" in capsys.readouterr().err
    first.kill()
    first.communicate()
    assert Path(".report.json.lock").exists()
    assert main(command.split()) == 0
    assert not Path(".report.json.lock").exists()
