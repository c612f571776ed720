"""Commands that were killed and begun again end with the same files as ones that never were."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("killed_runs.py")
COMMANDS = (
    *("animate", "train", "train on preferences", "data prepare", "prefer candidates", "prefer score"),
    *("evaluate world", "evaluate videos", "keypoints", "world episode", "weights convert"),
)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    root = str(SCRIPT.parents[2])
    settings = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": root}
    folder = tmp_path_factory.mktemp("killed")
    words = [sys.executable, str(SCRIPT), str(folder)]
    made = subprocess.run(words, env=os.environ | settings, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return json.loads((folder / "records.json").read_text())


@pytest.mark.parametrize("command", COMMANDS)
def test_a_killed_command_that_goes_on_leaves_what_an_unbroken_one_does(records, command):
    record = records[command]
    assert record["codes"] == [0] * len(record["codes"]), record.get("error")
    assert record["operations"] >= 5  # those of a database are not seen
    assert len(record["codes"]) >= 4
    assert record["kills"] >= len(record["codes"]) - 2
    assert record["different"] == []


def test_all_of_them_are_tried(records):
    assert set(records) == set(COMMANDS)
