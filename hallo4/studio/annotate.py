"""The annotation page and its server: people compare clips, blind, and their answers land in the store.

::

    browser --join, questions, answer, undo--> Session --> studio/events.jsonl --> ratings.jsonl
            --/media/<token>-----------------> BlindMedia

`serve` is what `hallo4 prefer annotate` runs; `open_studio` gives the same application without a socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hallo4.errors import OutputError
from hallo4.preference.store import PreferenceStore
from hallo4.studio.address import read_public_url
from hallo4.studio.assign import Mode, Quotas
from hallo4.studio.door import listen, missing_extra, run_server
from hallo4.studio.keys import Keys, load_keys
from hallo4.studio.media import BlindMedia
from hallo4.studio.session import Session

if TYPE_CHECKING:
    from fastapi import FastAPI


@dataclass(frozen=True)
class Links:
    """What the organiser needs: `rate` for raters, `admin` for progress and export."""

    rate: str
    admin: str


@dataclass(frozen=True)
class Studio:
    """An open studio: the ASGI application and the keys of its store."""

    app: FastAPI
    keys: Keys
    session: Session

    def links(self, base: str) -> Links:
        """Links for a server at `base`; what is behind `#` stays in the browser and in no log."""
        return Links(f"{base}/#invite={self.keys.invite}", f"{base}/admin#token={self.keys.admin}")


@contextmanager
def open_studio(
    store_folder: str | Path,
    *,
    seed: int = 0,
    mode: Mode = "comparison",
    quotas: Quotas | None = None,
    path: str = "",
) -> Iterator[Studio]:
    """The studio of a store, which it locks; at the end every answer is sealed.

    `seed` sets order, sides and overlap; `mode` "score" asks about single clips on a scale of 1 to 5. `path`
    is that of a proxy in front ("/user/anna/proxy/8421"), which may take it off the requests or leave it on.

    Raises:
        InputError: no store, or nothing to rate.
        OutputError: another server has it, or it cannot be written to.
        MissingExtraError: fastapi is not installed.
    """
    try:
        from hallo4.studio.routes import make_app
    except ModuleNotFoundError as error:
        raise missing_extra() from error
    store = PreferenceStore.open(store_folder)
    with store.lock():
        folder = store.folder / "studio"
        _make_folder(folder)
        keys = load_keys(folder / "keys.json")
        media = BlindMedia(store, folder / "media")
        try:
            session = Session(store, folder, media, seed, mode, quotas)
            session.require_questions()
            try:
                yield Studio(make_app(session, media, keys, path), keys, session)
            finally:
                session.seal()
        finally:
            media.close()


def serve(
    store_folder: str | Path,
    host: str = "127.0.0.1",
    port: int = 8421,
    seed: int = 0,
    mode: Mode = "comparison",
    quotas: Quotas | None = None,
    public_url: str | None = None,
    on_ready: Callable[[Links], None] = lambda links: None,
) -> None:
    """Serve the studio until it is interrupted; `on_ready` gets the links once the port is open.

    Only this machine can reach 127.0.0.1; "0.0.0.0" lets phones of the same network in (plain HTTP: for
    networks you trust). `port` 0 takes any. `public_url` is the address of a proxy in front, for the links
    and for requests that arrive with its path. Errors as `open_studio`, and InputError if the port cannot be
    had or `public_url` is no address.
    """
    public = None if public_url is None else read_public_url(public_url)
    path = public.path if public else ""
    studio_of = open_studio(store_folder, seed=seed, mode=mode, quotas=quotas, path=path)
    with listen(host, port) as (door, address), studio_of as studio:
        on_ready(studio.links(public.base if public else address))
        run_server(studio.app, door)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}). Make the store writable.") from error
