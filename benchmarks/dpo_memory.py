"""Memory and time of one preference step, scheme by scheme, beside the usual two-model implementation.

`python benchmarks/dpo_memory.py [--width 768 --layers 6 ...] [-o report.json]` builds the schemes

* `naive`: all weights trained in fp32 with AdamW, a second model in bf16 as the reference, clips in a batch;
* `full_table`: all weights trained, the reference a table of numbers;
* `lora_second_model`: an adapter (fp32) on bf16 weights, the reference a second model;
* `lora`: the same, the reference is the model with its adapter switched off;
* `lora_split`: the same, winner and loser one after the other;
* `lora_table`: an adapter, the reference a table of numbers (made beforehand: its cost is not in here);

and prints one JSON object: bytes of each, seconds per step as median and range of the middle half over rounds
in which the schemes take turns, and both as ratios to `naive`. Bytes are counted, not sampled: what weights,
second model and optimizer hold, and on top of that the most that lives at any moment of a step (activations,
gradients, copies made by autocast, temporaries). On a GPU the allocator's own peak is taken.

In a narrow model activations hide everything else, so the default is wide, with few tokens: weights weigh as
in the released model. Every block is checkpointed. The rank of the adapter is width / 24: 64 at Wan's 1536.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hallo4.diffusion import PreferenceLossConfig
from hallo4.models.dit import PortraitDiT
from hallo4.training import (
    AdapterConfig,
    AdapterOff,
    PairBatch,
    Table,
    add_lora,
    pair_step,
    predict,
    reference_errors,
)

CONFIG = PreferenceLossConfig()
AUDIO = {"audio_blocks": 1, "audio_channels": 80, "audio_hidden_dim": 128, "audio_tokens": 8}
TEXT_DIM = 64
GOALS = {"lora": {"memory": 0.35, "time": 0.95}, "lora_split": {"memory": 0.25}}


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--rank", type=int, default=None, help="of the adapter; default: width / 24")
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--frames", type=int, default=17, help="video frames of a clip, 4k+1")
    parser.add_argument("--latent-side", type=int, default=16, help="latent cells, height and width")
    parser.add_argument("--rounds", type=int, default=9, help="timed steps of each scheme; 0: memory only")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--no-checkpointing", action="store_true")
    parser.add_argument("-o", "--output", type=Path, help="also write the JSON object to this file")
    return parser.parse_args(words)


# ---------------------------------------------------------------- what is measured


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors made while it is on that still live; `peak` is the most there were."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen = {id(tensor.untyped_storage()) for tensor in known}
        self._alive = [tensor.untyped_storage() for tensor in known]  # so that their ids stay theirs

    def __torch_dispatch__(
        self, operation: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._see(tensor.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key not in self._seen:
            self._seen.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of the storages behind `tensors`, each once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def step_peak(step: Callable[[], None], held: list[Tensor], device: str) -> int:
    """The most bytes that `step` holds at once beyond `held`."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - before
    with LiveBytes(held) as live:
        step()
    return live.peak


# ---------------------------------------------------------------- schemes


class AsItIs:
    """The reference is the model that is measured."""

    def errors(self, measure: Callable[[], Tensor], batch: PairBatch) -> Tensor:
        """See `Reference`."""
        return measure()


@dataclass
class SecondModel:
    """The reference is another model in memory."""

    model: nn.Module

    def errors(self, measure: Callable[[], Tensor], batch: PairBatch) -> Tensor:
        """See `Reference`."""
        return reference_errors(self.model, batch, predict, AsItIs(), CONFIG)


