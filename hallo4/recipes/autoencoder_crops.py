"""What an autoencoder is trained on: crops of groups of frames, half of them around mouth, eyes or hands.

clips of a store --rendered crops, and skeleton drawings--> groups_pm1, weights --.
clips that a backbone made ------crops, and their latents-> groups_pm1, weights, made
"""

from __future__ import annotations

from collections.abc import Sequence
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
        count = 0 if self.made is None else int(self.made.share * self.config.batch_size)
        made = [self._made_crop(rng) for _ in range(count)]
        crops = [crop[:2] for crop in made]
        crops += [self._crop(rng) for _ in range(self.config.batch_size - count)]
        frames, weights = (np.stack(parts) for parts in zip(*crops, strict=True))
        batch = {
            "groups_pm1": frames_to_pm1(frames).transpose(1, 2),
            "weights": torch.as_tensor(weights)[:, None, None],
        }
        return batch | ({"made": torch.stack([latents for _, _, latents in made])} if made else {})

    def _crop(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Frames [rho, c, c, 3] and weights [c, c] of a rendered crop."""
        clip = int(rng.integers(len(self.store)))
        skeleton = rng.random() < self.config.skeleton_share
        start = int(rng.integers(0, len(self.store.get("frames_u8", clip)) - self.rho + 1))
        still = skeleton or rng.random() < self.config.still_share
        span = [start] * self.rho if still else list(range(start, start + self.rho))
        frames, weights, _ = self._cut(rng, clip, span, skeleton)
        return frames, weights

    def _made_crop(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Tensor]:
        """The same of a whole group of a clip that was made, and its latents [C, c', c']."""
        assert self.made is not None
        clip = self.made.clips[int(rng.integers(len(self.made.clips)))]
        latents = self.made.latents[clip]
        number = int(rng.integers(1, latents.shape[1]))
        frames, weights, (x, y) = self._cut(rng, clip, list(frames_of_latent(number, self.rho)), False)
        column, row, cells = x // self.cell_px, y // self.cell_px, self.config.crop_px // self.cell_px
        return frames, weights, latents[:, number, row : row + cells, column : column + cells].float()

    def _cut(
        self, rng: np.random.Generator, clip: int, span: Sequence[int], skeleton: bool
    ) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """A square of the frames `span` of a clip, their weights, and its top left corner (x, y)."""
        x, y = self._corner(rng, clip, span[0])
        window = np.s_[y : y + self.config.crop_px, x : x + self.config.crop_px]
        frames = self.store.get("skeleton_u8" if skeleton else "frames_u8", clip)
        crop = np.stack([frames[t][window] for t in span])
        return crop, self._weights(clip, span, skeleton)[window], (x, y)

    def _weights(self, clip: int, span: Sequence[int], skeleton: bool) -> np.ndarray:
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
