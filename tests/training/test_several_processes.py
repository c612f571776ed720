"""Several processes (gloo) train what one does, go on after kills with any number, and fail together."""

import dataclasses
import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from several_processes import Job, Starter, toolbox

from hallo4.models.precision import has_bf16_units
from hallo4.training import AdapterConfig, add_lora, load_weights, read_log

STEPS = 4


@pytest.fixture(scope="module")
def starter():
    with Starter() as started:
        yield started


@pytest.fixture(scope="module")
def alone(starter, tmp_path_factory):
    """task, optimizer -> the job of one process that makes steps of two micro-batches."""
    done: dict[tuple[str, str], Job] = {}

    def run(task: str, optimizer: str = "adamw") -> Job:
        if (task, optimizer) not in done:
            folder = str(tmp_path_factory.mktemp("alone") / task)
            job = Job(folder, task, accumulate=2, steps=STEPS, optimizer=optimizer)
            assert starter.run(job) == [0]
            done[task, optimizer] = job
        return done[task, optimizer]

    return run


def logged(job: Job, of: str) -> list:
    return [record[of] for record in read_log(Path(job.folder)) if of in record]


def furthest(one: Job, other: Job) -> float:
    """Largest difference of a weight, raw or mean."""
    here, there = (load_file(f"{job.folder}.safetensors") for job in (one, other))
    assert here.keys() == there.keys()
    return max(float((here[name] - there[name]).abs().max()) for name in here)


@pytest.mark.parametrize(
    ("task", "sharding", "optimizer"),
    [
        ("sft", "none", "adamw"),
        ("sft", "full", "adamw"),
        ("sft", "full", "muon"),
        ("dpo", "none", "adamw"),
        ("dpo", "full", "adamw"),
        ("dpo, split", "full", "adamw"),
        ("dpo of all weights", "full", "adamw"),
    ],
)
def test_two_processes_are_one_with_twice_the_micro_batches(
    starter, alone, tmp_path, task, sharding, optimizer
):
    one = alone(task, optimizer)
    two = Job(str(tmp_path / "two"), task, 2, sharding, steps=STEPS, optimizer=optimizer)
    assert starter.run(two) == [0, 0], starter.said(two, 0) + starter.said(two, 1)
    near = 1e-6 if sharding == "none" else 1e-5
    if optimizer == "muon" and has_bf16_units():
        near = 1e-3  # it works in bf16 there, whose steps are 2^-8 of a value
    assert logged(two, "loss") == pytest.approx(logged(one, "loss"), abs=near, rel=near)
    assert logged(two, "grad_norm") == pytest.approx(logged(one, "grad_norm"), rel=10 * near)
    for of in ("metrics", "preview"):
        for found, wanted in zip(logged(two, of), logged(one, of), strict=True):
            assert found == pytest.approx(wanted, abs=10 * near, rel=10 * near)
    assert furthest(two, one) < near
    assert starter.seen(two) == starter.seen(one)
    assert starter.seen(one)[STEPS - 1] == {2 * STEPS - 2, 2 * STEPS - 1}


def launched(words: list[str], job: Job) -> subprocess.CompletedProcess:
    """As a person starts it on a machine without GPUs."""
    root, script = Path(__file__).parents[2], Path(__file__).with_name("several_processes.py")
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "accelerate.commands.launch", *words, "--main_process_port", "0"]
    job_words = [str(script), json.dumps(dataclasses.asdict(job))]
    return subprocess.run([*launcher, *job_words], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("words", "sharding", "near"),
    [
        ("--multi_gpu", "none", 1e-6),
        ("--use_fsdp --fsdp_version 2", "auto", 1e-5),
    ],
)
def test_accelerate_launches_two_processes_on_cpus(alone, tmp_path, words, sharding, near):
    one = alone("sft")
    two = Job(str(tmp_path / "two"), "sft", 2, sharding, steps=STEPS, fault="counted")
    done = launched([*words.split(), "--num_processes", "2"], two)
    assert done.returncode == 0, done.stderr
    assert logged(two, "loss") == pytest.approx(logged(one, "loss"), abs=near, rel=near)
    assert furthest(two, one) < near
    assert len(list(tmp_path.glob("two.seen*"))) == 2
    assert (tmp_path / "two.exchanged").exists() == (sharding != "none"), "parameters are gathered"


