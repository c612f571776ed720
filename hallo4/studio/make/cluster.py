"""Several studios behind one address on a cluster, by Ray Serve.

::

    browser, program --one address--> proxy of Ray Serve --any of--> studio 1 .. N, on any machine
                                                                         \\ | /
                                                          one folder on a disk that all machines share

Everything that a studio knows is in the folder, so any of them answers any request: a file may come in pieces
to several of them, and all show all videos. A job is made by the one that claims it. If that one ends, its
claim ends with it, another goes on, and Ray starts a new one.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from hallo4.engine.ray_cluster import connected
from hallo4.errors import InputError, MissingExtraError
from hallo4.lock import sole_worker
from hallo4.studio.door import listen
from hallo4.studio.make.offers import Offers
from hallo4.studio.make.server import IN_USE, load_key, make_folder, open_makers
from hallo4.version import __version__

STOPS_WITHIN_S = 60.0
"""A studio that is to end has so long for the step that its worker is at; then it is killed."""
REQUESTS_AT_ONCE = 1000
"""To one studio: every open page holds one for its events."""


@contextmanager
def open_on_cluster(
    folder: str | Path,
    address: str,
    replicas: int | None = None,
    host: str = "127.0.0.1",
    port: int = 8431,
    models: Sequence[str] = (),
) -> Iterator[str]:
    """The link of a page that `replicas` studios of `folder` serve on the Ray cluster at `address` (`auto` or
    HOST:PORT), until the block ends; then their jobs wait for the next start.

    `folder` and folders in `models` are on a disk that all machines of the cluster share. Each studio takes a
    GPU where the cluster has any, else a CPU; `replicas` None: one for every GPU, else one for every machine.

    Raises:
        InputError: no such cluster, more studios than it has GPUs or CPUs, another hallo4 on it, or a port
            that cannot be had. CheckpointError: one of `models` is no model.
        OutputError: the folder cannot be written to, or is in use.
        MissingExtraError: Ray Serve or fastapi is not installed.
    """
    Offers(models)
    names = tuple(str(Path(name).resolve()) if Path(name).is_dir() else name for name in models)
    home = make_folder(folder)
    app = f"hallo4-studio-{hashlib.sha256(os.fsencode(home)).hexdigest()[:8]}"
    with sole_worker(home / ".lock", home, IN_USE), connected(address) as ray:
        serve = _serve_of_ray()
        resources, count = _shares(ray.cluster_resources(), len(ray.nodes()), replicas)
        _end(serve, app)  # of a command that was killed
        with listen(host, port) as (door, base):
            port = door.getsockname()[1]
        try:
            key = load_key(home)
            try:
                serve.start(proxy_location="HeadOnly", http_options={"host": host, "port": port})
                studio = serve.deployment(
                    name="studio", num_replicas=count, ray_actor_options=resources,
                    max_ongoing_requests=REQUESTS_AT_ONCE, graceful_shutdown_timeout_s=STOPS_WITHIN_S,
                )(serve.ingress()(Replica))  # fmt: skip
                serve.run(studio.bind(str(home), names, __version__, sys.path), name=app, route_prefix="/")
            except RuntimeError as error:
                what = f"the studios did not start ({_first_line(error)})"
                raise InputError(f"--ray {address}: {what}.") from None
            _check_page(f"{base}/api/studio", key)
            yield f"{base}/#key={key}"
        finally:
            _end(serve, app)


class Replica:
    """One of the studios, in a process of the cluster."""

    def __init__(self, folder: str, models: tuple[str, ...], version: str, paths: list[str]) -> None:
        sys.path += [path for path in paths if path not in sys.path]
        if version != __version__:
            raise RuntimeError(
                f"{socket.gethostname()} has hallo4 {__version__}, the command {version}: install the same"
            )
        if not Path(folder).is_dir():
            raise RuntimeError(
                f"{folder} is not there on {socket.gethostname()}: all machines share its disk"
            )
        self._open = ExitStack()
        self._makers = self._open.enter_context(open_makers(folder, models, shared=True))

    def __serve_build_asgi_app__(self) -> Any:
        """What answers its requests; Ray Serve asks for it once."""
        return self._makers.app

    def __del__(self) -> None:
        """Let the worker stop at its next step; the job goes on elsewhere."""
        if hasattr(self, "_open"):
            self._open.close()


def _serve_of_ray() -> Any:
    try:
        from ray import serve
    except ImportError as error:
        raise MissingExtraError(
            f"several studios on a cluster need Ray Serve ({error}): pip install 'hallo4[cluster,studio]'."
        ) from error
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # its way to the page is its own business
    return serve


def _shares(there: Mapping[str, float], machines: int, replicas: int | None) -> tuple[dict[str, int], int]:
    """What a studio takes of a cluster with the resources `there`, and how many studios there are."""
    kind = "GPU" if there.get("GPU", 0) >= 1 else "CPU"
    free = int(there.get(kind, 0))
    count = replicas or (free if kind == "GPU" else min(machines, free))
    if not free:
        raise InputError(
            f"Each studio takes a {kind}, and the Ray cluster has none. Add a machine by `ray start`."
        )
    if count > free:
        raise InputError(
            f"--replicas {count}: each studio takes a {kind}, and the Ray cluster has {free}. Ask for fewer."
        )
    return {"num_gpus": int(kind == "GPU"), "num_cpus": int(kind == "CPU")}, count


def _end(serve: Any, app: str) -> None:
    """End the studios, and Ray Serve where nothing else uses it; it may not even run."""
    with suppress(Exception):  # of a cluster that is gone already
        if app in serve.status().applications:
            serve.delete(app)
        if not serve.status().applications:
            serve.shutdown()


def _check_page(address: str, key: str) -> None:
    """InputError: the studios are not reached at `address`."""
    asked = urllib.request.Request(address, headers={"Authorization": f"Bearer {key}"})
    try:
        urllib.request.urlopen(asked, timeout=60).close()
    except (urllib.error.URLError, OSError) as error:
        raise InputError(
            f"{address}: the studios run, but do not answer there ({error}). Run the command on the head of "
            "the cluster, or give --host; if Ray Serve was running already, end it with `serve shutdown`."
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
