"""Randomness by key: batch i of a run depends on (seed, i) alone, so resuming changes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")


def keyed_seed(*key: int | str) -> int:
    """A seed in [0, 2**63) that depends on `key` alone, on every machine."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def keyed_generator(*key: int | str) -> torch.Generator:
    """A fresh CPU generator for `key`."""
    return torch.Generator().manual_seed(keyed_seed(*key))


def batch_indices(size: int, batch_size: int, seed: int, index: int) -> Tensor:
    """[batch_size] int64: which of `size` samples make micro-batch `index`.

    Epoch after epoch of shuffled samples in one endless row, cut into batches: every sample is used once
    per epoch, and no batch is dropped or short.
    """
    positions = torch.arange(index * batch_size, (index + 1) * batch_size)
    return torch.stack([_shuffle(size, seed, int(p) // size)[int(p) % size] for p in positions])


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
