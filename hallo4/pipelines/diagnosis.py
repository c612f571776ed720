"""What a machine has and what a job on it would take, as lines for people; no weights are loaded."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch

from hallo4.errors import InputError
from hallo4.models.precision import has_bf16_units
from hallo4.pipelines.devices import find_device, find_dtype
from hallo4.pipelines.expected import JobSize, expected
from hallo4.pipelines.model_info import ModelInfo, embedded_models, models_folder
from hallo4.pipelines.model_outline import ModelOutline, largest_canvas_px, plan_model, read_outline
from hallo4.pipelines.placement import GB, free_bytes, total_bytes, usable_bytes
from hallo4.pipelines.weight_moves import WeightRules
from hallo4.types import FPS
from hallo4.version import __version__
from hallo4.weights.catalogue import BUNDLES
from hallo4.weights.places import present, weights_root

LONGEST_S = 4 * 3600

EXTRAS = {
    "released": ("transformers", "accelerate"),
    "world": ("espeakng_loader",),
    "train": ("accelerate", "peft", "matplotlib"),
    "evaluate": ("skimage",),
    "parquet": ("pyarrow",),
    "data": ("pyarrow", "silero_vad"),
    "cluster": ("ray",),
    "eight-bit": ("bitsandbytes",),
    "docs": ("sphinx", "myst_parser", "furo"),
    "studio": ("fastapi", "uvicorn"),
    "identity": ("onnxruntime",),
    "pose": ("onnxruntime", "ai_edge_litert"),
}
"""Extra -> the modules by which it is recognised."""


def diagnose(
    model: str, seconds: float = 10.0, memory: str | float = "auto", dtype: str = "auto", device: str = "auto"
) -> Iterator[tuple[str, str]]:
    """Yield (name, text) about this machine, `model`, and a job of `seconds` of sound.

    CheckpointError: the model is not there, or not complete. InputError: impossible values, or too little
    memory for the model.
    """
    if not 0 < seconds <= LONGEST_S:
        raise InputError(f"seconds is {seconds:g}; a job lasts above 0 and at most {LONGEST_S} s.")
    chosen, rules_dtype = find_device(device), find_dtype(dtype)
    usable = usable_bytes(memory, chosen)
    yield "hallo4", f"{__version__}, Python {platform.python_version()}, torch {torch.__version__}"
    for place in devices():
        yield "device", describe_device(place) + (" (chosen)" if place == chosen else "")
    yield "extras", describe_extras()
    yield "models", describe_models()
    yield "weights", describe_weights()
    outline, rules = read_outline(model), WeightRules(chosen, rules_dtype)
    yield "model", describe_model(outline)
    plan = plan_model(outline, rules, usable)
    yield "placement", plan.describe()
    info, canvas = outline.info, largest_canvas_px(outline.info)
    job = JobSize(max(1, round(seconds * FPS)), *canvas, info.steps, info.guidance_scale)
    estimate = expected(outline, job, rules, plan)
    if estimate is not None:
        yield "job", estimate.describe()
    else:
        size = f"{job.frames} frames of {canvas[0]}x{canvas[1]}"
        yield "job", f"{size}; time and working memory of a UNet are not estimated"


def devices() -> list[torch.device]:
    """All devices that a model can run on."""
    return [*(torch.device("cuda", index) for index in range(torch.cuda.device_count())), torch.device("cpu")]


def device_name(device: torch.device) -> str:
    """What kind of device it is: another of this name computes as fast."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {os.cpu_count()} processors"


def describe_device(device: torch.device) -> str:
    """Its name, memory and number formats."""
    name = device_name(device)
    if device.type != "cuda":
        name = f"{name}, {torch.get_num_threads()} threads"
    formats = "fp32 and bf16" if has_bf16_units(device.type) else "fp32 (bf16 weights are multiplied in fp32)"
    free, total = free_bytes(device) / GB, total_bytes(device) / GB
    return f"{device}: {name}; {free:.1f} of {total:.1f} GB free; computes in {formats}"


def describe_extras() -> str:
    """Which extras are installed, and how to get the others."""
    there = [name for name, modules in EXTRAS.items() if all(map(find_spec, modules))]
    missing = [name for name in EXTRAS if name not in there]
    more = f"; not installed: {', '.join(missing)} (pip install 'hallo4[{','.join(missing)}]')"
    return (", ".join(there) or "none") + (more if missing else "")


def describe_models() -> str:
    """Names of the models that are here."""
    kept = sorted(path.parent.name for path in models_folder().glob("*/model.json"))
    return f"{', '.join(embedded_models())} (with hallo4); in {models_folder()}: {', '.join(kept) or 'none'}"


def describe_weights() -> str:
    """Which bundles of files from elsewhere are here, and how to get the others."""
    counts = {name: sum(present(file) is not None for file in b.files) for name, b in BUNDLES.items()}
    there = [
        name if count == len(BUNDLES[name].files) else f"{name} ({count} of {len(BUNDLES[name].files)} files)"
        for name, count in counts.items()
        if count
    ]
    missing = [name for name, count in counts.items() if count < len(BUNDLES[name].files)]
    more = f"; not complete: {', '.join(missing)} (hallo4 weights fetch NAME)" if missing else ""
    return f"in {weights_root()}: {', '.join(there) or 'none'}{more}"


def describe_model(outline: ModelOutline) -> str:
    """What a model is and how large its files are."""
    info: ModelInfo = outline.info
    sizes = ", ".join(f"{name} {_size(count)}" for name, count in outline.stored.items())
    height_px, width_px = largest_canvas_px(info)
    text = "takes text" if Path(outline.folder, "text").is_dir() else "takes no text"
    return (
        f"{info.name} {info.version} in {outline.folder}: {sizes}; up to {height_px}x{width_px}, windows of "
        f"{info.window_frames} frames, {info.steps} steps, guidance {info.guidance_scale:g}; {text}"
    )


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count < GB else f"{count / GB:.2f} GB"


def _processor() -> str:
    return str(torch.cpu.get_capabilities().get("cpu_name") or platform.machine())
