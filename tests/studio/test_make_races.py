"""Several servers, or several requests, at one folder at the same moment; and a folder that goes away."""

import itertools
import os
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from studio_makers import png_of

pytest.importorskip("fastapi", reason="the extra `studio` is not installed")

from hallo4.studio.keys import load_secrets
from hallo4.studio.make import cluster, open_makers, worker
from hallo4.studio.make.board import Board
from hallo4.studio.make.job_folder import JobFolder, Outcome, Request
from hallo4.studio.make.look import KEPT, Looks
from hallo4.studio.make.media_routes import add_media
from hallo4.studio.make.offers import Offers
from hallo4.studio.make.queue import Queue
from hallo4.studio.make.settings import JobBody, Settings, UploadBody
from hallo4.studio.make.uploads import KEPT_S, Uploads
from hallo4.studio.refused import Refused


@pytest.fixture
def queue(tiny_model_folder, tmp_path):
    """A queue that makes nothing."""
    return Queue(tmp_path, Uploads(tmp_path / "uploads"), Offers([str(tiny_model_folder)]), ["cpu"])


@pytest.fixture
def portrait(queue, portrait_u8):
    """The id of a portrait that was sent."""
    content = png_of(portrait_u8)
    found = queue.begin_upload(UploadBody(role="portrait", name="me.png", size=len(content)))
    queue.uploads.add(found.id, 0, content)
    return queue.uploads.look_at(found.id).id


@pytest.fixture
def body(portrait):
    return JobBody(settings=Settings(portrait=portrait, model="testling"), consent="agreed")


def test_frames_that_are_replaced_while_they_are_sent_are_as_long_as_announced(queue, body):
    """As a browser checks it: a file whose length is read before it is opened would fail here."""
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    job_id, app, stop = queue.add(body).id, FastAPI(), threading.Event()
    add_media(app, queue, MagicMock())
    job = queue.folder(job_id)
    job.replace(job.live, b"x")

    def replace():
        for size in itertools.cycle([10_000, 200_000]):
            job.replace(job.live, b"x" * size)
            if stop.is_set():
                return

    with ThreadPoolExecutor(1) as pool, TestClient(app) as client:
        pool.submit(replace)
        try:
            for _ in range(150):
                found = client.get(f"/media/{job_id}/live.webp")
                assert len(found.content) == int(found.headers["content-length"])
        finally:
            stop.set()


@pytest.mark.parametrize("act", ["delete", "resume"])
def test_of_a_video_that_another_deletes_meanwhile_it_is_not_said_that_it_is_being_made(
    queue, body, tmp_path, act
):
    job_id = queue.add(body).id
    queue.cancel(job_id)
    with ThreadPoolExecutor(1) as pool, Board(tmp_path).claim(job_id):
        answer = pool.submit(getattr(queue, act), job_id)
        time.sleep(0.3)
        assert not answer.done(), "the claim is waited for"
        JobFolder(tmp_path / "jobs" / job_id).remove()
        with pytest.raises(Refused, match="was deleted") as refused:
            answer.result(10)
    assert refused.value.status == 404


def test_a_video_that_is_deleted_while_it_is_stopped_is_not_there(queue, body, monkeypatch):
    ask = JobFolder.ask_to_stop

    def late(job):
        job.remove()
        ask(job)

    monkeypatch.setattr(JobFolder, "ask_to_stop", late)
    with pytest.raises(Refused, match="was deleted"):
        queue.cancel(queue.add(body).id)


def test_a_file_of_a_new_job_is_not_swept_by_who_did_not_know_of_the_job(queue, body, portrait, monkeypatch):
    old = time.time() - 2 * KEPT_S
    os.utime(queue.uploads.folder / portrait, (old, old))
    known, added = threading.Event(), threading.Event()
    leave_room = Uploads._leave_room

    def slowly(uploads, count):
        known.set()
        added.wait(1)
        leave_room(uploads, count)

    monkeypatch.setattr(Uploads, "_leave_room", slowly)
    with ThreadPoolExecutor(1) as pool:
        begun = pool.submit(queue.begin_upload, UploadBody(role="portrait", name="you.png", size=9))
        known.wait(5)
        with suppress(Refused):  # swept before
            queue.add(body)
        added.set()
        begun.result(10)
    for used in queue.used_uploads():
        queue.uploads.usable(used, "portrait")


