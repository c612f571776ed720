"""What both studios serve alike: their static files, read once at the start, and errors in words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import StarletteHTTPException as HTTPException
from fastapi.responses import JSONResponse, Response

from hallo4.errors import InputError, OutputError
from hallo4.studio.refused import Refused

_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def say_errors(app: FastAPI, full: str, broken: str) -> None:
    """Errors as {"error": text} that is safe to show: no path, no name of a file.

    `full`: nothing can be written; `broken`: what the server keeps cannot be read.
    """

    def say(status: int, text: str) -> JSONResponse:
        return JSONResponse({"error": text}, status)

    app.exception_handler(Refused)(lambda _, error: say(error.status, str(error)))
    app.exception_handler(OutputError)(lambda _, error: say(507, full))
    app.exception_handler(InputError)(lambda _, error: say(500, broken))
    app.exception_handler(HTTPException)(lambda _, error: say(error.status_code, str(error.detail)))


def add_pages(app: FastAPI, files: Iterable[Traversable], pages: Mapping[str, str]) -> None:
    """Serve `files` under /static, and those that `pages` names at their own addresses.

    Only these names exist, so no path can lead elsewhere.
    """
    for item in files:
        if kind := _KINDS.get(Path(item.name).suffix):
            path = pages.get(item.name, f"/static/{item.name}")
            page = unless_known(item.read_bytes(), kind)
            app.add_api_route(path, page, methods=["GET", "HEAD"], include_in_schema=False)


def unless_known(content: bytes, kind: str = "text/html") -> Callable[[Request], Response]:
    """A route that sends `content`, but not to who has it already."""
    headers = {"cache-control": "no-cache", "etag": f'"{hashlib.sha256(content).hexdigest()[:16]}"'}

    def page(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=kind)

    return page
