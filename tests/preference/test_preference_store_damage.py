"""A damaged store, a full disk, a disk of another machine: what is lost is named, nothing else is lost."""

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from preference_records import clip, condition, pair, rating, sql

from hallo4.errors import InputError, OutputError
from hallo4.preference import PreferenceStore, StoreWarning
from hallo4.preference.database import on_network


def raw(store, record, table="ratings", key="x"):
    values = (key, "", record)
    sql(store, f"INSERT INTO {table} (key, about, record) VALUES (?, ?, ?)", *values)


def test_a_row_that_cannot_be_read_is_named_and_the_rest_kept(store):
    one, two = rating(), rating()
    store.add_rating(one)
    raw(store, '{"schema_version": 1, "event_id": "x"}', key="x1")
    raw(store, b"\xff\xfe", key="x2")
    raw(store, "not json", key="x3")
    store.add_rating(two)
    again = PreferenceStore.open(store.folder)
    with pytest.warns(StoreWarning, match=r"3 rows left out; the first: ratings row 2: "):
        assert again.ratings() == [one, two]
    assert [problem.split(":")[0] for problem in again.problems] == [f"ratings row {n}" for n in (2, 3, 4)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert again.ratings() == [one, two]  # said once
    assert sql(store, "SELECT count(*) FROM ratings") == [(5,)], "nothing was thrown away"


def test_rows_about_unknown_things_are_left_out(store):
    store.add_rating(rating())
    raw(store, rating(clip_id="k9").to_json())
    raw(store, clip("k3", of="c9").to_json(), "clips", "k3")
    again = PreferenceStore.open(store.folder)
    with pytest.warns(StoreWarning):
        assert len(again.ratings()) == 1
    assert sorted(again.problems) == [
        "clips row 4: names c9, which is not in the store",
        "ratings row 2: names k9, which is not in the store",
    ]
    raw(store, condition("c9").to_json(), "conditions", "c9")
    assert "k3" in again.clips(), "what it named is there now"


def test_a_row_of_a_later_version_is_left_out_and_named(store):
    raw(store, rating().to_json().replace('"schema_version": 2', '"schema_version": 3'))
    with pytest.warns(StoreWarning, match="schema_version is 3; this hallo4 reads 1 and 2"):
        assert store.ratings() == []


def test_a_store_of_another_version_or_another_program_is_one_line(store):
    store.close()
    sql(store, "PRAGMA user_version = 7")
    with pytest.raises(InputError, match=r"preferences.sqlite: is a store of version 7; this hallo4 reads 1"):
        PreferenceStore.open(store.folder)
    sql(store, "PRAGMA application_id = 5")
    with pytest.raises(InputError, match="is a database of another program"):
        PreferenceStore.open(store.folder)


@pytest.mark.parametrize("content", [b"not a database", b"SQLite format 3\x00" + b"\xff" * 3000])
def test_a_damaged_file_is_one_line(store, content):
    store.close()
    (store.folder / "preferences.sqlite").write_bytes(content)
    with pytest.raises(InputError, match=r"preferences.sqlite: cannot be read as a database") as error:
        PreferenceStore.open(store.folder)
    assert "\n" not in str(error.value)


def test_a_missing_table_is_named(store):
    sql(store, "DROP TABLE gold")
    store.close()
    with pytest.raises(InputError, match="has no table gold"):
        PreferenceStore.open(store.folder)


def test_a_store_that_was_never_finished_is_finished(store):
    (store.folder / "preferences.sqlite").unlink()
    (store.folder / "preferences.sqlite").touch()  # what a kill leaves that came first of all
    assert PreferenceStore.create(store.folder).conditions() == {}


def full(store):
    """A disk on which nothing more fits."""
    with store.database.reading() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")


def room(store):
    with store.database.reading() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")


def test_a_full_disk_loses_nothing_and_adds_nothing(store):
    one, many = rating(), [rating(event_id=f"n{n}") for n in range(200)]
    store.add_rating(one)
    full(store)
    with pytest.raises(OutputError, match=r"nothing was added \(database or disk is full\)"):
        store.add_ratings(many)
    assert store.ratings() == [one], "all or none"
    room(store)
    assert store.add_ratings(many) == 200, "what was not acknowledged can be sent again"
    assert PreferenceStore.open(store.folder).ratings() == [one, *many]


def test_pairs_stay_when_the_disk_is_full(store):
    store.write_pairs([pair("k0", "k1")])
    store.write_pairs([pair("k0", "k1")])
    full(store)
    many = [replace(pair("k1", "k0"), pair_id=f"p{n}") for n in range(500)]
    with pytest.raises(OutputError, match="full"):
        store.write_pairs(many)
    room(store)
    assert list(store.pairs()) == list(PreferenceStore.open(store.folder).pairs()) == ["k0-k1"]


def test_what_an_undone_block_read_was_never_there(store):
    with pytest.raises(RuntimeError), store.database.writing():  # noqa: PT012
        store.add_rating(rating(event_id="e"))
        assert [r.event_id for r in store.ratings()] == ["e"]
        raise RuntimeError
    assert store.ratings() == []
    other = rating(event_id="other")
    assert PreferenceStore.open(store.folder).add_rating(other)
    assert store.ratings() == [other]


def test_where_it_lies_decides_the_journal(store, monkeypatch):
    assert sql(store, "PRAGMA journal_mode") == [("wal",)]
    store.close()
    monkeypatch.setattr("hallo4.preference.database.on_network", lambda path: True)
    PreferenceStore.open(store.folder).add_rating(rating(event_id="far"))
    assert sql(store, "PRAGMA journal_mode") == [("delete",)], "shared memory does not cross a network"
    monkeypatch.undo()
    assert [r.event_id for r in PreferenceStore.open(store.folder).ratings()] == ["far"]
    assert sql(store, "PRAGMA journal_mode") == [("wal",)]


MOUNTS = """/dev/sda / ext4 rw 0 0
proc /proc proc rw 0 0
filer:/x /data/anna nfs4 rw 0 0
/dev/sdb /data/anna/local\\040disk xfs rw 0 0
"""


@pytest.mark.parametrize(
    ("place", "far"),
    [("/data/anna/store", True), ("/data/anna/local disk/store", False), ("/data/annabel", False)],
)
def test_network_file_systems_are_told(monkeypatch, place, far):
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: MOUNTS)
    assert on_network(Path(place)) is far