def test_what_a_worker_finished_is_not_made_or_told_again(queue, body, tmp_path):
    job = JobFolder.create(tmp_path / "jobs" / "one", Request(body=body, created=0.0, names={}))
    job.video.write_bytes(b"no video")
    ended = Outcome(status="done", notes=("a note",), frames=7, took_s=3.0)
    job.end(ended)
    worker.make(worker.Task(job.path, tmp_path / "stopping", {}, tmp_path / "no model", 1, 1.0, "cpu"))
    assert job.outcome() == ended


def test_who_claims_a_job_knows_how_it_ended_even_if_the_disk_tells_changes_late(queue, body, tmp_path):
    job_id = queue.add(body).id
    folder, board = tmp_path / "jobs" / job_id, Board(tmp_path)
    long_ago = time.time() - 60
    os.utime(folder, (long_ago, long_ago))
    assert board.entries()[job_id].outcome is None
    ended = Outcome(status="done", frames=7)
    JobFolder(folder).end(ended)
    os.utime(folder, (long_ago, long_ago))
    with board.claim(job_id) as entry:
        assert entry.outcome == ended


def test_signs_of_servers_that_were_killed_while_they_ended_are_removed(queue, tmp_path):
    killed, ending = (tmp_path / "claims" / f"{name}.stopping" for name in ("killed", "ending"))
    killed.touch()
    ending.touch()
    two_days_ago = time.time() - 2 * 86400
    os.utime(killed, (two_days_ago, two_days_ago))
    queue.start()
    queue.close()
    assert list((tmp_path / "claims").iterdir()) == [ending]


def test_a_disk_that_is_away_for_a_moment_ends_no_worker(tiny_model_folder, body, portrait, tmp_path):
    with open_makers(tmp_path, [str(tiny_model_folder)], ["cpu"]) as makers:
        with pytest.warns(RuntimeWarning, match="cpu: no video can be made now"):
            _away_for(1.2, tmp_path / "jobs")
        assert all(thread.is_alive() for thread in makers.queue._threads)
        job_id = makers.queue.add(body).id
        end = time.monotonic() + 60
        while makers.queue.view(job_id).status == "queued":
            assert time.monotonic() < end
            time.sleep(0.05)


def _away_for(seconds, folder):
    os.replace(folder, folder.with_name("away"))
    time.sleep(seconds)
    os.replace(folder.with_name("away"), folder)


def test_servers_that_start_at_once_have_one_key(tmp_path, monkeypatch):
    token_hex, turns = secrets.token_hex, itertools.count()

    def slowly(size):
        time.sleep(0.2 * next(turns))  # whoever writes has read it before the next one writes
        return token_hex(size)

    monkeypatch.setattr("hallo4.studio.keys.secrets.token_hex", slowly)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: load_secrets(tmp_path / "keys.json", {"maker": 16}), range(3)))
    assert len({words["maker"] for words in found}) == 1


def test_a_preview_that_another_server_removes_meanwhile_does_not_matter(queue, tmp_path):
    looks = Looks(tmp_path / "looks", queue, "cpu")
    (looks.folder / "gone.png").symlink_to("nothing")  # listed, and not there when it is looked at
    for number in range(KEPT + 1):
        (looks.folder / f"{number:03}.png").touch()
        os.utime(looks.folder / f"{number:03}.png", (number, number))
    looks._forget_old()
    assert not (looks.folder / "000.png").exists()
    assert (looks.folder / "001.png").exists()


def test_an_error_of_who_uses_the_studios_is_not_told_as_one_of_their_start(
    tiny_model_folder, tmp_path, monkeypatch
):
    @contextmanager
    def connected(address):
        yield SimpleNamespace(cluster_resources=lambda: {"CPU": 2.0}, nodes=lambda: [1])

    serve = MagicMock()
    serve.status.return_value.applications = {}
    monkeypatch.setattr(cluster, "connected", connected)
    monkeypatch.setattr(cluster, "_serve_of_ray", lambda: serve)
    monkeypatch.setattr(cluster, "_check_page", lambda address, key: None)
    with (
        pytest.raises(RuntimeError, match="of the caller"),
        cluster.open_on_cluster(tmp_path / "studio", "auto", port=0),
    ):
        raise RuntimeError("of the caller")
    serve.shutdown.assert_called()
