"""The store: nothing acknowledged is lost, nothing half-written stays, whoever writes and whatever breaks."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import pytest
from preference_records import clip, condition, pair, rating, sql

from hallo4.errors import InputError, OutputError
from hallo4.preference import GoldAnswer, MachineScore, PreferenceStore
from hallo4.preference.answers import counted


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


def test_an_id_with_other_contents_is_an_error(store):
    with pytest.raises(InputError, match=r"k0: is in clips with other contents"):
        store.add_clip(clip("k0", seed=1))
    with pytest.raises(InputError, match="c0: is in conditions"):
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
    with pytest.raises(InputError, match="is not a preference store"):
        PreferenceStore.open(tmp_path)
    (tmp_path / "thesis.doc").write_text("mine")
    with pytest.raises(OutputError, match="holds other files"):
        PreferenceStore.create(tmp_path)
    with pytest.raises(OutputError, match="a store cannot be made here"):
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


# ---------------------------------------------------------------------- people


def test_what_a_person_said_can_be_taken_away_without_a_trace(store):
    store.add_ratings([rating("anna", event_id="a"), rating("bert", event_id="b")])
    other = PreferenceStore.open(store.folder)
    assert len(other.ratings()) == 2
    store.exclude("anna", "asked for it")
    assert store.delete_ratings_of("anna") == 1
    store.database.leave_no_trace()
    assert [r.rater_id for r in other.ratings()] == [r.rater_id for r in store.ratings()] == ["bert"]
    assert store.excluded() == []
    for path in store.folder.rglob("*"):
        assert not path.is_file() or b"anna" not in path.read_bytes(), path


def test_who_is_excluded_stays_and_can_come_back(store):
    store.add_rating(rating("anna"))
    store.exclude("anna", "does not look")
    store.exclude("anna", "never looks")
    (excluded,) = PreferenceStore.open(store.folder).excluded()
    assert (excluded.rater_id, excluded.reason) == ("anna", "never looks")
    assert len(store.ratings()) == 1
    assert counted(store) == []
    assert store.include("anna")
    assert not store.include("anna")
    assert len(counted(store)) == 1


# ---------------------------------------------------------------------- several at once


def test_who_writes_is_waited_for_by_writers_alone(store):
    """Another process may be writing: nothing is added meanwhile, and its record counts afterwards."""
    mine = rating(event_id="mine")
    other = PreferenceStore.open(store.folder)
    with ThreadPoolExecutor(1) as pool:
        with other.database.writing():
            added = pool.submit(store.add_rating, replace(mine, value="b"))
            assert not wait([added], timeout=0.3).done
            other.add_rating(mine)
            assert PreferenceStore.open(store.folder).ratings() == [], "readers do not wait"
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


KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
from preference_records import rating
from hallo4.preference import PreferenceStore
store = PreferenceStore.open(sys.argv[1])
for n in range(100_000):
    store.add_ratings([rating(event_id=f"{sys.argv[3]}-{n}-{half}") for half in "ab"])
    print(f"{sys.argv[3]}-{n}", flush=True)
"""


def test_what_was_acknowledged_survives_kills_at_random_points(store):
    store.close()
    rng, said = random.Random(0), []
    for turn in range(6):
        words = [sys.executable, "-c", KILLED, str(store.folder), str(Path(__file__).parent), str(turn)]
        child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        said.append(child.stdout.readline().strip())  # it has begun
        threading.Timer(rng.uniform(0, 0.15), child.kill).start()
        said += child.stdout.read().split("\n")[:-1]
        assert child.wait(30) == -signal.SIGKILL
    again = PreferenceStore.open(store.folder)
    events = [r.event_id for r in again.ratings()]
    assert len(events) == len(set(events))
    assert {f"{name}-{half}" for name in said for half in "ab"} <= set(events)
    assert {event[:-1] for event in events if event[-1] == "a"} == {
        event[:-1] for event in events if event[-1] == "b"
    }, "what is written together is there together"
    assert len(events) // 2 <= len(said) + 6, "at most one that was written and not yet acknowledged per kill"
    assert again.problems == []
    assert sql(store, "PRAGMA integrity_check") == [("ok",)]


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