def test_one_process_in_the_place_of_two_is_refused(tmp_path):
    job = Job(str(tmp_path / "run"), "sft", 2, steps=STEPS)
    done = launched(["--cpu", "--num_processes", "2"], job)
    assert done.returncode != 0
    said = "error: accelerate launch was asked to start several processes and started this one alone"
    assert said in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_guard_ends_all_processes_at_the_same_step(starter, tmp_path):
    logs = []
    for size in (1, 2):
        job = Job(str(tmp_path / str(size)), "dpo, split", size, accumulate=2 // size, steps=9, previews=3)
        assert starter.run(job) == [0] * size, starter.said(job, 0)
        assert [r["step"] for r in read_log(Path(job.folder)) if r.get("event") == "ended"] == [3]
        logs.append([logged(job, "loss"), logged(job, "preview")])
    assert len(logs[0][0]) == len(logs[0][1]) == 3
    assert logs[0] == logs[1]


@pytest.mark.parametrize(("task", "gathers"), [("sft", 2), ("dpo", 3)])
def test_what_is_exchanged_is_what_plans_count(starter, tmp_path, task, gathers):
    """A step gathers all weights `gathers` times, and scatters the gradients of what is trained once."""
    job = Job(str(tmp_path / "run"), task, 2, "full", steps=1, fault="counted")
    assert starter.run(job) == [0, 0], starter.said(job, 0)
    lines = [line.split() for line in Path(f"{job.folder}.exchanged").read_text().splitlines()]
    sums = {kind: sum(int(size) for found, size in lines if found == kind) for kind in ("gather", "scatter")}
    model = toolbox().make_dit(layers=2)
    if task != "sft":
        model = add_lora(model, AdapterConfig(rank=2))
    sizes = {True: 0, False: 0}  # a first axis that is no multiple of two is filled up
    for parameter in model.parameters():
        rows, *rest = parameter.shape or (1,)
        sizes[parameter.requires_grad] += 4 * 2 * -(-rows // 2) * math.prod(rest)
    looked = 0 if task == "sft" else 2  # the preview, of model and reference
    assert sums["gather"] == (gathers + looked) * sum(sizes.values())
    idle = (
        sum(4 * model.get_parameter(n).numel() for n in model.idle_parameters(False)) if task == "sft" else 0
    )
    assert sums["scatter"] == sizes[True] - idle


@pytest.mark.parametrize("task", ["sft"])
def test_killed_runs_go_on_with_any_number_of_processes(starter, alone, tmp_path, task):
    """Two share the parameters and rank 1 is killed; three go on, sharing the samples, and rank 0 is killed;
    one goes on. No sample is used at another step than in the run of one process."""
    one, folder = alone(task), str(tmp_path / "run")
    two = Job(folder, task, 2, "full", steps=STEPS, fault="killed", rank=1, at=1)
    assert starter.run(two) == [2, -9]
    assert "rank 1 of 2" in starter.said(two, 0)
    assert "gave no sign of life" in starter.said(two, 0)
    three = Job(folder, task, 3, "none", steps=STEPS, fault="killed", rank=0, at=2)
    codes = starter.run(three)
    assert codes[0] == -9
    assert 0 not in codes
    last = Job(folder, task, 1, "none", steps=STEPS)
    assert starter.run(last) == [0], starter.said(last, 0)
    assert "2 micro-batches a step, as it began, on 1 process" in starter.said(last, 0)
    assert furthest(last, one) < 1e-5
    assert starter.seen(last) == starter.seen(one)
    assert logged(last, "loss") == pytest.approx(logged(one, "loss"), abs=1e-5)


def test_a_sharded_checkpoint_is_read_by_one_process(starter, tmp_path):
    job = Job(str(tmp_path / "run"), size=2, sharding="full", steps=2)
    assert starter.run(job) == [0, 0]
    shards = sorted(path.name for path in (tmp_path / "run" / "last").iterdir())
    assert len([name for name in shards if name.endswith(".safetensors")]) == 2
    model, saved = toolbox().make_dit(layers=2, seed=5), load_file(f"{job.folder}.safetensors")
    assert load_weights(Path(job.folder), model, mean=False) == 2
    for name, value in model.state_dict().items():
        assert value.equal(saved[f"model.{name}"]), name


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("user", "error: rank 1 of 2 on {host}: clip 5 is damaged"),
        ("unprepared", "error: rank 0 of 2 on {host}: the videos are not there"),
        ("slow", "error: rank 1 of 2 on {host}: waited 0.02 minutes for rank 0 to make the samples"),
        ("few", "2 processes cannot share 1 samples: start at most 1"),
    ],
)
def test_all_processes_end_and_name_the_one_that_failed(starter, tmp_path, fault, line):
    job = Job(str(tmp_path / "run"), size=2, steps=STEPS, fault=fault, at=1)
    assert starter.run(job) == [2, 2]
    said = [starter.said(job, rank) for rank in range(2)]
    assert any(line.format(host=socket.gethostname()) in text for text in said), said
    last = [text.strip().splitlines()[-1] for text in said]
    blamed = "rank 0 of 2" if fault == "unprepared" else "of 2"
    assert all("error: rank" in text and blamed in text for text in last), last
    assert not any("Traceback" in text for text in said)


def test_a_bug_on_one_rank_is_shown_there_and_named_elsewhere(starter, tmp_path):
    job = Job(str(tmp_path / "run"), size=2, steps=STEPS, fault="bug", at=1)
    assert starter.run(job) == [2, 1]
    assert "ZeroDivisionError: a bug" in starter.said(job, 1)
    assert "rank 1 of 2" in starter.said(job, 0)
    assert "failed: ZeroDivisionError: a bug" in starter.said(job, 0)
