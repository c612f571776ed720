"""The UNet of SD1.5 over frames, with places for reference, sound and time; denoiser and reference net alike.

One layer with attention, in the order of Hallo 1 (`unet_3d_blocks.py:692-748`)::

    picture [B*F, C, h, w]
      | resnet                   timestep
      | spatial transformer      own cells, the reference's cells; face tokens      unet_attention.py
      | audio transformer        the frame's audio tokens, by region
      v motion transformer       [known frames, frames of the window] at every cell

Spatial layers see B*F pictures, so frames only meet in motion transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from hallo4.models.timestep import timestep_waves
from hallo4.models.unet_attention import (
    REGIONS,
    AudioTransformer,
    MotionTransformer,
    ReferenceRouting,
    SpatialTransformer,
)
from hallo4.models.unet_cache import LayerInputs


@dataclass(frozen=True)
class TrunkSizes:
    """Sizes of a trunk; `heads` of every level; `audio_dim` None: no audio transformers, `positions` None: no
    motion transformers.

    `motion_in_plain`: the motion transformers of the lowest level's blocks, which have no attention and
    therefore no known frames, are run (released: they are there, but never run).
    """

    in_channels: int
    channels: tuple[int, ...]
    layers: int
    heads: tuple[int, ...]
    groups: int
    face_dim: int
    audio_dim: int | None = None
    positions: int | None = None
    motion_frames: int = 0
    motion_in_plain: bool = True
    head: bool = True

    @property
    def time_dim(self) -> int:
        """Width of the timestep embedding."""
        return 4 * self.channels[0]

    @property
    def attention_layers(self) -> int:
        """How many layers have attention; they are numbered down, middle, up."""
        return (len(self.channels) - 1) * (2 * self.layers + 1) + 1


@dataclass(frozen=True)
class TrunkInputs:
    """What the layers of one pass are given beside the picture.

    `frames` F; `layers`: the conditions of each layer with attention; `masks`: for each level [B, F, 3, n],
    or None; `scales` of the regions; `routing`: who sees which reference. `reference_tokens`: a list that
    collects every layer's normed tokens [B, F, n, C], for a reference net.
    """

    frames: int
    layers: Sequence[LayerInputs]
    masks: Sequence[Tensor] | None = None
    scales: tuple[float, ...] = (1.0, 1.0, 1.0)
    routing: ReferenceRouting = field(default_factory=ReferenceRouting)
    reference_tokens: list[Tensor] | None = None


class UNetBlock(nn.Module):
    """Down, middle or up block: resnets, and after each (in the middle: after the first) the transformers.

    `widths`: (in, out) channels of each resnet; `inner`: width of each audio transformer; `first_layer`: the
    number of the first layer with attention, None for a block without.
    """

    gradient_checkpointing = False

    def __init__(
        self,
        sizes: TrunkSizes,
        widths: Sequence[tuple[int, int]],
        inner: Sequence[int],
        first_layer: int | None,
        level: int,
        middle: bool = False,
    ) -> None:
        super().__init__()
        self.first_layer, self.level, self.middle = first_layer, level, middle
        self.run_motion = sizes.motion_in_plain or first_layer is not None
        groups, heads = sizes.groups, sizes.heads[level]
        self.resnets = nn.ModuleList(
            ResnetBlock2D(
                in_channels=narrow, out_channels=wide, temb_channels=sizes.time_dim, groups=groups, eps=1e-5
            )
            for narrow, wide in widths
        )
        outputs = [wide for _, wide in widths][: 1 if middle else None]
        if first_layer is not None:
            self.attentions = nn.ModuleList(
                SpatialTransformer(wide, heads, sizes.face_dim, groups) for wide in outputs
            )
        if first_layer is not None and sizes.audio_dim is not None:
            self.audio_modules = nn.ModuleList(
                AudioTransformer(wide, narrow, heads, sizes.audio_dim, groups)
                for wide, narrow in zip(outputs, inner, strict=True)
            )
        if sizes.positions is not None:
            self.motion_modules = nn.ModuleList(
                MotionTransformer(wide, heads, groups, sizes.positions, sizes.motion_frames)
                for wide in outputs
            )

    def transform(self, picture: Tensor, index: int, given: TrunkInputs) -> Tensor:
        """The transformers behind resnet `index`: [B*F, C, h, w] -> the same."""
        before = None
        if self.first_layer is not None:
            inputs = given.layers[self.first_layer + index]
            picture, own = self.attentions[index](picture, given.frames, inputs, given.routing)
            if given.reference_tokens is not None:
                given.reference_tokens.append(own)
            if hasattr(self, "audio_modules"):
                masks = None if given.masks is None else given.masks[self.level]
                picture = self.audio_modules[index](picture, given.frames, inputs, masks, given.scales)
            before = inputs.motion
        if hasattr(self, "motion_modules") and self.run_motion:
            picture = self.motion_modules[index](picture, given.frames, before)
        return picture

    def step(self, picture: Tensor, time: Tensor, index: int, given: TrunkInputs) -> Tensor:
        """Resnet `index` and what stands behind it; recomputed in the backward pass where asked for."""

        def run(picture: Tensor, time: Tensor) -> Tensor:
            return self.transform(self.resnets[index](picture, time), index, given)

        if self.gradient_checkpointing and torch.is_grad_enabled() and given.reference_tokens is None:
            return self._gradient_checkpointing_func(run, picture, time)
        return run(picture, time)


class DownBlock(UNetBlock):
    """A block on the way down, with a halving at its end unless `last`."""

    def __init__(self, sizes: TrunkSizes, level: int) -> None:
        wide = sizes.channels[level]
        narrow = sizes.channels[max(level - 1, 0)]
        last = level == len(sizes.channels) - 1
        entries = [narrow, *[wide] * (sizes.layers - 1)]
        first = None if last else level * sizes.layers
        super().__init__(sizes, [(entry, wide) for entry in entries], entries, first, level)
        if not last:
            self.downsamplers = nn.ModuleList([Downsample2D(wide, use_conv=True, name="op")])

    def forward(self, picture: Tensor, time: Tensor, given: TrunkInputs) -> tuple[Tensor, list[Tensor]]:
        """[B*F, C, h, w] -> the block's output, and what it leaves for the way up."""
        left = []
        for index in range(len(self.resnets)):
            picture = self.step(picture, time, index, given)
            left.append(picture)
        if hasattr(self, "downsamplers"):
            picture = self.downsamplers[0](picture)
            left.append(picture)
        return picture, left


