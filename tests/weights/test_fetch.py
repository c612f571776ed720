"""Fetching, with the real hub client against a small hub on loopback."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import replace

import huggingface_hub.constants
import pytest
from hub_server import LARGE, SMALL

from hallo4.errors import Cancelled, FetchError, InputError, OutputError
from hallo4.lock import sole_writer
from hallo4.weights import fetch as fetching
from hallo4.weights.catalogue import HubFile, WebFile
from hallo4.weights.fetch import plan_fetch, run_fetch


def content_requests(hub):
    return [ranges for method, path, ranges, _ in hub.seen if method == "GET" and path.startswith("/content")]


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def fetch(*files, folder, **options):
    plan = plan_fetch(files, folder, **options)
    run_fetch(plan)
    return plan


def test_files_come_whole_under_their_names_and_the_token_goes_to_the_hub_alone(
    hub, net, settings, tmp_path, monkeypatch
):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    plan = plan_fetch([net, settings], tmp_path / "w")
    assert plan.download_bytes == len(LARGE) + len(SMALL)
    run_fetch(plan)
    assert (tmp_path / "w/parts/net.pth").read_bytes() == LARGE
    assert (tmp_path / "w/parts/config.json").read_bytes() == SMALL
    assert names(tmp_path / "w") == ["parts/config.json", "parts/net.pth"]
    asked = [(path, token) for _, path, _, token in hub.seen]
    assert {token for path, token in asked if "/resolve/" in path} == {True}
    assert {token for path, token in asked if path.startswith("/content/")} == {False}


def test_what_is_here_is_not_asked_for_again(hub, net, settings, tmp_path):
    fetch(net, settings, folder=tmp_path)
    hub.seen.clear()
    hub.down = True
    plan = fetch(net, settings, folder=tmp_path)
    assert [finding.state for finding in plan.here] == ["right", "unknown"]
    assert (plan.steps, hub.seen) == ((), [])


def test_without_a_folder_files_go_under_the_root(hub, net, tmp_path):
    fetch(net, folder=None)
    assert names(tmp_path / "all") == ["toys/parts/net.pth"]


def test_a_cut_connection_leaves_a_part_and_the_same_call_goes_on(hub, net, tmp_path):
    hub.cut_after_bytes = 300_000
    with pytest.raises(
        FetchError, match=r"maker/model: net\.pth cannot be fetched: no connection, or it broke"
    ):
        fetch(net, folder=tmp_path)
    assert names(tmp_path) == [f"parts/.net.pth.{net.sha256[:16]}.part"]
    hub.down, hub.cut_after_bytes = False, None
    hub.seen.clear()
    plan = plan_fetch([net], tmp_path)
    assert plan.download_bytes == len(LARGE) - 300_000
    run_fetch(plan)
    assert content_requests(hub) == ["bytes=300000-"]
    assert (tmp_path / "parts/net.pth").read_bytes() == LARGE
    assert names(tmp_path) == ["parts/net.pth"]


def test_a_killed_command_goes_on_with_the_same_words(hub, tmp_path):
    """A process that dies without a word, as when a machine is switched off."""
    hub.large["facebook/wav2vec2-base-960h/model.safetensors"] = LARGE
    program = (
        "import sys, dataclasses; from hallo4.weights import catalogue; from hallo4.cli import main\n"
        "import huggingface_hub.constants; huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 10_000\n"
        "catalogue.FILES['wav2vec2'] = dataclasses.replace(catalogue.FILES['wav2vec2'],"
        f" size_bytes={len(LARGE)}, sha256='{hashlib.sha256(LARGE).hexdigest()}')\n"
        "sys.exit(main(['weights', 'fetch', 'wav2vec2', '-o', sys.argv[1]]))"
    )
    words = [sys.executable, "-c", program, str(tmp_path)]
    environment = os.environ | {"HF_ENDPOINT": hub.url}
    hub.pause_s = 0.2
    folder = tmp_path / "wav2vec/wav2vec2-base-960h"
    with subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL) as running:
        parts = []
        while not (parts and parts[0].stat().st_size):
            assert running.poll() is None
            time.sleep(0.02)
            parts = list(folder.glob(".*.part"))
        running.send_signal(signal.SIGKILL)
    assert not (folder / "model.safetensors").exists()
    hub.pause_s = 0
    hub.seen.clear()
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}\n"), done.stderr
    assert (folder / "model.safetensors").read_bytes() == LARGE
    (ranges,) = content_requests(hub)
    assert int(ranges.removeprefix("bytes=").removesuffix("-")) > 0


def test_ctrl_c_keeps_the_part(hub, net, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    plan = plan_fetch([net], tmp_path)
    monkeypatch.setattr(fetching, "_verify", interrupted)
    with pytest.raises(Cancelled, match=r"net\.pth.*same command resumes"):
        run_fetch(plan)
    assert names(tmp_path) == [f"parts/.net.pth.{net.sha256[:16]}.part"]


def test_a_part_of_another_state_of_the_file_is_not_continued(hub, net, tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/.net.pth.fedcba9876543210.part").write_bytes(b"old")
    fetch(net, folder=tmp_path)
    assert names(tmp_path) == ["parts/net.pth"]
    assert content_requests(hub) == [None]


@pytest.mark.parametrize("known", [True, False], ids=["of the catalogue", "of the hub"])
def test_content_with_another_hash_is_removed_and_said(hub, net, tmp_path, known):
    hub.served["maker/model/net.pth"] = LARGE[:-1] + b"!"
    file = net if known else replace(net, size_bytes=None, sha256=None)
    with pytest.raises(FetchError, match=r"is not the published file: its SHA-256 begins with .*removed"):
        fetch(file, folder=tmp_path)
    assert names(tmp_path) == []


def test_a_small_file_is_compared_with_its_git_hash(hub, settings, tmp_path):
    hub.served["maker/model/config.json"] = SMALL.replace(b"1", b"9")
    with pytest.raises(FetchError, match="git SHA-1 begins with"):
        fetch(settings, folder=tmp_path)
    assert names(tmp_path) == []


def test_a_server_that_offers_another_file_is_refused_before_the_download(hub, net, tmp_path):
    hub.large["maker/model/net.pth"] = LARGE[::-1]
    with pytest.raises(FetchError, match=r"not offered: .*maker/model offers a file with SHA-256"):
        plan_fetch([net], tmp_path)
    hub.large["maker/model/net.pth"] = LARGE[:-5]
    with pytest.raises(FetchError, match=r"offers a file of 1,048,571 bytes, not 1,048,576"):
        plan_fetch([replace(net, sha256=None)], tmp_path)
    assert content_requests(hub) == []


def test_the_next_source_is_asked_and_its_suffix_kept(hub, net, tmp_path):
    hub.large["copy/model/toy.ckpt"] = hub.large.pop("maker/model/net.pth")
    file = replace(net, sources=(*net.sources, HubFile("copy/model", "toy.ckpt")))
    plan = fetch(file, folder=tmp_path)
    assert plan.steps[0].source.repository == "copy/model"
    assert names(tmp_path) == ["parts/net.ckpt"]
    assert plan_fetch([file], tmp_path).here[0].state == "right"


def test_a_plain_web_server_is_resumed_and_gets_no_token(hub, net, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    file = replace(net, sources=(WebFile(f"{hub.url}/content/maker/model/net.pth"),), sha256=net.sha256[:8])
    hub.cut_after_bytes = 100_000
    with pytest.raises(FetchError, match="broke"):
        fetch(file, folder=tmp_path)
    hub.down, hub.cut_after_bytes = False, None
    fetch(file, folder=tmp_path)
    assert content_requests(hub)[-1] == "bytes=100000-"
    assert (tmp_path / "parts/net.pth").read_bytes() == LARGE
    assert not any(token for *_, token in hub.seen)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, "GatedRepo"), r"access is refused \(the server answers 401\).*terms.*maker/model.*HF_TOKEN"),
        ((403, "GatedRepo"), r"access is refused \(the server answers 403\)"),
        ((401, "RepoNotFound"), r"not offered: .*not shown to you \(the server answers 401\)"),
        ((404, "EntryNotFound"), r"maker/model: net\.pth is not there"),
        ((404, None), r"maker/model: net\.pth is not there"),
        ((503, None), "the server answers 503"),
    ],
)
def test_refusals_are_one_line(hub, net, tmp_path, answer, words):
    hub.refuse["maker/model/net.pth"] = answer
    with pytest.raises(FetchError, match=words) as caught:
        plan_fetch([net], tmp_path)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


def test_no_network(hub, net, tmp_path):
    hub.close()
    with pytest.raises(FetchError, match=r"no connection.*--from"):
        plan_fetch([net], tmp_path)


def test_offline_by_wish(hub, net, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FetchError, match=r"HF_HUB_OFFLINE is set.*--from"):
        plan_fetch([net], tmp_path)
    assert hub.seen == []


@pytest.mark.parametrize("place", ["parts/net.pth", "net.pth"])
@pytest.mark.parametrize("linked", [True, False])
def test_files_at_hand_are_taken_without_a_network(hub, net, tmp_path, monkeypatch, place, linked):
    hub.down = True
    own = tmp_path / "own" / place
    own.parent.mkdir(parents=True)
    own.write_bytes(LARGE)
    if not linked:

        def refused(*_):
            raise OSError("no links on this disk")

        monkeypatch.setattr(fetching.os, "link", refused)
    plan = fetch(net, folder=tmp_path / "w", own_files=tmp_path / "own")
    assert plan.download_bytes == 0
    assert (tmp_path / "w/parts/net.pth").read_bytes() == LARGE
    assert own.samefile(tmp_path / "w/parts/net.pth") == linked
    assert names(tmp_path / "w") == ["parts/net.pth"]
    assert hub.seen == []


def test_wrong_files_at_hand_and_in_place_are_refused_and_left_alone(hub, net, tmp_path):
    (tmp_path / "net.pth").write_bytes(LARGE[:-1] + b"!")
    with pytest.raises(InputError, match=r"net\.pth: its SHA-256 begins with"):
        plan_fetch([net], tmp_path / "w", own_files=tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        plan_fetch([net], tmp_path / "w", own_files=tmp_path / "nowhere")
    shutil.copytree(tmp_path, tmp_path / "w/parts", dirs_exist_ok=True, ignore=lambda *_: ["w"])
    with pytest.raises(InputError, match=r"w/parts/net\.pth: its SHA-256.*Move it away"):
        plan_fetch([net], tmp_path / "w")
    assert names(tmp_path) == ["net.pth", "w/parts/net.pth"]


def test_what_no_server_offers_is_left_to_the_user(hub, net, settings, tmp_path):
    alone = replace(settings, sources=(), by_hand="a shop")
    plan = plan_fetch([alone, net], tmp_path)
    assert (plan.by_hand, [step.file for step in plan.steps]) == ((alone,), [net])


def test_too_little_space_is_said_before_anything_is_fetched(hub, net, settings, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: usage(0, 0, 48_576))
    with pytest.raises(OutputError, match=r"0\.00 GB are to come, 0\.00 GB are free, 0\.00 GB are missing"):
        plan_fetch([net, settings], tmp_path / "w")
    hub.large["maker/model/net.pth"] = b"0" * 30
    big = replace(net, size_bytes=None, sha256=None)
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: usage(0, 0, 29))
    with pytest.raises(OutputError, match="are missing"):
        plan_fetch([big], tmp_path / "w")
    assert content_requests(hub) == []
    assert not (tmp_path / "w").exists()


def test_a_disk_that_fills_up_keeps_the_part(hub, net, tmp_path, monkeypatch):
    def full(url, file, **_):
        file.write(LARGE[:1000])
        raise OSError(28, "No space left on device")

    plan = plan_fetch([net], tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.file_download.http_get", full)
        with pytest.raises(OutputError, match=r"the disk is full.*resumes"):
            run_fetch(plan)
    run_fetch(plan)
    assert content_requests(hub) == ["bytes=1000-"]
    assert names(tmp_path) == ["parts/net.pth"]


def test_a_place_that_cannot_be_written_is_named(hub, net, tmp_path):
    (tmp_path / "parts").write_text("a file where a folder should be")
    with pytest.raises(OutputError, match=r"parts/net\.pth: cannot be written"):
        run_fetch(plan_fetch([net], tmp_path))


def test_two_commands_do_not_write_one_file(hub, net, tmp_path):
    plan = plan_fetch([net], tmp_path)
    (tmp_path / "parts").mkdir()
    with (
        sole_writer(tmp_path / "parts/net.pth"),
        pytest.raises(OutputError, match="is working on it"),
    ):
        run_fetch(plan)
    run_fetch(plan)
    assert names(tmp_path) == ["parts/net.pth"]
