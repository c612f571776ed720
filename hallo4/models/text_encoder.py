"""A prompt -> text embedding, by the umT5 encoder of the released model; needs the extra `released`.

::

    prompt --clean_prompt--> text --tokenizer--> ids [L] --embedding table--> [L, D] --blocks--> [L, D]

A folder of this encoder holds `config.json` and one or more `*.safetensors` as transformers names and writes
them, and `tokenizer/` with `tokenizer.json` or, if there is none, `spiece.model`. Nothing is ever downloaded.

The released encoder has 5.7 billion parameters (11.4 GB in bf16) and runs once per prompt. So weights are
mapped from the file and one block at a time is brought to the device and to fp32: private memory is that of
one block (0.8 GB), and the mapping is given back after every block.
"""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hallo4.errors import CheckpointError, MissingExtraError
from hallo4.input_file import check_regular, read_input
from hallo4.json_file import MAX_BYTES, read_json
from hallo4.weights.module_folder import StoredTensors, shapes_alone
from hallo4.weights.tensors import misfits, refuse_other_kinds, shapes_of

MAX_TOKENS = 512
"""Tokens that the encoder reads, the end token included; `text_len` of the released model."""

_FLOATS = {"F32", "F16", "BF16"}
_SAME_AS_SHARED = "encoder.embed_tokens.weight"
"""transformers' second name of `shared.weight`, which files do not repeat."""


def clean_prompt(text: str) -> str:
    """Repair broken characters and HTML entities, fold white space; full-width punctuation becomes ASCII.

    Source: Wan2.1 wan/modules/tokenizers.py:12-21. MissingExtraError: no ftfy.
    """
    try:
        import ftfy
    except ImportError as error:
        raise MissingExtraError(
            "Prompts are cleaned with ftfy, which is not installed: pip install 'hallo4[released]'."
        ) from error
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


@dataclass(frozen=True)
class Tokens:
    """`ids` [L] int64 of a cleaned prompt, the end token last; `cut`: how many tokens were too many."""

    ids: Tensor
    cut: int


class UMT5TextEncoder:
    """The umT5 encoder in `folder`, transformers' `UMT5EncoderModel`, computed on `device` in fp32.

    Source: Wan2.1 wan/modules/t5.py:472-513. Different here: prompts are not padded to 512 tokens and masked
    (equal to 1e-6); bf16 weights are multiplied in fp32, so that an embedding is the same on every device up
    to fp32 rounding. The released program rounds every result to bf16 on its GPU, which moves the embeddings
    of the tiny golden case by 1.1e-2 to 1.4e-2 of the largest value; rounding the weights alone, by 0.9e-2.

    CheckpointError: no or foreign `config.json`, tensors that are missing, unexpected or mis-shaped, damaged
    files, no tokenizer, or one of another vocabulary. MissingExtraError: no transformers.
    """

    def __init__(self, folder: str | Path, device: str | torch.device = "cpu") -> None:
        self.folder, self.device = Path(folder), torch.device(device)
        self._weights = StoredTensors(self.folder)
        self._model = _skeleton(self.folder / "config.json", len(self._weights.headers))
        _check_fit(self._weights, self._model)
        self._tokenizer = _read_tokenizer(self.folder / "tokenizer")
        self._tokenizer.check(self._model.config.vocab_size, self._model.config.eos_token_id)

    @property
    def width(self) -> int:
        """D, the width of an embedding."""
        return self._model.config.d_model

    def tokenize(self, prompt: str) -> Tokens:
        """The tokens of a prompt as a person wrote it; an empty one is the end token alone.

        The released program cuts long prompts at the same place, without a word.
        """
        ids = self._tokenizer.encode(clean_prompt(prompt))
        kept = ids[: MAX_TOKENS - 1]
        return Tokens(torch.tensor([*kept, self._tokenizer.end]), len(ids) - len(kept))

    def encode(self, prompt: str) -> Tensor:
        """[L, D] float32 on the CPU: one row per token of `tokenize(prompt)`."""
        return self.encode_all([prompt])[0]

    @torch.no_grad()
    def encode_all(self, prompts: Sequence[str]) -> list[Tensor]:
        """`encode` of each prompt, the same bits, while every weight is read only once.

        CheckpointError: weights that give NaN or infinite values.
        """
        table = self._weights.read(["shared.weight"])["shared.weight"]
        states = [table[self.tokenize(prompt).ids].to(self.device, torch.float32)[None] for prompt in prompts]
        del table
        encoder = self._model.encoder
        for index, block in enumerate(encoder.block):
            states = self._run(block, f"encoder.block.{index}.", states)
        states = self._run(encoder.final_layer_norm, "encoder.final_layer_norm.", states)
        return [state[0].cpu() for state in states]

    def _run(self, module: nn.Module, prefix: str, states: list[Tensor]) -> list[Tensor]:
        """`module`, which holds no memory, applied to each [1, L, D]; its weights live for this call only."""
        stored = self._weights.read([prefix + name for name in module.state_dict()])
        weights = {
            name.removeprefix(prefix): tensor.to(self.device).to(torch.float32)
            for name, tensor in stored.items()
        }
        results = [torch.func.functional_call(module, weights, (state,), strict=True) for state in states]
        if not all(result.isfinite().all() for result in results):
            raise CheckpointError(
                f"{self.folder}: the tensors {prefix}* give NaN or infinite values. Copy the folder again."
            )
        return results


