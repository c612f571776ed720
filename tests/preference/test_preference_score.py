"""Machine scores: perfect is 5, worse is less, and what is scored is not scored again."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from preference_records import clip, condition

from hallo4.evaluation.look.instrument import Measurement, true_key_points
from hallo4.evaluation.measures.speech import loudness_dbfs
from hallo4.media import load_audio, save_wav
from hallo4.motion import save_skeleton
from hallo4.preference import MachineScore, PreferenceStore, score
from hallo4.preference.conditions import add_condition_of_files
from hallo4.preference.evidence import on_scale
from hallo4.preference.score import (
    WorldTruth,
    joints_following,
    judge_files_clip,
    judge_world_clip,
    roughness,
    score_clips,
)
from hallo4.world import make_episode


@pytest.fixture(scope="module")
def episode():
    return make_episode(11, 2.4, 64)


def perfect(episode):
    """What an observer without error would see in the rendered frames."""
    points, visible = true_key_points(episode.skeleton)
    t = episode.truth
    return Measurement(points, visible, t.mouth_open, t.mouth_wide, t.blink, t.brow)


def judged(episode, frames_u8=None, **changes):
    seen = perfect(episode)
    frames_u8 = episode.frames_u8 if frames_u8 is None else frames_u8
    return judge_world_clip(frames_u8, replace(seen, **changes), WorldTruth(episode, seen)).axes


def test_the_truth_is_perfect_on_both_axes(episode):
    assert judged(episode) == pytest.approx({"alignment": 1.0, "fidelity": 1.0})
    assert on_scale(1.0) == 5.0
    assert on_scale(0.0) == 1.0


def test_worse_lips_and_joints_are_worse_alignment_alone(episode):
    seen, rng = perfect(episode), np.random.default_rng(0)
    scores = []
    for noise in (0.1, 0.3, 1.0):
        mouth = seen.mouth_open + noise * rng.standard_normal(len(seen)).astype(np.float32)
        scores.append(judged(episode, mouth_open=mouth))
    assert 1.0 > scores[0]["alignment"] > scores[1]["alignment"] > scores[2]["alignment"] > 0.3
    assert {s["fidelity"] for s in scores} == {judged(episode)["fidelity"]}
    shifts = [judged(episode, points_px=seen.points_px + px)["alignment"] for px in (0.0, 1.0, 3.0, 60.0)]
    assert shifts == sorted(shifts, reverse=True)
    assert len(set(shifts)) == 4


def test_worse_pictures_expression_and_jitter_are_worse_fidelity_alone(episode):
    seen, rng = perfect(episode), np.random.default_rng(0)
    noisy = (episode.frames_u8 + rng.normal(0, 25, episode.frames_u8.shape)).clip(0, 255).astype(np.uint8)
    best = judged(episode)
    for worse in (
        judged(episode, frames_u8=noisy),
        judged(episode, blink=np.roll(seen.blink, 20)),
        judged(episode, brow=-seen.brow),
    ):
        assert worse["fidelity"] < best["fidelity"] - 0.05
        assert worse["alignment"] == best["alignment"]
    shaken = seen.points_px + rng.normal(0, 0.5, seen.points_px.shape).astype(np.float32)
    assert judged(episode, points_px=shaken)["fidelity"] < best["fidelity"] - 0.05


def test_parts_are_kept(episode):
    seen = perfect(episode)
    parts = judge_world_clip(episode.frames_u8, seen, WorldTruth(episode, seen)).parts
    assert parts["ssim"] == pytest.approx(1)
    assert parts["joint_error_fraction"] == 0
    assert set(parts) == set(score.KEPT)


# ---------------------------------------------------------------------- clips of files


def test_joints_that_follow_another_person_follow_all_the_same():
    t = np.arange(50)
    asked = np.stack([np.sin(t / 5), np.cos(t / 3)], -1)[:, None].repeat(3, 1) * [[[1], [2], [0]]]
    visible = np.ones((50, 3), bool)
    assert joints_following(3 * asked + 20, asked, visible) == pytest.approx(1)
    assert joints_following(-asked, asked, visible) == pytest.approx(-1)
    assert joints_following(np.zeros_like(asked), asked, visible) == 0
    assert np.isnan(joints_following(asked, np.zeros_like(asked), visible))
    assert np.isnan(joints_following(asked, asked, np.zeros_like(visible)))
    half = np.concatenate([asked[:, :1], -asked[:, 1:]], axis=1)  # the second joint moves twice as far
    assert joints_following(half, asked, visible) == pytest.approx((1 - 2) / 3)


def test_roughness_does_not_know_how_large_a_person_is():
    t = np.arange(60)
    smooth = np.stack([np.sin(t / 9), np.cos(t / 9)], -1)[:, None]
    visible = np.ones((60, 1), bool)
    # On a circle the change of a step is a step times its turning angle, 1/9.
    assert roughness(smooth, visible) == pytest.approx(2 * np.sin(1 / 18), rel=1e-6)
    assert roughness(40 * smooth + 3, visible) == pytest.approx(roughness(smooth, visible))
    shaken = smooth + np.random.default_rng(0).normal(0, 0.1, smooth.shape)
    assert roughness(shaken, visible) > 2 * roughness(smooth, visible)
    assert np.isnan(roughness(np.zeros((60, 1, 2)), visible))


def test_a_clip_of_files_is_judged_by_what_was_asked_for(episode, tmp_path):
    store = PreferenceStore.create(tmp_path / "store")
    Image.fromarray(episode.portrait_u8).save(tmp_path / "face.png")
    save_wav(tmp_path / "speech.wav", episode.audio)
    save_skeleton(tmp_path / "moves.json", episode.skeleton)
    names = [tmp_path / name for name in ("face.png", "speech.wav", "moves.json")]
    made = add_condition_of_files(store, *names)
    seen = perfect(episode)
    audio = load_audio(store.media_path(made.audio), 48_000)
    loudness = 10 ** (loudness_dbfs(audio, len(seen)) / 20)
    follows = replace(seen, mouth_open=loudness)
    best = judge_files_clip(episode.frames_u8, follows, store, made)
    assert best.scorer == score.FILES_SCORER
    assert best.axes["alignment"] == pytest.approx(1.0, abs=1e-3)
    assert best.axes["fidelity"] > 0.85
    silent = judge_files_clip(episode.frames_u8, replace(follows, mouth_open=1 - loudness), store, made)
    assert silent.axes["alignment"] == pytest.approx(0.5, abs=1e-3)
    other = judge_files_clip(255 - episode.frames_u8, follows, store, made)
    assert other.axes["fidelity"] < best.axes["fidelity"] - 0.2
    assert other.axes["alignment"] == best.axes["alignment"]
    without = add_condition_of_files(store, *names[:2])
    assert "skeleton_following" not in judge_files_clip(episode.frames_u8, follows, store, without).parts


# ---------------------------------------------------------------------- a store


@pytest.fixture
def judge(monkeypatch):
    """Scores by hand: alignment 0.5 and fidelity 1 for all; what was looked at is in the list."""
    looked = []

    def scores(store, clip, condition, truth, version):
        looked.append((clip.clip_id, truth))
        return [MachineScore(clip.clip_id, axis, on_scale(v), {"ssim": 0.5}, "by hand", version)
                for axis, v in (("alignment", 0.5), ("fidelity", 1.0))]  # fmt: skip

    monkeypatch.setattr(score, "machine_scores", scores)
    monkeypatch.setattr(score, "world_truth", lambda store, c: [f"truth of {c.condition_id}"])
    return looked


def test_every_clip_is_scored_once_per_version(store, judge, monkeypatch):
    store.add_condition(condition("c1"))
    store.add_clip(clip("k3", of="c1"))
    steps = []
    assert score_clips(store, lambda done, total, clip: steps.append((done, total))) == 8
    assert score_clips(store) == 0
    assert judge == [(f"k{n}", ["truth of c0"]) for n in range(3)] + [("k3", ["truth of c1"])]
    assert len({id(truth) for _, truth in judge}) == 2, "the truth of a condition is drawn once"
    assert steps[-1] == (4, 4)
    assert store.scores()["k0", "alignment", "by hand"].score == 3.0
    monkeypatch.setattr(score, "scorer_version", lambda: "next")
    assert score_clips(store) == 8
    assert {s.scorer_version for s in store.scores().values()} == {"next"}


def test_a_clip_that_lost_the_score_of_an_axis_is_scored_again(store, judge):
    assert score_clips(store) == 6
    path = store.folder / "scores.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3]))  # as after a power cut between the axes of the second clip
    assert score_clips(PreferenceStore.open(store.folder)) == 3
    assert sorted(path.read_text().splitlines(keepends=True)) == sorted(lines)


def test_the_scores_of_a_clip_are_one_append(store, judge, monkeypatch):
    appended = []
    append = store._scores.append
    monkeypatch.setattr(
        store._scores, "append", lambda records: appended.append(len(records)) or append(records)
    )
    assert score_clips(store) == 6
    assert appended == [2, 2, 2]
