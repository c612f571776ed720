"""Three engines, one meaning: results in order, a bad record costs one record."""

import itertools
import sys

import pytest
import small_stages as stages

from hallo4.engine import Stage, open_engine
from hallo4.errors import InputError, MissingExtraError, OutputError


@pytest.fixture(scope="module", params=["here", "processes", "ray"])
def engine(request):
    if request.param == "ray":
        address = request.getfixturevalue("ray_cluster")
        with open_engine(ray=address) as opened:
            yield opened
    else:
        with open_engine({"here": 1, "processes": 2}[request.param]) as opened:
            yield opened


def test_results_come_in_the_order_of_the_records(engine):
    numbers = list(range(50))
    outcomes = list(engine.map(Stage(stages.square), numbers))
    assert [(outcome.item, outcome.result()) for outcome in outcomes] == [(n, n * n) for n in numbers]
    assert [o.result() for o in engine.map(Stage(stages.slow_first, 0.3), range(8))] == list(range(8))
    assert list(engine.map(Stage(stages.square), [])) == []


def test_a_bad_record_costs_one_record(engine):
    outcomes = list(engine.map(Stage(stages.picky), range(8)))
    assert [o.item for o in outcomes if o.error is None] == [0, 1, 2, 4, 6, 7]
    assert outcomes[3].reason == "three: is not allowed. Take another."
    assert outcomes[5].reason == "an unexpected KeyError: 'five'"
    with pytest.raises(InputError, match="three"):
        outcomes[3].result()
    with pytest.raises(KeyError, match="five"):
        outcomes[5].result()


def test_stages_in_a_row_work_record_by_record(engine):
    """Items are taken as they are needed: the second stage ends long before the endless first one."""
    taken = []

    def numbers():
        for number in itertools.count():
            taken.append(number)
            yield number

    first = (outcome.result() for outcome in engine.map(Stage(stages.square), numbers()))
    second = engine.map(Stage(stages.add, 100), first)
    assert [o.result() for o in itertools.islice(second, 20)] == [100 + n * n for n in range(20)]
    assert len(taken) < 100
    second.close()
    first.close()
    assert [o.result() for o in engine.map(Stage(stages.square), range(3))] == [0, 1, 4]


def test_what_is_computed_with_is_what_the_stage_says(engine):
    assert [o.result() for o in engine.map(Stage(stages.threads, cpus=1), range(2))] == [1, 1]


@pytest.mark.parametrize(
    ("stage", "error", "text"),
    [
        (stages.full_disk, OutputError, "no space"),
        (stages.cannot_open, InputError, "these networks are not here"),
    ],
)
def test_what_every_record_would_meet_ends_all(engine, stage, error, text):
    with pytest.raises(error, match=text), open_engine(1) as here:
        list(here.map(Stage(stage), range(3)))


@pytest.mark.parametrize("workers", [0, -1])
def test_fewer_than_one_worker_is_refused(workers):
    with pytest.raises(InputError, match=f"workers is {workers}"), open_engine(workers):
        pytest.fail("there is no such engine")


def test_gpus_that_are_not_there_are_named():
    with pytest.raises(InputError, match="needs 99 GPUs"), open_engine(2) as engine:
        list(engine.map(Stage(stages.square, gpus=99), [1]))


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("auto", r"no Ray cluster that can be used was found on this machine \(nothing runs\)"),
        ("here", "give HOST:PORT of the head of a cluster, or auto"),
        ("ray://head:10001", "give HOST:PORT of the head of a cluster, or auto"),
        ("127.0.0.1:9", r"nothing answers there \(Connection refused\)"),
    ],
)
def test_a_cluster_that_is_not_there_is_one_line(address, said, monkeypatch):
    ray = pytest.importorskip("ray", reason="needs hallo4[cluster]")

    def init(**options):
        raise ConnectionError("nothing runs\nmore words")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(InputError, match=said) as raised, open_engine(ray=address):
        pytest.fail("there is no such cluster")
    assert "\n" not in str(raised.value)


def test_a_cluster_needs_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hallo4\[cluster\]'"), open_engine(ray="auto"):
        pytest.fail("Ray is not installed")
