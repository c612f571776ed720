"""What a portrait DiT accepts: sizes in its config, and shapes of its conditions."""

from __future__ import annotations

from typing import Any, get_args

from torch import Tensor

from hallo4.errors import CheckpointError, ShapeError
from hallo4.models.vace_context import MaskRule
from hallo4.types import MotionConditions, Presence


def check_dit_config(config: Any) -> None:
    """CheckpointError unless the values of a `PortraitDiT` config are possible and go together."""
    layers = list(config.vace_layers)
    if layers[:1] != [0] or layers != sorted(set(layers)) or layers[-1] >= config.num_layers:
        raise CheckpointError(
            f"vace_layers {layers} do not fit {config.num_layers} blocks: "
            f"start with 0, go up and stay below {config.num_layers}"
        )
    allowed = {
        "audio": get_args(Presence),
        "skeleton": get_args(Presence),
        "audio_axis": ("token", "channel"),
        "skeleton_attention": ("skeleton_queries", "video_queries"),
        "mask_rule": get_args(MaskRule),
    }
    for name, values in allowed.items():
        if config[name] not in values:
            raise CheckpointError(
                f"{name} is {config[name]!r} in the DiT config: use one of {', '.join(values)}"
            )
    patch = tuple(config.patch_size)
    if patch[0] != 1 or patch[1] != patch[2]:
        raise CheckpointError(f"patch_size {patch} is not supported: use (1, p, p)")
    if config.cell_px < 1:
        raise CheckpointError(f"cell_px is {config.cell_px} in the DiT config: use 1 or more pixels")
    if config.detail_width is not None and (config.detail_width < 8 or config.detail_width % 8):
        raise CheckpointError(
            f"detail_width is {config.detail_width} in the DiT config: use a multiple of 8, or None"
        )
    if not 0.0 <= config.known_dropped < 1.0:
        raise CheckpointError(
            f"known_dropped is {config.known_dropped} in the DiT config: use a share from 0 to below 1"
        )


def check_grid(config: Any, height: int, width: int) -> None:
    """ShapeError unless latents of `height` x `width` cells can be cut into patches."""
    patch = config.patch_size[1]
    if height % patch or width % patch:
        raise ShapeError(
            f"latents of {height}x{width} cells cannot be cut into {patch}x{patch} patches: "
            f"choose a picture whose sides are multiples of {config.cell_px * patch} pixels"
        )


def check_dit_conditions(config: Any, conditions: MotionConditions) -> None:
    """ShapeError unless all conditions belong to one window, and to this model."""
    if conditions.control_latents is None or conditions.text is None:
        raise ShapeError("this model needs control_latents and text: make both (`DiTWindows`)")
    batch, _, slots, height, width = conditions.control_latents.shape
    check_grid(config, height, width)
    frames = config.rho * (slots - 2) + 1
    length = conditions.text.shape[1]
    if config.text_len is not None and length > config.text_len:
        raise ShapeError(f"text has {length} tokens, the model takes {config.text_len}: shorten it")
    wanted = {
        "control_latents": (batch, config.vace_in_channels, slots, height, width),
        "reference_latents": (batch, config.in_channels, 1, height, width),
        "text": (batch, length, config.text_dim),
    }
    if _uses(config, "audio", conditions.audio_windows):
        feature_shape = (config.audio_window, config.audio_blocks, config.audio_channels)
        wanted["audio_windows"] = (batch, frames, *feature_shape)
    if _uses(config, "skeleton", conditions.skeleton_latents):
        wanted["skeleton_latents"] = (batch, config.in_channels, frames, height, width)
    for name, shape in wanted.items():
        found = tuple(getattr(conditions, name).shape)
        if found != shape:
            raise ShapeError(
                f"{name} has shape {found}, but this model needs {shape} beside control_latents of "
                f"{slots - 1} latent frames: make all conditions for the same {frames} video frames"
            )


def _uses(config: Any, stream: str, value: Tensor | None) -> bool:
    presence = config[stream]
    if presence == "required" and value is None:
        raise ShapeError(
            f"this model needs {stream} conditions and got none: give them, "
            f"or use a model whose config says {stream}='optional'"
        )
    return presence != "none" and value is not None
