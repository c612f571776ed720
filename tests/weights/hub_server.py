"""A small hub on loopback: as much of the Hugging Face hub's HTTP as its real client asks for a file.

Large files are answered as the hub does, with a redirect to another host that holds the content.
"""

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGE = bytes(range(256)) * 4096  # 1 MiB
SMALL = b'{"sizes": [1, 2, 3]}\n'
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub:
    """`large`, `small`: "repo/path" -> content. `refuse`: "repo/path" -> (status, error code).

    `cut_after_bytes`: every answer with content ends there; `down`: no answer at all; `pause_s` between the
    pieces of an answer. `seen`: (method, path, Range, whether a token was sent).
    """

    def __init__(self):
        self.large: dict[str, bytes] = {}
        self.small: dict[str, bytes] = {}
        self.refuse: dict[str, tuple[int, str | None]] = {}
        self.served: dict[str, bytes] = {}  # what comes instead of what was announced
        self.cut_after_bytes: int | None = None
        self.down = False
        self.pause_s = 0.0
        self.seen: list[tuple[str, str, str | None, bool]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_HEAD(self):
                hub.answer(self, with_content=False)

            def do_GET(self):
                hub.answer(self, with_content=True)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request, with_content):
        wanted = request.headers.get("Range")
        self.seen.append((request.command, request.path, wanted, "Authorization" in request.headers))
        request.close_connection = True
        if self.down:
            return
        if request.path.startswith("/content/"):
            name = request.path.removeprefix("/content/")
            return self.send(request, self.served.get(name, self.large[name]), {}, with_content)
        asked = re.match(r"/(.+?)/resolve/.+?/(.+)$", request.path)
        name = f"{asked[1]}/{asked[2]}" if asked else ""
        if name in self.refuse:
            status, code = self.refuse[name]
            return self.status(request, status, {"X-Error-Code": code} if code else {})
        if name in self.large:
            content = self.large[name]
            return self.status(
                request,
                302,
                {
                    "Location": f"http://localhost:{self.port}/content/{name}",
                    "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
                    "X-Linked-Size": str(len(content)),
                    "X-Repo-Commit": COMMIT,
                },
            )
        if name in self.small:
            content = self.small[name]
            headers = {"ETag": f'"{git_sha1(content)}"', "X-Repo-Commit": COMMIT}
            return self.send(request, self.served.get(name, content), headers, with_content)
        return self.status(request, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})

    def status(self, request, status, headers):
        request.send_response(status)
        for key, value in (headers | {"Content-Length": "0", "Connection": "close"}).items():
            request.send_header(key, value)
        request.end_headers()

    def send(self, request, content, headers, with_content):
        start = 0
        if begins := re.match(r"bytes=(\d+)-", request.headers.get("Range") or ""):
            start = int(begins[1])
            headers = headers | {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        request.send_response(206 if begins else 200)
        headers = headers | {"Content-Length": str(len(content) - start), "Connection": "close"}
        for key, value in headers.items():
            request.send_header(key, value)
        request.end_headers()
        if not with_content:
            return
        end = len(content) if self.cut_after_bytes is None else start + self.cut_after_bytes
        for place in range(start, min(end, len(content)), 65536):
            try:
                request.wfile.write(content[place : min(place + 65536, end)])
                request.wfile.flush()
            except OSError:
                return  # the client was killed
            if self.pause_s:
                threading.Event().wait(self.pause_s)
        if end < len(content):
            self.down = True  # the line is cut; whoever calls back is not answered
