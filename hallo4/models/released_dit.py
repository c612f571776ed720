"""Read the released Hallo4 DiT weights, strictly: every tensor is expected, found and has the right shape."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hallo4.errors import CheckpointError
from hallo4.models.dit import PortraitDiT
from hallo4.weights.tensors import misfits, read_tensors, shapes_of

# Whole module paths, released name -> ours. Exact look-up: `cross_attn.q` can never be found inside
# `audio_cross_attn.q`, as it would by replacing substrings.
_TOP = {
    "patch_embedding": "patch_embedding",
    "vace_patch_embedding": "vace_patch_embedding",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
    "audio_proj.proj1": "audio_proj.proj1",
    "audio_proj.proj2": "audio_proj.proj2",
    "audio_proj.proj3": "audio_proj.proj3",
    "audio_proj.norm": "audio_proj.norm",
    "pose_proj.proj": "skeleton_proj.proj",
    "pose_proj.norm": "skeleton_proj.norm",
}
_ATTENTIONS = {
    "self_attn": "attn1",
    "cross_attn": "attn2",
    "audio_cross_attn": "attn_audio",
    "condition_cross_attn": "attn_skeleton",
}
_INSIDE_ATTENTION = {
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "o": "to_out.0",
    "norm_q": "norm_q",
    "norm_k": "norm_k",
}
_BLOCK = {
    "modulation": "scale_shift_table",
    "norm3": "norm2",  # Wan counts the norms in another order than diffusers
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "audio_cross_norm": "norm_audio",
    "condition_cross_norm": "norm_skeleton",
    "before_proj": "proj_in",
    "after_proj": "proj_out",
} | {
    f"{theirs}.{part}": f"{ours}.{our_part}"
    for theirs, ours in _ATTENTIONS.items()
    for part, our_part in _INSIDE_ATTENTION.items()
}
_ALIASES = {"audio_attn": "audio_cross_attn", "audio_norm": "audio_cross_norm"}
_KEY = re.compile(r"^(?:(blocks|vace_blocks)\.(\d+)\.)?(.+?)(\.weight|\.bias)?$")
_HEADS_OF_WIDTH = {1536: 12, 5120: 40}
"""Shapes do not tell the number of heads; these are the widths of the Wan2.1 family."""
_AUDIO_INPUTS = 5 * 12 * 768  # window, wav2vec2-base-960h layers and channels


def load_released_dit(
    path: str | Path, config: Mapping[str, Any] | None = None, dtype: torch.dtype | None = None
) -> PortraitDiT:
    """The DiT in a released checkpoint file, in evaluation mode on the CPU.

    `path`: safetensors, or a torch file (`.pth`, `.ckpt`) of tensors only, bare or under `state_dict`; keys
    may start with `module.` or `model.`. `config`: constructor values under their released names (`dim`,
    `num_heads`, `vace_layers`, `audio_proj`, ...); None reads them off the shapes, possible at the released
    widths. `dtype` casts all but the layers that stay in fp32; None keeps the file's types.

    Unlike the released loader (`model.py:344-372`, not strict) a missing, unexpected or mis-shaped tensor
    raises CheckpointError, which names it; so does a file that would run code. InputError if there is no
    such file.
    """
    path = Path(path)
    released = {_plain_name(name): tensor for name, tensor in read_tensors(path, "DiT weights").items()}
    model_config = config_from_shapes(released, path.name) if config is None else config_from_released(config)
    with torch.device("meta"):
        model = PortraitDiT(**model_config, mask_rule="nearest")
    model.load_state_dict(convert_released(released, model, path.name), strict=True, assign=True)
    if dtype is not None:
        _cast(model, dtype)
    return model.eval()


def our_name(released: str) -> str | None:
    """Our name of a released key, None if it is not a key of this architecture."""
    stack, index, module, suffix = _KEY.match(_plain_name(released)).groups()
    ours = (_BLOCK if stack else _TOP).get(module)
    if ours is None:
        return None
    return (f"{stack}.{index}." if stack else "") + ours + (suffix or "")


def released_name(ours: str) -> str:
    """Inverse of `our_name`."""
    stack, index, module, suffix = _KEY.match(ours).groups()
    names = {value: key for key, value in (_BLOCK if stack else _TOP).items()}
    return (f"{stack}.{index}." if stack else "") + names[module] + (suffix or "")


def convert_released(released: Mapping[str, Tensor], model: PortraitDiT, file_name: str) -> dict[str, Tensor]:
    """Tensors under our names, exactly those of `model`; CheckpointError that names what does not fit."""
    expected = {released_name(name): tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    problems = misfits(expected, shapes_of(released))
    if problems:
        raise CheckpointError(
            f"{file_name} does not hold this Hallo4 DiT: tensors {problems}; "
            f"{len(expected)} are expected: use the released file, or give the config that belongs to it"
        )
    return {our_name(name): tensor for name, tensor in released.items()}


_COUNTS = {
    "text_len": "text_len",
    "text_dim": "text_dim",
    "freq_dim": "freq_dim",
    "ffn_dim": "ffn_dim",
    "num_layers": "num_layers",
    "in_dim": "in_channels",
    "vace_in_dim": "vace_in_channels",
    "num_heads": "num_attention_heads",
}
_AUDIO_COUNTS = {
    "seq_len": "audio_window",
    "blocks": "audio_blocks",
    "channels": "audio_channels",
    "intermediate_dim": "audio_hidden_dim",
    "context_tokens": "audio_tokens",
}
_FIXED = {"model_type": "t2v", "window_size": [-1, -1], "qk_norm": True, "cross_attn_norm": True}


def config_from_released(released: Mapping[str, Any]) -> dict[str, Any]:
    """`PortraitDiT` arguments from the released constructor values; CheckpointError for one we do not have.

    Takes `dim ffn_dim freq_dim text_dim text_len in_dim num_heads num_layers eps patch_size vace_layers
    vace_in_dim enable_audio_cross_attn enable_skeleton_cross_attn audio_proj`; what is absent has the
    released value.
    """
    for name, value in _FIXED.items():
        found = released.get(name, value)
        if (list(found) if isinstance(found, tuple) else found) != value:
            raise CheckpointError(f"{name} is {found!r} in the released config: only {value!r} is supported")
    config = _counts(released, _COUNTS) | _counts(released.get("audio_proj", {}), _AUDIO_COUNTS)
    dim = _counts(released, {"dim": "dim"}).get("dim", 1536)
    heads = config.get("num_attention_heads", 12)
    channels = config.get("in_channels", 16)
    if dim % heads or released.get("out_dim", channels) != channels:
        raise CheckpointError(
            f"the released config has dim {dim} with {heads} heads and out_dim {released.get('out_dim')}: "
            f"dim must be a multiple of the heads, out_dim equal to in_dim ({channels})"
        )
    config["attention_head_dim"] = dim // heads
    layers = released.get("vace_layers") or range(0, config.get("num_layers", 30), 2)
    config["vace_layers"] = list(layers)
    config |= {name: released[name] for name in ("eps", "patch_size") if name in released}
    for stream in ("audio", "skeleton"):
        config[stream] = "required" if released.get(f"enable_{stream}_cross_attn", True) else "none"
    return config


def _counts(released: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, int]:
    found = {theirs: released[theirs] for theirs in names if theirs in released}
    for name, value in found.items():
        if not isinstance(value, int) or value < 1:
            raise CheckpointError(
                f"{name} is {value!r} in the released config: give a whole number above zero"
            )
    return {names[theirs]: value for theirs, value in found.items()}


def config_from_shapes(released: Mapping[str, Tensor], file_name: str) -> dict[str, Any]:
    """`PortraitDiT` arguments read off the tensors of a checkpoint of released width, for wav2vec2-base.

    CheckpointError where the shapes leave it open: then `load_released_dit` needs a config.
    """
    stems = ("patch_embedding", "vace_patch_embedding", "text_embedding.0", "time_embedding.0")
    needed = [f"{stem}.weight" for stem in (*stems, "blocks.0.ffn.0")]
    absent = [name for name in needed if name not in released]
    if absent:
        raise CheckpointError(
            f"{file_name} is not a Hallo4 DiT: it has no tensor {absent[0]}: use the released DiT weights"
        )
    dim, channels, *patch = released["patch_embedding.weight"].shape
    has_audio = "audio_proj.proj1.weight" in released
    audio_in = released["audio_proj.proj1.weight"].shape[1] if has_audio else _AUDIO_INPUTS
    if dim not in _HEADS_OF_WIDTH or audio_in != _AUDIO_INPUTS:
        raise CheckpointError(
            f"{file_name} has width {dim} and {audio_in} audio inputs: its shapes do not tell the number of "
            "heads or the audio features; give the config that belongs to it"
        )
    blocks = _count(released, "blocks")
    vace_blocks = _count(released, "vace_blocks")
    return {
        "patch_size": patch,
        "num_attention_heads": _HEADS_OF_WIDTH[dim],
        "attention_head_dim": dim // _HEADS_OF_WIDTH[dim],
        "in_channels": channels,
        "text_dim": released["text_embedding.0.weight"].shape[1],
        "freq_dim": released["time_embedding.0.weight"].shape[1],
        "ffn_dim": released["blocks.0.ffn.0.weight"].shape[0],
        "num_layers": blocks,
        "vace_layers": list(range(0, blocks, max(1, -(-blocks // max(1, vace_blocks))))),
        "vace_in_channels": released["vace_patch_embedding.weight"].shape[1],
        "audio": "required" if has_audio else "none",
        "skeleton": "required" if "pose_proj.proj.weight" in released else "none",
    }


def _count(released: Mapping[str, Tensor], stack: str) -> int:
    indices = [int(name.split(".")[1]) for name in released if re.match(rf"{stack}\.\d+\.", name)]
    return max(indices, default=-1) + 1


def _plain_name(name: str) -> str:
    name = re.sub(r"^(?:(?:module|model)\.)+", "", name)
    return ".".join(_ALIASES.get(part, part) for part in name.split("."))


def _cast(model: PortraitDiT, dtype: torch.dtype) -> None:
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(torch.float32 if model.keeps_fp32(name) else dtype)
