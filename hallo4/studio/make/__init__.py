"""The studio for people who make videos: a page, a queue that survives its server, and the same over HTTP.

::

    page or program --uploads, settings--> jobs/<id>/request.json --Queue--> a worker process per device
                    <--events, media------ progress.json, live.webp, video.mp4, outcome.json <--'

Server and workers share nothing but the files of a job, so either may be killed at any moment.
"""

from __future__ import annotations

from hallo4.lazy import lazy_names

_HOMES = {
    "serve": "server",
    "open_makers": "server",
    "open_on_cluster": "cluster",
    "Queue": "queue",
    "Settings": "settings",
}

__all__ = sorted(_HOMES)

__getattr__ = lazy_names(__name__, _HOMES)
