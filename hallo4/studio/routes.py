"""The studio over HTTP: thin routes, every rule is in `Session`.

::

    GET  / and /admin, /static/...     the pages, read once at the start; every address in them is relative
    POST /api/join /api/answer /api/undo, GET /api/questions      raters, `Bearer name:key`
    GET  /media/<token>                the blind copy of a question
    GET  /api/admin/overview /api/admin/export/<file>             the organiser, `Bearer <admin key>`
"""

from __future__ import annotations

from concurrent.futures import CancelledError
from importlib import resources
from typing import Literal

from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from hallo4.errors import InputError
from hallo4.preference.schema import Flag
from hallo4.studio import progress
from hallo4.studio.guard import Headers, UnderPath, bearer, json_body
from hallo4.studio.keys import Keys
from hallo4.studio.media import BlindMedia
from hallo4.studio.pages import add_pages, say_errors
from hallo4.studio.record import Answer, Answered, RaterId, Token
from hallo4.studio.refused import Refused
from hallo4.studio.session import Session

_PAGES = {"rate.html": "/", "admin.html": "/admin"}
_FULL = "The disk of the server is full. Nothing is lost: your answer is kept here and sent again."


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class JoinBody(_Body):
    """`consent`: the note was read; `key`: made by the page, kept there."""

    invite: str = Field(max_length=64)
    rater: RaterId
    key: Token
    consent: Literal[True]


class AnswerBody(_Body):
    """See `record.Answered`."""

    token: Token
    submit_id: Token
    alignment: Answer
    fidelity: Answer
    flags_left: tuple[Flag, ...] = Field(max_length=3)
    flags_right: tuple[Flag, ...] = Field(max_length=3)
    shown_ms: int = Field(ge=0, le=86_400_000)
    ui_version: str = Field(pattern=r"^[A-Za-z0-9._-]{1,40}$")


class UndoBody(_Body):
    """Which answer is taken back."""

    token: Token


def make_app(session: Session, media: BlindMedia, keys: Keys, path: str = "") -> FastAPI:
    """The application of one session; whoever makes it closes `media` and seals the session.

    `path`: of a proxy, which may take it off or not; see `UnderPath`.
    """
    # A redirect of the framework would name the scheme and Host that it sees, which behind a proxy are not
    # the browser's; the only one that is needed is relative.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_middleware(UnderPath, path=path)
    app.add_middleware(Headers)
    say_errors(app, _FULL, "The server cannot read its data. Tell the organiser.")
    add_pages(app, resources.files("hallo4.studio").joinpath("static").iterdir(), _PAGES)
    app.add_api_route("/admin/", lambda: RedirectResponse("../admin", 308), methods=["GET", "HEAD"])
    _add_rating(app, session, keys)
    _add_media(app, session, media)
    _add_admin(app, session, keys)
    return app


def _add_rating(app: FastAPI, session: Session, keys: Keys) -> None:
    def rater_of(request: Request) -> str:
        name, _, key = bearer(request).partition(":")
        if not session.knows(name, key):
            raise Refused(401, "This page is not signed in. Open the link that you were given.")
        return name

    rater = Depends(rater_of)

    @app.post("/api/join")
    async def join(body: JoinBody = Depends(json_body(JoinBody))) -> dict:  # noqa: B008
        if not keys.is_invite(body.invite):
            raise Refused(403, "This invitation is not valid. Open the link that you were given.")
        await run_in_threadpool(session.join, body.rater, body.key)
        return {"rater": body.rater}

    @app.get("/api/questions")
    def questions(who: str = rater) -> dict:
        return session.questions(who)

    @app.post("/api/answer")
    async def answer(who: str = rater, body: AnswerBody = Depends(json_body(AnswerBody))) -> dict:  # noqa: B008
        said = Answered(**body.model_dump(), at_unix_ms=session.now_ms())
        await run_in_threadpool(session.answer, who, said)
        return await run_in_threadpool(session.questions, who)

    @app.post("/api/undo")
    async def undo(who: str = rater, body: UndoBody = Depends(json_body(UndoBody))) -> dict:  # noqa: B008
        await run_in_threadpool(session.undo, who, body.token)
        return await run_in_threadpool(session.questions, who)


def _add_media(app: FastAPI, session: Session, media: BlindMedia) -> None:
    @app.get("/media/{token}")
    def video(token: str) -> Response:
        try:
            path = media.path(token)
        except InputError as error:
            session.media_failed(token, str(error))
            raise Refused(410, "This video cannot be shown. The next one is on its way.") from error
        except (TimeoutError, CancelledError) as error:
            raise Refused(503, "This video is not ready yet.") from error
        if path is None:
            raise Refused(404, "There is no such video.")
        return FileResponse(path, media_type="video/mp4", headers={"cache-control": "private, max-age=3600"})


def _add_admin(app: FastAPI, session: Session, keys: Keys) -> None:
    def organiser(request: Request) -> None:
        if not keys.is_admin(bearer(request)):
            raise Refused(401, "Open the admin link that was printed when the server started.")

    @app.get("/api/admin/overview", dependencies=[Depends(organiser)])
    def overview() -> dict:
        return progress.overview(*session.overview(), session.store, session.now_ms())

    @app.get("/api/admin/export/{name}", dependencies=[Depends(organiser)])
    def export(name: str) -> Response:
        if name not in progress.EXPORTS:
            raise Refused(404, "There is no such export.")
        session.seal()
        content, kind = progress.export(session.store, name), progress.EXPORTS[name]
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(content, media_type=kind, headers=headers)
