"""Where the weights of a model live while it works: decided beforehand, from what is free.

* `resident`: all parts are on the device.
* `offload`: backbone and autoencoder take turns; the other one waits in main memory.
* `stream`: the backbone's blocks come to the device one by one. On a CPU they stay in their file; each is
  mapped from there and cast to the number format of the products for its own turn.

Only arithmetic; `weight_moves.py` does it. The text encoder is not part of this: it comes block by block
before the others are loaded (`hallo4.models.text_encoder`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Literal

import torch

from hallo4.errors import InputError

Placement = Literal["resident", "offload", "stream"]

RESERVE_BYTES = 600_000_000
"""Left to the libraries: kernels, workspaces, fragments."""
GB = 1e9


@dataclass(frozen=True)
class PartBytes:
    """Sizes of weights: `backbone` and `autoencoder` in the number formats in which they are used; of the
    backbone the largest `block` and all that is in no block (`rest`)."""

    backbone: int
    autoencoder: int
    block: int
    rest: int


@dataclass(frozen=True)
class WorkBytes:
    """What a window needs beside the weights: at the peak of `denoising` and of `autoencoding`, and `cache`,
    what of denoising may be kept over the steps to save work."""

    denoising: int
    autoencoding: int
    cache: int = 0


@dataclass(frozen=True)
class PlacementPlan:
    """Where the weights live on `device`: `placement`, in words `backbone_at` and `autoencoder_at`.

    `cache_bytes`: how much may be kept over the steps of a window. `peak_bytes`: expected of the device's
    memory, the libraries' share included. `scarce`: memory is so short that what is decoded better in fp32 is
    decoded in the type of everything else.
    """

    device: torch.device
    placement: Placement
    backbone_at: str
    autoencoder_at: str
    cache_bytes: int
    peak_bytes: int
    scarce: bool = False

    def describe(self) -> str:
        """One line for people."""
        decoding = " (decodes in the format of the backbone to save memory)" if self.scarce else ""
        return (
            f"{self.placement}: backbone {self.backbone_at}, autoencoder {self.autoencoder_at}{decoding}; "
            f"about {self.peak_bytes / GB:.1f} GB on {self.device}, "
            f"{self.cache_bytes / GB:.1f} GB of it for what stays the same over the steps"
        )


def plan_placement(
    parts: PartBytes, work: WorkBytes, free_bytes: int, device: str | torch.device
) -> PlacementPlan:
    """The fastest placement that fits into `free_bytes` of `device`.

    InputError: none fits; it says what the smallest needs.
    """
    device = torch.device(device)
    options = placements(parts, work, device)
    for placement, needed in options.items():
        if needed <= free_bytes:
            denoising = needed_bytes(parts, replace(work, autoencoding=0), placement, device)
            cache = min(work.cache, free_bytes - denoising)
            backbone_at, autoencoder_at = _places(placement, device)
            peak = needed_bytes(parts, work, placement, device, cache)
            return PlacementPlan(device, placement, backbone_at, autoencoder_at, cache, peak)
    least = min(options.values())
    other = "" if device.type == "cpu" else ", use --device cpu"
    raise InputError(
        f"{device} offers {free_bytes / GB:.1f} GB, and this model needs {least / GB:.1f} GB of it even with "
        f"its smallest placement ({', '.join(f'{name} {size / GB:.1f}' for name, size in options.items())} "
        f"GB). Allow more with --memory, free memory there{other}, or use a model with a smaller canvas."
    )


def placements(parts: PartBytes, work: WorkBytes, device: torch.device) -> dict[Placement, int]:
    """Bytes of the device that each placement needs without any cache, the fastest first."""
    names: tuple[Placement, ...] = ("resident", "offload", "stream")
    if device.type == "cpu":  # where parts would wait for their turn is the same memory
        names = ("resident", "stream")
    return {name: needed_bytes(parts, work, name, device) for name in names}


def needed_bytes(
    parts: PartBytes, work: WorkBytes, placement: Placement, device: torch.device, cache_bytes: int = 0
) -> int:
    """Bytes of the device that a placement needs at its peak."""
    denoising = work.denoising + cache_bytes
    if placement == "resident" or device.type == "cpu":
        backbone = parts.backbone
        if placement == "stream":
            backbone = parts.rest + 2 * parts.block  # one block as it is used, and as the file has it
        return RESERVE_BYTES + backbone + parts.autoencoder + max(denoising, work.autoencoding)
    backbone = parts.backbone
    if placement == "stream":
        backbone = parts.rest + 2 * parts.block  # the next one comes while one works
    return RESERVE_BYTES + max(backbone + denoising, parts.autoencoder + work.autoencoding)


def _places(placement: Placement, device: torch.device) -> tuple[str, str]:
    if placement == "resident":
        return f"on {device}", f"on {device}"
    if placement == "offload":
        return f"on {device} while it denoises", f"on {device} while it encodes or decodes"
    if device.type == "cpu":
        return "in its file, read block by block in use", "on cpu"
    return f"in main memory, block by block on {device}", f"on {device} while it encodes or decodes"


# ---------------------------------------------------------------------- what is free


def usable_bytes(memory: str | float, device: torch.device) -> int:
    """`memory` "auto": what is free on the device; a number: so many GB, but not more than that.

    InputError: neither.
    """
    free = free_bytes(device)
    if memory == "auto":
        return free
    try:
        allowed = float(memory) * GB
    except ValueError:
        allowed = 0.0
    if not 0 < allowed < 1e15:
        raise InputError(f"memory is {memory!r}; give 'auto' or the gigabytes that may be used, such as 12.")
    return min(int(allowed), free)


def free_bytes(device: torch.device) -> int:
    """Memory of the device that nothing else uses now: of a CPU, what programs can get without swapping."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return _memory("MemAvailable", "SC_AVPHYS_PAGES")


def total_bytes(device: torch.device) -> int:
    """All memory of the device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return _memory("MemTotal", "SC_PHYS_PAGES")


def _memory(field: str, pages: str) -> int:
    """A line of /proc/meminfo (Linux), else what POSIX says."""
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name == field:
                    return int(value.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError) as error:
        raise InputError("this system does not say how much memory is free; give it: --memory GB.") from error
