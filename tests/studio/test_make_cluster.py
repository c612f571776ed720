"""Several studios of one folder: side by side in this process, and behind one page on a Ray cluster."""

import json
import os
import signal
import time
from contextlib import ExitStack

import httpx2
import pytest
from studio_makers import Program, png_of, wav_of

pytest.importorskip("uvicorn", reason="the extra `studio` is not installed")
from fastapi.testclient import TestClient

from hallo4.errors import InputError, OutputError
from hallo4.media import read_frames
from hallo4.studio.make import open_makers
from hallo4.studio.make.cluster import _shares, open_on_cluster


@pytest.fixture
def sent(portrait_u8, hum, tmp_path):
    """Role -> name and content of files of 0.4 s."""
    return {"portrait": ("me.png", png_of(portrait_u8)), "voice": ("v.wav", wav_of(hum(0.4), tmp_path))}


@pytest.fixture
def two(tiny_model_folder, tmp_path):
    """Programs at two studios of one folder."""
    with ExitStack() as opened:
        open_one = [
            open_makers(tmp_path / "studio", [str(tiny_model_folder)], ["cpu"], shared=True) for _ in range(2)
        ]
        makers = [opened.enter_context(one) for one in open_one]
        assert makers[0].key == makers[1].key
        yield [Program(TestClient(one.app), one.key) for one in makers]


def test_two_studios_of_a_folder_are_one(two, sent, tmp_path):
    here, there = two
    name, png = sent["portrait"]
    begun = here.begin("portrait", name, len(png)).json()["id"]
    here.piece(begun, 0, png[:50])
    assert there.piece(begun, 50, png[50:]).json()["complete"], "pieces may come to either"
    voice = there.send("voice", *sent["voice"]).json()["id"]
    settings = {"portrait": begun, "voice": voice, "model": "testling"}
    ids = [two[n % 2].add(settings | {"seed": n}).json()["id"] for n in range(6)]
    for job_id in ids:
        for program in two:
            assert program.wait(job_id, seconds=300)["status"] == "done"
    assert [[job["id"] for job in program.get("/api/jobs").json()["jobs"]] for program in two] == [
        ids[::-1],
        ids[::-1],
    ]
    made = (tmp_path / "studio" / "jobs").rglob("*.mp4")
    assert len(list(made)) == 6, "each by one of them"
    long = there.add(settings | {"steps": 1000}).json()["id"]
    there.wait(long, "running")
    assert here.client.delete(f"/api/jobs/{long}", headers=here.headers).status_code == 409
    assert here.post(f"/api/jobs/{long}/resume").status_code == 409
    here.post(f"/api/jobs/{long}/cancel")
    assert there.wait(long)["status"] == "cancelled"
    for job_id in [*ids, long]:
        assert here.client.delete(f"/api/jobs/{job_id}", headers=here.headers).status_code == 204
        assert there.get(f"/api/jobs/{job_id}").status_code == 404
    assert there.get(f"/api/uploads/{voice}").status_code == 404
    end = time.monotonic() + 60
    while left := list((tmp_path / "studio" / "claims").iterdir()):
        assert time.monotonic() < end, left


@pytest.mark.slow
def test_two_studios_behind_one_address_one_killed_and_no_job_lost(
    ray_cluster, tiny_model_folder, sent, tmp_path
):
    pytest.importorskip("ray.serve", reason="needs hallo4[cluster]")
    models = [str(tiny_model_folder)]
    folder = tmp_path / "studio"
    with open_on_cluster(folder, ray_cluster, 2, port=0, models=models) as link:
        base, _, key = link.partition("/#key=")
        with httpx2.Client(base_url=base, timeout=60) as client:
            program = Program(client, key)
            assert client.get("/").headers["content-security-policy"].startswith("default-src 'none'")
            assert client.get("/api/jobs").status_code == 401
            files = {
                role: program.send(role, *one, piece_bytes=500).json()["id"] for role, one in sent.items()
            }
            settings = files | {"model": "testling", "steps": 300}
            ids = [program.add(settings | {"seed": n}).json()["id"] for n in range(4)]
            for job_id in ids[:2]:
                assert program.wait(job_id, "running", "done")
            killed = _holder_of(folder, set(ids))
            os.kill(killed, signal.SIGKILL)
            jobs = [_patiently(program, job_id) for job_id in ids]
            assert [(job["status"], job["frames"]) for job in jobs] == [("done", 10)] * 4
            assert {job["id"] for job in program.get("/api/jobs").json()["jobs"]} == set(ids)
            with client.stream("GET", f"/api/jobs/{ids[0]}/events", headers=program.headers) as answer:
                assert any(line.startswith("data: {") for line in answer.iter_lines())
            part = client.get(jobs[0]["video"], headers={"Range": "bytes=4-7"})
            assert (part.status_code, part.content) == (206, b"ftyp")
            (tmp_path / "made.mp4").write_bytes(client.get(jobs[3]["video"]).content)
    assert sum(1 for _ in read_frames(tmp_path / "made.mp4")) == 10
    with open_makers(folder, models, ["cpu"]) as alone:
        assert {view.id for view in alone.queue.views()} == set(ids), "the folder is one studio again"


def _holder_of(folder, ids):
    """The process that makes one of the jobs, as it signed its claim."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for path in (folder / "claims").glob("*.lock"):
            if path.stem in ids and (text := path.read_text()):
                return json.loads(text)["hallo4_process"]
        time.sleep(0.02)
    raise AssertionError("no studio makes any of the videos")


def _patiently(program, job_id):
    """The job once it is over. A request that was with the killed one may fail and is sent again."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        answer = program.get(f"/api/jobs/{job_id}")
        if answer.status_code == 200 and answer.json()["status"] in ("done", "failed", "cancelled"):
            return answer.json()
        time.sleep(0.2)
    raise AssertionError(answer.text)


def test_what_a_studio_takes_of_a_cluster():
    assert _shares({"CPU": 8.0, "GPU": 3.0}, 2, None) == ({"num_gpus": 1, "num_cpus": 0}, 3)
    assert _shares({"CPU": 8.0}, 2, None) == ({"num_gpus": 0, "num_cpus": 1}, 2)
    assert _shares({"CPU": 8.0}, 2, 5)[1] == 5
    with pytest.raises(InputError, match="the Ray cluster has 1"):
        _shares({"CPU": 8.0, "GPU": 1.0}, 2, 2)
    with pytest.raises(InputError, match=r"^Each studio takes a CPU, and the Ray cluster has none"):
        _shares({}, 2, None)


def test_a_folder_that_a_studio_works_on_is_refused(tmp_path, tiny_model_folder):
    with (
        open_makers(tmp_path / "studio", [str(tiny_model_folder)], ["cpu"]),
        pytest.raises(OutputError, match="is working on it"),
        open_on_cluster(tmp_path / "studio", "auto"),
    ):
        pass
