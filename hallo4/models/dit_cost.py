"""What a `PortraitDiT` costs: FLOPs in closed form, everything else counted on a model without memory.

Sizes: L = (F+1) N video tokens of width D, N per latent frame; n text tokens, A audio tokens per latent
frame, FFN width E. A product of [a, b] with [b, c] is 2abc FLOPs. Elementwise work is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from hallo4.models.cost import META, Cost, count, fused_attention, on_meta
from hallo4.models.dit import PortraitDiT
from hallo4.models.dit_cache import STREAMS, DiTCache, Stream, stream_bytes
from hallo4.models.dit_detail import DetailHead
from hallo4.models.precision import final_dtype
from hallo4.models.temporal_motion_modulation import kept_slots, latent_frame_count
from hallo4.types import MotionConditions


@dataclass(frozen=True)
class WindowSize:
    """A window of `frames` video frames and `height` x `width` latent cells, with `text_tokens` of text
    (before the model pads them); `batch` clips, or sides of guidance, at a time."""

    frames: int
    height: int
    width: int
    text_tokens: int = 1
    batch: int = 1


@dataclass(frozen=True)
class WindowMemory:
    """What one window needs beside the weights, in bytes: `activations` of a forward at their peak, `tokens`
    that a cache always keeps, and `streams`, what it keeps of each stream if it may."""

    activations: int
    tokens: int
    streams: Mapping[Stream, int]


def denoising_flops(config: Any, size: WindowSize, kept: Collection[Stream] | None = None) -> int:
    """FLOPs of one forward.

    `kept`: the streams that a filled cache holds, beside the embedded conditions; None: there is no cache, or
    it is the first step.
    """
    dim, patch = config.num_attention_heads * config.attention_head_dim, config.patch_size[1]
    slots = latent_frame_count(size.frames, config.rho) + 1
    picture = (size.height // patch) * (size.width // patch)
    video = slots * picture
    text = size.text_tokens if config.text_len is None else config.text_len
    square, cell = 2 * dim * dim, patch * patch
    first = kept is None
    missing = set(STREAMS) - set(kept or ())

    def attention(queries: int, keys: int) -> int:
        return 4 * queries * keys * dim

    if text == 1:
        of_text, new_text = 0, 2 * square
    else:
        of_text, new_text = 2 * video * square + attention(video, text), 2 * text * square
    if "text" in missing:
        of_text += new_text
    shared = 4 * video * square + attention(video, video) + of_text + 4 * video * dim * config.ffn_dim
    main = shared
    if config.audio != "none":
        audio = audio_tokens(config)
        main += 2 * video * square + slots * attention(picture, audio)
        main += 2 * slots * audio * square if "audio" in missing else 0
    if config.skeleton != "none":
        asks = config.skeleton_attention == "skeleton_queries"
        main += (3 if asks else 2) * video * square + slots * attention(picture, picture)
        main += (1 if asks else 2) * video * square if "skeleton" in missing else 0
    vace = shared + video * square
    outer = 2 * video * config.in_channels * cell * dim  # patches in
    if config.detail_width is None:
        outer += 2 * video * config.in_channels * cell * dim  # head out
    else:
        outer += _detail_flops(config, size, first)
    outer += 2 * (config.freq_dim * dim + 7 * dim * dim)  # the timestep
    if first:
        outer += _embedding_flops(config, size, text) + video * square  # `proj_in`
    return size.batch * (config.num_layers * main + len(config.vace_layers) * vace + outer)


def _detail_flops(config: Any, size: WindowSize, first: bool) -> int:
    """Of a `DetailHead`, for one window; `first`: what it makes of the conditions too."""
    dim, width = config.num_attention_heads * config.attention_head_dim, config.detail_width
    groups, cells = latent_frame_count(size.frames, config.rho), size.height * size.width
    channels, points, blocks = config.in_channels, DetailHead.POINTS, DetailHead.BLOCKS
    each_cell = dim * (width + 2 * points + 4)  # from the tokens, which are as wide for all their cells
    each_cell += channels * width + width * width + 18 * blocks * width * width + 9 * width * channels
    flops = 2 * groups * cells * each_cell + 4 * blocks * dim * width
    if first:
        flops += 18 * cells * (channels * width + width * width)
        flops += 2 * groups * cells * config.rho * channels * width if config.skeleton != "none" else 0
        flops += 18 * groups * cells * channels * width if config.draft else 0
    return flops


def audio_tokens(config: Any) -> int:
    """Audio tokens of a latent frame."""
    frames = len(kept_slots(config.rho, config.audio_expansion)) if config.audio_axis == "token" else 1
    return frames * config.audio_tokens


def _embedding_flops(config: Any, size: WindowSize, text: int) -> int:
    """Conditions to the width of the model, which happens once per window where there is a cache."""
    dim, patch = config.num_attention_heads * config.attention_head_dim, config.patch_size[1]
    groups = latent_frame_count(size.frames, config.rho)
    picture = (size.height // patch) * (size.width // patch)
    flops = 2 * (groups + 1) * picture * config.vace_in_channels * patch * patch * dim
    flops += 2 * text * (config.text_dim * dim + dim * dim)
    if config.audio != "none":
        features = config.audio_window * config.audio_blocks * config.audio_channels
        by_token = config.audio_axis == "token"
        width = dim if by_token else dim // config.rho
        hidden, tokens = config.audio_hidden_dim, config.audio_tokens
        flops += 2 * size.frames * (features * hidden + hidden * hidden + hidden * tokens * width)
        folded = width if by_token else width * len(kept_slots(config.rho, config.audio_expansion))
        flops += 0 if folded == dim else 2 * groups * tokens * folded * dim
    if config.skeleton != "none":
        width = dim // config.rho
        flops += 2 * size.frames * picture * config.in_channels * patch * patch * width
        folded = width * len(kept_slots(config.rho, config.skeleton_expansion))
        flops += 0 if folded == dim else 2 * groups * picture * folded * dim
    return flops


# ---------------------------------------------------------------------- counted


def dit_without_memory(config: Any, dtype: torch.dtype, **changes: Any) -> PortraitDiT:
    """A `PortraitDiT` of this config, on the meta device, with weights of the types they have in use."""
    with on_meta():
        model = PortraitDiT(**{**_sizes(config), **changes})
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        tensor.data = tensor.data.to(final_dtype(model, name, dtype))
    return fused_attention(model.eval().requires_grad_(False))


def count_forward(
    model: PortraitDiT, size: WindowSize, dtype: torch.dtype, cache: DiTCache | None = None
) -> Cost:
    """The cost of one forward of `model`, of `dit_without_memory`; a `cache` is filled or, if full, used."""
    return count(forward_of(model, size, dtype, cache))


def forward_of(
    model: PortraitDiT, size: WindowSize, dtype: torch.dtype, cache: DiTCache | None = None
) -> Callable[[], torch.Tensor]:
    """One forward of `model` on inputs without memory, to be counted."""
    latents = torch.empty(size.batch, *model.sample_shape(size.frames, size.height, size.width), device=META)
    timestep = torch.empty(size.batch, device=META)
    conditions = _conditions(model.config, size, dtype)
    return lambda: model(latents, timestep, conditions, cache)


def window_memory(config: Any, size: WindowSize, dtype: torch.dtype) -> WindowMemory:
    """Counted on a model of one main and one VACE block: more of them need no more memory at once."""
    model = dit_without_memory(config, dtype, num_layers=1, vace_layers=(0,))
    cache = model.new_cache(0)  # of the blocks' streams nothing is kept, so they count as activations
    filled = count_forward(model, size, dtype, cache)
    tokens = cache.tokens
    assert tokens is not None
    parts = [*vars(tokens).values(), tokens.control]  # which `proj_in` makes another of
    kept = sum(part.numel() * dtype.itemsize for part in parts if part is not None)
    asks = config.skeleton_attention == "skeleton_queries"
    streams = stream_bytes(tokens, config.num_layers, len(config.vace_layers), dtype.itemsize, asks)
    return WindowMemory(filled.peak_bytes, kept, streams)


def _sizes(config: Any) -> dict[str, Any]:
    return {name: value for name, value in dict(config).items() if not name.startswith("_")}


def _conditions(config: Any, size: WindowSize, dtype: torch.dtype) -> MotionConditions:
    """Empty conditions of a window."""
    batch, grid = size.batch, (size.height, size.width)
    slots = latent_frame_count(size.frames, config.rho) + 1
    text = size.text_tokens if config.text_len is None else config.text_len
    features = (config.audio_window, config.audio_blocks, config.audio_channels)

    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.empty(*shape, device=META, dtype=dtype)

    return MotionConditions(
        reference_latents=empty(batch, config.in_channels, 1, *grid),
        audio_windows=empty(batch, size.frames, *features, dtype=dtype),
        skeleton_latents=empty(batch, config.in_channels, size.frames, *grid)
        if config.skeleton != "none"
        else None,
        control_latents=empty(batch, config.vace_in_channels, slots, *grid),
        text=empty(batch, text, config.text_dim),
    )
