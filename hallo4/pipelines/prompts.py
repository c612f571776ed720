"""Prompts -> text embeddings, kept on disk, so that umT5 (11 GB) is loaded only for a prompt never seen.

An embedding is looked up in `text/embeddings/` of the model folder, then in the user's cache; what is in
neither is encoded and kept in the cache. Each is one file, `HASH.safetensors`: a tensor `tokens` [L, D]
float32 and, readable in its metadata, the prompt, the identity of the encoder and how many tokens were cut.
HASH is the SHA-256 of the cleaned prompt and that identity (`encoder_identity` says what it can miss). Files
of the cache may be copied to `text/embeddings/`; a model folder that has all it needs there can do without
the encoder.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from hallo4.errors import CheckpointError
from hallo4.models.text_encoder import (
    MAX_TOKENS,
    UMT5TextEncoder,
    clean_prompt,
    encoder_identity,
    missing_parts,
)
from hallo4.weights.places import user_cache
from hallo4.weights.tensors import open_safetensors
from hallo4.whole import write_whole

_MOST_NUMBERS = MAX_TOKENS * 65_536
"""In a kept embedding: no encoder is wider."""


@dataclass(frozen=True)
class PromptEmbedding:
    """`tokens` [1, L, D] float32 on the CPU, and `notes` for the person who wrote the prompt."""

    tokens: Tensor
    notes: tuple[str, ...] = ()


class PromptEmbeddings:
    """The text embeddings of a model, from `text_folder` (its `text/`), the cache or the encoder.

    `cache_folder` None: `hallo4/prompts` in `$XDG_CACHE_HOME`, else in `~/.cache`. New prompts are encoded on
    `device`. CheckpointError: a damaged encoder, or embeddings of more than one encoder in the folder.
    """

    def __init__(
        self, text_folder: Path, cache_folder: Path | None = None, device: str | torch.device = "cpu"
    ) -> None:
        self.text_folder, self.device = Path(text_folder), torch.device(device)
        self.cache_folder = _user_cache() if cache_folder is None else Path(cache_folder)
        self._missing_parts = missing_parts(self.text_folder)
        self._identity = (
            _stored_identity(self._embeddings_folder)
            if self._missing_parts
            else encoder_identity(self.text_folder)
        )

    def embedding(self, prompt: str) -> PromptEmbedding:
        """The embedding of one prompt; see `embeddings`."""
        return self.embeddings([prompt])[0]

    def embeddings(self, prompts: Sequence[str]) -> list[PromptEmbedding]:
        """The embedding of each prompt; the encoder is loaded at most once, and freed before this returns.

        Notes say how much of a prompt was cut, that a stored file was damaged and not used, and that the
        cache could not be written. CheckpointError: a prompt has to be encoded and the encoder is
        missing or damaged.
        """
        cleaned = [clean_prompt(prompt) for prompt in prompts]
        notes: dict[str, list[str]] = {text: [] for text in cleaned}
        found = {text: self._stored(text, notes[text]) for text in notes}
        new = {text: prompt for text, prompt in zip(cleaned, prompts, strict=True) if found[text] is None}
        if new:
            found |= self._encoded(new, notes)
        results = []
        for text in cleaned:
            tokens, cut = found[text]
            long = [_cut_note(text, cut)] if cut else []
            results.append(PromptEmbedding(tokens[None], (*long, *notes[text])))
        return results

    def needs_encoder(self, prompts: Sequence[str]) -> bool:
        """Whether `embeddings` would have to load the encoder."""
        return any(self._stored(clean_prompt(prompt), []) is None for prompt in prompts)

    @property
    def _embeddings_folder(self) -> Path:
        return self.text_folder / "embeddings"

    def _stored(self, text: str, notes: list[str]) -> tuple[Tensor, int] | None:
        """What is kept of a cleaned prompt: its tokens [L, D] and the number of tokens that were cut."""
        if self._identity is None:
            return None
        for folder in (self._embeddings_folder, self.cache_folder):
            if folder is None:
                continue
            path = folder / _file_name(text, self._identity)
            try:
                return _read(path, text, self._identity)
            except FileNotFoundError:
                continue
            except ValueError as error:
                notes.append(f"{path}: is no usable text embedding ({error}).")
        return None

    def _encoded(self, new: dict[str, str], notes: dict[str, list[str]]) -> dict[str, tuple[Tensor, int]]:
        """Cleaned prompt -> tokens and cut of prompts that are not kept anywhere, which then are."""
        if self._missing_parts:
            text = next(iter(new))
            raise self._cannot_encode(text, notes[text])
        encoder = UMT5TextEncoder(self.text_folder, self.device)
        cuts = [encoder.tokenize(prompt).cut for prompt in new.values()]
        made = dict(zip(new, zip(encoder.encode_all(list(new.values())), cuts), strict=True))
        del encoder
        for text, (tokens, cut) in made.items():
            problem = self._keep(text, tokens, cut)
            if problem:
                notes[text].append(problem)
        return made

    def _keep(self, text: str, tokens: Tensor, cut: int) -> str:
        """Write an embedding to the cache, whole or not at all; what went wrong, in words."""
        if self.cache_folder is None:
            return "The home folder is not known, so text embeddings are not kept; set XDG_CACHE_HOME."
        assert self._identity is not None
        path = self.cache_folder / _file_name(text, self._identity)
        metadata = {"format": "pt", "prompt": text, "encoder": self._identity, "cut_tokens": str(cut)}
        try:
            self.cache_folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, save({"tokens": tokens.contiguous()}, metadata))
        except OSError as error:
            return (
                f"{self.cache_folder}: the text embedding could not be kept ({error.strerror or error}); "
                "the text encoder will be loaded again for the same prompt."
            )
        return ""

    def _cannot_encode(self, text: str, notes: list[str]) -> CheckpointError:
        files = _metadata(self._embeddings_folder)
        there = [_shortened(metadata["prompt"]) for metadata in files.values() if "prompt" in metadata]
        more = f" and {len(there) - 3} more" if len(there) > 3 else ""
        known = f"only the embeddings of {', '.join(there[:3])}{more}" if there else "no embeddings"
        strange = [path.name for path, metadata in files.items() if "prompt" not in metadata]
        damaged = notes or [f"{name}: is no usable text embedding." for name in strange[:1]]
        remarks = "".join(f" {note}" for note in damaged)
        return CheckpointError(
            f"{self.text_folder}: holds {known} and no complete text encoder, which the prompt "
            f"{_shortened(text)} needs.{remarks} Add {', '.join(self._missing_parts)}, or use a prompt "
            "that is there."
        )


def _user_cache() -> Path | None:
    """The folder of kept embeddings; None if the machine does not say where a user's files are."""
    base = user_cache()
    return None if base is None else base / "hallo4/prompts"