class MiddleBlock(UNetBlock):
    """Resnet, transformers, resnet at the lowest level."""

    def __init__(self, sizes: TrunkSizes) -> None:
        wide, level = sizes.channels[-1], len(sizes.channels) - 1
        super().__init__(sizes, [(wide, wide)] * 2, [wide], level * sizes.layers, level, middle=True)

    def forward(self, picture: Tensor, time: Tensor, given: TrunkInputs) -> Tensor:
        """[B*F, C, h, w] -> the same."""
        return self.resnets[1](self.step(picture, time, 0, given), time)


class UpBlock(UNetBlock):
    """A block on the way up, with a doubling at its end but for the last; `index` counts from the lowest."""

    def __init__(self, sizes: TrunkSizes, index: int) -> None:
        channels = sizes.channels
        level = len(channels) - 1 - index
        wide, below = channels[level], channels[min(level + 1, len(channels) - 1)]
        skip = channels[max(level - 1, 0)]
        rows = sizes.layers + 1
        entries = [below, *[wide] * sizes.layers]
        skips = [*[wide] * sizes.layers, skip]
        widths = [(entry + left, wide) for entry, left in zip(entries, skips, strict=True)]
        down_layers = (len(channels) - 1) * sizes.layers + 1
        first = None if index == 0 else down_layers + (index - 1) * rows
        super().__init__(sizes, widths, [skip] * rows, first, level)
        if level > 0:
            self.upsamplers = nn.ModuleList([Upsample2D(wide, use_conv=True)])

    def forward(self, picture: Tensor, time: Tensor, given: TrunkInputs, left: list[Tensor]) -> Tensor:
        """[B*F, C, h, w] and what the way down left (taken from its end) -> the block's output."""
        for index in range(len(self.resnets)):
            picture = self.step(torch.cat([picture, left.pop()], dim=1), time, index, given)
        return self.upsamplers[0](picture) if hasattr(self, "upsamplers") else picture


class UNetTrunk(nn.Module):
    """SD1.5's UNet with the additions of `TrunkSizes`; parameter names are those of `UNet2DConditionModel`.

    Without `head` the last norm and convolution are left out: a reference net only gives its tokens.
    """

    def __init__(self, sizes: TrunkSizes) -> None:
        super().__init__()
        self.sizes = sizes
        channels = sizes.channels
        self.conv_in = nn.Conv2d(sizes.in_channels, channels[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(channels[0], sizes.time_dim)
        levels = range(len(channels))
        self.down_blocks = nn.ModuleList(DownBlock(sizes, level) for level in levels)
        self.mid_block = MiddleBlock(sizes)
        self.up_blocks = nn.ModuleList(UpBlock(sizes, index) for index in levels)
        if sizes.head:
            self.conv_norm_out = nn.GroupNorm(sizes.groups, channels[0], eps=1e-5)
            self.conv_out = nn.Conv2d(channels[0], sizes.in_channels, 3, padding=1)

    def blocks_with_attention(self) -> list[UNetBlock]:
        """Blocks with attention, in the order in which their layers are numbered."""
        blocks = [*self.down_blocks, self.mid_block, *self.up_blocks]
        return [block for block in blocks if block.first_layer is not None]

    def key_value_count(self, layers: Sequence[LayerInputs]) -> int:
        """How many numbers the keys and values of all attention layers hold for these inputs."""
        count = 0
        for block in self.blocks_with_attention():
            for index, attention in enumerate(block.attentions):
                given = layers[block.first_layer + index]
                width = attention.proj_in.out_channels
                count += 2 * width * given.face.shape[:2].numel()
                count += 0 if given.reference is None else 2 * given.reference.numel()
                if hasattr(block, "audio_modules") and given.audio is not None:
                    inner = block.audio_modules[index].proj_in.out_channels
                    count += 2 * len(REGIONS) * inner * given.audio.shape[:3].numel()
        return count

    def forward(
        self, latents: Tensor, timestep: Tensor, given: TrunkInputs, guide: Tensor | None = None
    ) -> Tensor:
        """`latents` [B*F, C, h, w] at `timestep` [B] -> [B*F, C, h, w] (with head), else the last features.

        `guide` [B*F, width, h, w] is added behind the first convolution.
        """
        waves = timestep_waves(timestep, self.sizes.channels[0]).to(self.conv_in.weight.dtype)
        time = self.time_embedding(waves).repeat_interleave(given.frames, dim=0)
        picture = self.conv_in(latents)
        picture = picture if guide is None else picture + guide
        left = [picture]
        for block in self.down_blocks:
            picture, more = block(picture, time, given)
            left += more
        picture = self.mid_block(picture, time, given)
        for block in self.up_blocks:
            picture = block(picture, time, given, left)
        if not self.sizes.head:
            return picture
        return self.conv_out(nn.functional.silu(self.conv_norm_out(picture)))
