"""What a job will take, before it starts: seconds from counted FLOPs and a short measurement, peak of memory
from the plan. An estimate, and it says so."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from hallo4.models.dit import PortraitDiT
from hallo4.models.dit_cache import kept_streams
from hallo4.models.dit_cost import WindowSize, denoising_flops, window_memory
from hallo4.models.precision import final_dtype, has_bf16_units
from hallo4.pipelines.model_folder import LoadedModel
from hallo4.pipelines.model_outline import (
    ModelOutline,
    count_decoding,
    count_encoding,
    read_outline,
    window_size,
)
from hallo4.pipelines.placement import GB, PlacementPlan
from hallo4.pipelines.plan import plan_windows, window_count
from hallo4.pipelines.weight_moves import WeightRules
from hallo4.pipelines.window import latents_holding

LONG_S = 30.0
"""Jobs that take longer are announced."""
QUICK_FLOPS = 1e12
"""Of denoising: any machine does so many in about that time or less, so nothing is measured."""
MEASURED_S = 0.2
"""How long one number format is measured."""
SIDE = {"cuda": 8192, "cpu": 1024}
"""Side of the square matrices that are measured with, by device type; others: as a CPU."""


@dataclass(frozen=True)
class JobSize:
    """`frames` of video, on a canvas of `height_px` x `width_px`, with `steps` and `guidance_scale`."""

    frames: int
    height_px: int
    width_px: int
    steps: int
    guidance_scale: float


@dataclass(frozen=True)
class JobFlops:
    """FLOPs of a whole job: `windows` times denoising, and encoding and decoding of pictures."""

    windows: int
    denoising: int
    autoencoding: int


@dataclass(frozen=True)
class Expectation:
    """An estimate of a job: `seconds` from its `flops` and the measured `flops_per_s` of the denoiser's
    products; `peak_bytes` of the device's memory (None: not planned)."""

    job: JobSize
    windows: int
    window_frames: int
    flops: int
    flops_per_s: float
    seconds: float
    peak_bytes: int | None

    def describe(self) -> str:
        """One line for people."""
        memory = "" if self.peak_bytes is None else f" and {self.peak_bytes / GB:.1f} GB"
        count = f"{self.windows} window{'' if self.windows == 1 else 's'} of {self.window_frames} frames"
        return (
            f"{self.job.frames} frames of {self.job.height_px}x{self.job.width_px} in {count}, "
            f"{self.job.steps} steps each: expect about {duration(self.seconds)}{memory} (an estimate: "
            f"{self.flops / 1e12:.3g} TFLOP at {self.flops_per_s / 1e12:.3g} TFLOP/s, the speed of matrix "
            "products here; attention and data movement can take longer)"
        )


def expected(
    outline: ModelOutline, job: JobSize, rules: WeightRules, plan: PlacementPlan | None
) -> Expectation | None:
    """What `job` will take on the device of `rules`; None for a backbone without known FLOPs (a UNet)."""
    flops = job_flops(outline, job, rules, plan)
    if flops is None:
        return None
    products = _bf16_on_cpu(rules) or rules.products
    rate = measured_flops_per_s(rules.device, products)
    coding = final_dtype(outline.autoencoder, "encoder", products)  # the slower of its two sides
    coding_rate = rate if coding == products else measured_flops_per_s(rules.device, coding)
    seconds = flops.denoising / rate + flops.autoencoding / coding_rate
    return Expectation(
        job=job,
        windows=flops.windows,
        window_frames=outline.info.window_frames,
        flops=flops.denoising + flops.autoencoding,
        flops_per_s=rate,
        seconds=seconds,
        peak_bytes=None if plan is None else plan.peak_bytes,
    )


def job_flops(
    outline: ModelOutline, job: JobSize, rules: WeightRules, plan: PlacementPlan | None
) -> JobFlops | None:
    """FLOPs of a job: denoising in closed form, encoding of skeletons and decoding counted.

    Left out: what happens once a video (portrait, sound, text), and the known frames of a window, which cost
    at most as much as the skeleton of one. None for a UNet.
    """
    info, backbone = outline.info, outline.backbone
    if not isinstance(backbone, PortraitDiT):
        return None
    size, sides = window_size(outline, job.height_px, job.width_px, job.guidance_scale)
    streams = window_memory(backbone.config, size, rules.products).streams
    caches = sides // size.batch
    budget = None if plan is None else plan.cache_bytes // caches
    kept = kept_streams(streams, budget)
    first = denoising_flops(backbone.config, size)
    later = denoising_flops(backbone.config, size, kept)
    denoising = caches * (first + (job.steps - 1) * later)
    repeated = backbone.windows.repeated_frames
    windows = window_count(job.frames, info.window_frames, repeated)
    held = outline.autoencoder.spec.frames_per_latent
    latents = sum(
        latents_holding(window.first_kept + window.kept, held)
        for window in plan_windows(job.frames, info.window_frames, repeated)
    )
    one, two = (count_decoding(outline, rules, job.height_px, job.width_px, n).flops for n in (1, 2))
    decoding = windows * one + (latents - windows) * (two - one)  # the first of a video may cost less
    encoding = 0
    if backbone.condition_spec.skeleton != "none":
        frames = windows * info.window_frames
        encoding = frames * count_encoding(outline, rules, job.height_px, job.width_px).flops
    return JobFlops(windows, windows * denoising, decoding + encoding)


def notes_before_work(model: LoadedModel, job: JobSize) -> list[str]:
    """Lines for a person who is about to wait: where the weights are, and how long a job takes that takes
    long."""
    notes = [] if model.plan is None else [model.plan.describe()]
    if model.folder is None or not isinstance(model.backbone, PortraitDiT):
        return notes
    outline = read_outline(model.folder) if _may_take_long(model, job) else None
    if outline is not None:
        rules = WeightRules(model.device, None if model.autocast else model.dtype)
        estimate = expected(outline, job, rules, model.plan)
        if estimate is not None and estimate.seconds > LONG_S:
            notes.append(estimate.describe())
    return notes


def _may_take_long(model: LoadedModel, job: JobSize) -> bool:
    """Whether denoising alone is more than a machine does in a short time; costs nothing to ask."""
    cell = model.autoencoder.spec.cell_px
    frames = model.info.window_frames
    size = WindowSize(frames, job.height_px // cell, job.width_px // cell)
    windows = window_count(job.frames, frames, model.backbone.windows.repeated_frames)
    return windows * job.steps * denoising_flops(model.backbone.config, size) > QUICK_FLOPS


@torch.inference_mode()
def measured_flops_per_s(device: torch.device, dtype: torch.dtype, seconds: float = MEASURED_S) -> float:
    """Speed of matrix products in `dtype`: the best of what fits into `seconds`, after a first one."""
    side = SIDE.get(device.type, SIDE["cpu"])
    matrix = torch.ones(side, side, device=device, dtype=dtype)
    best, end = float("inf"), None
    while end is None or time.perf_counter() < end:
        started = time.perf_counter()
        matrix @ matrix
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took = time.perf_counter() - started
        if end is None:  # the first is slower: memory and kernels are prepared
            end = time.perf_counter() + seconds
            continue
        best = min(best, took)
    if best == float("inf"):  # one product alone takes longer than the measurement
        best = took
    return 2 * side**3 / best


def duration(seconds: float) -> str:
    """12.3 s; 4 min; 2 h 5 min."""
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _bf16_on_cpu(rules: WeightRules) -> torch.dtype | None:
    """bf16 where autocast will use it."""
    on_cpu = rules.device.type == "cpu"
    return torch.bfloat16 if on_cpu and rules.autocast and has_bf16_units() else None
