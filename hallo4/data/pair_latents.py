"""Windows of preference pairs as latents: what preference training reads, encoded once and mapped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hallo4.data.latents import REGIONS, frames_held, region_cells
from hallo4.data.mapped import OPEN_FILES, MappedTensors, stacked
from hallo4.errors import CheckpointError, InputError
from hallo4.input_file import file_sha256
from hallo4.media.pixels import frames_to_pm1
from hallo4.models.devices import device_of
from hallo4.models.fingerprint import weights_fingerprint
from hallo4.models.precision import fast_autocast
from hallo4.types import Autoencoder, WindowRules
from hallo4.whole import whole_file


@dataclass(frozen=True)
class PairWindow:
    """One window of T frames of a pair, with what both clips were made from.

    `winner_u8`, `loser_u8` [T, H, W, 3]; `skeleton_pm1` [rho T, 3, H, W]; `portrait_pm1` [3, H, W];
    `audio_windows` [rho T, 5, blocks, channels]; `points_px` [T, 133, 2] or None. The first `real_frames` are
    of the clips, the rest repeat the last. `winner_known_u8`, `loser_known_u8` [M, H, W, 3]: the frames
    before the window that it is conditioned on, each clip's own; None in a first window. `seed`: for what is
    random about encoding them. `text` [1, L, D]: the embedding of the prompt, of a model that takes one.
    `draft_pm1` [T, 3, H, W]: of a model that takes drafts.
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
    draft_pm1: Tensor | None = None


@torch.no_grad()
def encode_pair_window(window: PairWindow, autoencoder: Autoencoder, rules: WindowRules) -> dict[str, Tensor]:
    """One row, latents as float16.

    `winner`, `loser` [C, F, h, w]; `winner_known`, `loser_known` of `rules.encode_known`; `skeleton` [C, rho
    T, h, w]; `draft` [C, F, h, w] where there is one; `audio_windows`; `scene.NAME` for every tensor of
    `rules.encode_scene`; `regions` [3, F, h, w] bool (`REGIONS`); `counted` [F] bool: latent frames that the
    loss looks at, all but what was known or lies beyond the end; `continues` [] bool. All on the CPU,
    wherever the autoencoder is.
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
        if window.draft_pm1 is not None:
            row["draft"] = autoencoder.encode_video(as_video(window.draft_pm1))
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
    regions = torch.zeros(len(REGIONS), latent_frames, *row["winner"].shape[2:], dtype=torch.bool)
    if window.points_px is not None:
        regions = region_cells(window.points_px, width, height, rules.cell_px, len(held[-1]))
    flags = {"counted": torch.tensor(counted), "continues": torch.tensor(continues)}
    return row | flags | {"regions": regions}


class EncodedPairs:
    """Windows of pairs in the files of `encode_pairs`, pair -> file, mapped: in memory is what is drawn.

    `rows`: (pair, number of its window) of each, pairs in the order of `files`. `latent_shape` (F, h, w), of
    all of them. InputError: windows of several shapes. CheckpointError: a file is gone or damaged.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = dict(files)
        self._opened = lru_cache(OPEN_FILES)(MappedTensors)  # safe in threads: previews draw, too
        self.rows: list[tuple[str, int]] = []
        shapes: dict[tuple[int, ...], str] = {}
        for pair_id, file in self.files.items():
            windows, _, *latent_shape = MappedTensors(file).shape("winner")
            shapes.setdefault(tuple(latent_shape), pair_id)
            self.rows += [(pair_id, number) for number in range(windows)]
        if len(shapes) > 1:
            found = ", ".join(f"{'x'.join(map(str, shape))} of {pair}" for shape, pair in shapes.items())
            raise InputError(
                f"the pairs have latents of several shapes ({found}), and a batch has one. Keep the pairs of "
                "each size of picture in a store of their own."
            )
        (self.latent_shape,) = shapes

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: Tensor) -> dict[str, Tensor]:
        """`rows` [B] with the names of `encode_pair_window`, float32 or bool, and the batch as axis 0."""
        return stacked([self._window(*self.rows[row]) for row in rows.tolist()])

    def sha256(self) -> str:
        """Of the content of all files, in their order; they are read piece by piece."""
        return hashlib.sha256(" ".join(map(file_sha256, self.files.values())).encode()).hexdigest()

    def _window(self, pair_id: str, number: int) -> dict[str, Tensor]:
        opened = self._opened(self.files[pair_id])
        return {name: opened[name][number] for name in opened.names}


def encode_pairs(
    pair_ids: Sequence[str],
    windows_of: Callable[[str], Iterable[PairWindow]],
    autoencoder: Autoencoder,
    rules: WindowRules,
    made_for: str,
    folder: str | Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> EncodedPairs:
    """All windows of all pairs, each pair in a file of `folder` with the tensors of `encode_pair_window` and
    its windows as axis 0.

    A file is named after the pair, the autoencoder's weights and what else decides the windows (`made_for`,
    in words), and used again the next time; a damaged one is made again. InputError: see `EncodedPairs`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    assert isinstance(autoencoder, nn.Module)
    made_with = f"{weights_fingerprint(autoencoder)} {made_for}"
    files = {}
    for done, pair_id in enumerate(pair_ids, start=1):
        name = hashlib.sha256(f"{pair_id} {made_with}".encode()).hexdigest()[:24]
        file = files[pair_id] = folder / f"{name}.safetensors"
        if not _is_whole(file):
            _encode_pair(windows_of(pair_id), autoencoder, rules, file)
        if on_progress is not None:
            on_progress(done, len(pair_ids))
    return EncodedPairs(files)


def _is_whole(file: Path) -> bool:
    with suppress(CheckpointError):
        return "winner" in MappedTensors(file).names
    return False


def _encode_pair(
    windows: Iterable[PairWindow], autoencoder: Autoencoder, rules: WindowRules, file: Path
) -> None:
    encoded = [encode_pair_window(window, autoencoder, rules) for window in windows]
    with whole_file(file) as temporary:
        save_file({name: torch.stack([part[name] for part in encoded]) for name in encoded[0]}, temporary)
