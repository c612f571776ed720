"""How long the next video will take, from those before: sums on a clock of the test."""

import numpy as np
import pytest
from studio_makers import Program, png_of, wav_of

pytest.importorskip("fastapi", reason="the extra `studio` is not installed")
from fastapi.testclient import TestClient

from hallo4.pipelines import Progress
from hallo4.studio.make import open_makers
from hallo4.studio.make.job_folder import JobFolder
from hallo4.studio.make.times import COUNTED, Stopwatch, Took, Work, measured
from hallo4.studio.make.worker import _Watch

WORK = Work(
    model="testling",
    device="cpu",
    height_px=24,
    width_px=32,
    steps=4,
    guidance_scale=2.0,
    scale=1,
    driven=False,
)
KEY = WORK.model_dump(exclude={"height_px", "width_px"})


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def watch(clock, tmp_path):
    return _Watch(JobFolder(tmp_path), Stopwatch(clock))


def run(watch, clock, stages, windows, finished=0.0):
    """A job whose stages take the given seconds."""
    clock.now_s += stages[0][1]
    for stage, seconds in stages[1:]:
        notes = ("a note",) if stage == "generate" else ()
        watch.on_progress(Progress(stage, finished if notes else 0.0, 10, notes=notes))
        clock.now_s += seconds
        if stage == "generate":
            for _ in range(windows):
                watch.on_frames(np.zeros((4, 24, 32, 3), np.uint8))


def test_what_happens_once_is_kept_apart_from_what_grows_with_the_length(watch, clock):
    run(
        watch, clock, [("load", 5), ("read", 2), ("pose", 3), ("audio", 1), ("generate", 20), ("write", 4)], 7
    )
    took = watch.took(**KEY)
    assert took == Took(work=WORK, windows=7, once_s=5 + 2, windows_s=3 + 1 + 20 + 4)
    assert measured(WORK, [took]).seconds(7) == pytest.approx(5 + 2 + 3 + 1 + 20 + 4)
    assert measured(WORK, [took]).seconds(14) == pytest.approx(7 + 2 * 28)


def test_a_video_that_was_partly_made_before_says_nothing_of_others(watch, clock):
    run(watch, clock, [("load", 5), ("generate", 20)], 3, finished=4.0)
    assert watch.took(**KEY) is None


@pytest.mark.parametrize("change", [name for name in Work.model_fields if name != "driven"])
def test_only_videos_of_the_same_work_count(change):
    value = getattr(WORK, change)
    other = WORK.model_copy(update={change: value * 2})  # a longer name, or another number
    assert measured(WORK, [Took(work=other, windows=1, once_s=1, windows_s=1)]) is None
    driven = WORK.model_copy(update={"driven": True})
    assert measured(driven, [Took(work=WORK, windows=1, once_s=1, windows_s=1)]) is None


def test_the_middle_one_of_the_latest_counts():
    latest = [(9, 1), (1, 2), (3, 100), (2, 4), (4, 3)]
    older = [(1000, 1000)] * 20
    took = [Took(work=WORK, windows=2, once_s=once, windows_s=2 * each) for once, each in latest + older]
    found = measured(WORK, took)
    assert (found.videos, found.once_s, found.window_s) == (COUNTED, 3, 3)
    assert found.seconds(10) == 33


def test_the_time_of_a_video_is_that_of_the_last_one_like_it(tiny_model_folder, portrait_u8, hum, tmp_path):
    with open_makers(tmp_path / "studio", [str(tiny_model_folder)], ["cpu"]) as makers:
        program = Program(TestClient(makers.app), makers.key)
        sent = {"portrait": png_of(portrait_u8), "voice": wav_of(hum(0.6), tmp_path)}
        settings = {role: program.send(role, role, content).json()["id"] for role, content in sent.items()}
        settings["model"] = "testling"
        assert not program.post("/api/preview", settings).json()["measured"]
        took_s = program.wait(program.add(settings).json()["id"])["took_s"]
        looked = program.post("/api/preview", settings | {"seed": 6}).json()
        assert looked["measured"]
        assert looked["expected_s"] == pytest.approx(took_s, abs=0.05)
        assert looked["estimate"].startswith("As the last video like this took here")
        assert not program.post("/api/preview", settings | {"steps": 7}).json()["measured"]
