"""Random numbers by key: what is drawn depends on the key alone, never on what was drawn before."""

from __future__ import annotations

import hashlib
from typing import Literal

import torch

Digest = Literal["blake2b", "sha256"]


def keyed_seed(*key: int | str, digest: Digest = "blake2b") -> int:
    """A seed in [0, 2**63) that depends on `key` alone, on every machine.

    Keys are hashed, so that neighbours share nothing. `digest`: "sha256" for the windows of videos, which had
    that one from the first version on and keep their noise; "blake2b" for all else.
    """
    text = "/".join(map(str, key)).encode()
    if digest == "sha256":
        return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def keyed_generator(*key: int | str, digest: Digest = "blake2b") -> torch.Generator:
    """A fresh CPU generator for `key`."""
    return torch.Generator().manual_seed(keyed_seed(*key, digest=digest))
