"""Commands in small versions, killed and begun again: `python killed_runs.py FOLDER` writes records.json.

One process that imports everything once and forks for every run. A run is ended in the middle of a write,
when a file has n bytes, then killed before its n-th operation on files, n at random from a fixed seed; then
it goes on to its end.
"""

import hashlib
import importlib.util
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import hallo4.evaluation.videos
import hallo4.pipelines.convert  # imported once, not in every run
import hallo4.pose.files
import hallo4.pose.loading
import hallo4.preference.score
from hallo4.cli import main
from hallo4.media import VideoWriter
from hallo4.pose.measure import PoseFindings
from hallo4.preference import MachineScore, PreferenceStore
from hallo4.preference.schema import AXES
from hallo4.types import KEYPOINTS, Skeleton

OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate"}
"""Audit events of Python that a run is killed before."""
ROUNDS = 4


def beside(path):
    """A module of another folder of tests."""
    file = Path(__file__).parents[1] / path
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


records = beside("preference/preference_records.py")
releases = beside("pipelines/tiny_releases.py")


def scored_store(work):
    store = PreferenceStore.create(work / "store")
    store.add_condition(records.condition())
    for number in range(4):
        store.add_clip(records.clip(f"k{number}"))


def fake_scores(store, clip, condition, truth, version):
    value = 2.0 + int(clip.clip_id[1:]) / 4
    return [MachineScore(clip.clip_id, axis, value, {}, "fake", version) for axis in AXES]


def two_videos(work):
    frames = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), np.uint8)
    for folder in ("truth", "theirs"):
        (work / folder).mkdir()
        for name in ("ann", "bob"):
            with VideoWriter(work / folder / f"{name}.mp4", 64, 64) as writer:
                for frame in frames:
                    writer.write(frame)


def fake_estimate(path, *_, **__):
    points = np.full((6, KEYPOINTS, 2), 9.0 + len(str(path)), np.float32)
    skeleton = Skeleton(points, np.ones((6, KEYPOINTS), np.float32), 25.0, 64, 64)
    boxes, found = np.zeros((6, 4)), np.ones(6, bool)
    return PoseFindings(skeleton, boxes, boxes, found, points[..., 0] > 99, (), ("a note",))


def release(work):
    releases.make_release(work / "released")


FAKE = SimpleNamespace(name="fake")
COMMANDS = {
    "prefer score": (scored_store, "prefer score store"),
    "evaluate videos": (
        two_videos,
        "evaluate videos theirs --against truth --pose files --players 0 -o report.json",
    ),
    "keypoints": (two_videos, "keypoints theirs -o points"),
    "world episode": (lambda work: None, "world episode --seconds 0.4 --size-px 64 -o episode"),
    "weights convert": (release, "weights convert released -o model --quiet"),
}


def stand_ins():
    """What measures is not what is tried here."""
    hallo4.preference.score.machine_scores = fake_scores
    hallo4.preference.score.world_truth = lambda *_: None
    hallo4.pose.loading.load_estimator = hallo4.pose.files.load_estimator = lambda *_: FAKE
    hallo4.pose.files.estimate_video = fake_estimate


def run(work, command, kill_before=None, kill_beyond_bytes=None):
    """(exit code, or minus the signal; operations on files) of a command in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        os.chdir(work)
        if kill_beyond_bytes is not None:  # the kernel ends it in the middle of a write
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (kill_beyond_bytes, kill_beyond_bytes))
        seen = 0

        def count(event, _):
            nonlocal seen
            if event in OPERATIONS:
                seen += 1
                if seen == kill_before:
                    os.kill(os.getpid(), signal.SIGKILL)  # an event too, but none of those

        sys.addaudithook(count)
        code = main(command.split())
        os.write(writing, str(seen).encode())
        os._exit(code)
    os.close(writing)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with open(reading) as pipe:
        return code, int(pipe.read() or 0)


def contents(work):
    """Every file, hidden ones too, by its content. Of a database, its rows: pages may lie in another order,
    and a kill leaves its log."""
    files = [path for path in work.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm"))]
    return {str(path.relative_to(work)): content(path) for path in files}


def content(path):
    held = path.read_bytes()
    if path.suffix == ".sqlite":
        with sqlite3.connect(path) as connection:
            rows = [line for line in connection.iterdump() if not line.startswith("DELETE")]
        connection.close()
        return rows
    if path.suffix == ".jsonl":
        return [line for line in held.decode().splitlines() if is_whole(line)]
    return hashlib.sha256(held).hexdigest()


def is_whole(line):
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def tried(name, root):
    """A command without a kill, and `ROUNDS` times with two: exit codes, kills, files that differ."""
    prepare, command = COMMANDS[name]
    template, work = root / "template", root / "work"  # always the same path: it counts for what is kept
    template.mkdir(parents=True)
    prepare(template)
    rng = random.Random(0)
    shutil.copytree(template, work)
    code, operations = run(work, command)
    expected = contents(work)
    sizes = sorted({(work / file).stat().st_size for file in expected.keys() - contents(template).keys()})
    sizes += [(work / "store/preferences.sqlite").stat().st_size] if name == "prefer score" else []
    record = {"operations": operations, "codes": [code], "kills": 0, "different": []}
    for number in range(ROUNDS):
        shutil.rmtree(work)
        shutil.copytree(template, work)
        kills = [
            run(work, command, kill_beyond_bytes=int(rng.random() * rng.choice(sizes)))[0],
            run(work, command, kill_before=rng.randint(1, operations))[0],
        ]
        record["kills"] += sum(code in (-signal.SIGKILL, -signal.SIGXFSZ) for code in kills)
        code, _ = run(work, command)
        record["codes"].append(code)
        found = contents(work)
        differ = sorted(file for file in {*found, *expected} if found.get(file) != expected.get(file))
        record["different"] += [f"round {number}: {file}" for file in differ]
    return record


if __name__ == "__main__":
    stand_ins()
    folder = Path(sys.argv[1])
    outcomes = {name: tried(name, folder / name.replace(" ", "-")) for name in COMMANDS}
    (folder / "records.json").write_text(json.dumps(outcomes))
