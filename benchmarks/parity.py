"""Compare the DiT with a golden case: `python benchmarks/parity.py DIR`.

DIR holds `config.json`, `weights.safetensors`, `inputs.safetensors` and `outputs.safetensors` of the released
architecture. Prints one JSON line of relative errors, max |ours - theirs| / max |theirs|, in fp32 on the CPU:
`pose_tokens audio_tokens velocity scheduler_sigmas denoised`. Exit code 2 and one line if DIR cannot be used.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from diffusers import UniPCMultistepScheduler
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hallo4.errors import Hallo4Error, InputError
from hallo4.models.dit import PortraitDiT
from hallo4.models.released_dit import load_released_dit
from hallo4.types import MotionConditions

INPUT_RANKS = {
    "x": 4,
    "vace_context": 4,
    "text": 2,
    "text_uncond": 2,
    "skeleton_latents": 5,
    "audio_windows": 5,
    "reference_latent": 4,
    "timestep": 1,
}
OUTPUT_RANKS = {
    "pose_tokens": 4,
    "audio_tokens": 4,
    "velocity": 4,
    "scheduler_sigmas": 1,
    "denoised": 4,
}


def read_tensors(path: Path, ranks: Mapping[str, int]) -> dict[str, Tensor]:
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a readable safetensors file: use a complete golden case") from error
    unfit = [name for name, rank in ranks.items() if name not in tensors or tensors[name].ndim != rank]
    if unfit:
        raise InputError(
            f"{path}: no tensor {unfit[0]} with {ranks[unfit[0]]} axes: use a golden case of the DiT"
        )
    return {name: tensors[name].float() for name in ranks}


def read_config(path: Path) -> dict:
    try:
        config = json.loads(path.read_text())
        steps, shift, scale = (config["sampling"][name] for name in ("steps", "shift", "guide_scale"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable JSON file: use a complete golden case") from error
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: sampling needs steps, shift and guide_scale: use a golden case") from error
    return config | {"sampling": {"steps": int(steps), "shift": float(shift), "guide_scale": float(scale)}}


def conditions_of(inputs: Mapping[str, Tensor], text: Tensor, audio_windows: Tensor) -> MotionConditions:
    return MotionConditions(
        reference_latents=inputs["reference_latent"][None],
        audio_windows=audio_windows,
        skeleton_latents=inputs["skeleton_latents"],
        control_latents=inputs["vace_context"][None],
        text=text[None],
    )


def denoise(
    dit: PortraitDiT, noise: Tensor, guided: MotionConditions, unguided: MotionConditions, sampling: Mapping
) -> tuple[Tensor, Tensor]:
    """The released sampling loop, and its sigmas: UniPC in flow form, reference pinned before every step."""
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=sampling["shift"]
    )
    scheduler.set_timesteps(sigmas=np.linspace(0.999, 0, sampling["steps"] + 1)[:-1])
    with_condition = dit.prepare(guided, cache_kv=True)
    without = dit.prepare(unguided, cache_kv=True)
    latents = noise
    for timestep in scheduler.timesteps:
        latents = dit.pin(latents, guided)
        batch_of_time = timestep.reshape(1).float()
        toward = dit(latents, batch_of_time, with_condition)
        base = dit(latents, batch_of_time, without)
        velocity = base + sampling["guide_scale"] * (toward - base)
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
    return latents, scheduler.sigmas


@torch.inference_mode()
def compare(folder: Path) -> dict[str, float]:
    config = read_config(folder / "config.json")
    inputs = read_tensors(folder / "inputs.safetensors", INPUT_RANKS)
    expected = read_tensors(folder / "outputs.safetensors", OUTPUT_RANKS)
    dit = load_released_dit(folder / "weights.safetensors", config, torch.float32)
    guided = conditions_of(inputs, inputs["text"], inputs["audio_windows"])
    unguided = conditions_of(inputs, inputs["text_uncond"], torch.zeros_like(inputs["audio_windows"]))
    noise = inputs["x"][None]
    denoised, sigmas = denoise(dit, noise, guided, unguided, config["sampling"])
    ours = {
        "pose_tokens": dit.skeleton_proj(inputs["skeleton_latents"]),
        "audio_tokens": dit.audio_proj(inputs["audio_windows"]),
        "velocity": dit(noise, inputs["timestep"], dit.prepare(guided))[0],
        "scheduler_sigmas": sigmas,
        "denoised": denoised[0],
    }
    return {name: relative_error(name, ours[name], expected[name]) for name in OUTPUT_RANKS}


def relative_error(name: str, ours: Tensor, theirs: Tensor) -> float:
    if ours.shape != theirs.shape:
        raise InputError(
            f"{name}: the case holds {tuple(theirs.shape)}, its config and inputs give {tuple(ours.shape)}: "
            "use files of one golden case"
        )
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python benchmarks/parity.py DIR", file=sys.stderr)
        return 2
    try:
        print(json.dumps(compare(Path(arguments[0]))))
    except Hallo4Error as error:
        print(f"parity: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
