"""Stores of an older hallo4 are upgraded whole, whatever interrupts it."""

import json
import shutil

import pytest

from hallo4.cli import main
from hallo4.errors import InputError
from hallo4.preference import PreferenceStore
from hallo4.preference.schema import TABLES
from hallo4.studio import upgrade as upgrading
from hallo4.studio.upgrade import upgrade

TOKEN, OTHER = "a" * 32, "b" * 32


def older(line, **changes):
    """A record as it was written then."""
    values = {**json.loads(line), "schema_version": 1, **changes}
    values.pop("question", None)
    return json.dumps(values)


@pytest.fixture
def old(store_folder):
    """The store of the studio's tests as JSON lines, with ratings and what the page wrote."""
    store = PreferenceStore.open(store_folder)
    lines = {
        name: [older(record.to_json()) for record in getattr(store, name)().values()]
        for name in ("conditions", "clips")
    }
    lines["gold"] = [older(gold.to_json()) for gold in store.gold()]
    store.close()
    (store_folder / "preferences.sqlite").unlink()
    a, b = "condition-1-gamma9-dpo", "condition-1-wavy-beta"
    rating = {
        "schema_version": 1, "rater_id": "anna", "kind": "comparison", "clip_id": None,
        "clip_a": a, "clip_b": b,
        "value": "a", "left_clip_id": b, "flags": ["unsafe"], "shown_ms": 900, "answered_unix_ms": 5,
        "ui_version": "1", "role": "plain", "repeat_of": None, "simulated": False,
    }  # fmt: skip
    lines["ratings"] = [
        json.dumps({**rating, "event_id": f"{TOKEN}-{axis}", "axis": axis})
        for axis in ("alignment", "fidelity")
    ]
    lines["ratings"].append(json.dumps({**rating, "event_id": "from-elsewhere", "axis": "alignment"}))
    lines["scores"], lines["pairs"] = [], []
    for name, of in lines.items():
        (store_folder / f"{name}.jsonl").write_text("".join(line + "\n" for line in of))
    (store_folder / "studio").mkdir()
    events = [
        {"event": "joined", "rater_id": "anna", "key_sha256": "0" * 64, "at_unix_ms": 1},
        {"event": "given", "token": TOKEN, "rater_id": "anna", "condition_id": "condition-1", "clips": [a, b],
         "left": b, "role": "plain", "repeat_of": None, "at_unix_ms": 2},
        {"event": "answered", "token": TOKEN, "submit_id": OTHER, "alignment": "right", "fidelity": "right",
         "flags_left": ["unsafe"], "flags_right": [], "shown_ms": 900, "ui_version": "1", "at_unix_ms": 5},
    ]  # fmt: skip
    text = "".join(json.dumps({"schema_version": 1, **event}) + "\n" for event in events)
    (store_folder / "studio" / "events.jsonl").write_text(text)
    return store_folder


def test_an_older_store_is_named_and_how_to_take_it_over(old, capsys):
    assert main(["prefer", "report", str(old), "-o", "x.json"]) == 2
    assert "`hallo4 prefer upgrade " in capsys.readouterr().err
    with pytest.raises(InputError, match="is a store of an older hallo4"):
        PreferenceStore.create(old)


def test_everything_is_taken_over_and_the_old_files_are_kept(old, capsys):
    kept = {path.name: path.read_bytes() for path in [*old.glob("*.jsonl"), *old.glob("studio/*.jsonl")]}
    assert main(["prefer", "upgrade", str(old)]) == 0
    said = capsys.readouterr()
    assert "23 records upgraded" in said.err
    store = PreferenceStore.open(old)
    assert [len(getattr(store, name)()) for name in TABLES] == [4, 12, 3, 0, 1, 0, 0]
    assert {path.name: path.read_bytes() for path in (old / "older").iterdir()} == kept
    assert not list(old.glob("*.jsonl"))
    a, b = "condition-1-gamma9-dpo", "condition-1-wavy-beta"
    flags = {rating.event_id: rating.flags for rating in store.ratings()}
    assert flags[f"{TOKEN}-alignment"] == {b: ("unsafe",)}, "the page knew which one"
    assert flags["from-elsewhere"] == {a: ("unsafe",), b: ("unsafe",)}, "nobody knows: both"
    assert main(["prefer", "upgrade", str(old)]) == 0, "again does no harm"
    assert store.ratings() == PreferenceStore.open(old).ratings()


def test_what_cannot_be_read_is_named_and_kept_in_the_old_file(old):
    with (old / "ratings.jsonl").open("a") as file:
        file.write('{"cut sho')
    made = upgrade(old)
    assert [line.partition(":")[0] for line in made.dropped] == ["ratings.jsonl line 4"]
    assert (old / "older" / "ratings.jsonl").read_text().endswith('{"cut sho')


@pytest.mark.parametrize("broken", ["commit", "_put_away", "import_lines"])
def test_interrupted_it_can_be_done_again(old, monkeypatch, broken):
    with monkeypatch.context() as patch:
        patch.setattr(upgrading, broken, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            upgrade(old)
    assert (old / "ratings.jsonl").is_file()
    upgrade(old)
    assert len(PreferenceStore.open(old).ratings()) == 3
    assert not list(old.glob(".hallo4*"))


def test_what_is_no_store_is_said(tmp_path):
    with pytest.raises(InputError, match="is not a preference store of an older hallo4"):
        upgrade(tmp_path)
    shutil.rmtree(tmp_path)
    with pytest.raises(InputError, match="is not a preference store"):
        upgrade(tmp_path)
