"""`hallo4 prefer`: the words reach the room, and what goes wrong is one line."""

import json
import sys
import types

import pytest
from preference_records import both, clip, condition

from hallo4.cli import main
from hallo4.preference import Curation, MachineScore, PreferenceStore
from hallo4.studio.study import default_study


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
    assert main(["prefer", "simulate", folder, "--kind", "score", "--noise", "0.3", "0.3"]) == 0
    said = capsys.readouterr()
    assert "360 SIMULATED ratings added" in said.err
    assert main(["prefer", "pairs", folder, "--evidence", "scores", "--held-out", "0.2"]) == 0
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
    assert main(["prefer", "pairs", str(store.folder), "--evidence", "scores"]) == 2
    assert "who made a clip predicts the winner in 100% of pairs" in capsys.readouterr().err
    assert store.pairs() == {}
    assert (
        main(["prefer", "pairs", str(store.folder), "--evidence", "scores", "--allow-source-shortcut"]) == 0
    )
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
    assert "is not a preference store" in capsys.readouterr().err


def test_annotate_serves_the_stores(scored, monkeypatch, capsys, tmp_path):
    served = {}

    def serve(folders, host, port, study, seed, **more):
        served.update(folders=folders, host=host, port=port, study=study, **more)
        links = types.SimpleNamespace(rate="http://localhost/rate", admin="http://localhost/admin")
        more["on_ready"]([links] * len(folders))

    monkeypatch.setitem(sys.modules, "hallo4.studio.annotate", types.SimpleNamespace(serve=serve))
    words = ["prefer", "annotate", str(scored.folder), str(tmp_path / "b"), "--port", "9000"]
    assert main(words) == 0
    assert (served["folders"], served["port"]) == ((scored.folder, tmp_path / "b"), 9000)
    assert served["study"].quotas.per_question == 3, "as many as pairs want"
    said = capsys.readouterr().err
    assert said.count("http://localhost/rate") == said.count("http://localhost/admin") == 2
    (tmp_path / "study.toml").write_text("version = 1")
    assert main([*words, "--study", str(tmp_path / "study.toml")]) == 2
    assert "study.toml: " in capsys.readouterr().err
    assert main([*words, "--port", "99999"]) == 2


def test_the_defaults_of_annotate_and_of_pairs_fit_together():
    assert default_study().mode == "comparison"
    assert Curation().evidence == "comparisons"
    assert default_study().quotas.per_question >= Curation().min_raters
    assert {q.axis for q in default_study().questions} == set(Curation().axes)


def test_the_ship_rule_is_a_command(tmp_path, capsys):
    store = PreferenceStore.create(tmp_path / "store")
    for c in range(60):
        store.add_condition(condition(f"c{c}"))
        for system in ("new", "old"):
            store.add_clip(clip(f"{system}{c}", of=f"c{c}", system=system))
        for who in "xyz":
            value = "a" if (c + ord(who)) % 4 else "b"
            store.add_ratings(both(who, clip_a=f"new{c}", clip_b=f"old{c}", value=value))
    words = ["prefer", "ship", str(store.folder)]
    assert main([*words, "new", "old"]) == 0
    said = capsys.readouterr().out
    assert "75.0 %" in said
    assert said.endswith("ships\n")
    assert main([*words, "old", "new"]) == 1
    assert "does not ship" in capsys.readouterr().out
    assert main([*words, "new", "nobody"]) == 2
    assert "no clip is of this source; there are new, old" in capsys.readouterr().err
    for name, sync, fid in (("good", 5.2, 50.0), ("bad", 4.0, 60.0), ("before", 5.0, 51.0)):
        metrics = {
            "sync_c": {"mean": sync, "low": sync - 0.2, "high": sync + 0.2, "n": 9},
            "fid": {"mean": fid},
        }
        (tmp_path / f"{name}.json").write_text(json.dumps({"metrics": metrics}))
    for name, code in (("good", 0), ("bad", 1)):
        reports = [str(tmp_path / f"{name}.json"), str(tmp_path / "before.json")]
        assert main([*words, "new", "old", "--reports", *reports]) == code
    assert capsys.readouterr().out.count("FAILED") == 2


def test_candidates_ask_for_the_takes_that_were_named(tmp_path, monkeypatch):
    asked = {}

    def make(store, conditions, variants, on_progress, engine):
        asked.update(conditions=conditions, variants=variants)

    monkeypatch.setattr("hallo4.preference.candidates.make_candidates", make)
    monkeypatch.setattr("hallo4.preference.conditions.add_world_condition", lambda store, *of: of)
    monkeypatch.setattr("hallo4.evaluation.suites.generators.world_of", lambda models: "-".join(models))
    words = ["prefer", "candidates", str(tmp_path / "s"), "--model", "one", "two", "--seeds", "2"]
    words += ["--guidance-scale", "1", "2.5", "--episodes", "3", "--first-episode", "7", "--seconds", "2"]
    assert main(words) == 0
    assert asked["conditions"] == [(number, 2.0, 128, "one-two") for number in (7, 8, 9)]
    assert main([*words, "--world", "lit-1"]) == 0
    assert {of[-1] for of in asked["conditions"]} == {"lit-1"}
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
