"""Several stores behind one server: each has an address of its own, which says nothing about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi.responses import JSONResponse

from hallo4.studio.guard import Headers, Message, UnderPath


class Several:
    """ASGI application: `/<place>/...` goes to the application of that place, without it.

    `path`: of a proxy, which may take it off or not. A place without its slash is answered with the page,
    which adds the slash itself: only the browser knows its own address.
    """

    def __init__(self, apps: Mapping[str, Callable], path: str = "") -> None:
        self._apps = dict(apps)
        self._app = UnderPath(self._one_of_them, path)

    async def __call__(self, scope: Message, receive: Callable, send: Callable) -> None:
        """Pass the request on."""
        if scope["type"] == "http":
            await self._app(scope, receive, send)

    async def _one_of_them(self, scope: Message, receive: Callable, send: Callable) -> None:
        place, _, inside = scope["path"].removeprefix("/").partition("/")
        app = self._apps.get(place)
        if app is None:
            app = Headers(JSONResponse({"error": "Open the link that you were given."}, 404))
        await app({**scope, "path": f"/{inside}"}, receive, send)
