"""The layers of diffusers' `AutoencoderKLWan`, with the same results in fewer operations and less memory.

    encoder, a step of 1 or 4 frames                decoder, a step of 1 latent frame
      conv_in, blocks at H     |                      conv_in, middle, blocks at H/8
      blocks at H/2            | few at a time        twice the rate, blocks at H/4
      half the rate, blocks at H/4                    twice the rate, blocks at H/2       | few at a time
      half the rate, blocks at H/8, middle, conv_out  blocks at H, conv_out               |

Four changes, none of them to a parameter or its name (`adopt` gives the classes below to existing layers):

* a single frame without a past meets only the last time slice of a kernel, so its convolution is a 2-D one;
* the borders of a convolution are padded inside it, not by a copy of its input;
* large layers, which need most of the memory, take few frames at a time. Their convolutions keep their last
  two input frames anyway, so it makes no difference in which steps frames come;
* a stage of the encoder whose last frames were all equal reuses the output it has (`StageState`).

Differences to diffusers 0.42.1 (`autoencoder_kl_wan.py`) are rounding; without these classes its encoder and
decoder hold four frames at full size at once and convolve the zeros in front of the first frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import takewhile

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanCausalConv3d,
    WanDecoder3d,
    WanEncoder3d,
    WanMidBlock,
    WanResample,
    WanResidualBlock,
    WanUpBlock,
)
from torch import Tensor, nn

_BLOCKS = (WanResidualBlock, WanResample, WanMidBlock, WanUpBlock)

HISTORY = 2
"""Frames that a causal convolution keeps of its past: its kernel covers three."""

PIXELS_AT_ONCE = 800_000
"""Pixels of the full size that run at once, two frames of 480x832: bounds the memory, not the values."""


class CausalConvolution(WanCausalConv3d):
    """A causal convolution that copies its input for the frames before it only, not for its borders.

    Of one frame without a past it is a 2-D one, by the last time slice of the kernel.
    """

    def forward(self, x: Tensor, cache_x: Tensor | None = None) -> Tensor:
        """[B, D, n, H, W] and the frames before it, zeros where there are none -> [B, D', n, H', W']."""
        columns, _, rows, _, missing, _ = self._padding
        if missing and cache_x is None and x.shape[2] == 1:
            kernel = self.weight[:, :, -1]  # a view: it follows the parameter when it is moved or cast
            return F.conv2d(x[:, :, 0], kernel, self.bias, self.stride[1:], (rows, columns))[:, :, None]
        if missing and cache_x is not None:
            x = torch.cat([cache_x, x], dim=2)
            missing -= cache_x.shape[2]
        if missing:
            x = F.pad(x, (0, 0, 0, 0, missing, 0))
        return F.conv3d(x, self.weight, self.bias, self.stride, (0, rows, columns))


@dataclass
class StageState:
    """What is known of one stage of the encoder while a video does not change.

    `equal_inputs`: how many of its last input frames are equal. `output`: its last output frame, if that
    depends on none but equal frames: then every further equal frame gives it again, and leaves what the
    convolutions keep as it is. `equal_outputs`: how many of its last output frames are known to be equal.
    """

    equal_inputs: int = 0
    equal_outputs: int = 0
    output: Tensor | None = None
    slots_used: int = 0

    def stays(self, equal_inputs: int, frames: int) -> bool:
        """Whether a step of `frames` frames, after which `equal_inputs` are equal, changes nothing."""
        return self.output is not None and equal_inputs == self.equal_inputs + frames

    def computed(self, equal_inputs: int, output: Tensor, span: int, slots_used: int) -> None:
        """Note a computed step; its last output depends on the last `span` + 1 input frames."""
        self.equal_inputs, self.equal_outputs, self.slots_used = equal_inputs, 1, slots_used
        self.output = output[:, :, -1:].clone() if equal_inputs > span else None

    def repeated(self, equal_inputs: int, frames: int) -> Tensor:
        """Note a step that is not computed -> its output, `frames` times the last frame."""
        self.equal_inputs = equal_inputs
        self.equal_outputs += frames
        return self.output.expand(-1, -1, frames, -1, -1)


class SteppedEncoder(WanEncoder3d):
    """The encoder, for one step of a video or for pictures."""

    def forward(
        self,
        x: Tensor,
        feat_cache: list | None = None,
        feat_idx: list[int] | None = None,
        states: list[StageState] | None = None,
        equal_frames: int = 1,
    ) -> Tensor:
        """[B, 3, n, H, W] -> [B, 2C, 1, h, w]; n = 1 in the first step, then 4, or 1 without a cache.

        `feat_cache`, `feat_idx`: as in diffusers, what the convolutions keep between the steps, and the
        place of the next one. `states` (one `StageState` per stage) and `equal_frames`, how many of the
        video's last frames are equal, skip stages whose output is known.
        """
        if feat_cache is None:
            return super().forward(x)
        for number, stage in enumerate(self._stages()):
            state = states[number] if states else StageState()
            frames = x.shape[2]
            if state.stays(equal_frames, frames):
                x = state.repeated(equal_frames, -(-frames // stage.frames_per_output))
                feat_idx[0] = state.slots_used
            else:
                x = stage.run(x, feat_cache, feat_idx)
                state.computed(equal_frames, x, stage.span, feat_idx[0])
            equal_frames = state.equal_outputs
        return x

    def stage_count(self) -> int:
        """Into how many stages the changes of size divide it."""
        return len(self._stages())

    def _stages(self) -> list[_Stage]:
        groups = [[self.conv_in]]
        for layer in self.down_blocks:
            groups[-1].append(layer)
            if isinstance(layer, WanResample):
                groups.append([])
        groups[-1] += [self.mid_block, self.norm_out, self.nonlinearity, self.conv_out]
        return [_Stage(layers) for layers in groups]


class _Stage:
    """The layers of the encoder at one size; the step to the next size is the last of them."""

    def __init__(self, layers: list[nn.Module]):
        self.by_frames = list(takewhile(lambda layer: not hasattr(layer, "time_conv"), layers))
        self.at_once = layers[len(self.by_frames) :]
        self.frames_per_output = 2 if self.at_once else 1
        convolutions = [
            part for layer in layers for part in layer.modules() if isinstance(part, WanCausalConv3d)
        ]
        self.span = HISTORY * sum(part.kernel_size[0] > 1 for part in convolutions)

    def run(self, x: Tensor, feat_cache: list, feat_idx: list[int]) -> Tensor:
        """All layers in turn; only a change of the frame rate sees all frames of the step at once."""
        frames = frames_at_once(*x.shape[-2:])
        x = by_frames(lambda part: _run(self.by_frames, part, feat_cache, feat_idx), x, frames, feat_idx)
        return _run(self.at_once, x, feat_cache, feat_idx)


class SteppedDecoder(WanDecoder3d):
    """The decoder, for one latent frame at a time."""

    def forward(
        self,
        x: Tensor,
        feat_cache: list | None = None,
        feat_idx: list[int] | None = None,
        first_chunk: bool = False,
    ) -> Tensor:
        """[B, C, 1, h, w] -> [B, 3, n, H, W], not clamped; n = 1 in the first step, then 4."""
        if feat_cache is None:
            return super().forward(x, first_chunk=first_chunk)
        changes = [
            number
            for number, block in enumerate(self.up_blocks)
            if block.upsamplers is not None and hasattr(block.upsamplers[0], "time_conv")
        ]
        coarse = max(changes, default=-1) + 1
        fine = self.up_blocks[coarse:]
        x = _run([self.conv_in, self.mid_block, *self.up_blocks[:coarse]], x, feat_cache, feat_idx)
        scale = 2 ** sum(block.upsamplers is not None for block in fine)
        layers = [*fine, self.norm_out, self.nonlinearity, self.conv_out]
        return by_frames(
            lambda part: _run(layers, part, feat_cache, feat_idx),
            x,
            frames_at_once(x.shape[-2] * scale, x.shape[-1] * scale),
            feat_idx,
        )


_ADOPTED = {
    WanCausalConv3d: CausalConvolution,
    WanEncoder3d: SteppedEncoder,
    WanDecoder3d: SteppedDecoder,
}


def adopt(model: nn.Module) -> None:
    """Let the layers of an `AutoencoderKLWan` run as the classes above; parameters and hooks stay theirs."""
    for module in model.modules():
        if type(module) in _ADOPTED:
            module.__class__ = _ADOPTED[type(module)]


def empty_cache(part: nn.Module) -> list[Tensor | None]:
    """What the causal convolutions of an encoder or decoder keep before the first step: nothing."""
    return [None] * sum(isinstance(module, WanCausalConv3d) for module in part.modules())


def frames_at_once(height: int, width: int) -> int:
    """How many frames of this size make up `PIXELS_AT_ONCE`; at least one."""
    return max(1, PIXELS_AT_ONCE // (height * width))


def by_frames(run: Callable[[Tensor], Tensor], x: Tensor, frames: int, feat_idx: list[int]) -> Tensor:
    """`run` on [B, D, n, H, W], `frames` of the n at a time, every time from the same place in the cache."""
    start = feat_idx[0]
    outputs = []
    for part in x.split(frames, dim=2):
        feat_idx[0] = start
        outputs.append(run(part))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)


def _run(layers: Iterable[nn.Module], x: Tensor, feat_cache: list, feat_idx: list[int]) -> Tensor:
    """All layers in turn; blocks keep the past of their convolutions themselves."""
    for layer in layers:
        if isinstance(layer, _BLOCKS):
            x = layer(x, feat_cache=feat_cache, feat_idx=feat_idx)
        elif isinstance(layer, WanCausalConv3d):
            past = feat_cache[feat_idx[0]]
            recent = x if past is None or x.shape[2] >= HISTORY else torch.cat([past, x], dim=2)
            feat_cache[feat_idx[0]] = recent[:, :, -HISTORY:].clone()
            feat_idx[0] += 1
            x = layer(x, past)
        else:  # a norm or the nonlinearity
            x = layer(x)
    return x
