"""Peak memory of a process that trains a DiT of 122 million weights, alone, with DDP and with FSDP2.

`python benchmarks/training_memory.py [--processes 2] [--steps 4]` trains on clips of a few tokens, so that
weights, gradients, momenta and mean weights are what counts; gloo on the CPU, fp32. Prints a JSON line for
each way: the most that a process had resident (VmHWM) above what it had before the model was made, during
the steps and with everything after them (checkpoints, the whole model at the end), beside what
`hallo4 doctor --train` counts.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

SIZES = {
    "num_attention_heads": 8, "attention_head_dim": 96, "in_channels": 16, "text_dim": 64, "text_len": 4,
    "freq_dim": 64, "ffn_dim": 2816, "num_layers": 7, "vace_layers": (0, 2), "vace_in_channels": 96,
    "audio_blocks": 2, "audio_channels": 16, "audio_hidden_dim": 64, "audio_tokens": 4,
}  # fmt: skip
FRAMES, CELLS = 5, 8


def status_bytes(name: str) -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024


def work(sharding: str, steps: int, folder: Path) -> None:
    """One process."""
    from hallo4.models.dit import PortraitDiT
    from hallo4.training import OptimizerConfig, ScheduleConfig, TrainConfig, current_group, predict, train

    torch.set_num_threads(1)
    group = current_group()
    peaks = {}

    def data(index: int, generator: torch.Generator) -> dict:
        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(1, *shape, generator=generator)

        conditions = {
            "reference_latents": normal(16, 1, CELLS, CELLS),
            "audio_windows": normal(FRAMES, 5, 2, 16),
            "skeleton_latents": normal(16, FRAMES, CELLS, CELLS),
            "control_latents": normal(96, 3, CELLS, CELLS),
            "text": normal(4, 64),
        }
        return {"noisy": normal(16, 2, CELLS, CELLS), "conditions": conditions}

    def method(model: torch.nn.Module, batch: dict, step: int) -> tuple[torch.Tensor, dict]:
        if step == steps - 1:
            peaks["steps"] = status_bytes("VmHWM") - before
        sigma = torch.full((1,), 0.5)
        return predict(model, batch["noisy"], sigma, batch["conditions"]).square().mean(), {}

    config = TrainConfig(
        name="memory",
        steps=steps,
        mixed_precision="no",
        sharding=sharding,
        optimizer=OptimizerConfig(learning_rate=1e-4),
        schedule=ScheduleConfig(warmup_steps=1),
    )
    torch.zeros(1).sum()
    before = status_bytes("VmRSS")
    model = PortraitDiT(**SIZES)
    model.requires_grad_(True)
    train(config, method, model, data, folder=folder)
    peaks["all"] = status_bytes("VmHWM") - before
    gathered = group.gathered(peaks)
    if group.main:
        weights = sum(p.numel() for p in model.parameters())
        report = {"weights": weights, "processes": group.size, "sharding": sharding}
        report |= {f"peak_bytes_{name}": max(p[name] for p in gathered) for name in peaks}
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()
    os._exit(0)


def start(sharding: str, processes: int, steps: int) -> dict:
    """The report of one way."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
        free.close()
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes)}
        command = [sys.executable, __file__, "--work", sharding, "--steps", str(steps), "--folder", folder]
        started = []
        for rank in range(processes):
            environment = os.environ | where | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
            environment |= {"PYTHONPATH": str(Path(__file__).parents[1])}
            environment |= {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=65536"}
            started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
        said = [process.communicate()[0] for process in started]
    return json.loads(said[0].strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work, args.steps, args.folder)
    reports = [start(way, args.processes, args.steps) for way in ("none", "full")]
    for report in reports:
        print(json.dumps(report))
    ratios = {
        name: round(reports[1][f"peak_bytes_{name}"] / reports[0][f"peak_bytes_{name}"], 3)
        for name in ("steps", "all")
    }
    print(json.dumps({"FSDP2 / DDP": ratios}))


if __name__ == "__main__":
    main()
