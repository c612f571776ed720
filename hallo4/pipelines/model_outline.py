"""A model folder read without its weights: enough to say what it is, whether all of it is there, how large it
is in use, and what a window of it needs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hallo4.errors import InputError
from hallo4.models.audio_features import audio_front_end_from_config
from hallo4.models.cost import META, Cost, count, fused_attention
from hallo4.models.dit import PortraitDiT
from hallo4.models.dit_cost import WindowSize, window_memory
from hallo4.pipelines.model_folder import (
    AUTOENCODERS,
    backbone_classes,
    check_belonging,
    folders_of_model,
    read_part,
)
from hallo4.pipelines.model_info import ModelInfo, read_config, read_info
from hallo4.pipelines.placement import (
    PartBytes,
    PlacementPlan,
    WorkBytes,
    plan_placement,
    usable_bytes,
)
from hallo4.pipelines.weight_moves import WeightRules, blocks_of, names_in_blocks
from hallo4.pipelines.window import FEW_CELLS
from hallo4.weights.module_folder import build_strictly, stored_bytes

SMALL = 100
"""A model is small where its weights are stored in less than this part of the memory."""


@dataclass(frozen=True)
class ModelOutline:
    """A model whose parts are on the meta device. `stored`: bytes of the weights of each part, by the name of
    its folder."""

    info: ModelInfo
    folder: Path
    backbone: Any
    autoencoder: Any
    stored: dict[str, int]


def read_outline(name_or_dir: str | os.PathLike[str]) -> ModelOutline:
    """CheckpointError as `load_model`, but for what only the values of weights show."""
    folder, *base = folders_of_model(name_or_dir)
    info, parts = read_info(folder), base[-1] if base else folder
    places = {info.family: backbone_classes(info), "autoencoder": AUTOENCODERS}
    backbone, autoencoder = (
        build_strictly(*read_part(parts / name, classes)) for name, classes in places.items()
    )
    audio = parts / "audio"
    front_end = audio_front_end_from_config(read_config(audio), audio)
    check_belonging(info, backbone, autoencoder, front_end, folder)
    stored = {name: stored_bytes(parts / name) for name in places}
    return ModelOutline(info, folder, backbone, autoencoder, stored)


def largest_canvas_px(info: ModelInfo) -> tuple[int, int]:
    """Height and width of the largest pictures that a model makes by itself."""
    sizes = info.canvas_sizes_px or ((info.size_px, info.size_px),)
    return max(sizes, key=lambda size: size[0] * size[1])


def plan_if_large(
    name_or_dir: str | os.PathLike[str], rules: WeightRules, memory: str | float
) -> PlacementPlan | None:
    """`plan_model` of a model in its folder for `memory` (see `usable_bytes`); None where its files are so
    small beside it that nothing needs planning."""
    usable = usable_bytes(memory, rules.device)
    files = [file for folder in folders_of_model(name_or_dir) for file in folder.glob("*/*.safetensors")]
    if sum(file.stat().st_size for file in files) * SMALL < usable:
        return None
    return plan_model(read_outline(name_or_dir), rules, usable)


def plan_model(outline: ModelOutline, rules: WeightRules, usable_bytes: int) -> PlacementPlan:
    """Where the weights of a model go, `rules.placement` and `rules.scarce` being open.

    InputError: `plan_placement`.
    """
    for scarce in (False, True):
        chosen = replace(rules, scarce=scarce)
        sizes = part_bytes(outline, chosen), work_bytes(outline, chosen)
        try:
            return replace(plan_placement(*sizes, usable_bytes, rules.device), scarce=scarce)
        except InputError as error:
            too_little = error
    raise too_little


def part_bytes(outline: ModelOutline, rules: WeightRules) -> PartBytes:
    """What the parts take in the number formats of `rules`."""
    backbone = outline.backbone
    in_blocks = names_in_blocks(backbone)
    blocks = [_tensors(block, f"{path}.") for path, block in blocks_of(backbone).items()]
    rest = [(name, tensor) for name, tensor in _tensors(backbone) if name not in in_blocks]

    def used(tensors: Iterable[tuple[str, Tensor]], module: nn.Module, dtype: torch.dtype) -> int:
        return sum(
            tensor.numel() * rules.used_dtype(module, name, dtype).itemsize for name, tensor in tensors
        )

    block = max((used(tensors, backbone, rules.products) for tensors in blocks), default=0)
    of_rest = used(rest, backbone, rules.products)
    kept = of_rest + sum(used(tensors, backbone, rules.dtype) for tensors in blocks)
    cast = 0 if rules.dtype == rules.products else block  # one block at a time, beside what is kept
    autoencoder = used(_tensors(outline.autoencoder), outline.autoencoder, rules.products)
    return PartBytes(kept + cast, autoencoder, block, of_rest)


def work_bytes(outline: ModelOutline, rules: WeightRules) -> WorkBytes:
    """What the largest window needs beside the weights; counted for a DiT, of a UNet only the decoding."""
    info = outline.info
    size, sides = window_size(outline, *largest_canvas_px(info), info.guidance_scale)
    height_px, width_px = largest_canvas_px(info)
    video = 2 * 3 * 4 * info.window_frames * height_px * width_px  # before and after it is clamped
    autoencoding = video + count_decoding(outline, rules, height_px, width_px, latents=3).peak_bytes
    if not isinstance(outline.backbone, PortraitDiT):
        return WorkBytes(0, autoencoding)
    memory = window_memory(outline.backbone.config, size, rules.products)
    caches = sides // size.batch  # of one side, or both as one batch
    denoising = memory.activations + caches * memory.tokens
    return WorkBytes(denoising, autoencoding, caches * sum(memory.streams.values()))


def window_size(
    outline: ModelOutline, height_px: int, width_px: int, guidance_scale: float
) -> tuple[WindowSize, int]:
    """A window of the model as its forward sees it, and the sides of guidance, which may share a batch."""
    info, cell = outline.info, outline.autoencoder.spec.cell_px
    shape = outline.backbone.sample_shape(info.window_frames, height_px // cell, width_px // cell)
    sides = 1 if guidance_scale == 1.0 else 2
    cells = shape[1] * shape[2] * shape[3]
    together = sides == 2 and (cells <= FEW_CELLS or outline.backbone.sides_share_a_batch)
    text = outline.backbone.condition_spec.text_len or 1
    return WindowSize(info.window_frames, *shape[2:], text, batch=2 if together else 1), sides


def count_decoding(
    outline: ModelOutline, rules: WeightRules, height_px: int, width_px: int, latents: int
) -> Cost:
    """The cost of decoding so many latent frames."""
    spec, autoencoder = outline.autoencoder.spec, _in_use(outline, rules)
    shape = (1, spec.latent_channels, latents, height_px // spec.cell_px, width_px // spec.cell_px)
    return count(lambda: autoencoder.decode_video(torch.empty(shape, device=META)))


def count_encoding(outline: ModelOutline, rules: WeightRules, height_px: int, width_px: int) -> Cost:
    """The cost of encoding one frame as a video of one frame."""
    autoencoder, frame = _in_use(outline, rules), torch.empty(1, 3, 1, height_px, width_px, device=META)
    return count(lambda: autoencoder.encode_frames(frame))


def _in_use(outline: ModelOutline, rules: WeightRules) -> Any:
    """The autoencoder of the outline with weights of the types they have in use."""
    autoencoder = outline.autoencoder
    for name, tensor in (*autoencoder.named_parameters(), *autoencoder.named_buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(rules.used_dtype(autoencoder, name, rules.products))
    return fused_attention(autoencoder)


def _tensors(module: nn.Module, prefix: str = "") -> list[tuple[str, Tensor]]:
    return [(prefix + name, value) for name, value in (*module.named_parameters(), *module.named_buffers())]
