"""`hallo4 doctor --train RECIPE`: memory and time of a training, as tables for people; nothing is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from hallo4.errors import InputError
from hallo4.models.cost import on_meta
from hallo4.models.dit import PortraitDiT
from hallo4.models.dit_cost import WindowSize
from hallo4.pipelines.devices import find_device
from hallo4.pipelines.expected import duration, measured_flops_per_s
from hallo4.pipelines.model_outline import largest_canvas_px, read_outline, window_size
from hallo4.pipelines.placement import GB
from hallo4.recipes import find_recipe
from hallo4.training import override
from hallo4.training.number_format import chosen_precision
from hallo4.training.plan import H100, H100_SLOW_NETWORK, RELEASED_CLIP, Hardware, TrainingPlan, plans_for

TUNINGS = {"lora": "LoRA", "full": "full"}


def say_training(recipe: str, changes: Sequence[str], model: str | None, device: str) -> None:
    """Print lines and tables. InputError: no such recipe or value, or nothing that is planned."""
    import torch

    found = find_recipe(recipe)
    config = override(found.config, changes)
    backbone, size, described = _clip_of(model)
    plans = {hardware: plans_for(config, backbone, size, hardware) for hardware in (H100, H100_SLOW_NETWORK)}
    console = Console(width=150, highlight=False)
    print(f"recipe     {found.name}: {found.summary}")
    print(f"model      {described}")
    print(f"step       {config.train.accumulate} micro-batches of {config.batch_size} on each device")
    for hardware, of_tuning in plans.items():
        console.print(table(of_tuning, hardware))
    place = find_device(device)
    precision = torch.bfloat16 if chosen_precision(config.train, place) == "bf16" else torch.float32
    rate = measured_flops_per_s(place, precision)
    for name, rows in plans[H100].items():
        seconds = rows[0].flops / rate
        print(
            f"here       {TUNINGS[name]}: {rows[0].flops / 1e12:.4g} TFLOP a step at {rate / 1e12:.3g} TFLOP/s on "
            f"{place} take {duration(seconds)} (an estimate)"
        )


def table(plans: dict[str, list[TrainingPlan]], hardware: Hardware) -> Table:
    """Memory of each device in GB, and seconds of a step, by what is trained and how it is shared."""
    shown = Table(title=f"On {hardware.name} (assumed)", title_justify="left")
    for column in ("trained", "devices", "by", "weights", "gradients", "momenta", "mean", "gathered"):
        shown.add_column(column, justify="left" if column in ("trained", "by") else "right")
    for column in ("activations", "in all, GB", "compute, s", "exchanged, GB", "exchange, s", "step, s"):
        shown.add_column(column, justify="right")
    for name, rows in plans.items():
        for plan in rows:
            parts = [f"{value / GB:.2f}" for value in vars(plan.memory).values()]
            fits = "" if plan.memory.total <= hardware.memory_bytes else " (too much)"
            best, worst = plan.seconds
            shown.add_row(
                *(TUNINGS[name], str(plan.devices), plan.sharding if plan.devices > 1 else "-"),
                *(*parts, f"{plan.memory.total / GB:.1f}{fits}", f"{plan.compute_s:.1f}"),
                *(f"{plan.exchanged_bytes / GB:.1f}", f"{plan.exchange_s:.3f}", f"{best:.1f} to {worst:.1f}"),
            )
        shown.add_section()
    return shown


def _clip_of(model: str | None) -> tuple[Any, WindowSize, str]:
    """(configuration of the backbone, a clip as it is trained on, both in words)."""
    if model is None:
        with on_meta():
            backbone = PortraitDiT()
        size, name = RELEASED_CLIP, "the released sizes"
    else:
        outline = read_outline(model)
        backbone, name = outline.backbone, outline.info.name
        if not isinstance(backbone, PortraitDiT):
            raise InputError(f"{name} is a UNet, whose training is not planned: give a DiT with --model.")
        size = window_size(outline, *largest_canvas_px(outline.info), 1.0)[0]
    count = sum(parameter.numel() for parameter in backbone.parameters())
    clip = f"clips of {size.frames} frames, {size.height}x{size.width} latent cells"
    return backbone.config, size, f"{name}: {count / 1e6:.4g} million parameters; {clip}"
