"""A real nginx with TLS in front of the studio, from the configuration of the docs."""

import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

CONFIGURATION = Path(__file__).parents[2] / "docs" / "nginx.conf"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
OPENSSL = shutil.which("openssl")


class Nginx:
    """docs/nginx.conf on a port of its own, for a studio at `port`; `base` is the address of raters."""

    def __init__(self, folder: Path, port: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.base = f"https://127.0.0.1:{self.port}/rate"
        self.log = folder / "error.log"
        key, certificate = folder / "key.pem", folder / "certificate.pem"
        subprocess.run(
            [OPENSSL, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
             "-days", "2", "-subj", "/CN=study.example"],
            check=True, capture_output=True,
        )  # fmt: skip
        server = CONFIGURATION.read_text()
        for old, new in (
            ("listen 443 ssl;", f"listen 127.0.0.1:{self.port} ssl;"),
            ("/etc/ssl/study.example.pem", str(certificate)),
            ("/etc/ssl/study.example.key", str(key)),
            ("http://127.0.0.1:8421/", f"http://127.0.0.1:{port}/"),
        ):
            assert old in server, old
            server = server.replace(old, new)
        temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        places = "".join(f"{name}_temp_path {folder}/{name};\n" for name in temporary)
        head = f"daemon off;\npid {folder}/pid;\nerror_log {self.log};\nevents {{}}\n"
        whole = f"{head}http {{\n{places}{server}}}\n"
        (folder / "nginx.conf").write_text(whole)
        words = [NGINX, "-c", folder / "nginx.conf", "-p", folder, "-e", self.log]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE)

    def __enter__(self) -> "Nginx":
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                assert self.process.poll() is None, self.process.stderr.read()
                time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)

    @staticmethod
    def trusting() -> ssl.SSLContext:
        """For a client that takes the certificate of a test."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
