"""Runs of several processes for tests: starts them, lets them fail, and says how they ended.

`python several_processes.py` reads one job a line (JSON, `Job`), forks its processes, waits, and prints their
exit codes; so that the imports are paid for once. `python several_processes.py JOB` is one process of a
launcher.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

import accelerate  # noqa: F401 - before the processes are forked, and so are the next two
import peft  # noqa: F401
import torch
import torch.distributed.fsdp
from safetensors.torch import save_file

from hallo4.diffusion import PreferenceLossConfig
from hallo4.errors import Hallo4Error, InputError
from hallo4.training import (
    AdapterConfig,
    AdapterOff,
    FrozenCopy,
    OptimizerConfig,
    PairBatch,
    ScheduleConfig,
    TrainConfig,
    add_lora,
    batch_indices,
    batch_visits,
    dpo_objective,
    evaluate_pairs,
    failure,
    found_and_wanted,
    loop,
    main_first,
    predict,
    train,
)

SAMPLES = 7


@dataclasses.dataclass(frozen=True)
class Job:
    """A training of `size` processes in `folder`, which a guard ends after so many `previews`, if any. At
    step `at`, `rank` does what `fault` says."""

    folder: str
    task: str = "sft"
    size: int = 1
    sharding: str = "none"
    accumulate: int = 1
    steps: int = 6
    optimizer: str = "adamw"
    previews: int = 0
    fault: str = ""
    rank: int = 1
    at: int = -1


def toolbox():
    spec = importlib.util.spec_from_file_location("toolbox", Path(__file__).with_name("conftest.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Data:
    """Batches of two samples, which say which they are."""

    def __init__(self, pairs, count):
        self.pairs, self.count = pairs, count

    def __len__(self):
        return self.count

    def __call__(self, index, generator):
        of = (SAMPLES, 2, 0, index)
        batch = toolbox().make_batch(self.pairs, batch_indices(*of), batch_visits(SAMPLES, 2, index))
        return {"pair": batch, "index": torch.tensor([index])}


def fine_tuning(model, batch, step):
    clean = batch["winner"]
    sigma = torch.rand(len(clean))
    draws = (clean, torch.randn_like(clean), sigma, batch["conditions"])
    found, wanted = found_and_wanted(predict, "flow", model, *draws)
    return (found - wanted).square().mean(), {"mean": float(found.detach().mean())}


def watched(job: Job, rank: int, method):
    """`method`, which notes every sample that is used, and fails where the job says."""

    def noted(model, batch, step):
        if rank == job.rank and step == job.at:
            if job.fault == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if job.fault == "user":
                raise InputError("clip 5 is damaged")
            if job.fault == "bug":
                raise ZeroDivisionError("a bug")
        with open(f"{job.folder}.seen{rank}", "a") as file:
            file.write(f"{step} {int(batch['index'])}\n")
        return method(model, batch["pair"], step)

    return noted


def work(job: Job) -> None:
    """One process of a job."""
    rank = int(os.environ.get("RANK", "0"))
    tools = toolbox()
    model = tools.make_dit(layers=2)
    model.enable_gradient_checkpointing()
    pairs, method, preview = tools.make_pairs(SAMPLES), fine_tuning, None
    if job.task != "sft":
        adapter = "all weights" not in job.task
        if adapter:
            model = add_lora(model, AdapterConfig(rank=2))
        reference = AdapterOff(model) if adapter else FrozenCopy(model)
        config = PreferenceLossConfig(beta=20.0)
        method = dpo_objective(predict, reference, config, "split" if "split" in job.task else "batched")

        def preview(step, averaged):
            rows = torch.arange(5)
            batch = PairBatch(**tools.make_batch(pairs, rows, torch.zeros_like(rows)))
            return evaluate_pairs(averaged, [batch], predict, reference, config).summary()

    run = TrainConfig(
        name=job.task,
        steps=job.steps,
        accumulate=job.accumulate,
        mixed_precision="no",
        sharding=job.sharding,
        log_every=1,
        save_minutes=1e-9,
        preview_every=(1 if job.previews else 3) if preview else 0,
        optimizer=OptimizerConfig(job.optimizer, 3e-3, 3e-3, weight_decay=0.01),
        schedule=ScheduleConfig(warmup_steps=2, anneal_fraction=0.0),
    )

    def guard(history):
        return "enough previews" if len(history) == job.previews else None

    with main_first("the samples", 0.02 if job.fault == "slow" else 1):
        if job.fault == "slow" and rank == 0:
            time.sleep(3)
        if job.fault == "unprepared" and rank == 0:
            raise InputError("the videos are not there")
    data = Data(pairs, 1 if job.fault == "few" else SAMPLES)
    looked_at = {"on_preview": preview, "guard": guard if job.previews else None}
    result = train(run, watched(job, rank, method), model, data, folder=Path(job.folder), **looked_at)
    if rank == 0:
        tensors = {f"model.{name}": p.detach().contiguous() for name, p in model.state_dict().items()}
        tensors |= {f"mean.{name}": p for name, p in result.ema.weights.items()}
        save_file(tensors, f"{job.folder}.safetensors")


def count_exchanged(job: Job) -> None:
    """Note the whole tensors, in bytes, of every gather and every scatter of what is shared out."""

    def noted(kind: str, place: int, exchange):
        def run(*tensors, **more):
            with open(f"{job.folder}.exchanged", "a") as file:
                file.write(f"{kind} {tensors[place].numel() * tensors[place].element_size()}\n")
            return exchange(*tensors, **more)

        return run

    torch.distributed.all_gather_single = noted("gather", 0, torch.distributed.all_gather_single)
    given = torch.distributed.reduce_scatter_single

    def scatter(**tensors):
        return noted("scatter", 0, lambda whole: given(**tensors))(tensors["input"])

    torch.distributed.reduce_scatter_single = scatter


def process(job: Job) -> None:
    """`work`, and the end of a command: an error is one line and code 2, a bug a traceback and code 1."""
    torch.set_num_threads(1)
    loop.plot_log = lambda folder: None  # at every save: slow
    failure.LOOK_S, failure.PULSE_S, failure.GRACE_S = 1.5, 0.1, 1.0
    if job.fault == "counted" and os.environ["RANK"] == "0":
        count_exchanged(job)
    code = 0
    try:
        work(job)
    except Hallo4Error as error:
        sys.stderr.write(f"error: {error}\n")
        code = 2
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)


def forked(job: Job, rank: int, port: int) -> int:
    process_id = os.fork()
    if process_id:
        return process_id
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    where |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": job.size, "LOCAL_WORLD_SIZE": job.size}
    if job.size > 1:
        os.environ |= {name: str(value) for name, value in where.items()}
    said = os.open(f"{job.folder}.said{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 2)
    process(job)
    raise AssertionError


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Starter:
    """For tests: `run(Job)` -> exit codes, by rank. A context manager."""

    def __enter__(self):
        root = str(Path(__file__).parents[2])
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": root}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, __file__], env=environment, **pipes)
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def run(self, job: Job) -> list[int]:
        """Exit codes; minus the signal where there was one."""
        self.process.stdin.write(json.dumps(dataclasses.asdict(job)) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    @staticmethod
    def said(job: Job, rank: int) -> str:
        """What a process wrote to its stderr."""
        return Path(f"{job.folder}.said{rank}").read_text()

    @staticmethod
    def seen(job: Job) -> dict[int, set[int]]:
        """Step -> micro-batches that were used, by all processes and in all sessions."""
        used: dict[int, set[int]] = {}
        for file in Path(job.folder).parent.glob(f"{Path(job.folder).name}.seen*"):
            for line in file.read_text().splitlines():
                step, index = map(int, line.split())
                used.setdefault(step, set()).add(index)
        return used


def main() -> None:
    if len(sys.argv) > 1:
        process(Job(**json.loads(sys.argv[1])))
    torch.set_num_threads(1)
    for line in sys.stdin:
        job = Job(**json.loads(line))
        port = free_port()
        ids = [forked(job, rank, port) for rank in range(job.size)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1]) for process_id in ids]
        sys.stdout.write(json.dumps(codes) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
