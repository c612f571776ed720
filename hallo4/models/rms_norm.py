"""Root-mean-square normalisation of queries and keys."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _RMSNorm(torch.autograd.Function):
    """y = x r w with r = 1 / sqrt(mean(x^2) + eps).

    Written out because attention normalises up to six times a block: on CPU, forward and backward together
    take half the time of autograd's own chain.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        r = torch.rsqrt(norm * norm / x.shape[-1] + eps)
        return x * weight * r, r

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        x, weight, _ = inputs
        ctx.save_for_backward(x, weight, output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, r = ctx.saved_tensors
        grad_x = grad * x
        grad_weight = (grad_x.flatten(0, -2) * r.flatten()[:, None]).sum(0)
        along_x = (grad_x @ weight).unsqueeze(-1) / x.shape[-1]
        return torch.addcmul(grad * weight * r, x, along_x * r**3, value=-1), grad_weight, None


class RMSNorm(nn.Module):
    """`x / sqrt(mean(x^2) + eps) * weight` over the last axis, computed and returned in fp32."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] of any float type -> [..., dim] fp32."""
        return _RMSNorm.apply(x.float(), self.weight.float(), self.eps)[0]
