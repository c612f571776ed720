"""The catalogue: facts that must hold of every entry, and what is found of them on this computer."""

import hashlib
import re
import tomllib
from pathlib import Path, PurePosixPath

import pytest

from hallo4.errors import CheckpointError, InputError
from hallo4.input_file import file_sha256
from hallo4.weights import check
from hallo4.weights.catalogue import BUNDLES, FILES, HubFile, WeightFile, files_named
from hallo4.weights.check import check_file, find_weights
from hallo4.weights.places import folder_of, present, weights_root

ROOT = Path(__file__).parents[2]
RELEASE = ROOT.parent / "shared" / "golden" / "end_to_end" / "pretrained_models"
ALL = [file for bundle in BUNDLES.values() for file in bundle.files]


def test_every_file_stands_once():
    assert len(FILES) == len(ALL)
    places = [(file.folder, path) for file in ALL for path in file.paths]
    assert len(set(places)) == len(places)
    assert not set(FILES) & set(BUNDLES), "a word names a bundle or a file, never both"


@pytest.mark.parametrize("file", ALL, ids=lambda file: file.name)
def test_an_entry_is_complete_and_stays_in_its_folder(file):
    for path in (*file.paths, file.folder):
        assert not PurePosixPath(path).is_absolute()
        assert not {"..", "."} & set(PurePosixPath(path).parts)
        assert "\\" not in path
    assert file.purpose
    assert file.terms
    assert file.where, "fetched or brought by hand, it is published somewhere"
    assert file.size_bytes is None or file.size_bytes > 0
    for source in file.sources:
        if isinstance(source, HubFile):
            assert re.fullmatch(r"[\w.-]+/[\w.-]+", source.repository)
        else:
            assert source.url.startswith("https://")


def test_a_hash_is_whole_or_the_one_that_the_name_carries():
    for file in ALL:
        if file.sha256 is not None:
            assert re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{8}", file.sha256), file.name
            assert len(file.sha256) == 64 or file.sha256 in file.path


def test_every_extra_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {file.extra for file in ALL} - {None} <= set(extras)


def test_the_transformer_may_come_with_any_of_three_suffixes():
    assert FILES["hallo4-dit"].paths == tuple(
        f"hallo4/model_weight.{suffix}" for suffix in ("pth", "ckpt", "safetensors")
    )


@pytest.mark.skipif(not RELEASE.is_dir(), reason="the end-to-end case lies outside the repository")
def test_every_file_of_the_released_layout_is_known():
    known = {path for file in BUNDLES["hallo4"].files for path in file.paths}
    found = {path.relative_to(RELEASE).as_posix() for path in RELEASE.rglob("*") if path.is_file()}
    assert found <= known


def test_names_mean_bundles_or_files():
    assert files_named("metrics") == BUNDLES["metrics"].files
    assert files_named("umt5") == (FILES["umt5"],)
    with pytest.raises(
        InputError,
        match=r"'umt6' is no bundle or file.*hallo4, voice-separator, pose-light, pose-dwpose, metrics",
    ):
        files_named("umt6")


def test_the_root_is_one_variable(monkeypatch, tmp_path):
    monkeypatch.delenv("HALLO4_WEIGHTS", raising=False)
    assert weights_root() == Path("~/.cache/hallo4/weights").expanduser()
    monkeypatch.setenv("HALLO4_WEIGHTS", str(tmp_path))
    assert folder_of(FILES["syncnet"]) == tmp_path / "metrics"
    assert folder_of(FILES["umt5"]) == tmp_path / "pretrained_models"
    assert folder_of(FILES["umt5"], "elsewhere") == Path("elsewhere")


CONTENT = b"weights"
PROMISE = hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize(
    ("content", "size_bytes", "sha256", "state", "reason"),
    [
        (CONTENT, 7, PROMISE, "right", ""),
        (CONTENT, None, PROMISE[:8], "right", ""),
        (CONTENT, 7, None, "unknown", ""),
        (CONTENT[:-1], 7, PROMISE, "wrong", "it has 6 bytes, the published file has 7"),
        (b"weighTs", 7, PROMISE, "wrong", "its SHA-256 begins with"),
        (b"", None, None, "wrong", "it is empty"),
        (None, 7, PROMISE, "missing", ""),
    ],
)
def test_what_a_file_is_found_to_be(tmp_path, content, size_bytes, sha256, state, reason):
    file = WeightFile("toy", "toys", "toy.pth", "a toy", "free", size_bytes=size_bytes, sha256=sha256)
    if content is not None:
        (tmp_path / "toy.pth").write_bytes(content)
    finding = check_file(file, tmp_path)
    assert (finding.path, finding.state) == (tmp_path / "toy.pth", state)
    assert finding.reason.startswith(reason)
    assert bool(finding.reason) == (state == "wrong")
    assert (present(file, tmp_path) is None) == (state == "missing")


def test_without_hashing_the_size_alone_speaks(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "file_sha256", None)  # calling it would fail
    file = WeightFile("toy", "toys", "toy.pth", "a toy", "free", size_bytes=7, sha256=PROMISE)
    (tmp_path / "toy.pth").write_bytes(b"7 bytes")
    assert check_file(file, tmp_path, hashed=False).state == "unknown"


def test_weights_are_found_or_said_to_be_missing_or_wrong(tmp_path, monkeypatch):
    file = WeightFile("toy", "toys", "toy.pth", "Toys", "free", (HubFile("a/b", "c.pth"),), sha256=PROMISE)
    monkeypatch.setitem(FILES, "toy", file)
    with pytest.raises(
        CheckpointError,
        match=r"Toys needs the weights toy\.pth.*huggingface\.co/a/b \(free\).*weights fetch toy",
    ):
        find_weights("toy", tmp_path)
    (tmp_path / "toy.pth").write_bytes(CONTENT)
    assert find_weights("toy", tmp_path) == tmp_path / "toy.pth"
    assert file_sha256(tmp_path / "toy.pth") == PROMISE
    (tmp_path / "toy.pth").write_bytes(CONTENT[:-1])
    with pytest.raises(CheckpointError, match=rf"its SHA-256 begins with .*, .* with {PROMISE[:8]}"):
        find_weights("toy", tmp_path)
