"""`hallo4 animate` on this machine: frames per second by stage, and peak memory by length of the sound.

`python benchmarks/animate.py [--model tiny-dit tiny-unet --seconds 10 --long-seconds 60 --rounds 3]` runs
each case in a process of its own, the models in turns, on the demo's portrait and motion, with noise shaped
like speech as sound (a file), and prints one JSON line for each model:

* `frames_per_s`: of the whole run and of each stage, median over the rounds of the short case;
* `million_parameters` of backbone and autoencoder, an adapter folded in;
* `peak_memory_mib`: largest resident set of the short and of the long case, and their ratio.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=["tiny-dit"], nargs="+")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--long-seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--one", type=float, help=argparse.SUPPRESS)  # run one case in this process
    return parser.parse_args()


def run_one(options: argparse.Namespace) -> dict:
    """Animate with one model for `options.one` seconds; times, frames and peak memory of this process."""
    from hallo4.pipelines import PortraitAnimator

    with tempfile.TemporaryDirectory() as folder:
        sound = write_sound(Path(folder) / "speech.wav", options.one)
        started = time.monotonic()
        animator = PortraitAnimator.from_pretrained(options.model[0])
        loaded_s = time.monotonic() - started
        result = animator.animate(
            ROOT / "demo" / "portrait.png",
            sound,
            motion=ROOT / "demo" / "keypoints.json",
            output=Path(folder) / "talk.mp4",
            steps=options.steps,
        )
        total_s = time.monotonic() - started
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    timings = {"load": loaded_s, "total": total_s, **result.timings_s}
    parts = {"backbone": animator.model.backbone, "autoencoder": animator.model.autoencoder}
    counts = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in parts.items()}
    found = {"frames": result.frames, "timings_s": timings, "peak_memory_mib": peak_mib}
    return found | {"million_parameters": counts}


def write_sound(path: Path, seconds: float, rate_hz: int = 16_000) -> Path:
    """Noise that swells three times a second, written second by second."""
    import numpy as np
    import soundfile

    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", rate_hz, 1) as file:
        for start in range(0, round(seconds * rate_hz), rate_hz):
            times_s = np.arange(start, min(start + rate_hz, round(seconds * rate_hz))) / rate_hz
            file.write(0.2 * np.sin(2 * np.pi * 3 * times_s).clip(0) * rng.normal(size=len(times_s)))
    return path


def spawn(options: argparse.Namespace, model: str, seconds: float) -> dict:
    """The same in a fresh process."""
    command = [sys.executable, __file__, "--model", model, "--one", str(seconds)]
    if options.steps:
        command += ["--steps", str(options.steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    options = arguments()
    if options.one:
        print(json.dumps(run_one(options)))
        return
    rounds = [{m: spawn(options, m, options.seconds) for m in options.model} for _ in range(options.rounds)]
    for model in options.model:
        long = spawn(options, model, options.long_seconds)
        print(json.dumps(report(options, model, [one[model] for one in rounds], long)))


def report(options: argparse.Namespace, model: str, short: list[dict], long: dict) -> dict:
    """Medians of the short cases of one model, and its memory."""
    speeds = {
        stage: round(median(run["frames"] / max(run["timings_s"][stage], 1e-9) for run in short), 2)
        for stage in short[0]["timings_s"]
    }
    memory = median(run["peak_memory_mib"] for run in short)
    counts = {name: round(count, 2) for name, count in long["million_parameters"].items()}
    return {
        "model": model,
        "seconds": options.seconds,
        "rounds": options.rounds,
        "frames_per_s": speeds,
        "million_parameters": counts,
        "peak_memory_mib": {
            f"{options.seconds:g} s": round(memory),
            f"{options.long_seconds:g} s": round(long["peak_memory_mib"]),
            "ratio": round(long["peak_memory_mib"] / memory, 3),
        },
    }


if __name__ == "__main__":
    main()
