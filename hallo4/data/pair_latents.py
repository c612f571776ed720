"""Windows of preference pairs as latents: what preference training reads, encoded once and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hallo4.data.latents import REGIONS, region_cells
from hallo4.media.pixels import frames_to_pm1
from hallo4.models.fingerprint import weights_fingerprint
from hallo4.models.precision import fast_autocast
from hallo4.models.window_conditions import encode_portrait, encode_skeleton
from hallo4.types import Autoencoder


@dataclass(frozen=True)
class PairWindow:
    """One window of T = 4k+1 frames of a pair, with what both clips were made from.

    `winner_u8`, `loser_u8`, `skeleton_u8` [T, H, W, 3]; `portrait_u8` [H, W, 3]; `audio_windows` [T, 5,
    blocks, channels]; `points_px` [T, 133, 2] or None. The first `real_frames` are of the clips, the rest
    repeat the last. `continues`: the first frame was known when the window was made, each clip's own.
    """

    winner_u8: np.ndarray
    loser_u8: np.ndarray
    skeleton_u8: np.ndarray
    portrait_u8: np.ndarray
    audio_windows: Tensor
    points_px: np.ndarray | None
    real_frames: int
    continues: bool


@torch.no_grad()
def encode_pair_window(window: PairWindow, autoencoder: Autoencoder) -> dict[str, Tensor]:
    """`winner`, `loser` [C, F, h, w], `reference` [C, 1, h, w], `skeleton` [C, T, h, w], `audio_windows`, all
    float16; `regions` [3, F, h, w] bool (`REGIONS`); `counted` [F] bool: latent frames that the loss looks
    at, all but the known first frame and what lies beyond the end; `known` [] bool."""

    def video(frames_u8: np.ndarray) -> Tensor:
        return frames_to_pm1(frames_u8).transpose(0, 1)[None]

    frames, height, width = window.winner_u8.shape[:3]
    latent_frames = (frames - 1) // 4 + 1
    counted = 4 * torch.arange(latent_frames) < window.real_frames + 3  # group k holds frames 4k-3..4k
    counted[0] = not window.continues
    regions = torch.zeros(len(REGIONS), latent_frames, height // 8, width // 8, dtype=torch.bool)
    if window.points_px is not None:
        regions = region_cells(window.points_px, width, height)
    with fast_autocast():
        return {
            "winner": autoencoder.encode_video(video(window.winner_u8))[0].half(),
            "loser": autoencoder.encode_video(video(window.loser_u8))[0].half(),
            "reference": encode_portrait(autoencoder, frames_to_pm1(window.portrait_u8)[None])[0].half(),
            "skeleton": encode_skeleton(autoencoder, video(window.skeleton_u8))[0].half(),
            "audio_windows": window.audio_windows.half(),
            "regions": regions,
            "counted": counted,
            "known": torch.tensor(window.continues),
        }


def encode_pairs(
    pair_ids: Sequence[str],
    windows_of: Callable[[str], Iterable[PairWindow]],
    autoencoder: Autoencoder,
    folder: str | Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Tensor], list[tuple[str, int]]]:
    """(tensors of `encode_pair_window` with all windows of all pairs as axis 0; pair and number of each row).

    Each pair is kept in a file of `folder`, named after the pair and the autoencoder's weights, and read
    from there the next time; a damaged file is made again.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    assert isinstance(autoencoder, nn.Module)
    weights = weights_fingerprint(autoencoder)
    parts, rows = [], []
    for done, pair_id in enumerate(pair_ids, start=1):
        name = hashlib.sha256(f"{pair_id} {weights}".encode()).hexdigest()[:24]
        encoded = _encoded(folder / f"{name}.safetensors", windows_of, pair_id, autoencoder)
        parts.append(encoded)
        rows += [(pair_id, number) for number in range(len(encoded["winner"]))]
        if on_progress is not None:
            on_progress(done, len(pair_ids))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}, rows


def _encoded(
    path: Path, windows_of: Callable[[str], Iterable[PairWindow]], pair_id: str, autoencoder: Autoencoder
) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        encoded = [encode_pair_window(window, autoencoder) for window in windows_of(pair_id)]
        stacked = {name: torch.stack([part[name] for part in encoded]) for name in encoded[0]}
        part = path.with_suffix(".part")
        save_file(stacked, part)
        part.replace(path)
        return stacked
