"""`hallo4 doctor --train RECIPE`: memory and time of a training, as tables for people; nothing is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE
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
from hallo4.training.plan import H100, H100_SLOW_NETWORK, RELEASED_CLIP, TrainingPlan, plans_for

TUNINGS = {"lora": "LoRA", "full": "full"}


def say_training(recipe: str, changes: Sequence[str], model: str | None, device: str) -> None:
    """Print lines and tables. InputError: no such recipe or value, or nothing that is planned."""
    import torch

    found = find_recipe(recipe)
    config = override(found.config, changes)
    backbone, size, described = _clip_of(model)
    plans = plans_for(config, backbone, size)
    print(f"recipe     {found.name}: {found.summary}")
    print(f"model      {described}")
    print(f"step       {config.train.accumulate} micro-batches of {config.batch_size} on each device")
    console = Console(width=170, highlight=False)
    for kind, rows in plans.items():
        console.print(table(rows, f"{TUNINGS[kind]}: memory of each device in GB, a step in seconds"))
    print(f"assumed    {H100.describe()}")
    print(f"           slow network: {H100_SLOW_NETWORK.describe()}")
    place = find_device(device)
    precision = torch.bfloat16 if chosen_precision(config.train, place) == "bf16" else torch.float32
    rate = measured_flops_per_s(place, precision)
    for kind, rows in plans.items():
        flops = rows[0].work.step_flops
        print(
            f"here       {TUNINGS[kind]}: {flops / 1e12:,.4g} TFLOP a step at {rate / 1e12:.3g} TFLOP/s on "
            f"{place} take {duration(flops / rate)} (an estimate)"
        )


def table(rows: Sequence[TrainingPlan], title: str) -> Table:
    """Memory of each device and seconds of a step, by the number of devices and how they share."""
    shown = Table(title=title, title_justify="left", box=SIMPLE)
    for column in ("devices", "by", "weights", "gradients", "momenta", "mean"):
        shown.add_column(column, justify="left" if column == "by" else "right")
    for column in (
        "reference",
        "gathered",
        "activations",
        "in all",
        "compute",
        "exchanged, GB",
        "exchange",
        "of compute",
        "slow network",
    ):
        shown.add_column(column, justify="right")
    for plan in rows:
        parts = [f"{value / GB:.3g}" for value in vars(plan.memory).values()]
        fits = "" if plan.memory.total <= H100.memory_bytes else " (too much)"
        compute_s, exchange_s = plan.compute_s(H100), plan.exchange_s(H100)
        shown.add_row(
            *(str(plan.devices), plan.sharding if plan.devices > 1 else "-", *parts),
            *(f"{plan.memory.total / GB:.3g}{fits}", f"{compute_s:.3g}"),
            *(
                f"{plan.exchanged_bytes / GB:,.4g}",
                f"{exchange_s:.2g}",
                f"{100 * exchange_s / compute_s:.1f} %",
            ),
            f"{plan.exchange_s(H100_SLOW_NETWORK):.2g}",
        )
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
