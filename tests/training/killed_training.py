"""Trainings killed at random steps that go on with one to three processes, against one that was not killed.

`python tests/training/killed_training.py [--kills 10] [--steps 12] [--seed 0]`: half of them in fine-tuning
of all weights, half in preference training of an adapter; tiny models, gloo. Prints one JSON line: where each
run was killed, whether the same samples were used at every step, and the largest difference of any weight,
raw or mean, at the end.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from safetensors.torch import load_file
from several_processes import Job, Starter


def furthest(one: Job, other: Job) -> float:
    here, there = (load_file(f"{job.folder}.safetensors") for job in (one, other))
    return max(float((here[name] - there[name]).abs().max()) for name in here)


def run(folder: Path, task: str, kills: int, steps: int, draw: random.Random) -> dict:
    """What came of one task."""
    with Starter() as starter:
        one = Job(str(folder / f"{task}-one"), task, accumulate=2, steps=steps)
        assert starter.run(one) == [0], starter.said(one, 0)
        name, killed = str(folder / f"{task}-killed"), []
        for at in sorted(draw.sample(range(1, steps), kills)):
            size = 2 if not killed else draw.choice((1, 2, 3))
            sharding = draw.choice(("none", "full")) if size > 1 else "none"
            rank = draw.randrange(size)
            job = Job(name, task, size, sharding, steps=steps, fault="killed", rank=rank, at=at)
            codes = starter.run(job)
            assert codes[rank] == -9, starter.said(job, rank)
            assert all(codes), codes
            killed.append({"step": at, "processes": size, "sharding": sharding, "rank": rank})
        last = Job(name, task, 3, "full", steps=steps)
        assert starter.run(last) == [0, 0, 0], starter.said(last, 0)
        return {
            "killed": killed,
            "same samples at every step": starter.seen(last) == starter.seen(one),
            "largest difference of a weight": furthest(last, one),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        tasks = ("sft", "dpo")
        report = {task: run(Path(folder), task, args.kills // len(tasks), args.steps, draw) for task in tasks}
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