def _file_name(text: str, identity: str) -> str:
    return hashlib.sha256(json.dumps([text, identity]).encode()).hexdigest() + ".safetensors"


def _read(path: Path, text: str, identity: str) -> tuple[Tensor, int]:
    """Tokens [L, D] and number of cut tokens.

    FileNotFoundError: no such file. ValueError: it is not the embedding of this prompt.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    try:
        with open_safetensors(path) as file:
            metadata = file.metadata() or {}
            large = math.prod(file.get_slice("tokens").get_shape()) > _MOST_NUMBERS
            tokens = torch.empty(0) if large else file.get_tensor("tokens").clone()
    except (CheckpointError, SafetensorError) as error:
        raise ValueError(" ".join(str(error.__cause__ or error).split())) from error
    if (metadata.get("prompt"), metadata.get("encoder")) != (text, identity):
        raise ValueError("it belongs to another prompt or encoder")
    cut = metadata.get("cut_tokens", "")
    shaped = tokens.ndim == 2 and 1 <= len(tokens) <= MAX_TOKENS and tokens.dtype == torch.float32
    if not (shaped and tokens.isfinite().all() and cut.isdecimal()):
        raise ValueError("it holds no finite float32 tokens [L, D]")
    return tokens, int(cut)


def _metadata(folder: Path) -> dict[Path, dict[str, str]]:
    """What every embedding in a folder says of itself; nothing, if it cannot be read."""
    found: dict[Path, dict[str, str]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with open_safetensors(path) as file:
                found[path] = file.metadata() or {}
        except CheckpointError:
            found[path] = {}
    return found


def _stored_identity(folder: Path) -> str | None:
    """The encoder that made the embeddings of a folder; None if there are none."""
    identities = {metadata["encoder"] for metadata in _metadata(folder).values() if "encoder" in metadata}
    if len(identities) > 1:
        raise CheckpointError(
            f"{folder}: holds embeddings of {len(identities)} text encoders; allowed are those of one. "
            "Remove the files that do not belong to this model."
        )
    return next(iter(identities), None)


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _cut_note(text: str, cut: int) -> str:
    return (
        f"The prompt {_shortened(text)} is {cut} tokens too long: the text encoder reads {MAX_TOKENS - 1}, "
        "and the rest was left out. Shorten it."
    )
