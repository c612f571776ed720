"""The secrets of a studio, kept in a file: who may rate, who may look and export, who may make.

Links carry them behind `#`, which browsers send to nobody, so they stand in no log and in no Referer.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hallo4.errors import InputError, OutputError
from hallo4.whole import whole_file


@dataclass(frozen=True)
class Keys:
    """The secrets of one store: `invite` lets raters in, `admin` shows progress and exports."""

    invite: str
    admin: str

    def is_invite(self, word: str) -> bool:
        """In constant time."""
        return hmac.compare_digest(word.encode(), self.invite.encode())

    def is_admin(self, word: str) -> bool:
        """In constant time."""
        return hmac.compare_digest(word.encode(), self.admin.encode())


def load_keys(path: Path) -> Keys:
    """The keys of a store at `path`; see `load_secrets`."""
    return Keys(**load_secrets(path, {"invite": 8, "admin": 16}))


def load_secrets(path: Path, sizes_bytes: Mapping[str, int]) -> dict[str, str]:
    """Random words by name, made at the first call and readable by their owner only, so that links live on.

    InputError: the file is damaged; OutputError: it cannot be written.
    """
    try:
        if not path.exists():
            with whole_file(path) as temporary:
                temporary.touch(0o600)
                made = {name: secrets.token_hex(size) for name, size in sizes_bytes.items()}
                temporary.write_text(json.dumps(made))
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}). Make its folder writable."
        ) from error
    try:
        found = json.loads(path.read_text())
        return {name: str(found[name]) for name in sizes_bytes}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: holds no keys. Remove it; new links are made at the next start."
        ) from error
