"""The detail head of a small DiT: what tokens of many cells are too narrow for is made cell by cell.

    tokens [B, S, N, D] --linear, to cells--> features --.
    noisy latents ------------1x1 convolution----------- + --> residual blocks -- + --> velocity
    skeletons of the group ---1x1 convolution------------|         ^ time         |     [B, C, S, h, w]
    draft, if there is one ---convolution----------------|                        |
    reference --convolutions--> features --sampled where-'                        |
        |                        the tokens say (offsets)                         |
        '- or the draft -----------sampled where the tokens say: a guess----------'

A token of 4x4 cells of 48 channels stands for 768 numbers, more than the model is wide: what the tokens carry
is coarse, and faces come out in patches. Most of what a frame shows stands in the reference already, a little
further up or to the left. So every token says for each of its cells, and for each group of channels, where to
look in the reference (a deformable attention of one point for each head, arXiv 2010.04159, section 4.1), and
convolutions put things right. All of it is local and per latent frame; what connects frames is in the tokens.

What it makes is data, from which the velocity follows: a model that is narrower than its patches cannot pass
noise through (arXiv 2511.13720). What is copied from the reference, or, where there is a draft of the frames,
from that of the same frame, is a guess, as good as its token says. The
noisy latents correct it as far as they can be trusted at their noise level (`velocity_of_guess`), and the
network makes what is missing in units of the error that is then left, as in preconditioned denoisers (arXiv
2206.00364, section 5). So a new head makes the reference, or the draft, out of pure noise, and leaves clean
latents as they are; what stands still is soon taken from the guess alone, without a grain of noise.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hallo4.models.temporal_motion_modulation import redistribute

GUESS_VARIANCE = 0.3
"""Mean squared error of the guess of a frame, until it is measured (`fit_guess`)."""
LEAST_VARIANCE = 1e-4
"""Of a guess in a channel, as measured."""
LOG_VARIANCES = (-8.0, 8.0)
"""Bounds of the logarithm of a token's factor on the measured variance."""
START_RADIUS = 1.0
"""How far from its own place, in cells, the points of a new head look, each in another direction."""


