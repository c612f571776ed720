"""The studio for makers as a program sees it: uploads in pieces, jobs, events, ranges, and bad input."""

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from studio_makers import Program, noise_picture, png_of, serving, wav_of

pytest.importorskip("fastapi", reason="the extra `studio` is not installed")
from fastapi import FastAPI
from fastapi.testclient import TestClient

from hallo4.errors import CheckpointError, InputError, OutputError
from hallo4.media import VideoWriter, read_frames, read_provenance
from hallo4.pipelines import PortraitAnimator
from hallo4.studio.make import open_makers
from hallo4.studio.make.settings import Settings
from hallo4.studio.make.uploads import CHUNK_BYTES, KEPT_S, LIMIT_BYTES
from hallo4.studio.refused import Refused


@pytest.fixture(scope="module")
def makers(tiny_model_folder, tmp_path_factory):
    with open_makers(
        tmp_path_factory.mktemp("makers") / "studio", [str(tiny_model_folder)], ["cpu"]
    ) as found:
        yield found


@pytest.fixture(scope="module")
def client(makers):
    return TestClient(makers.app)


@pytest.fixture
def program(client, makers):
    return Program(client, makers.key)


@pytest.fixture(scope="module")
def portrait_png(portrait_u8):
    return png_of(portrait_u8)


@pytest.fixture(scope="module")
def voice(hum, tmp_path_factory):
    return partial(lambda folder, seconds: wav_of(hum(seconds), folder), tmp_path_factory.mktemp("voices"))


@pytest.fixture
def files(program, portrait_png, voice):
    """Settings with a portrait and a voice of 0.6 s."""
    sent = {"portrait": program.send("portrait", "me.png", portrait_png)}
    sent["voice"] = program.send("voice", "hello.wav", voice(0.6))
    return {role: answer.json()["id"] for role, answer in sent.items()} | {"model": "testling", "seed": 5}


# ---------------------------------------------------------------------- from files to a video


def test_from_files_to_a_video_that_the_command_line_makes_too(
    program, files, tiny_model_folder, portrait_png, voice, tmp_path
):
    job = program.add(files, "no_real_person", "Grüße / 1").json()
    assert job["status"] in ("queued", "running")
    job = program.wait(job["id"])
    assert (job["status"], job["frames"], job["text"]) == ("done", 15, "")
    assert any("idle motion" in note for note in job["notes"])
    answer = program.client.get(job["video"])
    (tmp_path / "http.mp4").write_bytes(answer.content)
    (tmp_path / "me.png").write_bytes(portrait_png)
    (tmp_path / "hello.wav").write_bytes(voice(0.6))
    animator = PortraitAnimator.from_pretrained(tiny_model_folder, device="cpu")
    animator.animate(tmp_path / "me.png", tmp_path / "hello.wav", output=tmp_path / "here.mp4", seed=5)
    ours, theirs = (np.stack(list(read_frames(tmp_path / name))) for name in ("here.mp4", "http.mp4"))
    np.testing.assert_array_equal(ours, theirs)
    record = read_provenance(tmp_path / "http.mp4")
    assert record["ai_generated"] == "true"
    assert "no real person" in record["consent"]
    saved = program.client.get(job["video"] + "?download=true")
    assert saved.headers["content-disposition"].startswith("attachment")
    assert "mp4" in saved.headers["content-disposition"]
    assert program.client.get(job["poster"]).headers["content-type"] == "image/jpeg"


