"""Compare a backbone with a golden case: `python benchmarks/parity.py DIR`.

DIR holds `config.json`, `weights.safetensors`, `inputs.safetensors` and `outputs.safetensors` of a released
architecture. Prints one JSON line of relative errors, max |ours - theirs| / max |theirs|, on the CPU:

* Hallo4's DiT, in fp32: `pose_tokens audio_tokens velocity scheduler_sigmas denoised`;
* Hallo 1's UNet (its config has `block_out_channels`), in fp64: `face_tokens audio_tokens locator_features
  velocity_uncond_cond scheduler_timesteps denoised`. In fp64 because group norms over two values (levels of
  one cell) enlarge rounding: fp32 runs of `unet_long` with other kernels differ by up to 6e-5 in v, 5e-4 in
  `denoised`, so that a second one would measure its own rounding too.

Exit code 2 and one line if DIR cannot be used.
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

from hallo4.diffusion.discrete import StepSchedule, ddim_scheduler, denoise_ddim
from hallo4.diffusion.guidance import guide
from hallo4.errors import Hallo4Error, InputError
from hallo4.models.dit import PortraitDiT
from hallo4.models.released_dit import load_released_dit
from hallo4.models.released_unet import load_released_unet
from hallo4.types import MotionConditions

DIT_INPUTS = {
    "x": 4,
    "vace_context": 4,
    "text": 2,
    "text_uncond": 2,
    "skeleton_latents": 5,
    "audio_windows": 5,
    "reference_latent": 4,
    "timestep": 1,
}
DIT_OUTPUTS = {
    "pose_tokens": 4,
    "audio_tokens": 4,
    "velocity": 4,
    "scheduler_sigmas": 1,
    "denoised": 4,
}
UNET_INPUTS = {
    "latents": 5,
    "reference_latents": 4,
    "face_embedding": 2,
    "audio_windows": 5,
    "locator_pixels": 5,
    "timestep": 1,
}
UNET_OUTPUTS = {
    "face_tokens": 3,
    "audio_tokens": 4,
    "locator_features": 5,
    "velocity_uncond_cond": 5,
    "scheduler_timesteps": 1,
    "denoised": 5,
}
MASKS = ("full_mask", "face_mask", "lip_mask")
"""Order of the regions in `MotionConditions.region_masks`."""


def read_tensors(path: Path, ranks: Mapping[str, int], kind: str) -> dict[str, Tensor]:
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a readable safetensors file: use a complete golden case") from error
    unfit = [name for name, rank in ranks.items() if name not in tensors or tensors[name].ndim != rank]
    if unfit:
        raise InputError(
            f"{path}: no tensor {unfit[0]} with {ranks[unfit[0]]} axes: use a golden case of the {kind}"
        )
    return {name: tensors[name].float() for name in ranks}


def read_config(path: Path) -> dict:
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable JSON file: use a complete golden case") from error
    is_unet = isinstance(config, dict) and "block_out_channels" in config
    needed = {"steps": int, "guide_scale": float}
    if is_unet:
        needed |= {
            "beta_schedule": str,
            "beta_start": float,
            "beta_end": float,
            "rescale_betas_zero_snr": bool,
        }
    else:
        needed |= {"shift": float}
    try:
        sampling = {name: kind(config["sampling"][name]) for name, kind in needed.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: sampling needs {', '.join(needed)}: use a golden case") from error
    return config | {"sampling": sampling, "is_unet": is_unet}


def conditions_of(inputs: Mapping[str, Tensor], text: Tensor, audio_windows: Tensor) -> MotionConditions:
    return MotionConditions(
        reference_latents=inputs["reference_latent"][None],
        audio_windows=audio_windows,
        skeleton_latents=inputs["skeleton_latents"],
        control_latents=inputs["vace_context"][None],
        text=text[None],
    )


def denoise_dit(
    dit: PortraitDiT, noise: Tensor, guided: MotionConditions, unguided: MotionConditions, sampling: Mapping
) -> tuple[Tensor, Tensor]:
    """The released sampling loop, and its sigmas: UniPC in flow form, reference pinned before every step."""
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=sampling["shift"]
    )
    scheduler.set_timesteps(sigmas=np.linspace(0.999, 0, sampling["steps"] + 1)[:-1])
    with_condition, without = dit.new_cache(), dit.new_cache()
    latents = noise
    for timestep in scheduler.timesteps:
        latents = dit.pin(latents, guided)
        batch_of_time = timestep.reshape(1).float()
        toward = dit(latents, batch_of_time, guided, with_condition)
        base = dit(latents, batch_of_time, unguided, without)
        velocity = base + sampling["guide_scale"] * (toward - base)
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
    return latents, scheduler.sigmas


def compare_dit(folder: Path, config: Mapping) -> dict[str, float]:
    inputs = read_tensors(folder / "inputs.safetensors", DIT_INPUTS, "DiT")
    expected = read_tensors(folder / "outputs.safetensors", DIT_OUTPUTS, "DiT")
    dit = load_released_dit(folder / "weights.safetensors", config, torch.float32)
    guided = conditions_of(inputs, inputs["text"], inputs["audio_windows"])
    unguided = conditions_of(inputs, inputs["text_uncond"], torch.zeros_like(inputs["audio_windows"]))
    noise = inputs["x"][None]
    denoised, sigmas = denoise_dit(dit, noise, guided, unguided, config["sampling"])
    ours = {
        "pose_tokens": dit.skeleton_proj(inputs["skeleton_latents"]),
        "audio_tokens": dit.audio_proj(inputs["audio_windows"]),
        "velocity": dit(noise, inputs["timestep"], guided)[0],
        "scheduler_sigmas": sigmas,
        "denoised": denoised[0],
    }
    return {name: relative_error(name, ours[name], expected[name]) for name in DIT_OUTPUTS}


def both_sides(inputs: Mapping[str, Tensor], masks: Tensor) -> MotionConditions:
    """The UNet's conditions twice, as one batch: unconditional, conditional."""
    pictures = inputs["reference_latents"].transpose(0, 1)[None]  # 1 C 1+M h w
    given = torch.tensor([False, True])
    return MotionConditions(
        reference_latents=twice(pictures[:, :, :1]),
        motion_latents=twice(pictures[:, :, 1:]),
        audio_windows=twice(inputs["audio_windows"]),
        face_embedding=twice(inputs["face_embedding"]),
        locator_01=twice(inputs["locator_pixels"]),
        region_masks=twice(masks),
        portrait_given=given,
        locator_given=given,
        audio_given=given,
    )


