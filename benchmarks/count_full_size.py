"""FLOPs, bytes and kernels of the released model at full size, counted on tensors without memory.

`python benchmarks/count_full_size.py [--frames 81] [--height 480] [--width 832] [--steps 25]` runs our own
classes on the meta device, one aten operation being one kernel and attention one fused kernel, and prints a
table and one JSON line. Beside them stand figures of the released program, counted in the same way at the
default sizes. Nothing is timed, so the figures are the same on every machine.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict

import torch
from rich.console import Console
from rich.table import Table

from hallo4.models import PortraitDiT, WanAutoencoder
from hallo4.models.cost import META, Cost, count, fused_attention, on_meta
from hallo4.models.dit_cost import (
    WindowSize,
    count_forward,
    denoising_flops,
    dit_without_memory,
    window_memory,
)
from hallo4.models.wan_autoencoder import CELL_PX

RELEASED = {
    "forward": (502.8, 1777, 8112),
    "step": (1005.5, 3554, 16224),
    "clip": (25_138, 88_865, None),
    "decoding": (275.4, 3160, None),
    "skeletons": (220.2, 2187, None),
    "text": (4.84, 44, None),
}
"""TFLOP, GB and kernels of the released program (fp32 weights under bf16 autocast), where counted."""
VALID_TEXT_TOKENS = 100
"""Of a prompt, for the estimate of what its padding costs."""


def times(cost: Cost, factor: int) -> Cost:
    return Cost(cost.flops * factor, cost.moved_bytes * factor, cost.kernels * factor, cost.peak_bytes)


def plus(*costs: Cost) -> Cost:
    sums = [sum(values) for values in zip(*((c.flops, c.moved_bytes, c.kernels) for c in costs))]
    return Cost(*sums, max(cost.peak_bytes for cost in costs))


def count_denoising(size: WindowSize, steps: int) -> dict[str, Cost]:
    """One forward, a step of both sides of guidance with and without what is kept, and a clip."""
    with on_meta():
        config = PortraitDiT().config
    model = dit_without_memory(config, torch.bfloat16)
    forward = count_forward(model, size, torch.bfloat16)
    cache = model.new_cache()
    first = count_forward(model, size, torch.bfloat16, cache)
    later = count_forward(model, size, torch.bfloat16, cache)
    assert forward.flops == denoising_flops(config, size), "the closed form and the count differ"
    return {
        "forward": forward,
        "step": times(forward, 2),
        "step with cache": times(later, 2),
        "clip": plus(times(first, 2), times(later, 2 * (steps - 1))),
    }


def count_pictures(size: WindowSize) -> dict[str, Cost]:
    """Decoding a window, and encoding its skeleton frames one by one."""
    with on_meta():
        autoencoder = fused_attention(WanAutoencoder().eval())
    latents = torch.empty(1, 16, (size.frames - 1) // 4 + 1, size.height, size.width, device=META)
    frame = torch.empty(1, 3, 1, CELL_PX * size.height, CELL_PX * size.width, device=META)
    return {
        "decoding": count(lambda: autoencoder.decode_video(latents)),
        "skeletons": times(count(lambda: autoencoder.encode_frames(frame)), size.frames),
    }


def count_text(tokens: int) -> Cost:
    """One prompt of so many tokens through umT5."""
    from transformers import UMT5Config, UMT5EncoderModel

    sizes = {"vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24}
    with on_meta():
        encoder = UMT5EncoderModel(UMT5Config(num_heads=64, **sizes)).eval()
    states = torch.empty(1, tokens, 4096, device=META)

    def run() -> torch.Tensor:
        result = states
        for block in encoder.encoder.block:
            result = block(result)
        return encoder.encoder.final_layer_norm(result)

    return count(run)


def left_to_remove(size: WindowSize) -> dict[str, float]:
    """TFLOP of a step of both sides that could go without changing the output, from closed forms."""
    with on_meta():
        config = PortraitDiT().config
    dim, slots = 1536, (size.frames - 1) // 4 + 2
    picture = size.height * size.width // 4
    video, square = slots * picture, 2 * dim * dim
    self_attention = 4 * video * square + 4 * video * video * dim
    layers = config.num_layers + len(config.vace_layers)
    padding = config.text_len - VALID_TEXT_TOKENS - 1
    # Of the last block everything but keys and values; nothing of it is used in the reference's slot.
    queries = 2 * video * square + 4 * video * video * dim  # self-attention
    queries += 2 * video * square + 4 * video * config.text_len * dim  # text
    queries += 2 * video * square + 4 * video * 4 * config.audio_tokens * dim  # audio
    queries += 4 * video * square + 4 * video * picture * dim + 4 * video * dim * config.ffn_dim
    return {
        "first self-attentions, once for both sides": 2 * self_attention / 1e12,
        f"padding of the text as one key ({VALID_TEXT_TOKENS} valid tokens)": 2
        * layers
        * (4 * video * padding * dim)
        / 1e12,
        "last block on the video alone": 2 * queries / slots / 1e12,
    }


def shown(costs: dict[str, Cost]) -> Table:
    table = Table("", "TFLOP", "GB moved", "kernels", "GB alive", "released: TFLOP", "GB", "kernels")
    for name, cost in costs.items():
        released = RELEASED.get(name, (None, None, None))
        ours = (cost.flops / 1e12, cost.moved_bytes / 1e9, cost.kernels, cost.peak_bytes / 1e9)
        table.add_row(name, *(rounded(value) for value in (*ours, *released)))
    return table


def rounded(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 or isinstance(value, int) else f"{value:.4g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=81, help="video frames of the window, 4k+1")
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=832)
    parser.add_argument("--steps", type=int, default=25)
    args = parser.parse_args()
    size = WindowSize(args.frames, args.height // CELL_PX, args.width // CELL_PX, text_tokens=512)
    parts: tuple[Callable[[], dict[str, Cost]], ...] = (
        lambda: count_denoising(size, args.steps),
        lambda: count_pictures(size),
        lambda: {"text": count_text(512), "text of 20 tokens": count_text(20)},
    )
    costs = {name: cost for part in parts for name, cost in part().items()}
    with on_meta():
        config = PortraitDiT().config
    memory = window_memory(config, size, torch.bfloat16)
    left = left_to_remove(size)
    Console(soft_wrap=True).print(shown(costs))
    report = {name: asdict(cost) for name, cost in costs.items()}
    sizes = {"window_memory_bytes": asdict(memory), "left_tflop_per_step": left, "sizes": vars(args)}
    print(json.dumps(report | sizes))


if __name__ == "__main__":
    main()
