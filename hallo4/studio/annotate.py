"""The annotation page and its server: people compare clips, blind, and their answers land in the store.

::

    browser --join, questions, answer, undo--> Session --> the store: events --> ratings
            --/media/<token>-----------------> BlindMedia

`serve` is what `hallo4 prefer annotate` runs; `open_studio` gives the same application without a socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hallo4.errors import InputError, OutputError
from hallo4.preference.store import PreferenceStore
from hallo4.studio.address import read_public_url
from hallo4.studio.door import listen, missing_extra, run_server
from hallo4.studio.keys import Keys, load_keys
from hallo4.studio.media import BlindMedia
from hallo4.studio.session import Session
from hallo4.studio.study import Study, default_study

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
    media: BlindMedia

    def links(self, base: str) -> Links:
        """Links for a server at `base`; what is behind `#` stays in the browser and in no log."""
        return Links(f"{base}/#invite={self.keys.invite}", f"{base}/admin#token={self.keys.admin}")

    def make_copies(
        self, workers: int = 1, on_progress: Callable[[int, int], None] = lambda *_: None
    ) -> dict[tuple[str, ...], str]:
        """Make every copy that may be shown, beforehand; questions whose clips cannot be shown are taken out.

        Returns why, by the ids of the clips. OutputError: the disk is full.
        """
        failed = self.media.make_all(self.session.wanted_copies(), workers, on_progress)
        self.session.withdraw(failed)
        return failed


@contextmanager
def open_studio(
    store_folder: str | Path, *, study: Study | None = None, seed: int = 0, path: str = ""
) -> Iterator[Studio]:
    """The studio of a store, which it locks; at the end every answer is sealed.

    `study`: what is asked; None: `default_study`. `seed` sets order, sides and overlap. `path` is that of a
    proxy in front ("/user/anna/proxy/8421"), which may take it off the requests or leave it on.

    Raises:
        InputError: no store, nothing to rate, a study that does not fit it, or a damaged key file.
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
        media = BlindMedia(store, folder / "copies")
        try:
            session = Session(store, media, study or default_study(), seed)
            session.require_questions()
            try:
                yield Studio(make_app(session, media, keys, path), keys, session, media)
            finally:
                session.seal()
        finally:
            media.close()


def serve(
    store_folders: Sequence[str | Path],
    host: str = "127.0.0.1",
    port: int = 8421,
    study: Study | None = None,
    seed: int = 0,
    public_url: str | None = None,
    workers: int = 1,
    on_ready: Callable[[Sequence[Links]], None] = lambda links: None,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Serve the studio of one store, or of several, until it is interrupted.

    Copies of all clips are made first, in `workers` processes; `on_ready` gets the links of each store once
    the port is open. Only this machine can reach 127.0.0.1; "0.0.0.0" lets phones of the same network in
    (plain HTTP: for networks you trust). `port` 0 takes any. `public_url` is the address of a proxy in front,
    for the links and for requests that arrive with its path. Errors as `open_studio`, and InputError if the
    port cannot be had or `public_url` is no address.
    """
    public = None if public_url is None else read_public_url(public_url)
    path = public.path if public else ""
    folders = [Path(folder) for folder in store_folders]
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError("one of the stores was named twice. Name each once.")
    alone = len(folders) == 1
    with ExitStack() as stack:
        # Whether the port can be had is known before copies are made, but it is opened when the server can
        # answer: pages that are refused try again.
        with listen(host, port):
            pass
        studios = [
            stack.enter_context(open_studio(folder, study=study, seed=seed, path=path if alone else ""))
            for folder in folders
        ]
        for folder, studio in zip(folders, studios, strict=True):
            _make_copies(folder, studio, workers, say)
        door, address = stack.enter_context(listen(host, port))
        base = public.base if public else address
        on_ready([studio.links(base if alone else f"{base}/{studio.keys.place}") for studio in studios])
        run_server(studios[0].app if alone else _together(studios, path), door)


def _together(studios: Sequence[Studio], path: str) -> Any:
    from hallo4.studio.several import Several

    return Several({studio.keys.place: studio.app for studio in studios}, path)


def _make_copies(folder: Path, studio: Studio, workers: int, say: Callable[[str], None]) -> None:
    def progress(done: int, total: int) -> None:
        if done == total or done % 20 == 0:
            say(f"{folder}: {done} of {total} copies for raters made")

    for clips, why in studio.make_copies(workers, progress).items():
        say(f"left out, {' / '.join(clips)}: {why}")
    studio.session.require_questions()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}). Make the store writable.") from error
