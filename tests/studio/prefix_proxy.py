"""A reverse proxy with a path, as JupyterHub, Open OnDemand and an nginx location have one."""

import http.client
import http.server
import re
import threading


class PrefixProxy:
    """path/x -> 127.0.0.1:port/x for every path of `ports`, or path/x as it is with `keep_path`.

    As JupyterHub's, it has a Host of its own, passes Location on as it is and adds no slash to a bare path.
    `asked` holds the paths of all requests, `stray` those outside, which lead nowhere. `base` is the address
    of the first path. While `sign_in` is set, every request gets a page of the proxy's own.
    """

    def __init__(self, ports, keep_path=False):
        self.asked, self.sign_in = [], False
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self):
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                proxy.asked.append(self.path)
                if proxy.sign_in:
                    return self.reply(200, {"Content-Type": "text/html"}, b"<h1>Please sign in</h1>")
                path = proxy.path_of(self.path)
                if path is None:
                    return self.reply(404, {"Content-Type": "text/plain"}, b"hub: no such page")
                passed = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
                door = http.client.HTTPConnection("127.0.0.1", ports[path], timeout=60)
                passed["Host"] = "inside.invalid:1"
                rest = self.path[len(path) :]
                target = self.path if keep_path else rest if rest.startswith("/") else "/" + rest
                door.request(self.command, target, body or None, passed)
                heard = door.getresponse()
                content = heard.read()
                door.close()
                return self.reply(heard.status, dict(heard.getheaders()), content)

            def reply(self, status, headers, content):
                self.send_response_only(status)
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                        self.send_header(name, value)
                if status != 304:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_POST = do_HEAD = pass_on

            def log_message(self, *_):
                pass

        self.paths = list(ports)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.host = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.base = self.host + self.paths[0]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})

    def path_of(self, asked):
        return next((path for path in self.paths if re.match(rf"{re.escape(path)}(?:[/?]|$)", asked)), None)

    @property
    def stray(self):
        return [asked for asked in self.asked if self.path_of(asked) is None]

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
