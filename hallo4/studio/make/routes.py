"""The studio for makers over HTTP: thin routes, documented by OpenAPI at /api/openapi.json.

::

    GET    /, /static/...                          the page, read once at the start
    GET    /api/studio                             models, devices, limits
    POST   /api/uploads, PUT ...?at=BYTE, GET      files in pieces, which go on where they broke off
    POST   /api/preview                            what would be made
    POST   /api/jobs; GET, DELETE /api/jobs/<id>; POST .../cancel, .../resume
    GET    /api/events, /api/jobs/<id>/events      server-sent: jobs as they change
    GET    /media/<id>/...                         pictures and videos, by ranges
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import resources
from typing import Any, TypeVar

from fastapi import Depends, FastAPI, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response, StreamingResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel

from hallo4.studio.guard import Headers, bearer, json_body
from hallo4.studio.make.look import Looks
from hallo4.studio.make.media_routes import add_media
from hallo4.studio.make.queue import Queue
from hallo4.studio.make.settings import (
    Id,
    JobBody,
    JobsView,
    JobView,
    LookView,
    Settings,
    StudioView,
    UploadBody,
    UploadView,
)
from hallo4.studio.make.uploads import CHUNK_BYTES, LIMIT_BYTES
from hallo4.studio.pages import add_pages, say_errors
from hallo4.studio.refused import Refused
from hallo4.version import __version__

WATCHED_EVERY_S = 0.25
KEEP_ALIVE_S = 15.0
"""After so long without news a comment is sent, so that proxies keep the connection."""

LOOKED_AT_ONCE = 2
"""Files that are looked at at the same time; each may be decoded as a whole."""

ResultT = TypeVar("ResultT")

_HEADERS = {
    "permissions-policy": "camera=(self), microphone=(self), geolocation=()",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
}
_SHARED = ("api.js", "icon.svg")
"""Files of the other page that this one uses too."""
_FULL = "The disk of the studio is full. Delete videos that you no longer need, then try again."
_BROKEN = "The studio cannot read one of its files. Look at its folder, or start it with another."


def make_app(queue: Queue, looks: Looks, key_fits: Callable[[str], bool]) -> FastAPI:
    """The application; the caller starts and closes `queue`. `key_fits` checks the key of the link."""
    app = FastAPI(
        title="hallo4 studio", version=__version__, docs_url=None, redoc_url=None,
        openapi_url="/api/openapi.json",
    )  # fmt: skip
    app.add_middleware(Headers, other=_HEADERS)
    say_errors(app, _FULL, _BROKEN)
    static = resources.files("hallo4.studio").joinpath("static")
    own = resources.files("hallo4.studio.make").joinpath("static")
    add_pages(app, [*own.iterdir(), *(static.joinpath(name) for name in _SHARED)], {"make.html": "/"})

    def maker(request: Request) -> None:
        if not key_fits(bearer(request)):
            raise Refused(
                401, "This page has no key. Open the link that was printed when the studio started."
            )

    signed = [Depends(HTTPBearer(auto_error=False)), Depends(maker)]
    _add_studio(app, queue, looks, signed)
    _add_uploads(app, queue, signed)
    _add_jobs(app, queue, signed)
    _add_events(app, queue, signed)
    add_media(app, queue, looks)
    return app


def _add_studio(app: FastAPI, queue: Queue, looks: Looks, signed: list[Any]) -> None:
    previewing = ThreadPoolExecutor(1, "preview")

    @app.get("/api/studio", dependencies=signed)
    def studio() -> StudioView:
        """Models, devices and limits."""
        return StudioView(
            version=__version__, models=queue.offers.views(), devices=queue.devices, chunk_bytes=CHUNK_BYTES,
            limit_bytes=LIMIT_BYTES,
        )  # fmt: skip

    @app.post("/api/preview", dependencies=signed, **_takes(Settings))
    async def preview(request: Request, body: Settings = Depends(json_body(Settings))) -> LookView:  # noqa: B008
        """What would be made of the settings; nothing is. Hang up, and the work on it ends."""
        gone = threading.Event()
        watch = asyncio.create_task(_set_when_gone(request, gone))
        try:
            return await _in_turn(previewing, looks.look, body, gone.is_set)
        finally:
            watch.cancel()


async def _in_turn(pool: ThreadPoolExecutor, work: Callable[..., ResultT], *arguments: Any) -> ResultT:
    """Do what may take long and much memory in threads of its own, few at a time: those of the server answer
    everybody."""
    return await asyncio.get_running_loop().run_in_executor(pool, partial(work, *arguments))


async def _set_when_gone(request: Request, gone: threading.Event) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(WATCHED_EVERY_S)
    gone.set()


def _add_uploads(app: FastAPI, queue: Queue, signed: list[Any]) -> None:
    uploads, looking = queue.uploads, ThreadPoolExecutor(LOOKED_AT_ONCE, "look-at")

    @app.post("/api/uploads", dependencies=signed, status_code=201, **_takes(UploadBody))
    async def begin(body: UploadBody = Depends(json_body(UploadBody))) -> UploadView:  # noqa: B008
        """Say which file will be sent."""
        return await run_in_threadpool(queue.begin_upload, body)

    binary = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}

    @app.put("/api/uploads/{upload_id}", dependencies=signed, openapi_extra={"requestBody": binary})
    async def add(upload_id: Id, request: Request, at: int = Query(ge=0)) -> UploadView:
        """Send the piece that begins at byte `at`; the last one has the file looked at."""
        piece = bytearray()
        async for part in request.stream():
            piece += part
            if len(piece) > CHUNK_BYTES:
                raise Refused(413, f"Send at most {CHUNK_BYTES} bytes at a time.")
        view = await run_in_threadpool(uploads.add, upload_id, at, bytes(piece))
        return view if view.received < view.size else await _in_turn(looking, uploads.look_at, upload_id)

    @app.get("/api/uploads/{upload_id}", dependencies=signed)
    def view(upload_id: Id) -> UploadView:
        """How much of a file is here: where sending goes on."""
        return uploads.view(upload_id)


def _add_jobs(app: FastAPI, queue: Queue, signed: list[Any]) -> None:
    @app.get("/api/jobs", dependencies=signed)
    def jobs() -> JobsView:
        """All jobs, newest first."""
        return JobsView(jobs=tuple(queue.views()))

    @app.post("/api/jobs", dependencies=signed, status_code=201, **_takes(JobBody))
    async def add(body: JobBody = Depends(json_body(JobBody))) -> JobView:  # noqa: B008
        """Put a job into the queue."""
        return await run_in_threadpool(queue.add, body)

    @app.get("/api/jobs/{job_id}", dependencies=signed)
    def job(job_id: Id) -> JobView:
        """One job."""
        return queue.view(job_id)

    @app.post("/api/jobs/{job_id}/cancel", dependencies=signed)
    def cancel(job_id: Id) -> JobView:
        """Stop a job; what is finished can be played."""
        return queue.cancel(job_id)

    @app.post("/api/jobs/{job_id}/resume", dependencies=signed)
    def resume(job_id: Id) -> JobView:
        """Let a stopped or failed job go on where it stopped."""
        return queue.resume(job_id)

    @app.delete("/api/jobs/{job_id}", dependencies=signed, status_code=204)
    def delete(job_id: Id) -> Response:
        """Delete a job and its video."""
        queue.delete(job_id)
        return Response(status_code=204)


def _add_events(app: FastAPI, queue: Queue, signed: list[Any]) -> None:
    kind = {"responses": {200: {"content": {"text/event-stream": {}}}}, "response_class": StreamingResponse}

    @app.get("/api/events", dependencies=signed, **kind)
    async def events() -> StreamingResponse:
        """Server-sent: `all` with the ids of all jobs, once; `job` with a job that is new or has changed;
        `gone` with the id of a deleted one."""
        return _stream(_changes(lambda: {view.id: view for view in queue.views()}, lambda views: False))

    @app.get("/api/jobs/{job_id}/events", dependencies=signed, **kind)
    async def job_events(job_id: Id) -> StreamingResponse:
        """The same for one job, until it is over."""
        queue.view(job_id)

        def over(views: dict[str, JobView]) -> bool:
            return all(view.status not in ("queued", "running") for view in views.values())

        return _stream(_changes(lambda: {view.id: view for view in queue.views() if view.id == job_id}, over))


async def _changes(
    views_now: Callable[[], dict[str, JobView]], over: Callable[[dict[str, JobView]], bool]
) -> AsyncIterator[str]:
    seen: dict[str, JobView] = {}
    quiet_s, first = 0.0, True
    while True:
        views = await run_in_threadpool(views_now)
        news = [_event("job", view.model_dump_json()) for view in views.values() if seen.get(view.id) != view]
        news += [_event("gone", json.dumps(gone)) for gone in seen.keys() - views.keys()]
        if first:
            news.insert(0, _event("all", json.dumps(list(views))))
        quiet_s, first = quiet_s + WATCHED_EVERY_S, False
        if news or quiet_s >= KEEP_ALIVE_S:
            yield "".join(news) or ": still here\n\n"
            quiet_s = 0.0
        if over(views):
            return
        seen = views
        await asyncio.sleep(WATCHED_EVERY_S)


def _event(name: str, data: str) -> str:
    return f"event: {name}\ndata: {data}\n\n"


def _stream(lines: AsyncIterator[str]) -> StreamingResponse:
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(lines, media_type="text/event-stream", headers=headers)


def _takes(model: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of a body that `json_body` reads."""
    schema = model.model_json_schema()
    schema.pop("$defs", None)
    if model is JobBody:
        schema["properties"]["settings"] = Settings.model_json_schema()
    content = {"application/json": {"schema": schema}}
    return {"openapi_extra": {"requestBody": {"required": True, "content": content}}}
