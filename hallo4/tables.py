"""Constant tensors that are computed once: tables of positions, of noise levels."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

import torch
from torch import Tensor


def cached_table(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`make` with the tables of the last sixteen arguments kept, but of plain tensors only.

    Where new tensors are of another kind (inside `FakeTensorMode`, say, where they hold no values) the table
    is made again, because a kept one would meet tensors of the other kind. Kept tables are made outside of
    inference mode, so that they serve training too.
    """

    @lru_cache(maxsize=16)
    def kept(*key: Any) -> Tensor:
        with torch.inference_mode(False):
            return make(*key)

    @wraps(make)
    def table(*key: Any) -> Tensor:
        return kept(*key) if type(torch.empty(0)) is Tensor else make(*key)

    table.cache_clear = kept.cache_clear  # type: ignore[attr-defined]
    return table