class Scheme:
    """One way of making a preference step: `step()` makes one; `held` is what it keeps between steps."""

    def __init__(self, name: str, args: argparse.Namespace, batch: PairBatch) -> None:
        self.args, self.batch = args, batch
        self.mode = "split" if name == "lora_split" else "batched"
        half = torch.bfloat16 if args.precision == "bf16" else torch.float32
        adapter = name.startswith("lora")
        self.model = dit(args, half if adapter else torch.float32)
        if adapter:
            add_lora(self.model, AdapterConfig(rank=args.rank or max(1, args.width // 24)))
        second = dit(args, half).requires_grad_(False) if name in ("naive", "lora_second_model") else None
        self.second = list(second.parameters()) if second else []
        if second is not None:
            self.reference = SecondModel(second)
        elif name.endswith("table"):
            row = torch.full((args.pairs, 1, 2), 1.0)
            self.reference = Table(row, batch.sigma.cpu()[:, None], {})
        else:
            self.reference = AdapterOff(self.model)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        # one tensor at a time, as fused optimizers do: no temporary copies of all weights
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-6, foreach=False)

    def step(self) -> None:
        """Forward, backward, update."""
        autocast = torch.autocast(
            self.args.device.split(":")[0], torch.bfloat16, enabled=self.args.precision == "bf16"
        )
        with autocast:
            loss, _ = pair_step(self.model, self.batch, predict, self.reference, CONFIG, self.mode)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def optimizer_states(self) -> list[Tensor]:
        """What the optimizer keeps."""
        return [t for state in self.optimizer.state.values() for t in state.values() if isinstance(t, Tensor)]

    def memory(self) -> dict[str, int]:
        """Bytes by what holds them. The first step, which makes the optimizer's states, is not measured."""
        self.step()
        weights, states = list(self.model.parameters()), self.optimizer_states()
        held = [*weights, *self.second, *states]
        batch = [t for t in tree_leaves(vars(self.batch)) if isinstance(t, Tensor)]
        found = {
            "weights": bytes_of(weights),
            "second_model": bytes_of(self.second),
            "optimizer": bytes_of(states),
            "gradients": bytes_of(self.trained),  # in the peak already
            "step_peak": step_peak(self.step, held + batch, self.args.device),
        }
        return found | {"total": bytes_of(held) + found["step_peak"]}


SCHEMES = ("naive", "full_table", "lora_second_model", "lora", "lora_split", "lora_table")


def dit(args: argparse.Namespace, dtype: torch.dtype) -> PortraitDiT:
    torch.manual_seed(0)
    model = PortraitDiT(
        num_attention_heads=args.heads,
        attention_head_dim=args.width // args.heads,
        text_dim=TEXT_DIM,
        text_len=None,
        ffn_dim=4 * args.width,
        num_layers=args.layers,
        vace_layers=tuple(range(0, args.layers, 2)),
        branch_init_std=0.02,
        **AUDIO,
    )
    if not args.no_checkpointing:
        model.enable_gradient_checkpointing()
    for name, parameter in model.named_parameters():
        if not model.keeps_fp32(name):
            parameter.data = parameter.data.to(dtype)
    return model.to(args.device).train()


def random_pairs(args: argparse.Namespace) -> PairBatch:
    side, slots = args.latent_side, (args.frames - 1) // 4 + 2
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(args.pairs, *shape, generator=generator).to(args.device)

    conditions = {
        "reference_latents": normal(16, 1, side, side),
        "audio_windows": normal(args.frames, 5, AUDIO["audio_blocks"], AUDIO["audio_channels"]),
        "skeleton_latents": normal(16, args.frames, side, side),
        "control_latents": normal(96, slots, side, side),
        "text": normal(1, TEXT_DIM),
    }
    winner, loser, noise = (normal(16, slots - 1, side, side) for _ in range(3))
    rows = torch.arange(args.pairs, device=args.device)
    sigma = torch.full((args.pairs,), 0.5, device=args.device)
    return PairBatch(winner, loser, noise, sigma, conditions, pairs=rows, visits=torch.zeros_like(rows))


# ---------------------------------------------------------------- report


def seconds_of(step: Callable[[], None], device: str) -> float:
    start = time.perf_counter()
    step()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def spread(values: list[float]) -> dict[str, float]:
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median": round(median(values), 4), "low": round(low, 4), "high": round(high, 4)}


def report(args: argparse.Namespace) -> dict[str, Any]:
    batch = random_pairs(args)
    schemes: dict[str, Scheme] = {}
    results: dict[str, dict[str, Any]] = {}
    for name in SCHEMES:
        scheme = Scheme(name, args, batch)
        results[name] = {"bytes": scheme.memory()}
        if args.rounds:
            schemes[name] = scheme
    rounds = [
        {name: seconds_of(scheme.step, args.device) for name, scheme in schemes.items()}
        for _ in range(args.rounds)
    ]
    whole = results["naive"]["bytes"]["total"]
    for name, result in results.items():
        result["memory_ratio"] = round(result["bytes"]["total"] / whole, 4)
        if rounds:
            result["seconds"] = spread([r[name] for r in rounds])
            result["time_ratio"] = spread([r[name] / r["naive"] for r in rounds])
    met = {}
    for name, limits in GOALS.items():
        met[f"{name} memory <= {limits['memory']}"] = results[name]["memory_ratio"] <= limits["memory"]
        if rounds and "time" in limits:
            met[f"{name} time <= {limits['time']}"] = results[name]["time_ratio"]["median"] <= limits["time"]
    shape = batch.winner.shape
    tokens = (shape[2] + 1) * math.prod(shape[3:]) // 4
    parameters = results["naive"]["bytes"]["weights"] // 4
    sizes = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    return {
        "schemes": results,
        "goals_met": met,
        "parameters": parameters,
        "tokens_per_clip": tokens,
        "sizes": sizes,
    }


def main() -> None:
    args = arguments()
    found = report(args)
    print(json.dumps(found, indent=1))
    if args.output:
        args.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
