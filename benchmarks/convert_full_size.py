"""Memory and time of `hallo4 weights convert` at full size, on random numbers in the released layout.

`python benchmarks/convert_full_size.py [--release DIR] [--model DIR] [--dtype bf16]` makes the released
files with the names and shapes of the full-size classes (17.8 GB: the DiT in bf16 as safetensors, umT5 in
bf16 and the autoencoder in fp32 as torch files, wav2vec2), converts them, and prints one JSON line: seconds,
bytes, and the peak resident memory of the converting process, split into what it owns (`anonymous`) and what
is mapped from files and can be dropped at any time (`file`). Files that are there already are used again.

Matrices are normal with a variance of one over their inputs, norms are ones and biases zeros, so the networks
compute finite numbers; nothing else can be said of them. The numbers repeat every 16 million.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor, nn

from hallo4.models.dit import PortraitDiT
from hallo4.models.released_dit import released_name
from hallo4.models.released_umt5 import released_umt5_name
from hallo4.models.released_wan import diffusers_vae_name_to_released
from hallo4.pipelines.convert import ConversionProgress, convert_release
from hallo4.pipelines.safetensors_stream import StoredTensor, write_tensors

RANDOM_VALUES = 16 * 1024 * 1024 + 3
DIT_CONFIG = {
    "_class_name": "VaceWanModel", "model_type": "t2v", "dim": 1536, "ffn_dim": 8960, "freq_dim": 256,
    "in_dim": 16, "out_dim": 16, "num_heads": 12, "num_layers": 30, "eps": 1e-6, "text_len": 512,
    "vace_layers": list(range(0, 30, 2)), "vace_in_dim": 96,
}  # fmt: skip
UMT5_BLOCK = (
    *("norm1", "attn.q", "attn.k", "attn.v", "attn.o", "norm2", "ffn.gate.0", "ffn.fc1", "ffn.fc2"),
    "pos_embedding.embedding",
)


def random_values() -> Callable[[tuple[int, ...]], Tensor]:
    """values(shape) -> fp32: normal with variance one over the inputs, ones, or zeros."""
    block = torch.randn(RANDOM_VALUES, generator=torch.Generator().manual_seed(0))

    def values(shape: tuple[int, ...]) -> Tensor:
        count = prod(shape)
        repeated = block.repeat(-(-count // RANDOM_VALUES))[:count].reshape(shape)
        return repeated.mul_(prod(shape[1:]) ** -0.5)

    return values


def write_random(path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> None:
    """A safetensors file, or a torch file if its name says so."""
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    values = random_values()

    def read(name: str) -> Tensor:
        is_vector = prod(shapes[name]) == max(shapes[name])
        if not is_vector:
            return values(shapes[name])
        return torch.zeros(shapes[name]) if name.endswith("bias") else torch.ones(shapes[name])

    mapped = path.with_suffix(".partial")
    write_tensors(mapped, {name: StoredTensor(shape, dtype) for name, shape in shapes.items()}, read)
    if path.suffix == ".safetensors":
        os.replace(mapped, path)
    else:
        torch.save(load_file(mapped), path)
        mapped.unlink()


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def write_tokenizer(path: Path, pieces: int) -> None:
    """A unigram tokenizer of as many pieces as umT5's: ASCII, Chinese characters, and fillers."""
    characters = [*map(chr, range(33, 127)), *map(chr, range(0x4E00, 0x9FFF)), "\uff0c"]
    known = ["<pad>", "</s>", "<s>", "<unk>", "\u2581", *characters]
    known += [f"\u2581piece{index}" for index in range(pieces - len(known))]
    tokenizer = Tokenizer(models.Unigram([(piece, -10.0) for piece in known], unk_id=3))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))


