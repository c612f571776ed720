"""The evaluation from end to end, on a world painted into its pixels: what it must say, keep and refuse."""

import json
import shutil

import numpy as np
import pytest
from rich.console import Console

from hallo4.engine import open_engine
from hallo4.errors import Cancelled, CheckpointError, Hallo4Error, InputError, OutputError
from hallo4.evaluation import rich_table, statistics, tables_of
from hallo4.evaluation.metric import axis_scores
from hallo4.evaluation.suites import generators, world
from hallo4.evaluation.suites.world_metrics import AXES, METRICS

LATE_FRAMES = 3


def late(episode, seed):
    """Everything the truth does, three frames later."""
    frames = np.roll(episode.frames_u8, LATE_FRAMES, axis=0)
    frames[:LATE_FRAMES] = episode.frames_u8[:1]
    return frames


def frozen(episode, seed):
    """The portrait, standing still."""
    return np.repeat(episode.portrait_u8[None], len(episode.frames_u8), axis=0)


@pytest.fixture
def made(monkeypatch, make_painted, reader, tmp_path):
    """A painted world with the models `late` and `frozen`; the list of episode seeds made, in order."""
    seeds, worlds = [], set()

    def make(seed, seconds, size_px, tempo, framing, world):
        seeds.append(seed)
        worlds.add(world)
        return make_painted(seed, seconds)

    known = {"late": late, "frozen": frozen}
    true_loader = generators.load_generator
    monkeypatch.setattr(world, "make_episode", make)
    monkeypatch.setattr(world, "load_observer", lambda folder: reader)
    monkeypatch.setattr(
        generators, "load_generator", lambda name, *a: known.get(name) or true_loader(name, *a)
    )
    monkeypatch.setattr(generators, "frame_size_px", lambda name: 64)
    monkeypatch.setattr(generators, "world_of", lambda models: "drawn-1")
    monkeypatch.setattr(generators, "weights_digest", lambda name: name)
    monkeypatch.setattr(statistics, "RESAMPLES", 300)
    yield seeds
    assert worlds <= {"drawn-1"}


def test_the_truth_scores_best_in_everything(made):
    report = world.evaluate_world("truth", episodes=3, seconds=2.0)
    mean = {name: value["mean"] for name, value in report["metrics"].items()}
    assert mean["lip_sync_correlation"] > 0.999
    assert (mean["lip_sync_lag_frames"], mean["mouth_closed_in_silence"], mean["joint_missing_fraction"]) == (
        0,
        1,
        0,
    )
    assert mean["joint_error_fraction"] < 1 / 255
    assert (mean["ssim"], mean["psnr_db"], mean["background_flicker"]) == pytest.approx((1, 60, 0))
    for name in ("motion_amplitude_ratio", "jitter_ratio", "sharpness_ratio"):
        assert mean[name] == pytest.approx(1)
    for name, value in report["instrument"].items():
        assert value == report["metrics"][name]  # on the truth, the model's error is the instrument's


def test_the_report_is_the_agreed_json(made, tmp_path):
    out = tmp_path / "new" / "report.json"
    report = world.evaluate_world("late", "truth", episodes=4, seed=7, seconds=2.0, out=out, players=0)
    assert json.loads(out.read_text()) == report
    assert "lip_sync_correlation" in out.with_suffix(".html").read_text()
    assert (report["schema"], report["kind"]) == (2, "world")
    assert (report["model"], report["against"], report["episodes"], report["seed"]) == ("late", "truth", 4, 7)
    assert report["metrics"].keys() == METRICS.keys() == report["definitions"].keys()
    assert list(report["win_rate"]) == ["overall", "alignment", "fidelity"]
    for section in ("metrics", "win_rate", "instrument", "against_metrics", "difference"):
        for name, value in report[section].items():
            assert list(value) == ["mean", "low", "high", "n"], name
    rows = [row for row in report["rows"] if row["system"] == "late"]
    assert [row["facts"]["episode_seed"] for row in rows] == [5_000_000 + 7 * 10_000 + i for i in range(4)]
    assert made == [row["facts"]["episode_seed"] for row in rows]
    assert {row["system"] for row in report["rows"]} == {"late", "truth", "reference"}
    text = Console(width=200, record=True, file=(tmp_path / "table.txt").open("w"))
    text.print(rich_table(*tables_of(report)))
    assert "lip_sync_correlation" in text.export_text()


