"""A release in small: the published file names and tensor names, random weights, a tokenizer of 40 pieces."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from torch import Tensor, nn
from transformers import UMT5Config, UMT5EncoderModel, Wav2Vec2Config, Wav2Vec2Model

from hallo4.models.dit import PortraitDiT
from hallo4.models.released_dit import released_name
from hallo4.models.released_umt5 import released_umt5_name
from hallo4.models.released_wan import diffusers_vae_name_to_released

DIT = "hallo4/model_weight.ckpt"
AUTOENCODER = "Wan2.1_Encoders/Wan2.1_VAE.pth"
TEXT = "Wan2.1_Encoders/models_t5_umt5-xxl-enc-bf16.pth"
CONFIG = "Wan2.1_Encoders/config.json"
TOKENIZER = "Wan2.1_Encoders/google/umt5-xxl/tokenizer.json"
AUDIO = "wav2vec/wav2vec2-base-960h"
PIECES = 40

_WAV2VEC2 = Wav2Vec2Config(
    num_hidden_layers=2, hidden_size=16, intermediate_size=24, num_attention_heads=2, conv_dim=(8,) * 7,
    num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, mask_time_prob=0.0, vocab_size=5,
)  # fmt: skip
_UMT5_BLOCK = (
    *("norm1", "attn.q", "attn.k", "attn.v", "attn.o", "norm2", "ffn.gate.0", "ffn.fc1", "ffn.fc2"),
    "pos_embedding.embedding",
)


def tiny_dit() -> PortraitDiT:
    return PortraitDiT(
        num_attention_heads=2, attention_head_dim=12, text_dim=24, freq_dim=16, ffn_dim=32, num_layers=2,
        vace_layers=(0,), audio_blocks=2, audio_channels=16, audio_hidden_dim=16, audio_tokens=4,
        mask_rule="nearest", known_dropped=0.1,
    )  # fmt: skip


def tiny_umt5() -> UMT5EncoderModel:
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=64, d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=2,
            feed_forward_proj="gated-gelu",
        )
    )  # fmt: skip


def random_state(module: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    state = module.state_dict()
    return {name: 0.3 * torch.randn(tensor.shape, generator=generator) for name, tensor in state.items()}


def make_release(folder: Path) -> Path:
    """Write everything; the DiT, the autoencoder and umT5 are torch files of fp32."""
    generator = torch.Generator().manual_seed(0)
    for place in (DIT, TOKENIZER, f"{AUDIO}/model.safetensors"):
        (folder / place).parent.mkdir(parents=True)
    dit = random_state(tiny_dit(), generator)
    torch.save({released_name(name): tensor for name, tensor in dit.items()}, folder / DIT)
    config = {"model_type": "t2v", "dim": 24, "ffn_dim": 32, "freq_dim": 16, "text_dim": 24, "in_dim": 16}
    config |= {"out_dim": 16, "num_heads": 2, "num_layers": 2, "eps": 1e-6, "vace_layers": [0]}
    (folder / CONFIG).write_text(json.dumps(config))
    autoencoder = random_state(AutoencoderKLWan(base_dim=4), generator)
    released = {diffusers_vae_name_to_released(name): tensor for name, tensor in autoencoder.items()}
    torch.save(released, folder / AUTOENCODER)
    umt5 = random_state(tiny_umt5(), generator)
    blocks = [f"blocks.{layer}.{module}.weight" for layer in range(2) for module in _UMT5_BLOCK]
    names = ["token_embedding.weight", "norm.weight", *blocks]
    torch.save({name: umt5[released_umt5_name(name)] for name in names}, folder / TEXT)
    write_tokenizer(folder / TOKENIZER, PIECES)
    audio = random_state(Wav2Vec2Model(_WAV2VEC2), generator)
    published = {f"wav2vec2.{published_name(name)}": tensor for name, tensor in audio.items()}
    published |= {"lm_head.weight": torch.zeros(5, 16), "lm_head.bias": torch.zeros(5)}
    save_file(published, folder / AUDIO / "model.safetensors")
    (folder / AUDIO / "config.json").write_text(_WAV2VEC2.to_json_string())
    (folder / AUDIO / "preprocessor_config.json").write_text('{"do_normalize": true}')
    return folder


def published_name(name: str) -> str:
    """How the published wav2vec2 files name the two parts of the normalised kernel."""
    return name.replace("parametrizations.weight.original0", "weight_g").replace(
        "parametrizations.weight.original1", "weight_v"
    )


def write_tokenizer(path: Path, pieces: int, first: tuple[str, ...] = ("<pad>", "</s>")) -> None:
    known = [*first, *(f"piece{index}" for index in range(pieces - len(first)))]
    Tokenizer(models.Unigram([(piece, -1.0) for piece in known], unk_id=2)).save(str(path))
