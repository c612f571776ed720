"""Opening a studio for makers: its folder, its key, its queue, and the server. `serve` is `hallo4 studio`."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hallo4.errors import OutputError
from hallo4.lock import sole_worker
from hallo4.pipelines.devices import find_device
from hallo4.pipelines.diagnosis import devices as devices_here
from hallo4.studio.door import listen, missing_extra, run_server
from hallo4.studio.keys import load_secrets
from hallo4.studio.make.look import Looks
from hallo4.studio.make.offers import Offers
from hallo4.studio.make.queue import Queue
from hallo4.studio.make.uploads import Uploads

if TYPE_CHECKING:
    from fastapi import FastAPI


IN_USE = "Open that one's link, or choose another folder."


@dataclass(frozen=True)
class Makers:
    """An open studio: the ASGI application, its queue and previews, and the key of its folder."""

    app: FastAPI
    queue: Queue
    looks: Looks
    key: str

    def link(self, base: str) -> str:
        """The link for a server at `base`; what is behind `#` stays in the browser and in no log."""
        return f"{base}/#key={self.key}"


@contextmanager
def open_makers(
    folder: str | Path,
    models: Sequence[str] = (),
    devices: Sequence[str] = ("auto",),
    shared: bool = False,
) -> Iterator[Makers]:
    """The studio of a folder, which is made if it is not there and locked; unfinished jobs go on at once.

    `models`: names or folders beside those that are here anyway. `devices`: one worker each; "auto": every
    GPU, or else the CPU. `shared`: other studios may work on the folder, too; each job is made by one of
    them, and if that one ends, another goes on with it.

    Raises:
        CheckpointError: one of `models` is no model. InputError: a device that is not here.
        OutputError: the folder cannot be written to, or another studio has it and it is not `shared`.
        MissingExtraError: fastapi is not installed.
    """
    try:
        from hallo4.studio.make.routes import make_app
    except ModuleNotFoundError as error:
        raise missing_extra() from error
    offers, names = Offers(models), _devices(devices)
    home = make_folder(folder)
    alone = nullcontext() if shared else sole_worker(home / ".lock", home, IN_USE)
    with alone:
        key = load_key(home)
        uploads = Uploads(home / "uploads")
        queue = Queue(home, uploads, offers, names)
        looks = Looks(home / "looks", queue, names[0])
        queue.start()
        try:
            app = make_app(queue, looks, lambda word: hmac.compare_digest(word.encode(), key.encode()))
            yield Makers(app, queue, looks, key)
        finally:
            queue.close()


def serve(
    folder: str | Path,
    host: str = "127.0.0.1",
    port: int = 8431,
    models: Sequence[str] = (),
    devices: Sequence[str] = ("auto",),
    on_ready: Callable[[str], None] = lambda link: None,
) -> None:
    """Serve the studio until it is interrupted; `on_ready` gets the link once the port is open.

    Only this machine can reach 127.0.0.1; "0.0.0.0" lets others of the same network in (plain HTTP: for
    networks you trust; browsers then do not allow recording). `port` 0 takes any. Errors as `open_makers`,
    and InputError if the port cannot be had.
    """
    with listen(host, port) as (door, address), open_makers(folder, models, devices) as makers:
        on_ready(makers.link(address))
        run_server(makers.app, door)


def _devices(wanted: Sequence[str]) -> list[str]:
    """Names of devices, each once. InputError: one is not here."""
    if list(wanted) == ["auto"]:
        gpus = [str(device) for device in devices_here() if device.type == "cuda"]
        return gpus or ["cpu"]
    return list(dict.fromkeys(str(find_device(name)) for name in wanted))


def make_folder(folder: str | Path) -> Path:
    """The folder of a studio, made if it is not there. OutputError: it cannot be."""
    home = Path(folder).resolve()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{home}: cannot be made ({error.strerror}). Choose another folder for the studio."
        ) from error
    return home


def load_key(home: Path) -> str:
    """The key of the studio in the folder `home`; see `load_secrets`."""
    return load_secrets(home / "keys.json", {"maker": 16})["maker"]
