"""Names of the released umT5 encoder (Wan2.1's `models_t5_umt5-xxl-enc-bf16.pth`) in transformers' words."""

from __future__ import annotations

import re

_TOP = {
    "token_embedding": "shared",  # also `encoder.embed_tokens`, one tensor under two names
    "norm": "encoder.final_layer_norm",
}
_BLOCK = {
    "norm1": "layer.0.layer_norm",
    "attn.q": "layer.0.SelfAttention.q",
    "attn.k": "layer.0.SelfAttention.k",
    "attn.v": "layer.0.SelfAttention.v",
    "attn.o": "layer.0.SelfAttention.o",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}
_KEY = re.compile(r"(?:blocks\.(0|[1-9][0-9]*)\.)?(.+)\.weight")


def released_umt5_name(name: str) -> str | None:
    """The key of transformers' `UMT5EncoderModel` for a released key; None if it is not one of this encoder.

    Every released tensor has one key here, and its shape and values are the same. The embedding table becomes
    `shared.weight`, which transformers shares with `encoder.embed_tokens.weight`. Source: Wan2.1
    wan/modules/t5.py, class T5Encoder, whose every layer has its own table of relative positions.
    """
    match = _KEY.fullmatch(name)
    if match is None:
        return None
    block, module = match.groups()
    if block is None:
        inner = _TOP.get(module)
        return None if inner is None else f"{inner}.weight"
    inner = _BLOCK.get(module)
    return None if inner is None else f"encoder.block.{block}.{inner}.weight"
