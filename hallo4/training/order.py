"""Randomness by key: batch i of a run depends on (seed, i) alone, so resuming changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor

from hallo4.diffusion.keyed import keyed_generator

Item = TypeVar("Item")


def batch_indices(size: int, batch_size: int, seed: int, index: int) -> Tensor:
    """[batch_size] int64: which of `size` samples make micro-batch `index`.

    Epoch after epoch of shuffled samples in one endless row, cut into batches: every sample is used once
    per epoch, and no batch is dropped or short.
    """
    positions = torch.arange(index * batch_size, (index + 1) * batch_size)
    return torch.stack([_shuffle(size, seed, int(p) // size)[int(p) % size] for p in positions])


def grouped_batch_indices(groups: Sequence[Tensor], batch_size: int, seed: int, index: int) -> Tensor:
    """[batch_size] int64: which samples make micro-batch `index`, all of one of the `groups` [n] of indices.

    As `batch_indices` in each group; groups take turns in shuffled rounds, in which each makes as many
    batches as it needs to be used once.
    """
    needed = [-(-len(group) // batch_size) for group in groups]
    turn, place = divmod(index, sum(needed))
    turns = torch.repeat_interleave(torch.arange(len(groups)), torch.tensor(needed))
    turns = turns[torch.randperm(len(turns), generator=keyed_generator("groups", seed, turn))]
    chosen = int(turns[place])
    before = turn * needed[chosen] + int((turns[:place] == chosen).sum())
    return groups[chosen][batch_indices(len(groups[chosen]), batch_size, seed, before)]


def batch_visits(size: int, batch_size: int, index: int) -> Tensor:
    """[batch_size] int64: how often each sample of micro-batch `index` was used before (its epoch)."""
    return torch.arange(index * batch_size, (index + 1) * batch_size) // size


@lru_cache(maxsize=4)
def _shuffle(size: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(size, generator=keyed_generator("epoch", seed, epoch))


@contextmanager
def one_ahead(make: Callable[[int], Item], start: int) -> Iterator[Iterator[Item]]:
    """An endless iterator over make(start), make(start + 1), ..., each made in a thread one ahead.

    An exception in `make` comes out of `next`.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="data") as pool:

        def items() -> Iterator[Item]:
            position, coming = start, pool.submit(make, start)
            while True:
                item = coming.result()
                position += 1
                coming = pool.submit(make, position)
                yield item

        yield items()
