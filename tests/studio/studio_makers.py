"""What the tests of the studio for makers have in common: files to send, and a program that talks to it."""

import socket
import threading
import time
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from PIL import Image

from hallo4.media import save_wav


def png_of(picture_u8):
    content = BytesIO()
    Image.fromarray(picture_u8).save(content, "PNG")
    return content.getvalue()


def wav_of(audio, folder):
    save_wav(folder / "voice.wav", audio)
    return (folder / "voice.wav").read_bytes()


def noise_picture(side=64):
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)


@contextmanager
def serving(makers):
    """The address of a real server for an open studio."""
    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = uvicorn.Config(makers.app, port=port, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(60)


class Program:
    """A program that uses the HTTP interface through `client`, with or without the key."""

    def __init__(self, client, key):
        self.client = client
        self.headers = {"Authorization": f"Bearer {key}"}

    def get(self, path, **more):
        return self.client.get(path, headers=self.headers, **more)

    def post(self, path, body=None):
        return self.client.post(path, json={} if body is None else body, headers=self.headers)

    def begin(self, role, name, size):
        return self.post("/api/uploads", {"role": role, "name": name, "size": size})

    def piece(self, upload_id, at, content):
        return self.client.put(f"/api/uploads/{upload_id}?at={at}", content=content, headers=self.headers)

    def send(self, role, name, content, piece_bytes=2**20):
        """Send a file in pieces; the last answer."""
        found = self.begin(role, name, len(content))
        assert found.status_code == 201, found.text
        for at in range(0, len(content), piece_bytes):
            last = self.piece(found.json()["id"], at, content[at : at + piece_bytes])
        return last

    def add(self, settings, consent="agreed", title=""):
        return self.post("/api/jobs", {"settings": settings, "consent": consent, "title": title})

    def job(self, job_id):
        return self.get(f"/api/jobs/{job_id}").json()

    def wait(self, job_id, *until, seconds=60):
        """The job, once its status is one of `until` (default: it is over)."""
        until, end = until or ("done", "failed", "cancelled"), time.monotonic() + seconds
        while (job := self.job(job_id))["status"] not in until:
            assert time.monotonic() < end, job
            time.sleep(0.05)
        return job
