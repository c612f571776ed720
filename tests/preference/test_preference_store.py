"""The store: nothing acknowledged is lost, nothing half-written stays, whoever writes and whatever breaks."""

import errno
import fcntl
import multiprocessing
import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace

import pytest
from preference_records import clip, condition, pair, rating

from hallo4.errors import InputError, OutputError
from hallo4.preference import GoldAnswer, MachineScore, PreferenceStore, StoreWarning


def lines(store, name="ratings"):
    return (store.folder / f"{name}.jsonl").read_text().splitlines()


def score(value=3.0, version="1"):
    return MachineScore("k0", "alignment", value, {}, "s", version)


# ---------------------------------------------------------------------- plain use


def test_what_was_added_is_there_for_everyone(store):
    one, two = rating(), rating(clip_id="k2")
    assert store.add_rating(one)
    assert store.add_rating(two)
    again = PreferenceStore.open(store.folder)
    assert again.ratings() == store.ratings() == [one, two]
    assert again.conditions() == {"c0": condition()}
    assert list(again.clips()) == ["k0", "k1", "k2"]
    assert again.problems == []


def test_adding_twice_changes_nothing(store):
    first = rating()
    assert store.add_rating(first)
    assert not store.add_rating(first)
    assert not store.add_rating(replace(first, value="b"))  # the event counts, not the content
    assert not store.add_clip(clip("k0"))
    assert not store.add_condition(condition())
    assert store.add_ratings([rating(event_id="n"), first, rating(event_id="n")]) == 1
    assert [r.event_id for r in store.ratings()] == [first.event_id, "n"]
    assert len(lines(store)) == 2
    assert len(lines(store, "clips")) == 3


def test_an_id_with_other_contents_is_an_error(store):
    with pytest.raises(InputError, match=r"k0: is in clips\.jsonl with other contents"):
        store.add_clip(clip("k0", seed=1))
    with pytest.raises(InputError, match=r"c0: is in conditions\.jsonl"):
        store.add_condition(condition(identity="somebody-else"))


def test_the_last_machine_score_and_gold_answer_count(store):
    assert store.add_score(score(3.0))
    assert not store.add_score(score(3.0))
    assert store.add_score(score(4.0, "2"))
    assert store.scores() == {("k0", "alignment", "s"): score(4.0, "2")}
    assert store.add_gold(GoldAnswer("k0", "k1", "fidelity", "a"))
    assert store.add_gold(GoldAnswer("k1", "k0", "fidelity", "a"))  # the same question the other way round
    assert store.gold() == [GoldAnswer("k1", "k0", "fidelity", "a")]
    assert PreferenceStore.open(store.folder).scores() == store.scores()


def test_records_need_each_other(store):
    with pytest.raises(InputError, match="there is no condition c9"):
        store.add_clip(clip("k9", of="c9"))
    with pytest.raises(InputError, match=r"rating .*: there is no clip k9"):
        store.add_rating(rating(clip_b="k9"))
    with pytest.raises(InputError, match="there is no clip k9"):
        store.add_ratings([rating(), rating(clip_id="k9")])
    with pytest.raises(InputError, match="there is no clip k9"):
        store.write_pairs([pair("k0", "k9")])
    assert store.ratings() == []


@pytest.mark.parametrize(
    "change", [{"frames": 79}, {"fps": 24.0}, {"width_px": 126}, {"height_px": 130}], ids=str
)
def test_clips_of_a_condition_are_alike(store, change):
    with pytest.raises(InputError, match="clips of a condition must be alike: k0 is 80 frames at 25 fps"):
        store.add_clip(clip("k9", **change))
    store.add_condition(condition("c1"))
    store.add_clip(clip("k9", of="c1", **change))
    with pytest.raises(InputError, match="must be alike"):
        store.write_pairs([pair("k0", "k9")])


def test_pairs_replace_pairs_in_one_stroke(store):
    store.write_pairs([pair("k0", "k1"), pair("k2", "k1")])
    assert list(store.pairs()) == ["k0-k1", "k2-k1"]
    with pytest.raises(InputError, match="same pair_id"):
        store.write_pairs([pair("k0", "k1")] * 2)
    other = PreferenceStore.open(store.folder)
    assert list(other.pairs()) == ["k0-k1", "k2-k1"]
    store.write_pairs([pair("k1", "k0")])
    assert list(other.pairs()) == list(store.pairs()) == ["k1-k0"]
    assert sorted(p.name for p in store.folder.glob(".*")) == []


