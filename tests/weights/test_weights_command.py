"""`hallo4 weights`: what people and programs see."""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hub_server import LARGE, SMALL

from hallo4.cli import main
from hallo4.cli import weights as command
from hallo4.weights.catalogue import BUNDLES, FILES


@pytest.fixture
def said(capsys):
    """Run words; returns (exit code, stdout, stderr)."""

    def run(*words):
        code = main(["weights", *words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def place(root, file, content):
    path = root / "toys" / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_list_shows_everything_and_cuts_nothing(said, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    code, out, err = said("list")
    assert (code, "files go to" in err) == (0, True)
    assert "…" not in out
    if columns == "200":
        for file in FILES.values():
            assert file.name in out
        assert "11.4 GB" in out
        assert "non-commercial research only" in out
        assert "pip install 'hallo4[released]'" in out


def test_list_says_what_is_here(said, hub, toys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    place(tmp_path / "all", toys[0], LARGE)
    assert f"here: {tmp_path}/all/toys/parts/net.pth" in said("list", "toys")[1]
    place(tmp_path / "all", toys[0], LARGE[:-1])
    _, out, _ = said("list", "toy-net")
    assert "it has 1,048,575 bytes, the published file has 1,048,576" in out


def test_list_for_programs(said, hub, toys, tmp_path):
    place(tmp_path / "all", toys[1], SMALL)
    _, out, _ = said("list", "toys", "--json")
    net, settings = json.loads(out)
    assert (net["name"], net["state"], net["size_bytes"]) == ("toy-net", "missing", len(LARGE))
    assert net["sources"] == [{"repository": "maker/model", "path": "net.pth"}]
    assert (settings["bundle"], settings["state"]) == ("toys", "unknown")
    assert settings["local_path"] == str(tmp_path / "all/toys/parts/config.json")
    assert len(json.loads(said("list", "--json")[1])) == len(FILES)


def test_fetch_shows_terms_and_size_and_prints_the_folder(said, hub, toys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    code, out, err = said("fetch", "toys")
    assert (code, out) == (0, f"{tmp_path}/all/toys\n")
    for words in ("to fetch: 1.0 MB", "from huggingface.co/maker/model", "terms: free", "1.0 MB", "a toy"):
        assert words in err
    hub.down = True
    code, _, err = said("fetch", "toys")
    assert code == 0
    assert "net.pth\n" in err
    assert "config.json (not compared: its SHA-256 is not known)" in err
    assert said("fetch", "toy-net", "-o", str(tmp_path / "w"), "--from", str(tmp_path / "all/toys"))[0] == 0
    assert (tmp_path / "w/parts/net.pth").read_bytes() == LARGE


def test_much_is_asked_for_first(said, hub, toys, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "ASK_ABOVE_BYTES", 1000)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    code, _, err = said("fetch", "toys")
    assert code == 2
    assert "hallo4: error: 1.0 MB would be fetched, and there is no terminal to ask at. Add --yes" in err
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True, readline=lambda: "\n"))
    code, _, err = said("fetch", "toys")
    assert (code, err.endswith("Fetch 1.0 MB? [y/N] hallo4: nothing was fetched\n")) == (130, True)
    assert not (tmp_path / "all").exists()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True, readline=lambda: "y\n"))
    assert said("fetch", "toy-net")[0] == 0
    monkeypatch.setattr(sys, "stdin", None)
    assert said("fetch", "toys", "--yes")[0] == 0


def test_what_only_a_person_can_bring_is_said_after_the_rest_came(said, hub, toys, tmp_path, monkeypatch):
    alone = replace(toys[1], sources=(), by_hand="a shop in town")
    monkeypatch.setitem(BUNDLES, "toys", replace(BUNDLES["toys"], files=(alone, toys[0])))
    code, _, err = said("fetch", "toys")
    assert code == 2
    assert "offers parts/config.json (a shop in town; terms: free)" in err.splitlines()[-1]
    assert (tmp_path / "all/toys/parts/net.pth").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fetch"], "Name what to fetch: hallo4,"),
        (["fetch", "hallo5"], "'hallo5' is no bundle or file"),
        (["list", "hallo5"], "'hallo5' is no bundle or file"),
        (["check", "hallo5"], "'hallo5' is no folder and no name"),
        (["check", "."], ".: holds no file of the catalogue"),
        (["fetch", "toys", "--from", "nowhere"], "nowhere: is no folder"),
    ],
)
def test_wrong_words_are_one_line(said, hub, toys, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = said(*words)
    assert code == 2
    assert err.splitlines()[-1].startswith(f"hallo4: error: {message}")


def test_check_by_name_and_by_folder(said, hub, toys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    root = tmp_path / "all"
    place(root, toys[0], LARGE)
    code, out, err = said("check", "toys")
    assert code == 2
    assert "config.json: is not there. Fetch it: hallo4 weights fetch toy-config." in err
    assert "right" in out
    assert "missing" in out
    place(root, toys[1], SMALL)
    for word in ("toys", str(root / "toys")):
        code, out, err = said("check", word)
        assert (code, err) == (0, "")
        assert "unknown (not compared: its SHA-256 is not known)" in out
    assert said("check", "toy-net")[0] == 0
    (root / "toys/parts/config.json").unlink()
    assert f"hallo4 weights fetch toy-config -o {root}/toys." in said("check", str(root / "toys"))[2]
    place(root, toys[0], LARGE[:-1] + b"!")
    code, out, err = said("check")
    assert code == 2, "without words all that is here is looked at"
    assert "net.pth: its SHA-256 begins with" in err
    assert "missing" not in out