def test_a_late_model_is_late_by_what_it_is_and_loses_to_the_truth(made):
    report = world.evaluate_world("late", "truth", episodes=5, seconds=2.0)
    assert report["metrics"]["lip_sync_lag_frames"]["mean"] == LATE_FRAMES
    assert report["instrument"]["lip_sync_abs_lag_frames"]["mean"] == 0
    assert report["difference"]["lip_sync_correlation"]["high"] < 0
    assert report["win_rate"]["alignment"]["mean"] == 0
    assert report["win_rate"]["overall"]["mean"] == 0
    back = world.evaluate_world("truth", "late", episodes=5, seconds=2.0)
    assert back["win_rate"]["overall"]["mean"] == 1
    tie = world.evaluate_world("truth", "truth", episodes=2, seconds=2.0)
    assert all(rate["mean"] == 0.5 for rate in tie["win_rate"].values())


def test_what_does_not_exist_is_counted_and_null_never_invented(made):
    report = world.evaluate_world("frozen", episodes=3, seconds=2.0)
    assert report["metrics"]["lip_sync_lag_frames"] == {"mean": None, "low": None, "high": None, "n": 0}
    assert report["undefined"]["metrics"]["lip_sync_lag_frames"] == 3
    assert any("lip_sync_lag_frames is not defined in 3 of 3" in note for note in report["notes"])
    assert report["metrics"]["lip_sync_correlation"]["mean"] == 0  # doing nothing is bad, not unknown
    assert report["metrics"]["motion_amplitude_ratio"]["mean"] == 0
    single = world.evaluate_world("late", episodes=1, seconds=2.0)
    assert single["metrics"]["ssim"]["low"] is None
    assert any("no interval" in note for note in single["notes"])
    json.dumps(report, allow_nan=False)


def test_a_stopped_evaluation_goes_on_and_a_longer_one_reuses_it(made, tmp_path):
    out = tmp_path / "r.json"

    def stop_after_two(done, total, row):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(Cancelled, match="4 of 8 videos"):
        world.evaluate_world("late", episodes=4, seconds=2.0, out=out, on_progress=stop_after_two)
    assert not out.exists()
    (rows_file,) = tmp_path.glob("*.rows.jsonl")
    with rows_file.open("a") as file:
        file.write('{"clip": "2", "cut by a ki')
    made.clear()
    seen = []
    report = world.evaluate_world(
        "late",
        episodes=4,
        seconds=2.0,
        out=out,
        players=0,
        on_progress=lambda done, total, row: seen.append((done, total)),
    )
    assert made == [5_000_002, 5_000_003]
    assert seen == [(6, 8), (8, 8)]
    made.clear()
    longer = world.evaluate_world("late", episodes=5, seconds=2.0, out=out, players=0)
    assert made == [5_000_004]
    straight = world.evaluate_world("late", episodes=5, seconds=2.0)
    assert longer["metrics"] == straight["metrics"]
    assert report["episodes"] == 4


def test_rows_of_another_question_are_not_reused(made, tmp_path):
    out = tmp_path / "r.json"
    world.evaluate_world("late", episodes=1, seconds=2.0, out=out)
    for change in (
        {"seed": 1},
        {"seconds": 1.6},
        {"tempo": 2.0},
        {"steps": 3},
        {"against": "truth"},
        {"model": "frozen"},
    ):
        made.clear()
        asked = {"model": "late", "episodes": 1, "seconds": 2.0, "out": out, "players": 0}
        world.evaluate_world(**asked | change)
        assert len(made) == 1, change


