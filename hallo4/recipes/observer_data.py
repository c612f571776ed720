"""What the observer learns from: rendered frames with their truth, disturbed so that it stays honest on
generated ones.

Generated frames are softer, noisier and slightly off in colour; they have block edges and smeared details. An
observer that has only seen crisp renderings would read such flaws as motion, so training shows it the like.

`ObserverData` and `observer_method` have the signatures that the training loop calls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hallo4.evaluation.look.instrument import true_key_points
from hallo4.media.pixels import frames_to_pm1
from hallo4.models.observer import STATES, PortraitObserver, observer_loss
from hallo4.world import Episode

POSITION_KEYS = ("points_01", "visible")


@dataclass(frozen=True)
class Disturbance:
    """How far `disturb` goes; each frame draws its own strength uniformly from zero (or one, for zoom) up to
    it."""

    shift_fraction: float = 0.10
    zoom: float = 1.25
    turn_rad: float = 0.15
    blur_px: float = 1.3
    noise_pm1: float = 0.08
    gain: float = 0.12
    offset_pm1: float = 0.10
    quantisation_pm1: float = 0.5
    untouched_share: float = 0.15


def observation_targets(episode: Episode) -> dict[str, Tensor]:
    """The truth of T frames as `observer_loss` takes it.

    `points_01` [T, P, 2] fractions of the frame, `visible` [T, P] (1 or 0), and `STATES` [T]; all float32.
    """
    points_px, visible = true_key_points(episode.skeleton)
    size = np.float32([episode.skeleton.width_px, episode.skeleton.height_px])
    return {
        "points_01": torch.from_numpy(points_px / size),
        "visible": torch.from_numpy(visible.astype(np.float32)),
        **{name: torch.from_numpy(np.float32(getattr(episode.truth, name))) for name in STATES},
    }


class ObserverData:
    """Batches of single frames from episodes that were rendered before: `data(index, generator)` for the
    loop.

    A batch has `frames_pm1` [B, 3, H, W] and the keys of `observation_targets`. It depends on the generator
    alone. Of each episode only frames (uint8) and targets are kept.
    """

    def __init__(
        self,
        episodes: Sequence[Episode],
        batch_size: int = 64,
        disturbance: Disturbance | None = Disturbance(),
    ):
        self.frames_u8 = [episode.frames_u8 for episode in episodes]
        groups: dict[tuple[int, ...], list[int]] = {}
        for number, frames in enumerate(self.frames_u8):
            groups.setdefault(frames.shape[1:3], []).append(number)
        self.groups = [torch.tensor(group) for group in groups.values()]
        self.targets = [observation_targets(episode) for episode in episodes]
        self.batch_size, self.disturbance = batch_size, disturbance

    def __call__(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw `batch_size` episodes and one frame of each; all of the size of the first."""
        group = self.groups[0]
        if len(self.groups) > 1:
            first = torch.randint(len(self.frames_u8), (1,), generator=generator)
            group = next(group for group in self.groups if first in group)
        drawn = group[torch.randint(len(group), (self.batch_size,), generator=generator)].tolist()
        at = torch.rand(self.batch_size, generator=generator).tolist()
        pairs = [(clip, int(u * len(self.frames_u8[clip]))) for clip, u in zip(drawn, at, strict=True)]
        frames = np.stack([self.frames_u8[clip][t] for clip, t in pairs])
        batch = {"frames_pm1": frames_to_pm1(torch.from_numpy(frames))}
        for name in (*POSITION_KEYS, *STATES):
            batch[name] = torch.stack([self.targets[clip][name][t] for clip, t in pairs])
        return batch if self.disturbance is None else disturb(batch, self.disturbance, generator)


def observer_method(
    model: PortraitObserver, batch: dict[str, Tensor], step: int
) -> tuple[Tensor, dict[str, Any]]:
    """`Method` of the training loop: look at the frames, compare with the truth."""
    return observer_loss(model(batch["frames_pm1"]), batch)


def disturb(batch: dict[str, Tensor], how: Disturbance, generator: torch.Generator) -> dict[str, Tensor]:
    """Move, blur, tint, quantise and blemish frames; points move with their pixels, states stay what they
    are.

    A point that leaves the frame is no longer visible. A share of the frames stays untouched.
    """
    frames = batch["frames_pm1"]
    count = len(frames)
    touched = (torch.rand(count, generator=generator) >= how.untouched_share).float()
    draw = _Draw(count, generator, touched)
    moved, points, visible = _move(frames, batch["points_01"], batch["visible"], how, draw)
    frames = torch.where(touched[:, None, None, None] > 0, moved, frames)
    frames = _blur(frames, how.blur_px * draw.positive())
    frames = frames * (1 + how.gain * draw.signed(3, 1, 1)) + how.offset_pm1 * draw.signed(3, 1, 1)
    frames = _quantise_blocks(frames, how.quantisation_pm1 * draw.positive() ** 2)
    noise = torch.randn(frames.shape, generator=generator)
    frames = frames + noise * (how.noise_pm1 * draw.positive() ** 2)[:, None, None, None]
    return {**batch, "frames_pm1": frames.clamp(-1, 1), "points_01": points, "visible": visible}