def twice(tensor: Tensor) -> Tensor:
    return tensor.expand(2, *tensor.shape[1:])


def compare_unet(folder: Path, config: Mapping) -> dict[str, float]:
    levels = len(config["block_out_channels"])
    ranks = {f"{kind}_{level}": 2 for kind in MASKS for level in range(levels)}
    inputs = read_tensors(folder / "inputs.safetensors", UNET_INPUTS | ranks, "UNet")
    inputs = {name: tensor.double() for name, tensor in inputs.items()}
    expected = read_tensors(folder / "outputs.safetensors", UNET_OUTPUTS, "UNet")
    unet = load_released_unet(folder / "weights.safetensors", config, torch.float64)
    pyramids = [torch.cat([inputs[f"{kind}_{level}"] for level in range(levels)], dim=-1) for kind in MASKS]
    conditions, cache = both_sides(inputs, torch.stack(pyramids, dim=1)[None]), unet.new_cache()
    sampling = config["sampling"]
    schedule = StepSchedule(
        *(sampling["beta_schedule"], sampling["beta_start"], sampling["beta_end"]),
        sampling["rescale_betas_zero_snr"],
    )

    def guided(latents: Tensor, timestep: Tensor) -> Tensor:
        sides = unet(twice(latents), timestep.expand(2), conditions, cache)
        return guide(*sides.chunk(2), sampling["guide_scale"])

    faces = torch.cat([torch.zeros_like(inputs["face_embedding"]), inputs["face_embedding"]])
    scheduler = ddim_scheduler(schedule)
    scheduler.set_timesteps(sampling["steps"])
    located = unet.face_locator(inputs["locator_pixels"])
    ours = {
        "face_tokens": unet.face_proj(faces),
        "audio_tokens": unet.audio_proj(inputs["audio_windows"]),
        "locator_features": located.expand(-1, -1, inputs["latents"].shape[2], -1, -1),
        "velocity_uncond_cond": unet(twice(inputs["latents"]), inputs["timestep"], conditions),
        "scheduler_timesteps": scheduler.timesteps,
        "denoised": denoise_ddim(guided, inputs["latents"], sampling["steps"], schedule),
    }
    return {name: relative_error(name, ours[name], expected[name]) for name in UNET_OUTPUTS}


@torch.inference_mode()
def compare(folder: Path) -> dict[str, float]:
    config = read_config(folder / "config.json")
    return (compare_unet if config["is_unet"] else compare_dit)(folder, config)


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
