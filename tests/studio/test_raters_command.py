"""`hallo4 prefer raters`: who looks closely, who is left out, who is forgotten, who is paid."""

import csv

import pytest
from studio_people import ONCE, Person

pytest.importorskip("fastapi", reason="the extra `studio` is not installed")
from fastapi.testclient import TestClient

from hallo4.cli import main
from hallo4.preference import PreferenceStore
from hallo4.studio.annotate import open_studio


@pytest.fixture
def rated(store_folder):
    """Two raters with two answers each."""
    with open_studio(store_folder, study=ONCE) as studio:
        for name in ("anna", "bert"):
            person = Person(TestClient(studio.app), studio.keys, name)
            for _ in range(2):
                person.answer(person.questions()["questions"][0])
    return store_folder


def test_raters_are_shown_excluded_and_forgotten(rated, tmp_path, capsys):
    words = ["prefer", "raters", str(rated)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "anna" in said
    assert "bert" in said
    assert main([*words, "--exclude", "anna", "--reason", "asked for it"]) == 0
    assert [e.reason for e in PreferenceStore.open(rated).excluded()] == ["asked for it"]
    assert main([*words, "--include", "anna"]) == 0
    assert main([*words, "--delete", "bert"]) == 0
    assert "bert: 4 answers deleted" in capsys.readouterr().err
    assert {r.rater_id for r in PreferenceStore.open(rated).ratings()} == {"anna"}
    assert main([*words, "--payment", str(tmp_path / "p.csv"), "--answers", str(tmp_path / "a.csv")]) == 0
    with (tmp_path / "p.csv").open() as file:
        assert [row["rater"] for row in csv.DictReader(file)] == ["anna"]
    with (tmp_path / "a.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 4


def test_a_store_without_ratings_says_how_to_collect_some(store_folder, capsys):
    assert main(["prefer", "raters", str(store_folder)]) == 0
    assert "no ratings yet: collect some with `hallo4 prefer annotate`" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [["--exclude", "dora"], ["--delete", "dora"], ["--include", "anna"], ["--below-gold", "2"],
              ["--payment", "STORE/p.csv"]],
)  # fmt: skip
def test_what_is_wrong_is_one_line_and_changes_nothing(rated, capsys, wrong):
    wrong = [word.replace("STORE", str(rated)) for word in wrong]
    assert main(["prefer", "raters", str(rated), *wrong]) == 2
    said = capsys.readouterr().err
    assert [line.startswith("hallo4: error: ") for line in said.splitlines()] == [True]
    store = PreferenceStore.open(rated)
    assert len(store.ratings()) == 8
    assert store.excluded() == []