class _Draw:
    """Random strengths, one per frame, that are zero for untouched frames."""

    def __init__(self, count: int, generator: torch.Generator, touched: Tensor):
        self.count, self.generator, self.touched = count, generator, touched

    def positive(self, *shape: int) -> Tensor:
        """[B, *shape] in [0, 1]."""
        values = torch.rand(self.count, *shape, generator=self.generator)
        return values * self.touched.view(-1, *(1 for _ in shape))

    def signed(self, *shape: int) -> Tensor:
        """[B, *shape] in [-1, 1]."""
        values = 2 * torch.rand(self.count, *shape, generator=self.generator) - 1
        return values * self.touched.view(-1, *(1 for _ in shape))


def _move(
    frames: Tensor, points_01: Tensor, visible: Tensor, how: Disturbance, draw: _Draw
) -> tuple[Tensor, Tensor, Tensor]:
    """p' = zoom R (p - 1/2) + 1/2 + shift, for pixels (border repeated) and points alike."""
    angle = how.turn_rad * draw.signed()
    zoom = torch.exp(math.log(how.zoom) * draw.signed())
    shift = how.shift_fraction * draw.signed(2)
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)  # [B, 2, 2]
    forward = zoom[:, None, None] * turn
    points = (points_01 - 0.5) @ forward.transpose(1, 2) + 0.5 + shift[:, None]
    inside = ((points >= 0) & (points <= 1)).all(dim=-1)
    # A sampling grid asks where each new pixel comes from, in coordinates from -1 to 1: the inverse map.
    backward = turn.transpose(1, 2) / zoom[:, None, None]
    origin = -(backward @ (2 * shift)[:, :, None])
    grid = F.affine_grid(torch.cat([backward, origin], -1), list(frames.shape), align_corners=False)
    moved = F.grid_sample(frames, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return moved, points, visible * inside


def _blur(frames: Tensor, sigma_px: Tensor) -> Tensor:
    """Gaussian of its own width for each frame [B]; sigma 0 leaves the frame as it is."""
    reach = 4
    offsets = torch.arange(-reach, reach + 1, dtype=frames.dtype)
    weights = torch.exp(-0.5 * (offsets / sigma_px.clamp_min(1e-2)[:, None]) ** 2)
    weights = weights / weights.sum(-1, keepdim=True)  # [B, 2 reach + 1]
    batch, channels, height, width = frames.shape
    kernels = weights.repeat_interleave(channels, dim=0)[:, None]  # [B C, 1, 2 reach + 1]
    planes = F.pad(frames, (reach,) * 4, mode="replicate").flatten(0, 1)[None]
    planes = F.conv2d(planes, kernels[:, :, :, None], groups=batch * channels)
    planes = F.conv2d(planes, kernels[:, :, None, :], groups=batch * channels)
    return planes.view(batch, channels, height, width)


def _quantise_blocks(frames: Tensor, step_pm1: Tensor) -> Tensor:
    """Round the cosine coefficients of 8x8 blocks, as JPEG does: steps grow with frequency; step 0 changes
    nothing.

    `step_pm1` [B] is the step of the highest frequencies. Frames whose sides are no multiples of 8 stay
    untouched.
    """
    height, width = frames.shape[-2:]
    if height % 8 or width % 8:
        return frames
    k = torch.arange(8, dtype=frames.dtype)
    basis = torch.cos(math.pi / 8 * (k[None, :] + 0.5) * k[:, None]) * 0.5
    basis[0] *= math.sqrt(0.5)  # now orthonormal: [frequency, place]
    blocks = frames.unflatten(-2, (height // 8, 8)).unflatten(-1, (width // 8, 8))  # [B, 3, h, 8, w, 8]
    coefficients = torch.einsum("uy,vx,bchywx->bchuwv", basis, basis, blocks)
    step = step_pm1[:, None, None] * (1 + k[:, None] + k[None, :]) / 15  # [B, 8, 8]
    step = step[:, None, None, :, None, :].clamp_min(1e-6)
    coefficients = torch.round(coefficients / step) * step
    return torch.einsum("uy,vx,bchuwv->bchywx", basis, basis, coefficients).reshape(frames.shape)
