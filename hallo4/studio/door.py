"""The port that a studio is reached at, and the server behind it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING

from hallo4.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from fastapi import FastAPI


def run_server(app: FastAPI, door: socket.socket) -> None:
    """Serve until it is interrupted."""
    import uvicorn

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, ws="none",
        timeout_graceful_shutdown=3,
    )  # fmt: skip
    with suppress(KeyboardInterrupt):  # the way to end it
        uvicorn.Server(config).run(sockets=[door])


def missing_extra() -> MissingExtraError:
    """The error where fastapi or uvicorn is not installed."""
    return MissingExtraError("The pages need fastapi and uvicorn. Run: pip install 'hallo4[studio]'")


@contextmanager
def listen(host: str, port: int) -> Iterator[tuple[socket.socket, str]]:
    """An open port and its address for links; `port` 0 takes any.

    InputError: it cannot be had. MissingExtraError: uvicorn is not installed.
    """
    if find_spec("uvicorn") is None:
        raise missing_extra()
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
