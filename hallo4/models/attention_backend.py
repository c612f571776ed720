"""Another attention kernel for a backbone, by the name that diffusers gives it."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention import AttentionModuleMixin
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    attention_backend,
    dispatch_attention_fn,
)

from hallo4.errors import InputError


def attention_backends() -> list[str]:
    """Names that `choose_attention` knows: those of diffusers but for kernels that it would download."""
    return [name.value for name in AttentionBackendName if "_hub" not in name.value]


@torch.inference_mode()
def choose_attention(backbone: Any, name: str, device: torch.device, dtype: torch.dtype) -> None:
    """Every attention of `backbone` runs on the backend `name` from now on.

    Tried on four tokens first. InputError: not a name of `attention_backends`, its package is not installed,
    or it does not run on this device in `dtype`.
    """
    known = attention_backends()
    if name not in known:
        raise InputError(f"attention {name!r} is unknown; there are {', '.join(known)}.")
    try:
        tokens = torch.ones(1, 4, 2, 64, device=device, dtype=dtype)
        with attention_backend(name):  # which checks that its package is there
            dispatch_attention_fn(tokens, tokens, tokens, backend=AttentionBackendName(name))
    except Exception as error:  # packages and kernels refuse in many ways
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"attention {name!r} cannot be used on {device} ({reason}). Use native, or leave it out."
        ) from error
    # Not by `backbone.set_attention_backend`, which chooses for all models of the process.
    for module in backbone.modules():
        if isinstance(module, AttentionModuleMixin):
            module.processor._attention_backend = AttentionBackendName(name)
