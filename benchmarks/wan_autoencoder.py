"""Wan's autoencoder at full size with random weights: what each way of running it costs.

`python benchmarks/wan_autoencoder.py [--height 480 --width 832 --task frames|video|decode|count|all ...]`
prints one JSON line:

* `frames`: pictures encoded by `encode_frames`, and one by one by diffusers' 3-D class, in turns; seconds
  of both and their ratio as the median and range of all rounds, and the largest relative difference;
* `video`, `decode`: seconds of `encode_video` and `decode_video`; with `--tile-px` also how far tiles are
  from the whole (mean and largest difference of clamped values);
* `peak_gb`: the most memory that the process held, weights included (run one task to attribute it);
* `tflop`: counted, not measured, of either class: one picture, a window of 81 frames that goes on grey
  after a known frame, a grey one, any other, and its decoding.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from statistics import median

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from hallo4.models import wan_layers
from hallo4.models.wan_autoencoder import CELL_PX, WanAutoencoder


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-dim", type=int, default=96)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=832)
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--latents", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pixels-at-once", type=int, default=wan_layers.PIXELS_AT_ONCE)
    parser.add_argument("--tile-px", type=int)
    parser.add_argument("--task", choices=("frames", "video", "decode", "count", "all"), default="all")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def random_model(args: argparse.Namespace, kind: type = WanAutoencoder) -> AutoencoderKLWan:
    torch.manual_seed(0)
    model = kind(base_dim=args.base_dim).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if name.endswith("gamma"):
            parameter.normal_(1, 0.1)
        else:
            parameter.normal_(std=parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1)
    return model.to(args.device)


def random_video(args: argparse.Namespace) -> Tensor:
    return torch.rand(1, 3, args.frames, args.height, args.width, device=args.device) * 2 - 1


def seconds_of(call: Callable[[], Tensor], device: str) -> tuple[float, Tensor]:
    start = time.perf_counter()
    result = call()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def spread(values: list[float]) -> dict[str, float]:
    return {
        name: round(value, 3)
        for name, value in (("median", median(values)), ("low", min(values)), ("high", max(values)))
    }


def time_frames(args: argparse.Namespace) -> dict:
    model = random_model(args)
    plain = AutoencoderKLWan(base_dim=args.base_dim).eval().requires_grad_(False)
    plain.load_state_dict(model.state_dict(), assign=True)  # one set of weights for both
    mean, std = (
        torch.tensor(values, device=args.device)[:, None, None, None]
        for values in (plain.config.latents_mean, plain.config.latents_std)
    )
    frames = random_video(args)

    def one_by_one() -> Tensor:
        encoded = [plain.encode(frame).latent_dist.mode() for frame in frames.split(1, dim=2)]
        return (torch.cat(encoded, dim=2) - mean) / std

    rounds = []
    for _ in range(args.rounds):
        theirs, expected = seconds_of(one_by_one, args.device)
        ours, found = seconds_of(lambda: model.encode_frames(frames), args.device)
        rounds.append((ours, theirs))
    return {
        "encode_frames_s": spread([ours for ours, _ in rounds]),
        "one_by_one_3d_s": spread([theirs for _, theirs in rounds]),
        "ratio": spread([theirs / ours for ours, theirs in rounds]),
        "relative_difference": ((found - expected).abs().max() / expected.abs().max()).item(),
    }


def time_video(args: argparse.Namespace) -> dict:
    model, clip = random_model(args), random_video(args)
    return {
        "s": spread(
            [seconds_of(lambda: model.encode_video(clip), args.device)[0] for _ in range(args.rounds)]
        )
    }


def time_decode(args: argparse.Namespace) -> dict:
    model = random_model(args)
    latents = torch.randn(
        1, 16, args.latents, args.height // CELL_PX, args.width // CELL_PX, device=args.device
    )
    rounds = [seconds_of(lambda: model.decode_video(latents), args.device) for _ in range(args.rounds)]
    report = {"s": spread([seconds for seconds, _ in rounds])}
    if args.tile_px:
        seconds, tiled = seconds_of(lambda: model.decode_video(latents, args.tile_px), args.device)
        far = (tiled - rounds[0][1].clamp(-1, 1)).abs()
        report["tiled"] = {
            "s": round(seconds, 3),
            "mean_difference": round(far.mean().item(), 4),
            "max_difference": round(far.max().item(), 4),
        }
    return report


def tflop_of(call: Callable[[], Tensor]) -> float:
    with FlopCounterMode(display=False) as counter:
        call()
    return round(counter.get_total_flops() / 1e12, 2)


def count(args: argparse.Namespace) -> dict[str, float]:
    """Operations on tensors without values, so that the full size costs nothing."""
    with torch.device("meta"):
        model, plain = (kind(base_dim=args.base_dim) for kind in (WanAutoencoder, AutoencoderKLWan))
        window = torch.empty(1, 3, 81, args.height, args.width)
        code = torch.empty(1, 16, 21, args.height // CELL_PX, args.width // CELL_PX)
        picture = window[:, :, :1]
        calls = {
            "picture": lambda: model.encode_frames(picture),
            "picture_3d": lambda: plain.encode(picture),
            "known_then_grey": lambda: model._encode_steps(window, [False, False] + [True] * 79),
            "grey": lambda: model._encode_steps(window, [False] + [True] * 80),
            "window_3d": lambda: plain.encode(window),
            "decode_window": lambda: model.decode_video(code),
            "decode_window_3d": lambda: plain.decode(code),
        }
        return {name: tflop_of(call) for name, call in calls.items()}


def main() -> None:
    args = arguments()
    wan_layers.PIXELS_AT_ONCE = args.pixels_at_once
    tasks = {"frames": time_frames, "video": time_video, "decode": time_decode, "count": count}
    with torch.inference_mode():
        report = {name: task(args) for name, task in tasks.items() if args.task in (name, "all")}
    if "count" in report:
        report["tflop"] = report.pop("count")
    report["peak_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    print(json.dumps(report | {"sizes": vars(args)}))


if __name__ == "__main__":
    main()