class DetailBlock(nn.Module):
    """[n, W, h, w] -> same; two convolutions, of unit size over the channels, modulated by the time."""

    def __init__(self, width: int, time_dim: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(time_dim, 2 * width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """`time` [B, D]: the activated embedding of the timestep; n is a multiple of B."""
        modulation = self.modulation(time).repeat_interleave(len(x) // len(time), 0)
        scale, shift = modulation[:, :, None, None].chunk(2, 1)
        unit = x * torch.rsqrt(x.float().square().mean(1, keepdim=True) + 1e-4).to(x.dtype)
        return x + self.last(F.silu(self.first(F.silu(unit * (1 + scale) + shift))))


class DetailHead(nn.Module):
    """Tokens of width `dim`, each of `patch` x `patch` cells, to latents of `channels`; `width` features a
    cell, in `POINTS` groups that look at points of their own."""

    POINTS: ClassVar[int] = 8
    BLOCKS: ClassVar[int] = 2

    def __init__(
        self, dim: int, width: int, channels: int, patch: int, rho: int, skeleton: bool, draft: bool = False
    ) -> None:
        super().__init__()
        self.patch, self.rho = patch, rho
        self.from_tokens = nn.Linear(dim, patch * patch * width)
        self.offsets = nn.Linear(dim, patch * patch * self.POINTS * 2)
        self.from_noisy = nn.Conv2d(channels, width, 1)
        self.from_reference = nn.Conv2d(channels, width, 3, padding=1)
        self.reference_inside = nn.Conv2d(width, width, 3, padding=1)
        self.from_sampled = nn.Conv2d(width, width, 1)
        self.from_skeleton = nn.Conv2d(rho * channels, width, 1) if skeleton else None
        self.from_draft = nn.Conv2d(channels, width, 3, padding=1) if draft else None
        self.blocks = nn.ModuleList(DetailBlock(width, dim) for _ in range(self.BLOCKS))
        self.out = nn.Conv2d(width, channels, 3, padding=1)
        self.copied = nn.Linear(dim, patch * patch * 4)  # x, y, how much, and how wrong (log variance)
        self.guess_log_variance = nn.Parameter(torch.empty(channels))

    @torch.no_grad()
    def initialize(self) -> None:
        """Begin with the reference, or the draft, as the guess and nothing to add to it, blocks that pass on,
        and points in a ring around each cell."""
        for layer in (self.out, *(part for block in self.blocks for part in (block.last, block.modulation))):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.offsets.weight)
        angle = torch.arange(self.POINTS) * (2 * math.pi / self.POINTS)
        ring = START_RADIUS * torch.stack([angle.cos(), angle.sin()], 1)  # (x, y)
        self.offsets.bias.copy_(ring.flatten().repeat(self.patch**2))
        nn.init.zeros_(self.copied.weight)
        self.copied.bias.copy_(torch.tensor([0.0, 0.0, 1.0, 0.0]).repeat(self.patch**2))
        self.guess_log_variance.fill_(math.log(GUESS_VARIANCE))

    @torch.no_grad()
    def fit_guess(self, video: Tensor, guess: Tensor) -> None:
        """Measure how good a `guess` the reference [B, C, 1, h, w] or the draft [B, C, F, h, w] is of `video`
        [B, C, F, h, w], in every channel."""
        error = (video.float() - guess.float()).square().mean((0, 2, 3, 4))
        self.guess_log_variance.copy_(error.clamp_min(LEAST_VARIANCE).log())

    def conditions(
        self, reference: Tensor, skeleton: Tensor | None, draft: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """What the conditions alone decide: `reference` [B, C, 1, h, w] -> [B, W, h, w]; `skeleton` [B, C, T,
        h, w] at frame rate and `draft` [B, C, S, h, w] -> [B, S, W, h, w], None without either."""
        features = self.from_reference(reference[:, :, 0])
        features = features + self.reference_inside(F.silu(features))
        batch, _, _, height, width = reference.shape
        of_frames = []
        if self.from_skeleton is not None and skeleton is not None:
            frames = skeleton.permute(0, 2, 3, 4, 1).flatten(2, 3)  # B T (h w) C
            groups = redistribute(frames, self.rho).flatten(0, 1)  # (B S) (h w) (rho C)
            of_frames.append(self.from_skeleton(groups.transpose(1, 2).unflatten(2, (height, width))))
        if self.from_draft is not None:
            of_frames.append(self.from_draft(draft.transpose(1, 2).flatten(0, 1)))
        return features, sum(of_frames).unflatten(0, (batch, -1)) if of_frames else None

    def forward(
        self,
        tokens: Tensor,
        latents: Tensor,
        sigma: Tensor,
        embedding: Tensor,
        reference: Tensor,
        of_frames: Tensor | None,
        draft: Tensor | None = None,
    ) -> Tensor:
        """Velocity [B, C, S, h, w], in fp32, of S frames to make.

        `tokens` [B, S, N, D] of these frames, `latents` [B, C, 1+S, h, w]: the clean reference and the noisy
        frames, their noise level `sigma` [B] in [0, 1] and its `embedding` [B, D]; `reference` and
        `of_frames` of `conditions`, from this `draft` [B, C, S, h, w].
        """
        batch, slots, height, width = len(latents), latents.shape[2] - 1, *latents.shape[3:]
        grid = (height // self.patch, width // self.patch)
        noisy = latents[:, :, 1:].transpose(1, 2).flatten(0, 1)
        x = to_cells(self.from_tokens(tokens).flatten(0, 1), grid, self.patch)
        x = x + self.from_noisy(noisy.to(self.from_noisy.weight.dtype))
        offsets = to_cells(self.offsets(tokens).flatten(0, 1), grid, self.patch).float()
        x = x + self.from_sampled(sample_points(reference, offsets, slots).to(x.dtype))
        if of_frames is not None:
            x = x + of_frames.flatten(0, 1)
        time = F.silu(embedding).to(x.dtype)
        x = x.contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            x = block(x, time)
        missing = self.out(F.silu(x)).float()
        copied = to_cells(self.copied(tokens).flatten(0, 1), grid, self.patch).float()
        if draft is None:
            source, times = latents[:, :, 0], slots
        else:
            source, times = draft.transpose(1, 2).flatten(0, 1), 1
        guess = copied[:, 2:3] * sample_points(source, copied[:, :2], times)
        better = copied[:, 3:].clamp(*LOG_VARIANCES).neg().exp()
        precision = better * self.guess_log_variance.neg().exp().view(-1, 1, 1)
        velocity = velocity_of_guess(guess, missing, noisy.float(), sigma.repeat_interleave(slots), precision)
        return velocity.unflatten(0, (batch, slots)).transpose(1, 2)


def velocity_of_guess(
    guess: Tensor, missing: Tensor, noisy: Tensor, sigma: Tensor, precision: Tensor
) -> Tensor:
    """Noise minus data [n, C, h, w], where the data are the best linear estimate from a guess and noisy
    latents, and what is `missing` in units of the root mean square error of that estimate.

    `guess` [n, C, h, w] is wrong by the variance 1 / `precision` of that shape, `noisy` is k data + sigma
    noise with `sigma` [n] and k = 1 - sigma. With s^2 = 1 / (k^2 + sigma^2 precision) the estimate is guess +
    k s^2 (noisy - k guess), the gain of a Kalman filter for one measurement, and its error sigma s. What
    follows for the velocity, (noisy - data) / sigma, has no division by sigma.
    """
    sigma = sigma.float().view(-1, 1, 1, 1)
    kept, distrust = 1 - sigma, sigma * precision
    scale = torch.addcmul(kept.square(), distrust, sigma).rsqrt()
    toward = torch.addcmul(distrust * (noisy - guess), noisy, -kept)
    return scale * (scale * toward - missing)


def to_cells(tokens: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """Tokens of a grid of patches laid out over their cells: [n, N, p*p*W] -> [n, W, h, w]."""
    cells = tokens.unflatten(1, grid).unflatten(3, (patch, patch, -1))
    return cells.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def sample_points(features: Tensor, offsets: Tensor, slots: int) -> Tensor:
    """Features of another place for each group of channels: `features` [B, W, h, w], `offsets` [B*S, P*2, h,
    w] as (x, y) of each of P points, in cells -> [B*S, W, h, w]. Bilinear; outside is what is at the border.
    """
    height, width = features.shape[2:]
    points = offsets.shape[1] // 2
    moved = offsets.unflatten(1, (points, 2)).flatten(0, 1)  # (B S P) 2 h w
    rows = torch.arange(height, device=features.device, dtype=torch.float32) + 0.5
    columns = torch.arange(width, device=features.device, dtype=torch.float32) + 0.5
    x = (moved[:, 0] + columns) * (2 / width) - 1
    y = (moved[:, 1] + rows[:, None]) * (2 / height) - 1
    groups = features.float().unflatten(1, (points, -1))
    groups = groups.repeat_interleave(slots, 0).flatten(0, 1)  # (B S P) W/P h w
    sampled = F.grid_sample(
        groups, torch.stack([x, y], -1), mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled.unflatten(0, (-1, points)).flatten(1, 2)
