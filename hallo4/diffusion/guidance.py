"""Classifier-free guidance (arXiv 2207.12598)."""

from __future__ import annotations

from torch import Tensor


def guide(uncond: Tensor, cond: Tensor, scale: float) -> Tensor:
    """`uncond + scale (cond - uncond)`: 0 gives `uncond`, 1 gives `cond`, more exaggerates what the
    condition does.

    Differs from the paper, whose w is scale - 1.
    """
    return uncond + scale * (cond - uncond)
