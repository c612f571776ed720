"""`hallo4 prefer`: the words reach the room, and what goes wrong is one line."""

import json
import sys
import types

import pytest
from preference_records import both, clip, condition

from hallo4.cli import main
from hallo4.preference import MachineScore, PreferenceStore


@pytest.fixture
def scored(tmp_path):
    """Twenty conditions with three clips each, scored by a machine."""
    store = PreferenceStore.create(tmp_path / "store")
    for c in range(20):
        store.add_condition(condition(f"c{c}"))
        for n in range(3):
            store.add_clip(clip(f"k{c}-{n}", of=f"c{c}"))
            for axis in ("alignment", "fidelity"):
                store.add_score(MachineScore(f"k{c}-{n}", axis, 2.0 + 0.8 * n, {}, "world-truth", "1"))
    return store


def test_from_scores_to_pairs_and_a_report(scored, tmp_path, capsys):
    folder = str(scored.folder)
    assert main(["prefer", "simulate", folder, "--raters", "3", "--noise", "0.3", "0.3"]) == 0
    said = capsys.readouterr()
    assert "360 SIMULATED ratings added" in said.err
    assert main(["prefer", "pairs", folder, "--held-out", "0.2"]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == folder
    pairs = scored.pairs().values()
    assert 15 <= len(pairs) <= 20
    assert all(p.winner.endswith("-2") and p.loser.endswith("-0") for p in pairs)
    assert 0.1 < sum(p.split == "held_out" for p in pairs) / len(pairs) < 0.3
    out = tmp_path / "report.json"
    assert main(["prefer", "report", folder, "-o", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out.strip().endswith(str(out))
    assert "SIMULATED" in said.err
    assert json.loads(out.read_text())["counts"]["pairs"] == len(pairs)


def test_pairs_that_give_the_source_away_are_refused(tmp_path, capsys):
    store = PreferenceStore.create(tmp_path / "store")
    for c in range(12):
        store.add_condition(condition(f"c{c}"))
        for system, value in (("good", 5.0), ("bad", 1.0)):
            store.add_clip(clip(f"{system}{c}", of=f"c{c}", system=system))
            store.add_ratings([r for who in "xyz" for r in both(who, clip_id=f"{system}{c}", value=value)])
    assert main(["prefer", "pairs", str(store.folder)]) == 2
    assert "who made a clip predicts the winner in 100% of pairs" in capsys.readouterr().err
    assert store.pairs() == {}
    assert main(["prefer", "pairs", str(store.folder), "--allow-source-shortcut"]) == 0
    assert len(store.pairs()) == 12


def test_no_pairs_leave_the_old_ones(scored, capsys):
    folder = str(scored.folder)
    assert main(["prefer", "pairs", folder, "--evidence", "machine", "--min-gap", "1.5"]) == 0
    before = scored.pairs()
    assert main(["prefer", "pairs", folder, "--evidence", "machine", "--min-gap", "3.9"]) == 2
    said = capsys.readouterr().err
    assert "no pair passed; those in the store stay" in said
    assert "dropped, small gap: 60" in said
    assert scored.pairs() == before != {}


@pytest.mark.parametrize("command", ["score", "simulate", "pairs", "annotate"])
def test_a_folder_that_is_no_store_is_said(tmp_path, capsys, command):
    assert main(["prefer", command, str(tmp_path)]) == 2
    assert "is no preference store" in capsys.readouterr().err


def test_annotate_serves_the_store(scored, monkeypatch, capsys):
    served = {}

    def serve(folder, host, port, **more):
        served.update(folder=folder, host=host, port=port, **more)
        more["on_ready"](types.SimpleNamespace(rate="http://localhost/rate", admin="http://localhost/admin"))

    monkeypatch.setitem(sys.modules, "hallo4.studio.annotate", types.SimpleNamespace(serve=serve))
    words = ["prefer", "annotate", str(scored.folder), "--port", "9000", "--mode", "score"]
    assert main([*words, "--raters", "2", "--overlap", "0.5", "--overlap-raters", "4"]) == 0
    assert (served["folder"], served["port"], served["mode"]) == (scored.folder, 9000, "score")
    quotas = served["quotas"]
    assert (quotas.raters, quotas.overlap, quotas.overlap_raters) == (2, 0.5, 4)
    assert main([*words, "--overlap", "1.5"]) == 2
    said = capsys.readouterr().err
    assert "http://localhost/rate" in said
    assert "http://localhost/admin" in said


def test_candidates_ask_for_the_takes_that_were_named(tmp_path, monkeypatch):
    asked = {}

    def make(store, conditions, variants, on_progress, workers):
        asked.update(conditions=conditions, variants=variants)

    monkeypatch.setattr("hallo4.preference.candidates.make_candidates", make)
    monkeypatch.setattr("hallo4.preference.conditions.add_world_condition", lambda store, *of: of)
    words = ["prefer", "candidates", str(tmp_path / "s"), "--model", "one", "two", "--seeds", "2"]
    words += ["--guidance-scale", "1", "2.5", "--episodes", "3", "--first-episode", "7", "--seconds", "2"]
    assert main(words) == 0
    assert asked["conditions"] == [(7, 2.0, 128), (8, 2.0, 128), (9, 2.0, 128)]
    assert {(v.checkpoint, v.seed, v.guidance_scale) for v in asked["variants"]} == {
        (model, seed, scale) for model in ("one", "two") for seed in (0, 1) for scale in (1.0, 2.5)
    }


def test_what_is_missing_is_asked_for(tmp_path, capsys):
    (tmp_path / "p.png").write_text("x")
    words = ["prefer", "candidates", str(tmp_path / "s")]
    assert main([*words, "--portrait", str(tmp_path / "p.png")]) == 2
    assert "--portrait needs --audio" in capsys.readouterr().err
    assert main([*words, "--video", str(tmp_path / "v.mp4")]) == 2
    assert "--video needs --condition" in capsys.readouterr().err


def test_help_is_quick_and_names_every_command(capsys):
    assert main(["prefer", "--help"]) == 0
    said = capsys.readouterr().out
    for command in ("candidates", "score", "annotate", "pairs", "report", "import", "export", "simulate"):
        assert command in said
