"""The secrets of a studio, kept in a file: who may rate, who may look and export, who may make.

Links carry them behind `#`, which browsers never send, so they stand in no log and in no Referer.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hallo4.errors import InputError, OutputError
from hallo4.json_file import read_json
from hallo4.lock import in_turn
from hallo4.whole import whole_file

_DAMAGED = (
    "Restore a copy, or delete the file: the next start makes new links, and the old ones stop working."
)


@dataclass(frozen=True)
class Keys:
    """The secrets of one store: `invite` lets raters in, `admin` shows progress and exports. `place` is no
    secret: the store's address where one server has several."""

    invite: str
    admin: str
    place: str

    def is_invite(self, word: str) -> bool:
        """In constant time."""
        return hmac.compare_digest(word.encode(), self.invite.encode())

    def is_admin(self, word: str) -> bool:
        """In constant time."""
        return hmac.compare_digest(word.encode(), self.admin.encode())


def load_keys(path: Path) -> Keys:
    """The keys of a store at `path`; see `load_secrets`."""
    return Keys(**load_secrets(path, {"invite": 8, "admin": 16, "place": 4}, since={"place"}))


def load_secrets(
    path: Path, sizes_bytes: Mapping[str, int], since: frozenset[str] | set[str] = frozenset()
) -> dict[str, str]:
    """Random words by name, made at the first call and readable by their owner only, so that links live on.

    Those of `since` may be missing from a file of an older hallo4 and are added. InputError: anything else in
    the file is not as it was written, so that nothing is opened by a key that is empty or short; OutputError:
    it cannot be written.
    """
    if not path.exists():
        with in_turn(path):  # servers of one folder that start at once have the same
            if not path.exists():
                _write(path, {name: secrets.token_hex(size) for name, size in sizes_bytes.items()})
    found = read_json(path, dict[str, str], advice=_DAMAGED, limit_bytes=4096)
    lacking = {name for name in since & set(sizes_bytes) if name not in found}
    for name, size in sizes_bytes.items():
        if name not in lacking and not re.fullmatch(f"[0-9a-f]{{{2 * size}}}", found.get(name, "")):
            raise InputError(f"{path}: holds no key {name} as it was written; nothing is opened. {_DAMAGED}")
    if lacking:
        found |= {name: secrets.token_hex(sizes_bytes[name]) for name in lacking}
        _write(path, found)
    return {name: found[name] for name in sizes_bytes}


def _write(path: Path, words: Mapping[str, str]) -> None:
    try:
        with whole_file(path) as temporary:
            temporary.touch(0o600)
            temporary.write_text(json.dumps(words))
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}). Make its folder writable."
        ) from error
