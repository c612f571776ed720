"""What an autoencoder is trained on: crops of groups of frames, half of them around mouth, eyes or hands.

clips of a store --rendered crops, and skeleton drawings--> groups_pm1, weights --.
clips that a backbone made ------crops, and their latents-> groups_pm1, weights, made
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hallo4.data.clips import ClipStore
from hallo4.data.latents import frames_of_latent
from hallo4.media.pixels import frames_to_pm1
from hallo4.motion import layout
from hallo4.ranges import BatchSize, NotNegative, Share, SidePx
from hallo4.recipes.made_latents import MadeLatents
from hallo4.types import AutoencoderSpec

REGIONS = (layout.MOUTH, layout.RIGHT_EYE_LIDS, layout.LEFT_EYE_LIDS, layout.LEFT_HAND, layout.RIGHT_HAND)


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """`batch_size` squares of `crop_px` pixels. `skeleton_share` of those that are rendered are skeleton
    drawings, `still_share` of the portraits one frame four times. Mouths count `mouth_weight` times, eyes and
    hands `region_weight` times."""

    batch_size: BatchSize = 24
    crop_px: SidePx = 64
    skeleton_share: Share = 0.3
    still_share: Share = 0.25
    region_weight: NotNegative = 4.0
    mouth_weight: NotNegative = 8.0


class AutoencoderData:
    """Batches of `groups_pm1` [n, 3, rho, c, c] and `weights` [n, 1, 1, c, c], and of the first m, if a
    backbone made clips, its latents `made` [m, C, c', c']."""

    def __init__(
        self, store: ClipStore, config: CropConfig, spec: AutoencoderSpec, made: MadeLatents | None = None
    ) -> None:
        """`spec`: of the autoencoder that is trained."""
        self.store, self.config, self.made = store, config, made
        self.rho, self.cell_px = spec.frames_per_latent, spec.cell_px

    def __call__(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        """The batch of this generator."""
        rng = np.random.default_rng(int(torch.randint(1 << 62, (1,), generator=generator)))
        count = 0 if self.made is None else round(self.made.share * self.config.batch_size)
        own = [self._made_crop(rng) for _ in range(count)]
        others = [self._crop(rng) for _ in range(self.config.batch_size - count)]
        crops, weights = zip(*([crop for crop, _ in own] + others))
        batch = {
            "groups_pm1": frames_to_pm1(np.stack(crops)).transpose(1, 2),
            "weights": torch.as_tensor(np.stack(weights))[:, None, None],
        }
        return batch | ({"made": torch.stack([latents for _, latents in own])} if own else {})

    def _crop(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Frames [rho, c, c, 3] and weights [c, c] of a rendered crop."""
        config, clip = self.config, int(rng.integers(len(self.store)))
        skeleton = rng.random() < config.skeleton_share
        frames = self.store.get("skeleton_u8" if skeleton else "frames_u8", clip)
        start = int(rng.integers(0, len(frames) - self.rho + 1))
        still = skeleton or rng.random() < config.still_share
        span = [start] * self.rho if still else list(range(start, start + self.rho))
        weights = self._weights(clip, span, skeleton)
        x, y = self._corner(rng, clip, start)
        window = np.s_[y : y + config.crop_px, x : x + config.crop_px]
        return np.stack([frames[t][window] for t in span]), weights[window]

    def _made_crop(self, rng: np.random.Generator) -> tuple[tuple[np.ndarray, np.ndarray], Tensor]:
        """The same of a whole group of a clip that was made, and its latents [C, c', c']."""
        clip = self.made.clips[int(rng.integers(len(self.made.clips)))]
        latents = self.made.latents[clip]
        number = int(rng.integers(1 if self.rho > 1 else 0, latents.shape[1]))
        span = list(frames_of_latent(number, self.rho))
        x, y = self._corner(rng, clip, span[0])
        side, frames = self.config.crop_px, self.store.get("frames_u8", clip)
        window = np.s_[y : y + side, x : x + side]
        cell = self.cell_px
        cells = np.s_[:, number, y // cell : (y + side) // cell, x // cell : (x + side) // cell]
        crop = np.stack([frames[t][window] for t in span]), self._weights(clip, span, False)[window]
        return crop, latents[cells].float()

    def _weights(self, clip: int, span: list[int], skeleton: bool) -> np.ndarray:
        """[H, W] of the frames `span` of a clip."""
        config, points = self.config, self.store.get("points_px", clip)
        height, width = self.store.get("frames_u8", clip).shape[1:3]
        weights = np.ones((height, width), np.float32)
        for region in REGIONS:
            if skeleton and region is layout.MOUTH:
                continue
            weight = config.mouth_weight if region is layout.MOUTH else config.region_weight
            low, high = points[span, region].min((0, 1)) - 3, points[span, region].max((0, 1)) + 4
            x0, y0, x1, y1 = np.clip(np.concatenate([low, high]), 0, [width, height] * 2).astype(int)
            weights[y0:y1, x0:x1] = np.maximum(weights[y0:y1, x0:x1], weight)
        return weights

    def _corner(self, rng: np.random.Generator, clip: int, frame: int) -> tuple[int, int]:
        """Top left (x, y) of a crop of a frame, on the grid of latent cells; half of the time near mouth,
        eyes or a hand."""
        height, width = self.store.get("frames_u8", clip).shape[1:3]
        room = np.array([width, height]) - self.config.crop_px
        corner = rng.uniform(-8, room + 8, 2)
        if rng.random() < 0.5:
            region = REGIONS[int(rng.integers(len(REGIONS)))]
            middle = self.store.get("points_px", clip)[frame, region].mean(0)
            corner = middle - self.config.crop_px / 2 + rng.normal(0, 12, 2)
        x, y = (np.clip(np.round(corner / self.cell_px), 0, room // self.cell_px) * self.cell_px).astype(int)
        return int(x), int(y)