def missing_parts(folder: Path) -> list[str]:
    """What a folder lacks to be a text encoder, in words; empty if every part is there, whatever it holds."""
    parts = {
        "config.json": (folder / "config.json").is_file(),
        "*.safetensors": any(folder.glob("*.safetensors")),
        "tokenizer/tokenizer.json": _tokenizer_file(folder / "tokenizer") is not None,
    }
    return [name for name, found in parts.items() if not found]


def encoder_identity(folder: Path) -> str:
    """64 hexadecimal digits that tell one encoder from another without reading all of it (11 GB).

    A hash of `config.json`, the tokenizer file, and of every tensor its name, type, shape and first row. So
    another training of the same network is noticed; a change of single values in other rows is not.
    CheckpointError: a part is missing or damaged.
    """
    weights = StoredTensors(folder)
    tokenizer = _tokenizer_file(folder / "tokenizer")
    if tokenizer is None:
        raise _no_tokenizer(folder / "tokenizer")
    digest = hashlib.sha256()
    for path in (folder / "config.json", tokenizer):
        content = read_input(path, MAX_BYTES, "a file of the text encoder", CheckpointError)
        digest.update(hashlib.sha256(content).digest())
    for name, row in weights.first_rows():
        header = weights.headers[name]
        digest.update(json.dumps([name, header.kind, list(header.shape)]).encode())
        digest.update(row.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check_fit(weights: StoredTensors, model: nn.Module) -> None:
    """CheckpointError unless these are the tensors of `model`, all of them, as floating-point numbers."""
    wanted = {name: tensor for name, tensor in model.state_dict().items() if name != _SAME_AS_SHARED}
    problem = misfits(shapes_of(wanted), shapes_of(weights.headers))
    if problem:
        raise CheckpointError(
            f"{weights.folder}: the tensors do not fit config.json: {problem}. Use all files of one umT5 "
            "encoder."
        )
    refuse_other_kinds(weights.headers, _FLOATS)


def _skeleton(path: Path, tensors: int) -> nn.Module:
    """`UMT5EncoderModel` of a config.json in evaluation mode, without memory for its weights, which are so
    many `tensors`."""
    try:
        from transformers import UMT5Config, UMT5EncoderModel
    except ImportError as error:
        raise MissingExtraError(
            "The text encoder needs transformers, which is not installed: pip install 'hallo4[released]'."
        ) from error
    values = read_json(path, dict[str, Any], error=CheckpointError, advice="Copy the folder again.")
    kind = values.get("model_type")
    if kind != "umt5":
        raise CheckpointError(
            f"{path}: model_type is {kind!r}; allowed is 'umt5'. Give the folder of a umT5 encoder."
        )
    try:
        with shapes_alone(tensors):
            return UMT5EncoderModel(UMT5Config.from_dict(values)).eval()
    except Exception as error:  # wrong values fail in many ways inside the library
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: no text encoder can be built from it ({reason}).") from error


@dataclass(frozen=True)
class _Tokenizer:
    """`encode`: text -> ids without the end token; `end`: id of the end token; `size`: largest id + 1."""

    file: Path
    encode: Callable[[str], list[int]]
    end: int | None
    size: int

    def check(self, rows: int, end: int) -> None:
        """CheckpointError: ids that the embedding table of `rows` rows lacks, or another end token."""
        if self.size > rows:
            raise CheckpointError(
                f"{self.file}: has ids up to {self.size - 1}, but the embedding table has {rows} rows: it is "
                "the tokenizer of another vocabulary. Use the one that belongs to the encoder."
            )
        if self.end != end:
            raise CheckpointError(
                f"{self.file}: the id of the end token </s> is {self.end}, but config.json says {end}: it is "
                "the tokenizer of another vocabulary. Use the one that belongs to the encoder."
            )


def _tokenizer_file(folder: Path) -> Path | None:
    """The file that the tokenizer is read from; None if neither is there."""
    files = (folder / "tokenizer.json", folder / "spiece.model")
    return next((file for file in files if file.is_file()), None)


def _read_tokenizer(folder: Path) -> _Tokenizer:
    """By the libraries that own the two formats.

    transformers 5 rebuilds T5 tokenizers from the vocabulary alone and gives characters outside of it another
    id than `tokenizer.json` says. Special tokens written in a prompt, such as "</s>", are tokens to
    `tokenizer.json`, as in the released program, and plain text to `spiece.model`.
    """
    file = _tokenizer_file(folder)
    if file is None:
        raise _no_tokenizer(folder)
    check_regular(file, "a tokenizer", CheckpointError)
    try:
        return _from_json(file) if file.suffix == ".json" else _from_sentencepiece(file)
    except ImportError as error:
        raise MissingExtraError(
            f"{file.name} needs {error.name}, which is not installed: pip install 'hallo4[released]'."
        ) from error
    except Exception as error:  # both libraries raise bare kinds for damaged files
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{file}: cannot be read as a tokenizer ({reason}). Copy it again.") from error


def _no_tokenizer(folder: Path) -> CheckpointError:
    return CheckpointError(
        f"{folder}: holds neither tokenizer.json nor spiece.model. Copy the tokenizer of the encoder there."
    )


def _from_json(file: Path) -> _Tokenizer:
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(file))
    tokenizer.no_truncation()  # a file may ask for either
    tokenizer.no_padding()
    return _Tokenizer(
        file,
        lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        tokenizer.token_to_id("</s>"),
        max(tokenizer.get_vocab().values(), default=-1) + 1,
    )


def _from_sentencepiece(file: Path) -> _Tokenizer:
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(file))
    return _Tokenizer(file, pieces.encode, pieces.eos_id(), pieces.get_piece_size())
