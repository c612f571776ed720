"""Motion: in range, smooth, and led by speech."""

from dataclasses import fields

import numpy as np
import pytest

from hallo4.world.performance import BODY, RIGHT_REST, neutral_performance, paced, perform

FRAMES = 250


def play(seed, speaking=1.0, frames=FRAMES):
    talk = np.full(frames, speaking, np.float32)
    mouth = (0.4 * talk * (1 + np.sin(np.arange(frames) * 1.3))).astype(np.float32)
    return perform(np.random.default_rng(seed), mouth, 0.5 * talk, talk)


@pytest.fixture(scope="module")
def plays():
    return [play(seed) for seed in range(20)]


def test_the_same_generator_gives_the_same_motion_and_another_seed_another(plays):
    again, other = play(0), plays[1]
    for f in fields(again):
        np.testing.assert_array_equal(getattr(again, f.name), getattr(plays[0], f.name))
    assert np.abs(again.yaw - other.yaw).max() > 0.02


def test_curves_are_float32_of_one_length_and_in_range(plays):
    limits = {
        "mouth_open": (0, 1), "mouth_wide": (0, 1), "blink": (0, 1), "brow": (-1, 1), "smile": (-1, 1),
        "gaze": (-1, 1), "left_spread": (0, 1), "right_spread": (0, 1), "yaw": (-0.8, 0.8),
        "pitch": (-0.6, 0.8), "roll": (-0.4, 0.4), "head": (-0.1, 0.1), "torso": (-0.05, 0.05),
    }  # fmt: skip
    for motion in plays:
        assert len(motion) == FRAMES
        for f in fields(motion):
            curve = getattr(motion, f.name)
            assert curve.dtype == np.float32
            assert len(curve) == FRAMES
            assert np.isfinite(curve).all()
            low, high = limits.get(f.name, (-np.inf, np.inf))
            assert low <= curve.min() <= curve.max() <= high, f.name
        assert set(motion.frame(3)) == {f.name for f in fields(motion)}


def test_the_mouth_is_the_one_that_was_given():
    mouth = np.linspace(0, 1, 50, dtype=np.float32)
    motion = perform(np.random.default_rng(0), mouth, mouth[::-1].copy(), np.ones(50, np.float32))
    np.testing.assert_array_equal(motion.mouth_open, mouth)
    np.testing.assert_array_equal(motion.mouth_wide, mouth[::-1])


def test_blinks_shut_the_lids_every_1_2_to_4_seconds():
    blink = play(4, frames=1500).blink
    shut = np.flatnonzero((blink[1:] == 1.0) & (blink[:-1] < 1.0)) + 1
    gaps_s = np.diff(shut) / 25
    assert 12 < len(shut) < 50
    assert gaps_s.min() >= 1.15
    assert gaps_s.max() <= 4.0
    assert np.mean(blink == 0.0) > 0.8


def test_nothing_jumps_but_gaze_and_lids(plays):
    fastest = {"yaw": 0.06, "pitch": 0.06, "roll": 0.03, "head": 0.01, "torso": 0.008, "smile": 0.1,
               "right_wrist": 0.11, "left_wrist": 0.11}  # fmt: skip
    for motion in plays:
        for name, limit in fastest.items():
            assert np.abs(np.diff(getattr(motion, name), axis=0)).max() < limit, name


def test_hands_rise_while_speaking_and_rest_in_silence(plays):
    raised = [motion.right_wrist[:, 1].min() < 0.96 for motion in plays]
    assert 10 <= sum(raised) < 20  # one in five keeps the arm down
    for seed in range(5):
        silent = play(seed, speaking=0.0)
        np.testing.assert_allclose(silent.right_wrist[60:], np.tile(RIGHT_REST, (FRAMES - 60, 1)), atol=0.06)


def test_each_hand_stays_on_its_side(plays):
    for motion in plays:
        assert motion.right_wrist[:, 0].max() < 0.5 < motion.left_wrist[:, 0].min()


def test_at_rest_the_person_faces_us_with_a_closed_mouth_and_open_eyes():
    rest = neutral_performance()
    assert len(rest) == 1
    for name in ("mouth_open", "blink", "brow", "yaw", "pitch", "roll", "head", "torso", "gaze"):
        assert not np.any(getattr(rest, name)), name
    np.testing.assert_allclose(rest.left_wrist[0], [1 - rest.right_wrist[0, 0], rest.right_wrist[0, 1]])


def test_a_hurried_body_is_a_longer_act_played_faster(plays):
    """At twice the tempo: every second frame of an act twice as long; the face keeps its own pace."""
    talk = np.ones(FRAMES, np.float32)
    hurried = paced(np.random.default_rng(3), plays[0], talk, 2.0)
    long, t = np.linspace(0, FRAMES - 1, 2 * FRAMES), np.arange(FRAMES)
    mouth = [np.interp(long, t, curve) for curve in (plays[0].mouth_open, plays[0].mouth_wide)]
    slow = perform(np.random.default_rng(3), *mouth, np.ones(2 * FRAMES))
    for f in fields(hurried):
        expected = getattr(slow, f.name)[::2] if f.name in BODY else getattr(plays[0], f.name)
        np.testing.assert_allclose(getattr(hurried, f.name), expected, atol=1e-6, err_msg=f.name)


def test_faster_bodies_change_more_from_frame_to_frame():
    def speed(tempo):
        motions = [play(seed) for seed in range(10)]
        talk = np.ones(FRAMES, np.float32)
        motions = [paced(np.random.default_rng(k), m, talk, tempo) for k, m in enumerate(motions)]
        return np.mean([np.abs(np.diff(m.yaw)).mean() for m in motions])

    assert speed(4.0) == pytest.approx(4 * speed(1.0), rel=0.25)


@pytest.mark.parametrize("tempo", [1.0, 4.0])
def test_a_performance_seen_twice_a_frame_is_the_same_with_values_between(plays, tempo):
    talk = np.ones(FRAMES, np.float32)
    once, twice = (paced(np.random.default_rng(3), plays[0], talk, tempo, rho) for rho in (1, 2))
    assert len(twice) == 2 * FRAMES
    for f in fields(once):
        single, double = getattr(once, f.name), getattr(twice, f.name)
        np.testing.assert_allclose(double[::2], single, atol=1e-6, err_msg=f.name)
        if tempo == 1.0 or f.name not in BODY:
            between = (single[1:] + single[:-1]) / 2
            np.testing.assert_allclose(double[1:-1:2], between, atol=1e-6, err_msg=f.name)
    if tempo > 1:
        assert np.abs(twice.yaw[1:-1:2] - (once.yaw[1:] + once.yaw[:-1]) / 2).max() > 1e-3, "more than lines"
