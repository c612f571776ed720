"""The released files: where they lie under one folder, what a checkpoint file holds, and one line for
whatever is wrong with them.

The layout is that of the Hallo4 repository (`pretrained_models/`). Wan's autoencoder and umT5 may also lie in
the layout of diffusers, `vae/`, `text_encoder/` and `tokenizer/`, beside `hallo4/` or in `Wan2.1_Encoders/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hallo4.errors import CheckpointError, InputError
from hallo4.input_file import open_input
from hallo4.json_file import read_json
from hallo4.weights.catalogue import HALLO4, WAN, WAV2VEC2
from hallo4.weights.tensors import read_tensors

ENCODERS = "Wan2.1_Encoders"
DIT_CONFIG = f"{ENCODERS}/config.json"
NOT_HALLO4 = ("vace", "wan", "wan_diffusers")


@dataclass(frozen=True)
class Wanted:
    """A file of the release: `what` it is, the `places` where it may lie, first choice first, and which
    repository has it (`published`)."""

    what: str
    places: tuple[str, ...]
    published: str


DIT = Wanted(
    "DiT weights", tuple(f"hallo4/model_weight.{kind}" for kind in ("safetensors", "ckpt", "pth")), HALLO4
)
AUTOENCODER = Wanted(
    "autoencoder weights",
    (
        *(f"{ENCODERS}/Wan2.1_VAE.{kind}" for kind in ("pth", "safetensors")),
        *(f"{folder}vae/diffusion_pytorch_model.safetensors" for folder in ("", f"{ENCODERS}/")),
    ),
    WAN,
)
TEXT = Wanted(
    "text encoder weights",
    (
        *(f"{ENCODERS}/models_t5_umt5-xxl-enc-bf16.{kind}" for kind in ("pth", "safetensors")),
        *(f"{folder}text_encoder/model.safetensors" for folder in ("", f"{ENCODERS}/")),
    ),
    WAN,
)
TOKENIZER = Wanted(
    "tokenizer",
    (
        f"{ENCODERS}/google/umt5-xxl/tokenizer.json",
        *(f"{folder}tokenizer/tokenizer.json" for folder in ("", f"{ENCODERS}/")),
    ),
    f"{WAN} under google/umt5-xxl",
)
AUDIO = Wanted(
    "wav2vec2 weights",
    tuple(f"{folder}wav2vec2-base-960h/model.safetensors" for folder in ("wav2vec/", "")),
    WAV2VEC2,
)


def find_files(root: Path, wanted: Wanted) -> tuple[list[Path], list[str]]:
    """The files that hold what is `wanted` (several where an index names shards), and notes: places of
    second choice that are also filled and will not be read.

    InputError: nothing there, or a shard is missing; says what, where it is published, where it must lie.
    """
    found = [
        place
        for place in wanted.places
        if (root / place).is_file() or (root / f"{place}.index.json").is_file()
    ]
    if not found:
        first = wanted.places[0]
        folder = (root / first).parent
        beside = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        raise InputError(
            f"{root / first}: is missing{_listing(folder, beside)}. It is published in {wanted.published}; "
            f"put it there (or as {', '.join(wanted.places[1:])})."
        )
    notes = [f"{place} is there too and is not read: {found[0]} is used" for place in found[1:]]
    return _shards(root / found[0]), notes


def _listing(folder: Path, names: list[str]) -> str:
    if not names:
        return f" ({folder.name}/ is {'empty' if folder.is_dir() else 'missing'})"
    return f" (in {folder.name}/ lie {', '.join(names[:6])}{', ...' if len(names) > 6 else ''})"


def _shards(file: Path) -> list[Path]:
    index = file.with_name(f"{file.name}.index.json")
    if file.is_file() or not index.is_file():
        return [file]
    names = read_object(index).get("weight_map")
    if not isinstance(names, Mapping) or not names:
        raise CheckpointError(f"{index}: names no shards under weight_map. Copy it again.")
    shards = [index.with_name(Path(str(name)).name) for name in sorted(set(map(str, names.values())))]
    missing = [shard for shard in shards if not shard.is_file()]
    if missing:
        raise InputError(
            f"{missing[0]}: is one of {len(shards)} shards that {index.name} names, and is not there. "
            "Copy it from where the others come from."
        )
    return shards


def find_beside(file: Path, name: str, published: str) -> Path:
    """The file `name` in the folder of `file`; InputError: says where it is published and must lie."""
    path = file.with_name(name)
    if not path.is_file():
        raise InputError(
            f"{path}: is not there, and {file.name} cannot be used without it. It is published in "
            f"{published}; put it there."
        )
    return path


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; CheckpointError when the file is not one."""
    return read_json(path, dict[str, Any], error=CheckpointError, advice="Copy it again.")


# ---------------------------------------------------------------------- what a file holds