def test_ranges_of_a_video(program, files):
    job = program.wait(program.add(files).json()["id"])
    whole = program.client.get(job["video"]).content
    part = program.client.get(job["video"], headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, whole[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(whole)}"
    assert program.client.get(job["video"], headers={"Range": f"bytes={len(whole)}-"}).status_code == 416
    assert program.client.head(job["video"]).headers["content-length"] == str(len(whole))


def test_what_would_be_made(program, files):
    looked = program.post("/api/preview", files | {"scale": 2}).json()
    assert (looked["frames"], looked["seconds"], looked["width_px"], looked["height_px"]) == (15, 0.6, 64, 64)
    assert looked["expected_s"] > 0
    assert not looked["measured"]
    assert looked["expected_bytes"] > 0
    assert "15 frames of 32x32" in looked["estimate"]
    assert any("idle motion" in note for note in looked["notes"])
    assert program.client.get(looked["picture"]).content.startswith(b"\x89PNG")
    steps = [program.post("/api/preview", files | {"steps": n}).json()["estimate"] for n in (3, 9)]
    assert ["3 steps each" in steps[0], "9 steps each" in steps[1]] == [True, True]


def test_an_abandoned_preview_is_not_made(makers, program, files):
    looks, before = makers.looks, set(makers.looks.folder.iterdir())
    with pytest.raises(Refused, match="was abandoned"):
        looks.look(Settings(**files), lambda: True)
    assert set(looks.folder.iterdir()) == before


def test_events_follow_a_job_until_it_is_over(program, files):
    job_id = program.add(files).json()["id"]
    with program.client.stream("GET", f"/api/jobs/{job_id}/events", headers=program.headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    everything, *jobs = [json.loads(line) for line in lines]
    assert job_id in everything
    assert {job["id"] for job in jobs} == {job_id}
    assert jobs[-1]["status"] == "done"
    statuses = [job["status"] for job in jobs]
    assert statuses == sorted(statuses, key=["queued", "running", "done"].index)


def test_a_stopped_video_plays_and_goes_on(program, portrait_png, voice, makers, tmp_path):
    settings = {
        "portrait": program.send("portrait", "me.png", portrait_png).json()["id"],
        "voice": program.send("voice", "long.wav", voice(40.0)).json()["id"],
        "model": "testling", "steps": 40,
    }  # fmt: skip
    first = program.add(settings).json()["id"]
    second = program.add(settings).json()
    assert second["ahead"] in (0, 1)
    assert program.post(f"/api/jobs/{second['id']}/cancel").json()["status"] == "cancelled"
    while not (job := program.wait(first, "running"))["live"]:
        pass
    assert program.client.get(job["live"]).headers["content-type"] == "image/webp"
    assert program.client.delete(f"/api/jobs/{first}", headers=program.headers).status_code == 409
    program.post(f"/api/jobs/{first}/cancel")
    job = program.wait(first)
    assert job["status"] == "cancelled"
    assert 0 < job["frames"] < 1000
    assert f"{job['frames']} frames are finished" in job["text"]
    (tmp_path / "part.mp4").write_bytes(program.client.get(job["video"]).content)
    assert sum(1 for _ in read_frames(tmp_path / "part.mp4")) == job["frames"]
    assert program.post(f"/api/jobs/{first}/cancel").status_code == 409
    assert program.post(f"/api/jobs/{first}/resume").json()["status"] in ("queued", "running")
    assert program.post(f"/api/jobs/{first}/resume").status_code == 409
    program.wait(first, "running")
    while not (job := program.job(first))["notes"]:
        assert job["status"] == "running"
    assert any(note.startswith("resumed: ") for note in job["notes"])
    program.post(f"/api/jobs/{first}/cancel")
    program.wait(first)
    for job_id in (first, second["id"]):
        assert program.client.delete(f"/api/jobs/{job_id}", headers=program.headers).status_code == 204
    assert program.get(f"/api/jobs/{first}").status_code == 404
    assert program.get(f"/api/uploads/{settings['voice']}").status_code == 404, "no job is made from it now"


def test_a_job_that_fails_says_why_in_the_words_of_the_page(program, files, makers, tmp_path):
    sound = json.dumps({"people": "none"}).encode()
    assert program.send("motion", "moves.json", sound).status_code == 422
    with VideoWriter(tmp_path / "clip.mp4", 64, 64) as writer:
        for _ in range(5):
            writer.write(noise_picture())
    filmed = program.send("motion", "clip.mp4", (tmp_path / "clip.mp4").read_bytes()).json()["id"]
    job = program.wait(program.add(files | {"motion": filmed}).json()["id"])
    assert job["status"] == "failed"
    assert "hallo4 weights fetch pose-light" in job["text"], (
        "the networks are not here, and it says what to do"
    )
    assert str(makers.queue.uploads.folder) not in json.dumps(job)
    assert program.wait(program.add(files).json()["id"])["status"] == "done", "the queue goes on"


def test_the_client_on_the_page_of_the_docs_makes_a_video(makers, portrait_png, voice, tmp_path):
    pytest.importorskip("uvicorn")
    page = (Path(__file__).parents[2] / "docs" / "studio.md").read_text()
    (tmp_path / "client.py").write_text(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1])
    (tmp_path / "me.png").write_bytes(portrait_png)
    (tmp_path / "hello.wav").write_bytes(voice(0.4))
    with serving(makers) as address:
        words = [sys.executable, "client.py", makers.link(address), "me.png", "hello.wav", "talk.mp4"]
        said = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert said.returncode == 0, said.stderr
        words[4] = "client.py"
        refused = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert said.stdout.splitlines()[-1].startswith("done")
    assert sum(1 for _ in read_frames(tmp_path / "talk.mp4")) == 10
    assert refused.returncode == 1
    assert refused.stderr.startswith("client.py: ")


# ---------------------------------------------------------------------- uploads


def test_a_broken_upload_goes_on_where_it_stopped(program, portrait_png):
    upload = program.begin("portrait", "me.png", len(portrait_png)).json()
    half = len(portrait_png) // 2
    assert program.piece(upload["id"], 0, portrait_png[:half]).json()["received"] == half
    assert program.piece(upload["id"], 0, portrait_png[:half]).status_code == 409
    assert program.get(f"/api/uploads/{upload['id']}").json()["received"] == half
    assert program.piece(upload["id"], half, portrait_png[half:] + b"x").status_code == 413
    done = program.piece(upload["id"], half, portrait_png[half:]).json()
    assert (done["complete"], done["facts"]) == (True, "40 × 40 pixels")
    assert program.client.get(done["address"]).content == portrait_png


@pytest.mark.parametrize(
    ("role", "name", "content"),
    [
        ("portrait", "notes.txt", b"not a picture"), ("voice", "song.mp3", b"ID3 but not"),
        ("motion", "clip.mp4", b"\0" * 100), ("motion", "weights.pkl", b"\x80\x04."),
        ("motion", "deep.json", b"[" * 100_000), ("voice", "list.m3u8", b"#EXTM3U\nfile:///etc/passwd\n"),
        ("portrait", "bomb.png", png_of(noise_picture())[:-400]),
        ("portrait", "page.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"),
    ],
)  # fmt: skip
def test_files_of_the_wrong_kind_are_refused_by_name_and_removed(program, makers, role, name, content):
    before = set(makers.queue.uploads.folder.iterdir())
    answer = program.send(role, name, content)
    assert answer.status_code == 422
    text = answer.json()["error"]
    assert name in text
    assert str(makers.queue.uploads.folder) not in text
    assert set(makers.queue.uploads.folder.iterdir()) == before


def test_a_portrait_is_no_voice_and_unfinished_files_are_not_used(program, files, portrait_png):
    assert program.add(files | {"voice": files["portrait"]}).status_code == 422
    begun = program.begin("portrait", "me.png", len(portrait_png)).json()["id"]
    assert program.add(files | {"portrait": begun}).status_code == 422
    assert program.post("/api/preview", files | {"portrait": begun}).status_code == 422
    assert program.add(files | {"portrait": "0" * 32}).status_code == 404


def test_too_large_is_refused_before_anything_is_sent(program):
    for role, limit in LIMIT_BYTES.items():
        answer = program.begin(role, "big.bin", limit + 1)
        assert answer.status_code == 413
        assert "are allowed" in answer.json()["error"]
    upload = program.begin("voice", "v.wav", 3 * CHUNK_BYTES).json()
    assert program.piece(upload["id"], 0, b"\0" * (CHUNK_BYTES + 1)).status_code == 413


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd.png", "passwd.png"), ("C:\\people\\anna.png", "anna.png"),
        ("a\nb\x00.png", "a�b�.png"),
        ("<img src=x onerror=alert(1)>.png", None), ("ünï 🙂.PNG", None), (".png", None), ("", "file"),
        ("x" * 300, "x" * 120), ("a.p/ng", "ng"), ("a.;rm -rf", None), ("‮gnp.exe", "�gnp.exe"),
    ],
)  # fmt: skip
def test_names_are_words_and_never_paths(program, portrait_png, makers, name, shown):
    answer = program.send("portrait", name, portrait_png)
    assert answer.status_code == 200, answer.text
    assert answer.json()["name"] == (name if shown is None else shown)
    home = makers.queue.uploads.folder / answer.json()["id"]
    names = {path.name for path in home.iterdir()} - {"about.json", "facts.json"}
    assert names <= {"sent_portrait", "sent_portrait.png", "sent_portrait.exe"}