def make_release(folder: Path) -> None:
    """Random files with the names, shapes and types of the release."""
    from diffusers import AutoencoderKLWan
    from transformers import UMT5Config, UMT5EncoderModel, Wav2Vec2Config, Wav2Vec2Model

    encoders, audio = folder / "Wan2.1_Encoders", folder / "wav2vec/wav2vec2-base-960h"
    umt5 = UMT5Config(vocab_size=256384, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64)
    with torch.device("meta"):
        dit, autoencoder = shapes_of(PortraitDiT()), shapes_of(AutoencoderKLWan())
        text, wav2vec2 = shapes_of(UMT5EncoderModel(umt5)), shapes_of(Wav2Vec2Model(Wav2Vec2Config()))
    blocks = [f"blocks.{layer}.{module}.weight" for layer in range(24) for module in UMT5_BLOCK]
    text_names = ["token_embedding.weight", "norm.weight", *blocks]
    write_random(
        folder / "hallo4/model_weight.safetensors",
        {released_name(name): shape for name, shape in dit.items()},
        torch.bfloat16,
    )
    write_random(
        encoders / "Wan2.1_VAE.pth",
        {diffusers_vae_name_to_released(name): shape for name, shape in autoencoder.items()},
        torch.float32,
    )
    write_random(
        encoders / "models_t5_umt5-xxl-enc-bf16.pth",
        {name: text[released_umt5_name(name)] for name in text_names},
        torch.bfloat16,
    )
    (encoders / "config.json").write_text(json.dumps(DIT_CONFIG))
    write_tokenizer(encoders / "google/umt5-xxl/tokenizer.json", 256300)
    named = {f"wav2vec2.{name}": shape for name, shape in wav2vec2.items()}
    write_random(audio / "model.safetensors", named, torch.float32)
    (audio / "config.json").write_text(Wav2Vec2Config().to_json_string())
    (audio / "preprocessor_config.json").write_text('{"do_normalize": true, "sampling_rate": 16000}')


def resident_bytes() -> dict[str, int]:
    """What this process holds now, `anonymous` and mapped from `file`, and the most it ever held (`peak`).

    getrusage is of no use for the last: its value survives the exec of another program.
    """
    lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    fields = {words[0]: int(words[1]) * 1024 for words in lines if words[0].startswith(("Rss", "VmHWM"))}
    return {"anonymous": fields["RssAnon:"], "file": fields["RssFile:"], "peak": fields["VmHWM:"]}


def convert(release: Path, model: Path, dtype: str) -> dict[str, object]:
    """The line to print; memory is read after every piece that is read or written."""
    peak = resident_bytes()
    at_start = dict(peak)
    seconds: dict[str, float] = {}
    started = time.perf_counter()

    def watch(progress: ConversionProgress) -> None:
        now = resident_bytes()
        for kind, count in now.items():
            peak[kind] = max(peak[kind], count)
        seconds[progress.part] = round(time.perf_counter() - started, 1)

    convert_release(release, model, dtype, on_progress=watch)
    sources = [path.stat().st_size for path in release.rglob("*") if path.is_file()]
    return {
        "dtype": dtype,
        "seconds": round(time.perf_counter() - started, 1),
        "seconds_at_end_of_part": seconds,
        "bytes_read": sum(sources),
        "bytes_written": sum(path.stat().st_size for path in model.rglob("*") if path.is_file()),
        "largest_file_bytes": max(sources),
        "peak_resident_bytes": peak["peak"],
        "peak_anonymous_bytes": peak["anonymous"],
        "peak_file_bytes": peak["file"],
        "anonymous_at_start_bytes": at_start["anonymous"],
    }


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--release", type=Path, default=Path("full_size"))
    parser.add_argument("--model", type=Path, default=Path("full_size_model"))
    parser.add_argument("--dtype", choices=("keep", "bf16", "fp32"), default="bf16")
    parser.add_argument("--converting", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.converting:
        print(json.dumps(convert(options.release, options.model, options.dtype)))
        return 0
    make_release(options.release)
    # In a process of its own, so that what making the files took is not in the peak.
    return subprocess.run([sys.executable, __file__, "--converting", *(words or sys.argv[1:])]).returncode


if __name__ == "__main__":
    sys.exit(main())