def test_episodes_are_made_at_the_tempo_that_was_asked_for(made, monkeypatch):
    tempos, make = [], world.make_episode
    monkeypatch.setattr(world, "make_episode", lambda *v, **w: tempos.append(v[3]) or make(*v, **w))
    report = world.evaluate_world("truth", episodes=2, seconds=2.0, tempo=4.0)
    assert (tempos, report["settings"]["tempo"]) == ([4.0, 4.0], 4.0)


def test_bad_requests_are_refused_before_any_work(made, tmp_path):
    for change, message in (
        ({"episodes": 0}, "episodes is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"seconds": 0.1}, "seconds is 0.1"),
        ({"tempo": 0.5}, "tempo is 0.5"),
        ({"tempo": 9.0}, "tempo is 9.0; allowed is 1.0 to 8.0"),
        ({"players": 101}, "players is 101; allowed is 0 to 100"),
    ):
        with pytest.raises(InputError, match=message):
            world.evaluate_world("truth", **change)
    with pytest.raises(OutputError, match="is a folder"):
        world.evaluate_world("truth", episodes=1, out=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        world.evaluate_world("truth", episodes=1, out=tmp_path / "file" / "report.json")
    assert made == []


def test_a_video_of_another_length_is_an_error_not_a_number(made, monkeypatch):
    monkeypatch.setattr(generators, "load_generator", lambda *a: lambda episode, seed: episode.frames_u8[:-1])
    with pytest.raises(Hallo4Error, match=r"1 of 1 clips failed.*\[50, 64, 64, 3\]"):
        world.evaluate_world("short", episodes=1, seconds=2.0)


def test_an_unknown_model_is_named():
    with pytest.raises(CheckpointError, match="no-such-model"):
        world.evaluate_world("no-such-model", episodes=1)


def test_seeds_of_training_instrument_and_evaluation_never_meet():
    assert world.TRAINING_SEEDS.stop <= world.INSTRUMENT_SEEDS.start
    assert world.INSTRUMENT_SEEDS.stop <= world.episode_seed(0, 0)
    assert world.episode_seed(1, 0) == world.episode_seed(0, world.EPISODES_PER_SEED - 1) + 1


def test_a_model_is_given_portrait_sound_skeleton_seed_and_settings(monkeypatch, make_painted):
    episode, asked = make_painted(4), {}

    class Animator:
        @classmethod
        def from_pretrained(cls, name):
            asked["name"] = name
            return cls()

        def frames(self, **request):
            asked.update(request)
            yield episode.frames_u8[:17]
            yield episode.frames_u8[17:]

    monkeypatch.setattr("hallo4.pipelines.PortraitAnimator", Animator)
    made = generators.load_generator("some-model", steps=4, guidance_scale=2.0)(episode, 99)
    assert (made == episode.frames_u8).all()
    assert asked.pop("image") is episode.portrait_u8
    assert asked.pop("audio") is episode.audio
    assert asked.pop("motion") is episode.skeleton
    assert asked == {"name": "some-model", "seed": 99, "steps": 4, "guidance_scale": 2.0}


# ---------------------------------------------------------------------- the autoencoder as a ceiling


def test_through_an_autoencoder_every_length_comes_back():
    class Same:
        def encode_video(self, video_pm1):
            assert video_pm1.shape[2] % 4 == 1
            assert video_pm1.min() >= -1
            return video_pm1

        def decode_video(self, latents):
            return latents

    frames = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3)).astype(np.uint8)
    for count in (1, 4, 5, 6, 7, 8):
        assert (generators.through_autoencoder(Same(), frames[:count]) == frames[:count]).all()


