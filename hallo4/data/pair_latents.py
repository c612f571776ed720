"""Windows of preference pairs as latents: what preference training reads, encoded once and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hallo4.data.latents import REGIONS, frames_held, region_cells
from hallo4.errors import CheckpointError, InputError
from hallo4.media.pixels import frames_to_pm1
from hallo4.models.devices import device_of
from hallo4.models.fingerprint import weights_fingerprint
from hallo4.models.precision import fast_autocast
from hallo4.types import Autoencoder, WindowRules
from hallo4.weights.tensors import read_tensors
from hallo4.whole import whole_file


@dataclass(frozen=True)
class PairWindow:
    """One window of T frames of a pair, with what both clips were made from.

    `winner_u8`, `loser_u8` [T, H, W, 3]; `skeleton_pm1` [rho T, 3, H, W]; `portrait_pm1` [3, H, W];
    `audio_windows` [rho T, 5, blocks, channels]; `points_px` [T, 133, 2] or None. The first `real_frames` are
    of the clips, the rest repeat the last. `winner_known_u8`, `loser_known_u8` [M, H, W, 3]: the frames
    before the window that it is conditioned on, each clip's own; None in a first window. `seed`: for what is
    random about encoding them. `text` [1, L, D]: the embedding of the prompt, of a model that takes one.
    """

    winner_u8: np.ndarray
    loser_u8: np.ndarray
    skeleton_pm1: Tensor
    portrait_pm1: Tensor
    audio_windows: Tensor
    points_px: np.ndarray | None
    real_frames: int
    winner_known_u8: np.ndarray | None
    loser_known_u8: np.ndarray | None
    seed: int = 0
    text: Tensor | None = None


@torch.no_grad()
def encode_pair_window(window: PairWindow, autoencoder: Autoencoder, rules: WindowRules) -> dict[str, Tensor]:
    """One row, latents as float16.

    `winner`, `loser` [C, F, h, w]; `winner_known`, `loser_known` of `rules.encode_known`; `skeleton` [C, rho
    T, h, w]; `audio_windows`; `scene.NAME` for every tensor of `rules.encode_scene`; `regions` [3, F, h, w]
    bool (`REGIONS`); `counted` [F] bool: latent frames that the loss looks at, all but what was known or lies
    beyond the end; `continues` [] bool. All on the CPU, wherever the autoencoder is.
    """
    assert isinstance(autoencoder, nn.Module)
    device = device_of(autoencoder)

    def video(frames_u8: np.ndarray) -> Tensor:
        return as_video(frames_to_pm1(frames_u8))

    def as_video(frames_pm1: Tensor) -> Tensor:
        return frames_pm1.transpose(0, 1)[None].to(device)

    frames, height, width = window.winner_u8.shape[:3]
    continues = window.winner_known_u8 is not None
    before = {
        side: as_video(window.portrait_pm1[None].expand(rules.known_frames, -1, -1, -1))
        if known is None
        else video(known)
        for side, known in (("winner", window.winner_known_u8), ("loser", window.loser_known_u8))
    }
    with fast_autocast(device.type):
        row = {
            "winner": autoencoder.encode_video(video(window.winner_u8)),
            "loser": autoencoder.encode_video(video(window.loser_u8)),
            "skeleton": autoencoder.encode_frames(as_video(window.skeleton_pm1)),
            "audio_windows": window.audio_windows[None],
        }
        scene = rules.encode_scene(autoencoder, window.portrait_pm1[None].to(device), frames, window.text)
        for side, known_pm1 in before.items():
            generator = torch.Generator().manual_seed(window.seed)
            row[f"{side}_known"] = rules.encode_known(autoencoder, known_pm1, scene, generator)
    row |= {f"scene.{name}": value for name, value in scene.items()}
    row = {name: value[0].half().cpu() for name, value in row.items()}
    latent_frames = row["winner"].shape[1]
    held = frames_held(frames, latent_frames)
    repeated = rules.repeated_frames if continues else 0
    counted = [group.start < window.real_frames and group.stop > repeated for group in held]
    regions = torch.zeros(len(REGIONS), latent_frames, height // 8, width // 8, dtype=torch.bool)
    if window.points_px is not None:
        regions = region_cells(window.points_px, width, height, len(held[-1]))
    flags = {"counted": torch.tensor(counted), "continues": torch.tensor(continues)}
    return row | flags | {"regions": regions}


def encode_pairs(
    pair_ids: Sequence[str],
    windows_of: Callable[[str], Iterable[PairWindow]],
    autoencoder: Autoencoder,
    rules: WindowRules,
    made_for: str,
    folder: str | Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Tensor], list[tuple[str, int]]]:
    """(tensors of `encode_pair_window` with all windows of all pairs as axis 0; pair and number of each row).

    Each pair is kept in a file of `folder`, named after the pair, the autoencoder's weights and what else
    decides the windows (`made_for`, in words), and read from there the next time; a damaged file is made
    again.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    assert isinstance(autoencoder, nn.Module)
    made_with = f"{weights_fingerprint(autoencoder)} {made_for}"
    parts, rows = [], []
    for done, pair_id in enumerate(pair_ids, start=1):
        name = hashlib.sha256(f"{pair_id} {made_with}".encode()).hexdigest()[:24]
        encoded = _encoded(folder / f"{name}.safetensors", windows_of, pair_id, autoencoder, rules)
        parts.append(encoded)
        rows += [(pair_id, number) for number in range(len(encoded["winner"]))]
        if on_progress is not None:
            on_progress(done, len(pair_ids))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}, rows


def _encoded(
    path: Path,
    windows_of: Callable[[str], Iterable[PairWindow]],
    pair_id: str,
    autoencoder: Autoencoder,
    rules: WindowRules,
) -> dict[str, Tensor]:
    try:
        return read_tensors(path, "pairs that were encoded")
    except (InputError, CheckpointError):
        encoded = [encode_pair_window(window, autoencoder, rules) for window in windows_of(pair_id)]
        stacked = {name: torch.stack([part[name] for part in encoded]) for name in encoded[0]}
        with whole_file(path) as temporary:
            save_file(stacked, temporary)
        return stacked
