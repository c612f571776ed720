"""Where people reach the studio: `--public-url`, the address of a proxy in front of it.

The pages need none of this, since their addresses are relative to themselves. It is for the links that are
printed and for proxies that pass requests on with their own path in front.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from hallo4.errors import InputError

OWN_NAMES = ("admin", "api", "media", "static")
"""First parts of the studio's own paths. See `routes.py`."""


@dataclass(frozen=True)
class PublicUrl:
    """`base`: scheme, host and path, without a slash at the end."""

    base: str

    @property
    def path(self) -> str:
        """The path as it is sent, percent-encoded: "" or "/user/anna/proxy/8421"."""
        return urlsplit(self.base).path


def read_public_url(text: str) -> PublicUrl:
    """Read an address such as `https://hub.example/user/anna/proxy/8421/`.

    Raises:
        InputError: not http or https, no host, or anything but host, port and a plain path; a path that
            begins like one of the studio's own, where a request could mean two things.
    """

    def refused(reason: str) -> InputError:
        return InputError(
            f"--public-url {text!r}: {reason}. Give the address of the page as raters open it, such as "
            "https://hub.example/user/anna/proxy/8421/."
        )

    if re.search(r"[\s\\\x00-\x1f\x7f\"<>]", text):
        raise refused("it holds a space, a backslash or another character that no address has")
    if "?" in text or "#" in text:
        raise refused("it holds ? or #, and links need that place")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port  # a port that is no number is found out when it is asked for
    except ValueError as error:
        raise refused(f"it cannot be read ({error})") from error
    if parts.scheme not in ("http", "https") or not host:
        raise refused("it does not begin with http:// or https:// and a host")
    if "@" in parts.netloc:
        raise refused("it holds a name or password, which every link would show")
    path = parts.path.removesuffix("/")
    names = unquote(path).split("/")[1:]
    if any(name in ("", ".", "..") for name in names):
        raise refused("its path has an empty part, or a part . or ..")
    if names and names[0] in OWN_NAMES:
        raise refused(f"its path begins with /{names[0]}, a name of the studio's own")
    return PublicUrl(f"{parts.scheme}://{parts.netloc}{path}")