_MARKS = {
    "dit": (r"self_attn\.q\.", r"audio_(cross_)?attn|condition_cross_attn|audio_proj\.|pose_proj\."),
    "vace": (r"self_attn\.q\.", r"vace_blocks\."),
    "wan": (r"self_attn\.q\.", r"time_projection\."),
    "wan_diffusers": (r"condition_embedder\.", r"attn2\.to_q\."),
    "umt5": (r"token_embedding\.", r"pos_embedding\.embedding\."),
    "umt5_transformers": (r"SelfAttention\.relative_attention_bias\.", r"DenseReluDense\.wi_0\."),
    "vae": (r"encoder\.downsamples\.", r"decoder\.upsamples\."),
    "vae_diffusers": (r"encoder\.conv_in\.", r"post_quant_conv\."),
    "wav2vec2": (r"feature_extractor\.conv_layers\.", r"feature_projection\."),
}
"""Kind of a file -> patterns that all occur in its names; the first kind that fits counts."""
KINDS = {
    "dit": "Hallo4's DiT",
    "vace": "the DiT of Wan2.1-VACE",
    "wan": "the DiT of Wan2.1",
    "wan_diffusers": "a Wan DiT in diffusers layout",
    "umt5": "umT5, the text encoder",
    "umt5_transformers": "umT5, the text encoder",
    "vae": "Wan's autoencoder",
    "vae_diffusers": "an autoencoder in diffusers layout",
    "wav2vec2": "wav2vec2",
}
HALLO4_LAYERS = ("audio_cross_attn", "condition_cross_attn", "audio_proj", "pose_proj")


def recognise(names: Iterable[str]) -> str | None:
    """The kind of checkpoint (a key of `KINDS`) that tensors of these names belong to; None: unknown."""
    all_names = "\n".join(names)
    return next(
        (kind for kind, marks in _MARKS.items() if all(re.search(mark, all_names) for mark in marks)), None
    )


def check_kind(found: Mapping[str, Tensor], files: list[Path], wanted: Wanted, kinds: tuple[str, ...]) -> str:
    """The kind of checkpoint, one of `kinds`; CheckpointError: another one, named where it is known."""
    kind, file = recognise(found), files[0]
    patches = next((t for name, t in found.items() if name.endswith("patch_embedding.weight")), None)
    if "dit" in kinds and kind in ("dit", *NOT_HALLO4) and patches is not None and patches.shape[0] == 5120:
        raise CheckpointError(
            f"{file}: is a 14B model (width 5120); Hallo4 was released at 1.3B (width 1536). "
            f"Use the file of {wanted.published}."
        )
    if "dit" in kinds and kind in NOT_HALLO4:
        raise CheckpointError(
            f"{file}: holds {KINDS[kind]} without Hallo4's layers ({', '.join(HALLO4_LAYERS)}). "
            f"Use the file of {wanted.published}."
        )
    if kind not in kinds:
        holds = (
            f"holds {KINDS[kind]}" if kind else f"is of an unknown kind (first tensor: {next(iter(found))})"
        )
        raise CheckpointError(
            f"{file}: {holds}, but the {wanted.what} belong there. Use the file of {wanted.published}."
        )
    return kind


# ---------------------------------------------------------------------- reading

_STORED_AS = (torch.float32, torch.bfloat16, torch.float16)


def open_tensors(files: list[Path], what: str) -> dict[str, Tensor]:
    """The named tensors of all `files`, mapped, not read, where the format allows it; runs no code.

    InputError, CheckpointError: as `read_tensors`; also GGUF files, pointers of Git LFS, the same tensor in
    two files, none at all, and numbers that are not fp32, bf16 or fp16.
    """
    tensors: dict[str, Tensor] = {}
    for file in files:
        _check_format(file)
        for name, tensor in read_tensors(file, what).items():
            if name in tensors:
                raise CheckpointError(
                    f"{file}: tensor {name} stands in another file too. Remove one of them."
                )
            if tensor.dtype not in _STORED_AS or tensor.layout is not torch.strided:
                kind = str(tensor.dtype).removeprefix("torch.")
                kind = f"{kind} (an fp8 file)" if kind.startswith("float8") else kind
                raise CheckpointError(
                    f"{file}: tensor {name} is stored as {kind}; fp32, bf16 and fp16 are read. "
                    "Use the file with full weights."
                )
            tensors[name] = tensor
    if not tensors:
        raise CheckpointError(f"{files[0]}: holds no tensors. Copy it again.")
    return tensors


def is_mapped(file: Path) -> bool:
    """Whether tensors are read from the file where they lie; torch files from before 1.6 are read whole."""
    with open_input(file, "the weights") as opened:
        head = opened.read(9)
    return head[8:9] == b"{" or not head.startswith(b"\x80")


def _check_format(file: Path) -> None:
    with open_input(file, "the weights") as opened:
        head = opened.read(16)
    if head.startswith(b"GGUF"):
        raise CheckpointError(
            f"{file}: is a GGUF file of quantised weights; safetensors and torch files with full weights are "
            "read. Use the published file."
        )
    if head.startswith(b"version https://"):
        raise CheckpointError(
            f"{file}: is a pointer of Git LFS, not the weights. Fetch the file itself (git lfs pull)."
        )
