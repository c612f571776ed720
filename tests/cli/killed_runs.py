"""Commands in small versions, killed and begun again: `python killed_runs.py FOLDER [NAME...]` writes
records.json.

One process that imports everything once and forks for every run. A run is ended in the middle of a write,
when a file has n bytes, then killed before its n-th operation on files, n at random from a fixed seed; then
it goes on to its end.
"""

import hashlib
import importlib
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import sys
from pathlib import Path

import torch
from killed_commands import COMMANDS, ROUNDS, stand_ins
from safetensors.torch import load_file

from hallo4.cli import front_door, main

OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate"}
"""Audit events of Python that a run is killed before, where they change something in its folder."""
CLOCKS = {"seconds", "samples_per_s"}
"""What a log says of how long things took."""


def run(work, words, kill_before=None, kill_beyond_bytes=None):
    """(exit code, or minus the signal; operations on files) of a command in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(work.parent / "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.chdir(work)
        if kill_beyond_bytes is not None:  # the kernel ends it in the middle of a write
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (kill_beyond_bytes, kill_beyond_bytes))
        seen = 0

        def count(event, about):
            nonlocal seen
            if event in OPERATIONS and changes(work, event, about):
                seen += 1
                if seen == kill_before:
                    os.kill(os.getpid(), signal.SIGKILL)  # an event too, but none of those

        sys.addaudithook(count)
        code = main(words.split())
        os.write(writing, str(seen).encode())
        os._exit(code)
    os.close(writing)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with open(reading) as pipe:
        return code, int(pipe.read() or 0)


def changes(work, event, about):
    """Whether an audit event is about a name in `work`, the current folder, and not about reading."""
    name = about[0]
    if isinstance(name, int) or (os.path.isabs(name) and not os.fspath(name).startswith(f"{work}/")):
        return False
    return event != "open" or bool(about[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def contents(work):
    """Every file, hidden ones too, by its content. Of a database, its rows: pages may lie in another order,
    and a kill leaves its log."""
    files = [path for path in work.rglob("*") if path.is_file() and path.suffix != ".torn"]
    files = [path for path in files if not path.name.endswith(("-wal", "-shm"))]
    return {str(path.relative_to(work)): content(path) for path in files}


def content(path):
    """Of records, those that are whole, without clocks: torn lines are set aside. Of checkpoints likewise."""
    held = path.read_bytes()
    if path.suffix == ".sqlite":
        with sqlite3.connect(path) as connection:
            rows = [line for line in connection.iterdump() if not line.startswith("DELETE")]
        connection.close()
        return rows
    if path.suffix == ".jsonl":
        lines = [line for line in map(parsed, held.decode().splitlines()) if line is not None]
        return [{name: value for name, value in line.items() if name not in CLOCKS} for line in lines]
    if path.suffix == ".pt":  # the archive has the name that the file had when it was written
        state = torch.load(path, weights_only=True)
        state.get("progress", {}).pop("seconds", None)
        return frozen(state)
    if path.suffix == ".safetensors":  # tensors of a checkpoint come in any order
        return {name: (str(t.dtype), t.shape, frozen(t)) for name, t in load_file(path).items()}
    if path.name == "state.json":
        return without_clocks(json.loads(held))
    return hashlib.sha256(held).hexdigest()


def without_clocks(state):
    if isinstance(state, dict):
        return {name: without_clocks(value) for name, value in state.items() if name not in CLOCKS}
    return state


def frozen(state):
    """Of a tree of tensors and plain values, something that can be compared."""
    if isinstance(state, torch.Tensor):
        return str(state.dtype), state.tolist()
    if isinstance(state, dict):
        return {name: frozen(value) for name, value in state.items()}
    return [frozen(value) for value in state] if isinstance(state, list | tuple) else state


def parsed(line):
    try:
        return json.loads(line)
    except ValueError:
        return None


def tried(name, root):
    """A command without a kill, and several times with two: exit codes, kills, files that differ."""
    command = COMMANDS[name]
    template, work = root / "template", root / "work"  # always the same path: it counts for what is kept
    template.mkdir(parents=True)
    command.prepare(template)
    rng = random.Random(0)
    shutil.copytree(template, work)
    code, operations = run(work, command.words)
    before, expected = contents(template), contents(work)
    grown = sorted(file for file, held in expected.items() if before.get(file) != held)
    sizes = [(work / file).stat().st_size for file in grown]
    record = {"operations": operations, "codes": [code], "kills": 0, "different": []}
    if code != 0:
        return record | {"error": (root / "stderr").read_text()}
    for number in range(ROUNDS or command.rounds):
        shutil.rmtree(work)
        shutil.copytree(template, work)
        kills = [
            run(work, command.words, kill_beyond_bytes=int(rng.random() * rng.choice(sizes)))[0],
            run(work, command.words, kill_before=rng.randint(1, operations))[0],
        ]
        record["kills"] += sum(code in (-signal.SIGKILL, -signal.SIGXFSZ) for code in kills)
        code, _ = run(work, command.words)
        record["codes"].append(code)
        found = contents(work)
        differ = sorted(file for file in {*found, *expected} if found.get(file) != expected.get(file))
        record["different"] += [f"round {number}: {file}" for file in differ]
    return record


if __name__ == "__main__":
    torch.set_num_threads(1)
    for module, _ in front_door.COMMANDS.values():  # here, so that no run is killed while it imports them
        importlib.import_module(module)
    stand_ins()
    folder = Path(sys.argv[1])
    names = sys.argv[2:] or list(COMMANDS)
    outcomes = {name: tried(name, folder / name.replace(" ", "-")) for name in names}
    (folder / "records.json").write_text(json.dumps(outcomes))