def test_create_and_open(tmp_path):
    with pytest.raises(InputError, match="is no preference store"):
        PreferenceStore.open(tmp_path)
    (tmp_path / "thesis.doc").write_text("mine")
    with pytest.raises(OutputError, match="holds other files"):
        PreferenceStore.create(tmp_path)
    with pytest.raises(OutputError, match="no store can be made here"):
        PreferenceStore.create(tmp_path / "thesis.doc")
    made = PreferenceStore.create(tmp_path / "new" / "store")
    made.add_condition(condition())
    assert PreferenceStore.create(made.folder).conditions() == {"c0": condition()}


def test_media_stay_inside(store, tmp_path):
    (tmp_path / "secret").write_text("x")
    (store.folder / "clips" / "k0.mp4").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="leads out of the store"):
        store.media_path("clips/k0.mp4")
    assert store.media_path("clips/k1.mp4") == (store.folder / "clips" / "k1.mp4").resolve()


# ---------------------------------------------------------------------- damaged files


def test_a_corrupt_line_is_named_and_the_rest_kept(store):
    one, two = rating(), rating()
    store.add_rating(one)
    with (store.folder / "ratings.jsonl").open("ab") as file:
        file.write(b'{"schema_version": 1, "event_id": "x"}\n\xff\xfe\n\nnot json\n')
    store.add_rating(two)
    again = PreferenceStore.open(store.folder)
    with pytest.warns(StoreWarning, match=r"3 lines left out; the first: ratings\.jsonl line 2: "):
        assert again.ratings() == [one, two]
    assert [problem.split(":")[0] for problem in again.problems] == [
        f"ratings.jsonl line {n}" for n in (2, 3, 5)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert again.ratings() == [one, two]  # said once
    assert len((store.folder / "ratings.jsonl").read_bytes().split(b"\n")) == 7, "nothing was thrown away"


def test_lines_about_unknown_things_are_left_out(store):
    store.add_rating(rating())
    with (store.folder / "ratings.jsonl").open("a") as file:
        file.write(rating(clip_id="k9").to_json() + "\n")
    with (store.folder / "clips.jsonl").open("a") as file:
        file.write(clip("k3", of="c9").to_json() + "\n" + clip("k0", seed=7).to_json() + "\n")
    again = PreferenceStore.open(store.folder)
    with pytest.warns(StoreWarning):
        assert len(again.ratings()) == 1
    assert sorted(again.problems) == [
        "clips.jsonl line 4: names c9, which is not in the store",
        "clips.jsonl line 5: contradicts line 1, which counts",
        "ratings.jsonl line 2: names k9, which is not in the store",
    ]
    assert again.clips()["k0"].seed == 0


def test_a_torn_last_line_is_moved_aside_before_the_next(store):
    one, two = rating(), rating()
    store.add_rating(one)
    half = rating().to_json()[:40]
    with (store.folder / "ratings.jsonl").open("a") as file:
        file.write(half)
    again = PreferenceStore.open(store.folder)
    with pytest.warns(StoreWarning, match="ratings.jsonl line 2: cut short"):
        assert again.ratings() == [one]
    assert again.add_rating(two)
    assert again.problems == ["ratings.jsonl line 2: cut short, moved to ratings.jsonl.torn"]
    assert (store.folder / "ratings.jsonl.torn").read_text() == half + "\n"
    assert lines(store) == [one.to_json(), two.to_json()]
    assert PreferenceStore.open(store.folder).ratings() == [one, two]


@pytest.mark.parametrize("fits", [0, 1, 60])
def test_a_full_disk_leaves_no_half_line(store, monkeypatch, fits):
    one, two = rating(), rating()
    store.add_rating(one)
    really_write = os.write

    def full(file, data):
        if fits:
            really_write(file, data[:fits])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OutputError, match=r"nothing was added \(No space left on device\)"):
            store.add_rating(two)
    assert lines(store) == [one.to_json()]
    assert store.ratings() == [one]
    assert store.add_rating(two), "what was not acknowledged can be sent again"
    assert PreferenceStore.open(store.folder).ratings() == [one, two]