def test_what_no_job_uses_is_removed_after_a_day(program, makers, portrait_png, files):
    kept, job = program.send("portrait", "me.png", portrait_png).json()["id"], program.add(files).json()
    uploads = makers.queue.uploads
    now = (uploads.folder / kept).stat().st_mtime
    uploads.sweep(makers.queue.used_uploads(), now + KEPT_S - 60)
    assert program.get(f"/api/uploads/{kept}").status_code == 200
    uploads.sweep(makers.queue.used_uploads(), now + KEPT_S + 60)
    assert program.get(f"/api/uploads/{kept}").status_code == 404
    assert program.get(f"/api/uploads/{files['voice']}").status_code == 200
    assert program.wait(job["id"])["status"] == "done"


# ---------------------------------------------------------------------- the guard


ROUTES = [
    ("GET", "/api/studio"), ("POST", "/api/preview"), ("POST", "/api/uploads"), ("GET", "/api/jobs"),
    ("PUT", f"/api/uploads/{'0' * 32}?at=0"), ("GET", f"/api/uploads/{'0' * 32}"), ("POST", "/api/jobs"),
    ("GET", f"/api/jobs/{'0' * 32}"), ("DELETE", f"/api/jobs/{'0' * 32}"), ("GET", "/api/events"),
    ("POST", f"/api/jobs/{'0' * 32}/cancel"), ("POST", f"/api/jobs/{'0' * 32}/resume"),
    ("GET", f"/api/jobs/{'0' * 32}/events"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_nothing_works_without_the_key(client, makers, method, path):
    for key in ("", "guess", makers.key[:-1], "ü"):
        headers = {"Authorization": f"Bearer {key}".encode()}
        assert client.request(method, path, headers=headers, json={}).status_code == 401, key


def test_every_route_of_the_interface_is_documented_and_asks_for_the_key(client):
    found = client.get("/api/openapi.json").json()
    listed = {
        (method.upper(), path.split("{")[0]) for path, about in found["paths"].items() for method in about
    }
    assert {(method, path.split("?")[0].partition("0" * 32)[0]) for method, path in ROUTES} <= listed
    for path, about in found["paths"].items():
        for method, route in about.items():
            assert route["description"], path
            assert path.startswith("/media") or route["security"], path
            if method == "post" and not path.endswith(("cancel", "resume")):
                schema = route["requestBody"]["content"]["application/json"]["schema"]
                assert "$ref" not in json.dumps(schema)


@pytest.mark.parametrize(
    "path",
    [
        "/static/../queue.py", "/static/%2e%2e/routes.py", "/media/../keys.json",
        "/media/..%2f..%2fkeys.json/content",
        "/media/keys.json", f"/media/{'0' * 32}/../../keys.json", "/static/rate.js", "/docs", "/openapi.json",
        f"/media/{'0' * 32}/video.mp4", f"/media/{'0' * 32}/content", f"/media/{'0' * 32}/look.png",
    ],
)  # fmt: skip
def test_no_path_leads_out(program, makers, path):
    answer = program.get(path)
    assert answer.status_code in (404, 422)
    assert makers.key not in answer.text


def test_the_page_may_record_and_nothing_else(client):
    headers = client.get("/").headers
    assert "camera=(self), microphone=(self)" in headers["permissions-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert not [name for name in headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": -1}, {"seed": "5"}, {"seed": 2**53}, {"steps": 0}, {"steps": 1.5}, {"guidance_scale": -1},
        {"scale": 9}, {"speed": "warp"}, {"speed": None}, {"prompt": "x" * 1001}, {"more": 1},
        {"model": ""}, {"model": "/etc"}, {"model": "../tiny-dit"},
        {"portrait": "../../keys.json"}, {"portrait": None}, {"person": ""}, {"fit_motion": "yes"},
    ],
)  # fmt: skip
def test_settings_are_checked(program, files, change):
    assert program.add(files | change).status_code == 422
    assert program.post("/api/preview", files | change).status_code == 422