def test_the_autoencoder_gate_adds_skeleton_drawings(made, monkeypatch):
    monkeypatch.setattr(generators, "load_generator", lambda *a: lambda episode, seed: episode.frames_u8)
    report = world.evaluate_world("autoencoder:somewhere", episodes=2, seconds=2.0)
    assert report["metrics"]["skeleton_psnr_db"]["mean"] == 60
    assert report["metrics"]["skeleton_ssim"]["mean"] == pytest.approx(1)
    assert report["definitions"]["skeleton_psnr_db"]["unit"] == "dB"


def test_another_observer_looks_and_its_rows_are_its_own(made, reader, monkeypatch, tmp_path):
    folder, asked = tmp_path / "second", []
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    monkeypatch.setattr(world, "load_observer", lambda name: asked.append(name) or reader)
    first = world.evaluate_world("late", episodes=2, seconds=2.0, out=tmp_path / "a.json", players=0)
    assert set(asked) == {None}
    asked.clear()
    settings = {"episodes": 2, "seconds": 2.0, "players": 0, "observer": str(folder)}
    second = world.evaluate_world("late", out=tmp_path / "b.json", **settings)
    assert set(asked) == {str(folder)}
    assert (first["settings"]["observer"], second["settings"]["observer"]) == ("embedded", str(folder))
    assert first["settings"]["observer_weights"] != second["settings"]["observer_weights"]
    made.clear()
    world.evaluate_world("late", out=tmp_path / "b.json", **settings)
    assert made == []  # its own rows are kept
    (folder / "config.json").write_text("{ }")
    world.evaluate_world("late", out=tmp_path / "b.json", **settings)
    assert len(made) == 2  # and measured again by an observer that has changed


def test_an_observer_that_is_not_there_is_refused_before_any_work(tmp_path):
    with pytest.raises(CheckpointError, match="no observer lies there"):
        world.evaluate_world("truth", episodes=1, seconds=0.4, observer=str(tmp_path / "none"))


# ---------------------------------------------------------------------- who wins a clip


def test_axis_scores_are_closed_forms():
    a = {
        "lip_sync_correlation": 0.8,
        "joint_error_fraction": 0.02,
        "blink_correlation": 0.5,
        "brow_correlation": -0.5,
        "ssim": 0.9,
        "jitter_ratio": 2.0,
    }
    b = {**a, "jitter_ratio": 0.5}  # twice and half as jittery are equally far from 1
    scores = axis_scores(METRICS, a, b)
    assert scores["alignment"] == pytest.approx(((0.8 + 0.8) / 2,) * 2)
    assert scores["fidelity"] == pytest.approx(((0.5 + 0 + 0.9 + 0.5) / 4,) * 2)
    assert scores["overall"] == pytest.approx((0.5 * 0.8 + 0.5 * 0.475,) * 2)


def test_no_system_wins_by_being_undefined():
    a = dict.fromkeys((name for parts in AXES.values() for name in parts), 0.9)
    b = {**a, "lip_sync_correlation": None}
    scores = axis_scores(METRICS, a, b)
    assert scores["alignment"][0] == scores["alignment"][1]
    nothing = axis_scores(METRICS, a, dict.fromkeys(a))
    assert np.isnan(nothing["overall"]).all()


def test_a_report_without_a_second_model_has_no_win_rate(made):
    report = world.evaluate_world("truth", episodes=2, seconds=2.0)
    assert "win_rate" not in report


def test_a_model_that_cannot_be_loaded_is_said_in_one_line_also_by_several_processes(
    tiny_model_folder, tmp_path
):
    broken = shutil.copytree(tiny_model_folder, tmp_path / "broken")
    config = broken / "dit" / "config.json"
    config.write_text(config.read_text().replace('"eps"', '"epsilon"'))
    with pytest.raises(CheckpointError, match="unknown key 'epsilon'"), open_engine(2) as engine:
        world.evaluate_world(str(broken), episodes=2, seconds=0.4, engine=engine)