def test_a_short_write_and_a_failing_flush_are_full_disks_too(store, monkeypatch):
    one = rating()
    store.add_rating(one)
    really_write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: really_write(file, data[:30]))
        with pytest.raises(OutputError, match="only 30 of"):
            store.add_rating(rating())
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
        with pytest.raises(OutputError, match="broken"):
            store.add_rating(rating())
    assert lines(store) == [one.to_json()]


def test_pairs_stay_when_the_disk_is_full(store, monkeypatch):
    store.write_pairs([pair("k0", "k1")])
    monkeypatch.setattr(os, "fsync", lambda file: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OutputError, match="full"):
        store.write_pairs([pair("k1", "k0")])
    assert list(store.pairs()) == ["k0-k1"]
    assert list(store.folder.glob(".*.part")) == []


def test_pairs_that_cannot_take_their_place_leave_the_old_ones(store, monkeypatch):
    store.write_pairs([pair("k0", "k1")])
    monkeypatch.setattr(os, "replace", lambda *of: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
    with pytest.raises(OutputError, match="broken"):
        store.write_pairs([pair("k1", "k0")])
    assert list(PreferenceStore.open(store.folder).pairs()) == ["k0-k1"]


# ---------------------------------------------------------------------- several at once


def test_whoever_holds_the_file_is_waited_for(store):
    """Another process may be writing: nothing is read or added meanwhile, and its line counts afterwards."""
    mine = rating(event_id="mine")
    with (store.folder / "ratings.jsonl").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with ThreadPoolExecutor(1) as pool:
            added = pool.submit(store.add_rating, replace(mine, value="b"))
            assert not wait([added], timeout=0.3).done
            file.write(mine.to_json().encode()[:50])
            file.flush()
            assert not wait([added], timeout=0.1).done
            file.write(mine.to_json().encode()[50:] + b"\n")
            file.flush()
            fcntl.flock(file, fcntl.LOCK_UN)
            assert added.result(30) is False, "the other one's event came first"
    assert store.ratings() == [mine]
    assert store.problems == []


def test_threads_and_instances_do_not_corrupt_each_other(store):
    others = [store, PreferenceStore.open(store.folder), PreferenceStore.open(store.folder)]
    ratings = [rating(event_id=f"t{n}") for n in range(60)]
    with ThreadPoolExecutor(6) as pool:
        added = list(pool.map(lambda n: others[n % 3].add_rating(ratings[n // 2 % 60]), range(120)))
    assert sum(added) == 60, "each event once, whoever sent it"
    assert {r.event_id for r in store.ratings()} == {f"t{n}" for n in range(60)}
    assert len(lines(store)) == 60
    assert store.problems == []


def _write_many(folder, who):
    store = PreferenceStore.open(folder)
    for n in range(25):
        store.add_rating(rating(f"r{who}", event_id=f"{who}-{n}"))


def test_processes_do_not_corrupt_each_other(store):
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_write_many, args=(store.folder, who)) for who in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(store.ratings()) == 75
    assert store.problems == []
    own = [r.event_id for r in store.ratings() if r.rater_id == "r1"]
    assert own == [f"1-{n}" for n in range(25)]


def test_a_second_server_is_refused_and_told_who_holds_the_store(store):
    with store.lock():
        held = pytest.raises(OutputError, match=rf"this process \({os.getpid()}\), since .* is working on it")
        with held, PreferenceStore.open(store.folder).lock():
            pass
        assert store.add_rating(rating()), "the lock is for servers, not for adding"
    with PreferenceStore.open(store.folder).lock():
        pass


def test_a_dead_server_holds_nothing(store):
    fork = multiprocessing.get_context("fork")
    taken = fork.Event()

    def serve():
        with store.lock():
            taken.set()
            threading.Event().wait()

    server = fork.Process(target=serve)
    server.start()
    assert taken.wait(30)
    with pytest.raises(OutputError, match=str(server.pid)), store.lock():
        pass
    server.kill()
    server.join(30)
    with store.lock():
        pass