def test_without_an_answer_about_consent_nothing_is_made(program, files):
    before = len(program.get("/api/jobs").json()["jobs"])
    for answer in ("", "no", None, True):
        assert program.add(files, answer).status_code == 422
    assert program.post("/api/jobs", {"settings": files}).status_code == 422
    assert len(program.get("/api/jobs").json()["jobs"]) == before


def test_behind_a_prefix(makers, program):
    above = FastAPI()
    above.mount("/tools/studio", makers.app)
    page = TestClient(above).get("/tools/studio/")
    assert page.status_code == 200
    for quote in page.text.split('src="')[1:] + page.text.split('href="')[1:]:
        address = quote.split('"')[0]
        assert not address.startswith(("/", "http"))
        if not address.startswith("#"):
            assert TestClient(above).get(f"/tools/studio/{address}").status_code == 200, address


def test_one_studio_at_a_time_in_a_folder_and_models_must_exist(makers, tmp_path):
    with (
        pytest.raises(OutputError, match="is working on it"),
        open_makers(makers.queue.uploads.folder.parent),
    ):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Choose another folder"), open_makers(tmp_path / "file"):
        pass
    with pytest.raises(InputError, match="cuda:77"), open_makers(tmp_path, devices=["cuda:77"]):
        pass
    with pytest.raises(CheckpointError, match="no model"), open_makers(tmp_path, ["nothing-here"]):
        pass
