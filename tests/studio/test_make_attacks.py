"""What people with the link, and people without it, may try on the studio for makers."""

import io
import json
import os
import re
import resource
import socket
import struct
import threading
import time
import zipfile
import zlib

import httpx2
import numpy as np
import pytest
from studio_makers import Program, png_of, serving, wav_of

pytest.importorskip("uvicorn", reason="the extra `studio` is not installed")

from hallo4.errors import InputError
from hallo4.studio.make import open_makers, uploads


@pytest.fixture(scope="module")
def makers(tiny_model_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("makers") / "studio"
    with open_makers(folder, [str(tiny_model_folder)], ["cpu"]) as found:
        yield found


@pytest.fixture(scope="module")
def address(makers):
    with serving(makers) as found:
        yield found


@pytest.fixture
def program(makers, address):
    with httpx2.Client(base_url=address, timeout=60) as client:
        yield Program(client, makers.key)


@pytest.fixture
def files(program, portrait_u8, hum, tmp_path):
    sent = {"portrait": ("me.png", png_of(portrait_u8)), "voice": ("v.wav", wav_of(hum(0.4), tmp_path))}
    return {"model": "testling"} | {role: program.send(role, *one).json()["id"] for role, one in sent.items()}


def answers_quickly(program):
    started = time.monotonic()
    assert program.get("/api/studio").status_code == 200
    return time.monotonic() - started < 5


def test_many_files_that_take_long_to_look_at_neither_block_the_page_nor_run_at_once(
    program, portrait_u8, monkeypatch
):
    """More of them than the server has threads for answers (40)."""
    go, running, most = threading.Event(), [], []

    def slow(role, path):
        running.append(path)
        most.append(len(running))
        go.wait(60)
        running.remove(path)
        return "looked at"

    monkeypatch.setattr(uploads, "_facts", slow)
    png = png_of(portrait_u8)
    senders = [threading.Thread(target=program.send, args=("portrait", "me.png", png)) for _ in range(50)]
    for sender in senders:
        sender.start()
    try:
        end = time.monotonic() + 30
        while not running and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.5)
        assert answers_quickly(program)
    finally:
        go.set()
        for sender in senders:
            sender.join()
    assert max(most) <= 2, "each may need hundreds of megabytes"


def test_a_file_is_looked_at_once_though_the_connection_broke_meanwhile(program, portrait_u8, monkeypatch):
    go, looks = threading.Event(), []

    def slow(role, path):
        looks.append(path)
        go.wait(60)
        return "looked at"

    monkeypatch.setattr(uploads, "_facts", slow)
    png = png_of(portrait_u8)
    begun = program.begin("portrait", "me.png", len(png)).json()["id"]
    first = threading.Thread(target=program.piece, args=(begun, 0, png))
    first.start()
    while not looks:
        time.sleep(0.02)
    assert program.piece(begun, 0, png).status_code == 409
    threading.Timer(0.3, go.set).start()
    again = program.piece(begun, len(png), b"").json()
    first.join()
    assert (again["complete"], again["facts"], len(looks)) == (True, "looked at", 1)


def test_many_previews_do_not_block_the_page(program, files, makers, monkeypatch):
    go = threading.Event()

    def slow(*_):
        go.wait(60)
        raise InputError("enough")

    monkeypatch.setattr(makers.looks, "_looked", slow)
    askers = [threading.Thread(target=program.post, args=("/api/preview", files)) for _ in range(50)]
    for asker in askers:
        asker.start()
    try:
        time.sleep(0.5)
        assert answers_quickly(program)
    finally:
        go.set()
        for asker in askers:
            asker.join()


def test_uploads_leave_room_on_the_disk_whatever_was_promised(program, monkeypatch):
    begun = program.begin("voice", "long.wav", 2**29).json()["id"]
    usage = type("Usage", (), {"free": 2**28 + 10})
    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda path: usage)
    assert program.piece(begun, 0, b"\0" * 10).status_code == 200
    answer = program.piece(begun, 10, b"\0" * 11)
    assert answer.status_code == 507
    assert "full" in answer.json()["error"]
    assert program.get(f"/api/uploads/{begun}").json()["received"] == 10


def test_ids_that_nobody_has_leave_nothing_behind(program, makers):
    folder = makers.queue.uploads.folder
    before = set(folder.rglob("*"))
    for number in range(20):
        assert program.piece(f"{number:032x}", 0, b"x").status_code == 404
    assert set(folder.rglob("*")) == before


def test_a_picture_that_unfolds_to_gigabytes_is_refused_by_its_header(program):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(2**20))) + chunk(b"IEND", b"")
    answer = program.send("portrait", "bomb.png", bomb)
    assert answer.status_code == 422
    assert "bomb.png" in answer.json()["error"]


