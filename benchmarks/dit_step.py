"""One denoising step of PortraitDiT beside diffusers' WanVACETransformer3DModel of the same dimensions.

`python benchmarks/dit_step.py [--dim 256 --heads 4 --layers 8 ...]` runs five steps in interleaved rounds,
so that whatever else the machine does falls on all alike, and prints one JSON line:

* `base_ratio`: PortraitDiT without audio and skeleton (the same mathematics) over diffusers, time per step;
* `full_ratio`: PortraitDiT with audio and skeleton attention over diffusers;
* `base_cache_ratio`, `full_cache_ratio`: with the cache of what the conditions alone decide, as the pipeline
  runs it, over the plain path without a cache;
* each as median and the range of the middle half of the rounds, plus seconds per step and the sizes.

diffusers has no such cache: it computes everything in each step.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median, quantiles

import torch
from diffusers import WanVACETransformer3DModel
from torch import Tensor

from hallo4.models.dit import PortraitDiT
from hallo4.types import MotionConditions

TEXT_DIM = 64
AUDIO = {"audio_blocks": 1, "audio_channels": 80, "audio_hidden_dim": 128, "audio_tokens": 8}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--vace-every", type=int, default=2, help="a VACE block on every so many main blocks")
    parser.add_argument("--frames", type=int, default=17, help="video frames of the window, 4k+1")
    parser.add_argument("--latent-height", type=int, default=16)
    parser.add_argument("--latent-width", type=int, default=16)
    parser.add_argument("--text-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    return parser.parse_args()


def portrait(args: argparse.Namespace, presence: str) -> PortraitDiT:
    return PortraitDiT(
        num_attention_heads=args.heads,
        attention_head_dim=args.dim // args.heads,
        text_dim=TEXT_DIM,
        text_len=None,
        ffn_dim=4 * args.dim,
        num_layers=args.layers,
        vace_layers=tuple(range(0, args.layers, args.vace_every)),
        audio=presence,
        skeleton=presence,
        **AUDIO,
    )


def diffusers_model(args: argparse.Namespace) -> WanVACETransformer3DModel:
    return WanVACETransformer3DModel(
        num_attention_heads=args.heads,
        attention_head_dim=args.dim // args.heads,
        text_dim=TEXT_DIM,
        ffn_dim=4 * args.dim,
        num_layers=args.layers,
        vace_layers=list(range(0, args.layers, args.vace_every)),
    )


def random_conditions(args: argparse.Namespace) -> MotionConditions:
    grid = (args.latent_height, args.latent_width)
    slots = (args.frames - 1) // 4 + 2
    return MotionConditions(
        reference_latents=torch.randn(1, 16, 1, *grid),
        audio_windows=torch.randn(1, args.frames, 5, AUDIO["audio_blocks"], AUDIO["audio_channels"]),
        skeleton_latents=torch.randn(1, 16, args.frames, *grid),
        control_latents=torch.randn(1, 96, slots, *grid),
        text=torch.randn(1, args.text_tokens, TEXT_DIM),
    )


@torch.inference_mode()
def steps_to_time(args: argparse.Namespace) -> dict[str, Callable[[], Tensor]]:
    target = {"device": args.device, "dtype": getattr(torch, args.dtype)}
    conditions = random_conditions(args)
    on_device = MotionConditions(
        **{name: None if part is None else part.to(**target) for name, part in vars(conditions).items()}
    )
    wan = diffusers_model(args).to(**target).eval()
    base = portrait(args, "none").to(**target).eval()
    full = portrait(args, "required").to(**target).eval()
    latents = torch.randn(1, *full.sample_shape(args.frames, args.latent_height, args.latent_width)).to(
        **target
    )
    timestep = torch.tensor([500.0], device=args.device)
    of_base, of_full = base.new_cache(), full.new_cache()
    return {
        "diffusers": lambda: wan(
            latents, timestep, on_device.text, control_hidden_states=on_device.control_latents
        )[0],
        "base": lambda: base(latents, timestep, on_device, of_base),
        "full": lambda: full(latents, timestep, on_device, of_full),
        "base_plain": lambda: base(latents, timestep, on_device),
        "full_plain": lambda: full(latents, timestep, on_device),
    }


@torch.inference_mode()
def seconds_of(step: Callable[[], Tensor], device: str) -> float:
    start = time.perf_counter()
    step()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def spread(values: list[float]) -> dict[str, float]:
    low, _, high = quantiles(values, n=4)
    return {"median": round(median(values), 4), "low": round(low, 4), "high": round(high, 4)}


def main() -> None:
    args = arguments()
    steps = steps_to_time(args)
    for step in steps.values():  # warm up
        seconds_of(step, args.device)
    rounds = [
        {name: seconds_of(step, args.device) for name, step in steps.items()} for _ in range(args.rounds)
    ]
    pairs = {
        "base_ratio": ("base", "diffusers"),
        "full_ratio": ("full", "diffusers"),
        "base_cache_ratio": ("base", "base_plain"),
        "full_cache_ratio": ("full", "full_plain"),
    }
    report = {name: spread([r[ours] / r[other] for r in rounds]) for name, (ours, other) in pairs.items()}
    report |= {f"{name}_seconds": spread([r[name] for r in rounds]) for name in steps}
    print(json.dumps(report | {"sizes": vars(args)}))


if __name__ == "__main__":
    main()
