"""The studio over HTTP: thin routes, every rule is in `Session`.

::

    GET  / and /admin, /static/...     the pages, made once at the start; every address in them is relative
    POST /api/join /api/answer /api/undo /api/sound_check /api/finish, GET /api/questions /api/tones
                                       raters, `Bearer name:key`
    GET  /media/<token>                the blind copy of a question, the tones of a sound check
    GET  /api/admin/overview /api/admin/export/<file>             the organiser, `Bearer <admin key>`
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from importlib import resources
from typing import Any, Literal

from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from hallo4.errors import InputError
from hallo4.preference.schema import Flag, Name
from hallo4.studio import progress, sheets
from hallo4.studio.guard import Headers, UnderPath, bearer, json_body
from hallo4.studio.keys import Keys
from hallo4.studio.limits import JOINING, MEDIA, RATER, STRANGERS, Limits
from hallo4.studio.media import BlindMedia
from hallo4.studio.pages import add_pages, say_errors, unless_known
from hallo4.studio.record import Answer, Answered, Given_by_platform, RaterId, Token
from hallo4.studio.refused import Refused
from hallo4.studio.session import Session
from hallo4.studio.sound import random_count, tones
from hallo4.studio.study import Language, Parameter
from hallo4.studio.study_pages import chosen_language, organiser_page, rating_pages

_FULL = "The disk of the server is full. Nothing is lost: your answer is kept here and sent again."
_READY_S = 20.0  # a browser waits so long for a copy that is only now being made, then asks again
_CHECKS = 4096  # sound checks under way


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class JoinBody(_Body):
    """`consent`: the note was read; `key`: made by the page, kept there. No `rater`: the server draws one."""

    invite: str = Field(max_length=64)
    rater: RaterId | None = None
    key: Token
    consent: Literal[True]
    language: Language = "en"
    participant: dict[Parameter, Given_by_platform] = Field(default_factory=dict, max_length=20)


class AnswerBody(_Body):
    """See `record.Answered`."""

    token: Token
    submit_id: Token
    answers: dict[Name, Answer] = Field(max_length=20)
    flags_left: tuple[Flag, ...] = Field(max_length=3)
    flags_right: tuple[Flag, ...] = Field(max_length=3)
    shown_ms: int = Field(ge=0, le=86_400_000)
    ui_version: str = Field(pattern=r"^[A-Za-z0-9._-]{1,40}$")


class UndoBody(_Body):
    """Which answer is taken back."""

    token: Token


class TonesBody(_Body):
    """How many tones the rater counted."""

    token: Token
    count: int = Field(ge=0, le=100)


class Nothing(_Body):
    """A request that says nothing more."""


def make_app(session: Session, media: BlindMedia, keys: Keys, path: str = "") -> FastAPI:
    """The application of one session; whoever makes it closes `media` and seals the session.

    `path`: of a proxy, which may take it off or not; see `UnderPath`. InputError: the study lacks words.
    """
    # A redirect of the framework would name the scheme and Host that it sees, which behind a proxy are not
    # the browser's; the only one that is needed is relative.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_middleware(UnderPath, path=path)
    app.add_middleware(Headers)
    say_errors(app, _FULL, "The server cannot read its data. Tell the organiser.")
    add_pages(app, resources.files("hallo4.studio").joinpath("static").iterdir(), {})
    _add_study(app, session)
    app.add_api_route("/admin/", lambda: RedirectResponse("../admin", 308), methods=["GET", "HEAD"])
    limits = Limits()
    signed_in = _add_rating(app, session, keys, limits)
    _add_sound_check(app, session, signed_in)
    _add_media(app, session, media, limits)
    _add_admin(app, session, keys, limits)
    return app


def _add_study(app: FastAPI, session: Session) -> None:
    """The pages of the study."""
    rating = {language: unless_known(page) for language, page in rating_pages(session.study).items()}
    admin = unless_known(organiser_page(session.study))

    def rate(request: Request) -> Response:
        asked, accepted = request.query_params.get("lang", ""), request.headers.get("accept-language", "")
        language = chosen_language(session.study, asked, accepted)
        found = rating[language](request)
        found.headers.update({"vary": "accept-language", "content-language": language})
        return found

    app.add_api_route("/", rate, methods=["GET", "HEAD"])
    app.add_api_route("/admin", admin, methods=["GET", "HEAD"])


def _add_rating(app: FastAPI, session: Session, keys: Keys, limits: Limits) -> Any:
    async def rater_of(request: Request) -> str:
        name, _, key = bearer(request).partition(":")
        if not session.knows(name, key):
            limits.take(STRANGERS)
            raise Refused(401, "This page is not signed in. Open the link that you were given.")
        limits.take(RATER, name)
        return name

    rater = Depends(rater_of)

    @app.post("/api/join")
    async def join(body: JoinBody = Depends(json_body(JoinBody))) -> dict:  # noqa: B008
        if not keys.is_invite(body.invite):
            limits.take(STRANGERS)
            raise Refused(403, "This invitation is not valid. Open the link that you were given.")
        limits.take(JOINING)
        wanted = session.study.platform
        if (body.rater is None) != (wanted.participant is not None):
            raise Refused(
                422, "rater: Input should be a pseudonym, unless the platform's link names a person"
            )
        given = {name: value for name, value in body.participant.items() if name in wanted.parameters}
        name = await run_in_threadpool(session.join, body.rater, body.key, body.language, given)
        return {"rater": name}

    @app.get("/api/questions")
    def questions(who: str = rater) -> dict:
        with session.turn_of(who):
            return session.questions(who)

    @app.post("/api/answer")
    async def answer(who: str = rater, body: AnswerBody = Depends(json_body(AnswerBody))) -> dict:  # noqa: B008
        said = Answered(**body.model_dump(), axes={}, at_unix_ms=session.now_ms())
        return await run_in_threadpool(_both, session, who, session.answer, said)

    @app.post("/api/undo")
    async def undo(who: str = rater, body: UndoBody = Depends(json_body(UndoBody))) -> dict:  # noqa: B008
        return await run_in_threadpool(_both, session, who, session.undo, body.token)

    @app.post("/api/finish")
    async def finish(who: str = rater, body: Nothing = Depends(json_body(Nothing))) -> dict:  # noqa: B008
        return await run_in_threadpool(_both, session, who, session.finish)

    return rater


def _both(session: Session, who: str, act: Any, *words: Any) -> dict:
    """Do something for a rater, and say what comes next."""
    with session.turn_of(who):
        act(who, *words)
        return session.questions(who)


def _add_sound_check(app: FastAPI, session: Session, rater: Any) -> None:
    counts: OrderedDict[str, int] = OrderedDict()

    @app.get("/api/tones")
    def check(who: str = rater) -> dict:
        token = secrets.token_hex(16)
        counts[token] = random_count()
        while len(counts) > _CHECKS:
            counts.popitem(last=False)
        return {"token": token, "media": f"media/tones/{token}"}

    @app.get("/media/tones/{token}")
    def sound(token: str) -> Response:
        count = counts.get(token)
        if count is None:
            raise Refused(404, "There is no such sound.")
        return Response(tones(count), media_type="audio/wav")

    @app.post("/api/sound_check")
    async def check_passed(who: str = rater, body: TonesBody = Depends(json_body(TonesBody))) -> dict:  # noqa: B008
        count = counts.pop(body.token, None)
        if count != body.count:
            raise Refused(409, "That was not the number of tones.")
        return await run_in_threadpool(_both, session, who, session.sound_checked)


def _add_media(app: FastAPI, session: Session, media: BlindMedia, limits: Limits) -> None:
    @app.get("/media/{token}")
    async def video(token: str) -> Response:
        clips = session.clips_of(token)
        limits.take(MEDIA, token)
        job = media.path(clips)
        try:
            path = await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(job)), _READY_S)
        except InputError as error:
            await run_in_threadpool(session.media_failed, token, str(error))
            raise Refused(410, "This video cannot be shown. The next one is on its way.") from error
        except (TimeoutError, asyncio.CancelledError) as error:
            raise Refused(503, "This video is not ready yet.") from error
        return BlindFile(path, media_type="video/mp4", headers={"cache-control": "private, max-age=3600"})


class BlindFile(FileResponse):
    """A file whose name, age and identity are not sent: the same copy may be another question's."""

    def set_stat_headers(self, stat_result: Any) -> None:
        """Its length alone."""
        self.headers["content-length"] = str(stat_result.st_size)


def _add_admin(app: FastAPI, session: Session, keys: Keys, limits: Limits) -> None:
    def organiser(request: Request) -> None:
        if not keys.is_admin(bearer(request)):
            limits.take(STRANGERS)
            raise Refused(401, "Open the admin link that was printed when the server started.")

    @app.get("/api/admin/overview", dependencies=[Depends(organiser)])
    def overview() -> dict:
        return progress.overview(*session.overview(), session.study, session.store, session.now_ms())

    @app.get("/api/admin/export/{name}", dependencies=[Depends(organiser)])
    def export(name: str) -> Response:
        if name not in sheets.EXPORTS:
            raise Refused(404, "There is no such export.")
        session.seal()
        kind, make = sheets.EXPORTS[name]
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(make(session.store), media_type=kind, headers=headers)
