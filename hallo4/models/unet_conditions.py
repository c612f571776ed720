"""What a portrait UNet accepts: sizes in its config, lengths, rates and shapes of its conditions."""

from __future__ import annotations

from typing import Any

from hallo4.errors import CheckpointError, ShapeError
from hallo4.models.portrait_guides import pyramid_sizes
from hallo4.models.unet_windows import UNetWindows
from hallo4.types import FPS, MotionConditions

_CHOICES = {
    "face": ("required", "optional"),
    "skeleton": ("required", "optional", "none"),
    "audio_axis": ("token", "channel"),
    "reference_order": ("interleaved", "aligned"),
}


def heads_of_levels(config: Any) -> tuple[int, ...]:
    """`num_attention_heads` of every level; one number stands for all."""
    heads = config.num_attention_heads
    return (heads,) * len(config.block_out_channels) if isinstance(heads, int) else tuple(heads)


def check_unet_config(config: Any) -> None:
    """CheckpointError unless the sizes of a `PortraitUNet` config go together."""
    for name, values in _CHOICES.items():
        if config[name] not in values:
            raise CheckpointError(
                f"{name} is {config[name]!r} in the UNet config: use one of {', '.join(values)}"
            )
    for what, rate in (("audio_rate_hz", config.audio_rate_hz), ("skeleton_fps", config.skeleton_fps)):
        rho = rate / config.fps
        if rho < 1 or rho != round(rho):
            raise CheckpointError(
                f"{what} is {rate:g} beside fps {config.fps:g}: it must be a whole multiple, such as "
                f"{config.fps:g} or {2 * config.fps:g}; resample the condition to one of them"
            )
    if config.fps != FPS:
        raise CheckpointError(f"fps is {config.fps:g} in the UNet config: videos are made at {FPS:g}")
    heads = heads_of_levels(config)
    if len(heads) != len(config.block_out_channels):
        raise CheckpointError(
            f"num_attention_heads has {len(heads)} numbers for {len(config.block_out_channels)} levels: give "
            "one for all, or one for each"
        )
    for width, several in zip(config.block_out_channels, heads, strict=True):
        if width % several or width % config.norm_num_groups:
            raise CheckpointError(
                f"block_out_channels has {width}, no multiple of num_attention_heads ({several}) and "
                f"norm_num_groups ({config.norm_num_groups}): choose one"
            )
    if len(config.block_out_channels) < 2 or not 0 <= config.motion_frames < config.motion_positions:
        raise CheckpointError(
            f"the UNet config has {len(config.block_out_channels)} levels, {config.motion_frames} motion "
            f"frames and {config.motion_positions} positions: use two levels or more, fewer motion frames "
            "than positions"
        )


def check_cells(config: Any, height: int, width: int) -> None:
    """ShapeError unless latents of `height` x `width` cells can pass the UNet."""
    step = 2 ** (len(config.block_out_channels) - 1)
    if height % step or width % step:
        raise ShapeError(
            f"latents of {height}x{width} cells cannot be halved {len(config.block_out_channels) - 1} times: "
            f"choose a picture whose sides are multiples of {UNetWindows.cell_px * step} pixels"
        )


def check_conditions(config: Any, rules: UNetWindows, conditions: MotionConditions) -> None:
    """ShapeError unless all conditions belong to one window, and to this model."""
    batch, _, _, height, width = conditions.reference_latents.shape
    frames = _frames(config, rules, conditions)
    rules.check_length(frames)
    check_cells(config, height, width)
    channels, levels = config.in_channels, len(config.block_out_channels)
    wanted = {
        "reference_latents": (batch, channels, 1, height, width),
        "audio_windows": (
            *(batch, rules.audio_rho * frames),
            *(config.audio_window, config.audio_blocks, config.audio_channels),
        ),
        "skeleton_latents": (batch, channels, rules.skeleton_rho * frames, height, width),
        "motion_latents": (batch, channels, config.motion_frames, height, width),
        "face_embedding": (batch, config.face_embedding_dim),
        "region_masks": (batch, frames, 3, sum(pyramid_sizes(height, width, levels))),
        "portrait_given": (batch,),
        "locator_given": (batch,),
        "audio_given": (batch,),
    }
    locator = conditions.locator_01
    if locator is not None:
        steps = locator.shape[2] if locator.ndim == 5 and locator.shape[2] in (1, frames) else frames
        wanted["locator_01"] = (batch, 3, steps, rules.cell_px * height, rules.cell_px * width)
    for name, shape in wanted.items():
        value = getattr(conditions, name)
        if value is not None and tuple(value.shape) != shape:
            raise ShapeError(
                f"{name} has shape {tuple(value.shape)}, but this model needs {shape} for a window of "
                f"{frames} frames: make all conditions for the same window"
            )
    _check_presence(config, conditions)


def _frames(config: Any, rules: UNetWindows, conditions: MotionConditions) -> int:
    """T by the length of the audio; ShapeError where skeleton or masks have another."""
    steps = conditions.audio_windows.shape[1]
    counts = {f"{steps} steps of sound at {config.audio_rate_hz:g} Hz": steps / rules.audio_rho}
    if config.skeleton != "none" and conditions.skeleton_latents is not None:
        skeletons = conditions.skeleton_latents.shape[2]
        counts[f"{skeletons} skeletons at {config.skeleton_fps:g} fps"] = skeletons / rules.skeleton_rho
    if conditions.region_masks is not None:
        counts[f"{conditions.region_masks.shape[1]} region masks"] = float(conditions.region_masks.shape[1])
    frames = set(counts.values())
    if len(frames) > 1 or steps % rules.audio_rho:
        raise ShapeError(
            f"{' and '.join(counts)} are {' and '.join(f'{count:g}' for count in counts.values())} frames at "
            f"{config.fps:g} fps: give every condition at the rate that the model was built for"
        )
    return steps // rules.audio_rho


def _check_presence(config: Any, conditions: MotionConditions) -> None:
    for name, value in (("skeleton", conditions.skeleton_latents), ("face", conditions.face_embedding)):
        if config[name] == "required" and value is None:
            raise ShapeError(
                f"this model needs a {name} and got none: give it, or use a model whose config says "
                f"{name}='optional'"
            )
        if config[name] == "none" and value is not None:
            raise ShapeError(
                f"this model takes no {name} and got one: leave it out, or use a model whose config says "
                f"{name}='optional'"
            )
