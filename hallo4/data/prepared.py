"""Prepared clips for training: drawn from memory-mapped shards, a batch at a time."""

from __future__ import annotations

import os
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from torch import Tensor

from hallo4.data.encode import COMMON, MARGIN, SHARDS, grey_name, latent_shape
from hallo4.data.index import open_kept, read_stamp
from hallo4.data.mapped import OPEN_FILES, MappedTensors, stacked
from hallo4.errors import CheckpointError, InputError
from hallo4.models.audio_features import audio_windows


class PreparedClips:
    """The kept clips in a folder of `hallo4 data prepare`, in the batches of `LatentCache`.

    `stamp`: what they were made by. Index and shards are mapped: opening costs the same for any number of
    clips, and so does a batch.

    InputError: no such folder, an index of another version, or no clip in it. MissingExtraError: pyarrow is
    not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.stamp = read_stamp(self.folder)
        self._table, self._shapes, self._licences = open_kept(self.folder)
        if not len(self):
            raise InputError(
                f"{self.folder}: none of its clips is kept. See why: hallo4 data look {self.folder}."
            )
        self._opened = lru_cache(OPEN_FILES)(MappedTensors)  # safe in threads: previews draw, too

    def __len__(self) -> int:
        return self._table.num_rows

    @cached_property
    def groups(self) -> dict[str, Tensor]:
        """ "FxHxW", a latent shape, -> indices [n] of the clips that have it; only such make a batch."""
        return {shape: torch.arange(*edges) for shape, edges in self._shapes.items()}

    def licences(self) -> dict[str, int]:
        """How many clips have each licence."""
        return dict(self._licences)

    def column(self, name: str) -> list:
        """A column of the index, a value for every clip: `source` or `face_px` of `IndexRow`."""
        return self._table.column(name).to_pylist()

    def numbers_of(self, name: str) -> Tensor:
        """[n] int64: clips with the same value of the column `name` have the same number, from 0 on."""
        numbers = {value: number for number, value in enumerate(sorted(set(self.column(name))))}
        return torch.tensor([numbers[value] for value in self.column(name)])

    def batch(self, indices: Tensor) -> dict[str, Tensor]:
        """Clips `indices` [B], float32: `video` [B, C, F, h, w], `reference` [B, C, 1, h, w],
        `audio_windows` [B, rho T, 5, blocks, channels], `regions` [B, 3, F, h, w] bool, `grey` [1, C, F, h,
        w] and, of a model that takes them, `skeleton` [B, C, rho T, h, w], `draft` [B, C, F, h, w] and `text`
        [B, L, D]; `known` of `WindowRules.encode_known`, where the autoencoder's latents are not independent
        of each other.

        InputError: clips of several latent shapes. CheckpointError: a shard is gone or damaged.
        """
        rows = [self._table.slice(int(index), 1).to_pylist()[0] for index in indices]
        shapes = {row["latent_shape"] for row in rows}
        if len(shapes) > 1:
            raise InputError(
                f"a batch of clips of several latent shapes ({', '.join(sorted(shapes))}) was asked for; "
                "take those of one of `groups`."
            )
        clips = [self._clip(row["shard"], row["clip"]) for row in rows]
        batch = stacked(clips)
        batch["grey"] = self._common(self._grey_of(rows[0]["latent_shape"]), "grey").float()
        if rows[0]["text"] is not None:
            batch["text"] = _padded([self._common(row["text"], "text")[0].float() for row in rows])
        return batch

    def _clip(self, shard: str, clip: str) -> dict[str, Tensor]:
        opened = self._opened(self.folder / SHARDS / f"{shard}.safetensors")
        names = ("video", "reference", "skeleton", "draft", "known", "audio_features", "regions")
        there = [name for name in names if f"{clip}/{name}" in opened.names]
        if "video" not in there:
            raise CheckpointError(
                f"{self.folder / SHARDS / shard}.safetensors: does not hold clip {clip}. Prepare again."
            )
        held = {name: opened[f"{clip}/{name}"] for name in there}
        return held | {"audio_windows": _windows(held.pop("audio_features"))}

    @lru_cache(maxsize=64)  # noqa: B019 - lives as long as the data set
    def _grey_of(self, shape: str) -> str:
        """The file of the grey latents of that shape; it is named after its pixels."""
        for file in sorted((self.folder / COMMON).glob(grey_name("*", "*") + ".safetensors")):
            if latent_shape(MappedTensors(file).shape("grey")[1:]) == shape:
                return file.stem
        raise CheckpointError(
            f"{self.folder / COMMON}: holds no grey latents of the shape {shape}. Prepare again."
        )

    @lru_cache(maxsize=64)  # noqa: B019 - lives as long as the data set
    def _common(self, file: str, name: str) -> Tensor:
        return MappedTensors(self.folder / COMMON / f"{file}.safetensors")[name]


def _windows(features: Tensor) -> Tensor:
    """[rho T + 2 MARGIN, blocks, channels] -> [rho T, 5, blocks, channels]."""
    return audio_windows(features, MARGIN, MARGIN, len(features) - MARGIN)


def _padded(texts: list[Tensor]) -> Tensor:
    """[L, D] each -> [B, longest L, D], filled up with zeros, as the model does to its own length."""
    return torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
