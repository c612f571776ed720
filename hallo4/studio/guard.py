"""What stands between the network and the pages: headers and limits of what is read.

No cookies, so no other site can send requests in a person's name; no other origin may read; JSON is taken in
only where it is small.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import unquote

from fastapi import Request
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ValidationError

from hallo4.studio.refused import Refused

BODY_LIMIT_BYTES = 16 * 1024
"""An answer has some 300 bytes."""
BODY_LIMIT_S = 15.0
"""They come at once; who sends a byte a second holds nothing."""

_ADD_SLASH = "'sha256-Y0XQXim+tYaQcAlmS1dYZNrXaA35dbh2JJjuetb29NM='"
"""The one inline script, of rate.html: under a proxy's path without its slash nothing else would be found."""

_HEADERS = {
    "content-security-policy": (
        f"default-src 'none'; script-src 'self' {_ADD_SLASH}; style-src 'self'; img-src 'self'; "
        "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "x-robots-tag": "noindex",
}

NOTHING_ELSE: Mapping[str, str] = MappingProxyType({})

Message = MutableMapping[str, Any]
BodyT = TypeVar("BodyT", bound=BaseModel)


class Headers:
    """ASGI middleware: the headers of every answer; nothing is cached unless the route says so.

    `other` replaces some of them, for a page that may do more, such as recording.
    """

    def __init__(self, app: Callable, other: Mapping[str, str] = NOTHING_ELSE) -> None:
        self._app, self._headers = app, {**_HEADERS, **other}

    async def __call__(self, scope: Message, receive: Callable, send: Callable) -> None:
        """Pass the request on and dress the answer."""

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                unsaid = {} if b"cache-control" in given else {"cache-control": "no-store"}
                extra = {**unsaid, **self._headers}
                message["headers"] = [
                    *message["headers"], *((name.encode(), value.encode()) for name, value in extra.items())
                ]  # fmt: skip
            await send(message)

        await self._app(scope, receive, dressed if scope["type"] == "http" else send)


class UnderPath:
    """ASGI middleware: a proxy may leave the path of its own address in front of the studio's or take it off.

    `path`: percent-encoded, without a slash at the end; "" is none. No header is believed and no Host is
    looked at: where a request goes depends on its path alone.
    """

    def __init__(self, app: Callable, path: str) -> None:
        self._app, self._path, self._plain = app, path, unquote(path)

    async def __call__(self, scope: Message, receive: Callable, send: Callable) -> None:
        """Pass the request on as if it came without the path; send the path alone to its page."""
        app = self._app
        if self._plain and scope["type"] == "http":
            if scope["path"] == self._plain:  # addresses relative to it would lead out
                app = RedirectResponse(self._path + "/", 308)
            elif scope["path"].startswith(self._plain + "/"):
                scope = {**scope, "path": scope["path"][len(self._plain) :]}
        await app(scope, receive, send)


def json_body(model: type[BodyT]) -> Callable[[Request], Awaitable[BodyT]]:
    """A dependency: the request's JSON as `model`, strictly, read no further than `BODY_LIMIT_BYTES`."""

    async def read(request: Request) -> BodyT:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(415, "Send application/json.")
        content = b""
        try:
            async with asyncio.timeout(BODY_LIMIT_S):
                async for part in request.stream():
                    content += part
                    if len(content) > BODY_LIMIT_BYTES:
                        raise Refused(413, f"Send at most {BODY_LIMIT_BYTES} bytes.")
        except TimeoutError as error:
            raise Refused(408, f"Send your request within {BODY_LIMIT_S:.0f} seconds.") from error
        try:
            return model.model_validate_json(content, strict=True)
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_input=False, include_context=False)[0]
            raise Refused(422, f"{'.'.join(map(str, wrong['loc'])) or 'body'}: {wrong['msg']}") from error

    return read


def bearer(request: Request) -> str:
    """What follows `Authorization: Bearer`, or nothing."""
    scheme, _, word = request.headers.get("authorization", "").partition(" ")
    return word if scheme.lower() == "bearer" else ""