@pytest.mark.parametrize("kind", ["unfolds", "claims", "pickled"])
def test_an_archive_of_arrays_that_unfolds_to_gigabytes_or_holds_code_is_refused(program, kind):
    """350 MB of zeros in 350 kB of an array that claims a terabyte, the claim alone, a pickled object."""
    header = (
        b"\x93NUMPY\x01\x00v\x00"
        + str({"descr": "<f4", "fortran_order": False, "shape": (10**9, 250)}).encode().ljust(117)
        + b"\n"
    )
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("points_px.npy", "confidence.npy", "keypoints.npy"):
            with archive.open(name, "w", force_zip64=True) as member:
                if kind == "pickled":
                    np.save(member, np.array([os.getcwd], object), allow_pickle=True)
                    continue
                member.write(header)
                for _ in range(350 if kind == "unfolds" else 0):
                    member.write(bytes(2**20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = program.send("motion", "moves.npz", content.getvalue())
    assert answer.status_code == 422
    assert "moves.npz" in answer.json()["error"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000, "kilobytes"


def test_what_waits_for_a_job_is_limited(program, monkeypatch):
    monkeypatch.setattr(uploads, "UNUSED_LIMIT", 0)
    answer = program.begin("portrait", "me.png", 100)
    assert answer.status_code == 429
    assert "Too many files wait" in answer.json()["error"]


def test_a_file_comes_back_as_what_it_is_and_never_as_a_page(program, portrait_u8):
    for name in ("page.html", "page.svg", "code.js", "x.png"):
        sent = program.send("portrait", name, png_of(portrait_u8)).json()
        answer = program.client.get(sent["address"])
        assert answer.headers["content-type"] in ("image/png", "application/octet-stream"), name
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "title", ["../../etc/passwd", "C:\\boot", 'a"; filename="b.exe', "a\r\nSet-Cookie: b=1"]
)
def test_a_title_is_no_path_and_no_header_of_a_download(program, files, title):
    job = program.wait(program.add(files, title=title).json()["id"])
    answer = program.client.get(f"{job['video']}?download=true")
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    named = answer.headers["content-disposition"].partition("filename")[2]
    assert not set(named) & set("/\\\r\n"), named
    assert not {"%2F", "%5C", "%0D", "%0A"} & set(re.findall("%..", named)), named
    assert "filename" not in named.partition("mp4")[2], "one name"


def test_a_file_that_names_other_files_is_not_followed(program, tmp_path):
    (tmp_path / "secret.wav").write_bytes(b"RIFF")
    for name, text in {
        "list.txt": f"ffconcat version 1.0\nfile '{tmp_path}/secret.wav'\n",
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{tmp_path}/secret.wav\n#EXT-X-ENDLIST\n",
        "talk.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=audio 9 RTP/AVP 0\nc=IN IP4 127.0.0.1\n",
        "dash.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
    }.items():
        for role in ("voice", "motion"):
            answer = program.send(role, name, text.encode())
            assert answer.status_code == 422, name
            assert "secret" not in answer.text.replace(name, "")


def test_a_slow_body_keeps_nobody_waiting(program, makers, address):
    host, port = address.removeprefix("http://").split(":")
    begun = program.begin("voice", "v.wav", 1000).json()["id"]
    head = (
        f"PUT /api/uploads/{begun}?at=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {makers.key}\r\n"
        "Content-Length: 1000\r\n\r\n"
    )
    slow = [socket.create_connection((host, int(port))) for _ in range(60)]
    try:
        for one in slow:
            one.sendall(head.encode() + b"x")
        assert answers_quickly(program)
        assert program.get(f"/api/uploads/{begun}").json()["received"] == 0
    finally:
        for one in slow:
            one.close()


def test_other_sites_can_send_nothing_in_a_makers_name(program, makers):
    """No cookie, no answer for other origins, and no JSON under a form's content type."""
    evil = {"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site"}
    body = json.dumps({"role": "portrait", "name": "x.png", "size": 5})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        sent = program.client.post("/api/uploads", content=body, headers=evil | {"Content-Type": kind})
        assert sent.status_code == 401
        with_key = program.headers | evil | {"Content-Type": kind}
        assert program.client.post("/api/uploads", content=body, headers=with_key).status_code == 415
    preflight = program.client.options(
        "/api/uploads", headers=evil | {"Access-Control-Request-Method": "POST"}
    )
    assert preflight.status_code == 405
    for answer in (preflight, program.get("/api/studio"), program.client.get("/")):
        assert "access-control-allow-origin" not in answer.headers
        assert "set-cookie" not in answer.headers


def test_words_with_markup_come_back_as_words(program, files):
    title = "<script>alert(1)</script>\"'&"
    job = program.add(files, title=title).json()
    assert job["title"] == title
    done = program.wait(job["id"])
    assert (
        program.client.get(f"/media/{job['id']}/video.mp4?download=true")
        .headers["content-disposition"]
        .isascii()
    )
    assert done["status"] == "done"
    answer = program.get("/api/jobs")
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_prompt_for_a_model_without_text_is_refused_before_it_waits(program, files):
    for path, body in (
        ("/api/preview", files | {"prompt": "smile"}),
        ("/api/jobs", {"settings": files | {"negative_prompt": "blur"}, "consent": "agreed"}),
    ):
        answer = program.post(path, body)
        assert answer.status_code == 422, path
        assert "takes no text" in answer.json()["error"]
