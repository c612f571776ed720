"""Pictures and videos of the studio, by addresses that cannot be guessed, whole or by ranges.

A browser's <video> cannot send a key; only requests with the key are given the random ids.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response

from hallo4.errors import InputError
from hallo4.input_file import read_input
from hallo4.studio.make.look import Looks
from hallo4.studio.make.queue import Queue
from hallo4.studio.make.settings import Id
from hallo4.studio.refused import Refused


def add_media(app: FastAPI, queue: Queue, looks: Looks) -> None:
    """Routes below /media."""

    def get(path: str) -> Callable[[Callable[..., Response]], Callable[..., Response]]:
        def added(route: Callable[..., Response]) -> Callable[..., Response]:
            app.add_api_route(path, route, methods=["HEAD"], include_in_schema=False)
            app.add_api_route(path, route, methods=["GET"], response_class=FileResponse)
            return route

        return added

    @get("/media/{job_id}/video.mp4")
    def video(job_id: Id, download: bool = False) -> FileResponse:
        """The video of a job, or the playable part of a stopped one; `download`: as a file with its title."""
        title = queue.view(job_id).title or "video"
        found = _there(queue.folder(job_id).playable())
        name = f"{_file_name(title)}.mp4" if download else None
        return FileResponse(found, media_type="video/mp4", filename=name, headers=_KEPT)

    @get("/media/{job_id}/poster.jpg")
    def poster(job_id: Id) -> FileResponse:
        """A frame of a job."""
        return FileResponse(_there(queue.folder(job_id).poster), media_type="image/jpeg", headers=_KEPT)

    @get("/media/{job_id}/live.webp")
    def live(job_id: Id) -> Response:
        """The newest frames of a job in the making, as a small animation."""
        # Read at once: a worker that replaces the file must not change the length that was announced.
        try:
            content = read_input(queue.folder(job_id).live, _LIVE_BYTES, "an animation")
        except InputError:
            raise _gone() from None
        return Response(content, media_type="image/webp")

    @get("/media/{upload_id}/content")
    def content(upload_id: Id) -> FileResponse:
        """A file that was sent. Its kind is its sender's word, so browsers get it as plain bytes but for
        <img>, <audio> and <video>, which look themselves."""
        queue.uploads.view(upload_id)
        headers = {**_KEPT, "content-security-policy": "sandbox; default-src 'none'"}
        found = queue.uploads.path(upload_id)
        return FileResponse(found, media_type=_KINDS.get(found.suffix, _BYTES), headers=headers)

    @get("/media/{look_id}/look.png")
    def look(look_id: Id) -> FileResponse:
        """The picture of a preview."""
        return FileResponse(_there(looks.path(look_id)), media_type="image/png", headers=_KEPT)


_LIVE_BYTES = 64 << 20
_KEPT = {"cache-control": "private, max-age=3600"}
_BYTES = "application/octet-stream"
_KINDS = {
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp",
    ".gif": "image/gif", ".bmp": "image/bmp", ".wav": "audio/wav", ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4", ".ogg": "audio/ogg", ".flac": "audio/flac", ".webm": "video/webm",
    ".mp4": "video/mp4", ".mov": "video/mp4", ".mkv": "video/x-matroska",
}  # fmt: skip
"""Kinds that run nothing, whatever is inside."""


def _file_name(title: str) -> str:
    """A title as the name of a file, which is no path on any system."""
    return "".join(
        "_" if letter in '/\\:*?"<>|' or not letter.isprintable() else letter for letter in title
    ).lstrip(".")


def _there(path: Path | None) -> Path:
    if path is None or not path.is_file():
        raise _gone()
    return path


def _gone() -> Refused:
    return Refused(404, "This file was deleted or never existed.")
