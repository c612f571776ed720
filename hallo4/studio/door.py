"""The port that a studio is reached at, and the server behind it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from hallo4.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    import uvicorn


HEADERS_S = 10.0
"""The headers of a request come at once; who sends them a byte at a time holds no connection for longer."""
CONNECTIONS = 1000
"""At once; more get 503."""


def run_server(app: Callable, door: socket.socket) -> None:
    """Serve until it is interrupted."""
    import uvicorn

    with suppress(KeyboardInterrupt):  # the way to end it
        uvicorn.Server(server_config(app)).run(sockets=[door])


def server_config(app: Callable, **more: Any) -> uvicorn.Config:
    """How uvicorn serves a studio: requests must arrive in time, and no header names the server."""
    import uvicorn

    return uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, ws="none", http=_impatient(),
        backlog=512, limit_concurrency=CONNECTIONS, timeout_graceful_shutdown=3, proxy_headers=False, **more,
    )  # fmt: skip


def _impatient() -> Any:
    """uvicorn's protocol, which closes a connection whose next request is not complete in time."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Impatient(H11Protocol):
        """Headers are waited for no longer than `HEADERS_S`, however slowly they come."""

        _deadline: Any = None

        def connection_made(self, transport: Any) -> None:
            """The clock runs from the first moment."""
            super().connection_made(transport)
            self._expect()

        def data_received(self, data: bytes) -> None:
            """What comes may be the beginning of a request, or its end."""
            before = self.scope
            if self._deadline is None and (self.cycle is None or self.cycle.response_complete):
                self._expect()
            super().data_received(data)
            if self.scope is not before:
                self._stop()

        def connection_lost(self, exc: Exception | None) -> None:
            """Nothing more to wait for."""
            self._stop()
            super().connection_lost(exc)

        def _expect(self) -> None:
            self._deadline = self.loop.call_later(HEADERS_S, self._give_up)

        def _stop(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _give_up(self) -> None:
            self._deadline = None
            self.transport.close()

    return Impatient


def missing_extra() -> MissingExtraError:
    """The error where fastapi or uvicorn is not installed."""
    return MissingExtraError("The pages need fastapi and uvicorn. Run: pip install 'hallo4[studio]'")


@contextmanager
def listen(host: str, port: int) -> Iterator[tuple[socket.socket, str]]:
    """An open port and its address for links; `port` 0 takes any.

    InputError: it cannot be had, or `host` is empty. MissingExtraError: uvicorn is not installed.
    """
    if find_spec("uvicorn") is None:
        raise missing_extra()
    if not host.strip():
        raise InputError("--host is empty, which would let everyone in. Give 127.0.0.1, or 0.0.0.0 for all.")
    try:
        door = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"{host}:{port}: cannot be listened on ({getattr(error, 'strerror', None) or error}). "
            "Choose another --port or --host."
        ) from error
    with door:
        yield door, "http://" + f"{_reachable(host)}:{door.getsockname()[1]}"


def _reachable(host: str) -> str:
    """The address for links: of this machine in its network where every address is listened on."""
    try:
        if not ipaddress.ip_address(host).is_unspecified:
            return f"[{host}]" if ":" in host else host
    except ValueError:
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; asks which address would be used
            return probe.getsockname()[0]
        except OSError:
            return socket.gethostname()
