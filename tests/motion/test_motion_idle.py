"""Idle motion: stateless, bounded, alive; blinks of natural timing; the pose at rest."""

import numpy as np
import pytest

from hallo4.errors import InputError
from hallo4.motion import default_rest_pose, idle, idle_motion, layout
from hallo4.motion.idle import blink_closure
from hallo4.world.framing import square
from hallo4.world.identity import sample_identity
from hallo4.world.performance import neutral_performance, perform
from hallo4.world.truth import confidence_of, keypoints, skeleton_of

REST = default_rest_pose(128, 128)
FACE_WIDTH = 0.436 * 128
EYES = slice(layout.RIGHT_EYE_LIDS.start, layout.LEFT_EYE_LIDS.stop)
SHOULDERS = [layout.LEFT_SHOULDER, layout.RIGHT_SHOULDER]
ELBOWS = [layout.LEFT_ELBOW, layout.RIGHT_ELBOW]
HANDS = slice(layout.LEFT_HAND.start, layout.RIGHT_HAND.stop)


def test_any_slice_of_a_longer_sequence_is_identical():
    whole = idle_motion(REST, 400, seed=5)
    for start, frames in ((0, 1), (37, 100), (399, 1), (120, 250)):
        part = idle_motion(REST, frames, seed=5, start_frame=start)
        np.testing.assert_array_equal(part.points_px, whole.points_px[start : start + frames])
        np.testing.assert_array_equal(part.confidence, whole.confidence[start : start + frames])


def test_seeds_differ_and_repeat():
    one, two = idle_motion(REST, 100, 1), idle_motion(REST, 100, 2)
    assert np.abs(one.points_px - two.points_px).max() > 1
    np.testing.assert_array_equal(one.points_px, idle_motion(REST, 100, 1).points_px)


def test_it_starts_at_the_rest_pose():
    np.testing.assert_array_equal(idle_motion(REST, 1, 8).points_px, REST.points_px)


def test_an_hour_in_needs_nothing_before_it():
    late = idle_motion(REST, 50, 3, start_frame=90_000)
    assert np.isfinite(late.points_px).all()
    assert len(late) == 50
    assert late.fps == 25.0


def test_amplitudes_are_alive_and_bounded():
    moves = np.stack([idle_motion(REST, 1500, seed).points_px for seed in range(6)]) - REST.points_px
    typical = moves.std(axis=(0, 1)) / FACE_WIDTH
    largest = np.abs(moves).max(axis=(0, 1)) / FACE_WIDTH
    # Per point: standard deviation and largest shift, in face widths.
    assert 0.02 < typical[layout.NOSE, 0] < 0.06
    assert largest[layout.NOSE, 0] < idle.SWAY_X + 0.5 * idle.TURN + np.sin(idle.ROLL) * 1.2
    assert 0.004 < typical[layout.LEFT_SHOULDER, 1] < 0.02
    assert (largest[layout.LEFT_SHOULDER] < (idle.SHOULDER_X, idle.SHOULDER_Y + idle.BREATH + 1e-6)).all()
    for wrist in (layout.LEFT_WRIST, layout.RIGHT_WRIST):
        assert (typical[wrist] > 0.01).all()
        assert (largest[wrist] <= idle.HAND + 1e-6).all()
    assert largest.max() < 0.3
    # No jerks: a point moves less than 2 % of the face's width from frame to frame, lids aside.
    lids = np.r_[range(133)[layout.RIGHT_EYE_LIDS], range(133)[layout.LEFT_EYE_LIDS]]
    steps = np.abs(np.diff(moves, axis=1)) / FACE_WIDTH
    assert np.delete(steps, lids, axis=2).max() < 0.02


def test_hands_stay_at_their_wrists():
    moves = idle_motion(REST, 300, 4).points_px - REST.points_px
    for wrist, hand in (
        (layout.LEFT_WRIST, layout.LEFT_HAND),
        (layout.RIGHT_WRIST, layout.RIGHT_HAND),
    ):
        np.testing.assert_allclose(moves[:, wrist], moves[:, hand.start], atol=1e-4)


def test_blinks_have_natural_timing_and_form():
    closure = blink_closure(11, np.arange(25 * 600))
    assert closure.min() >= 0
    assert closure.max() == 1
    shut = closure > 0
    starts = np.flatnonzero(shut & ~np.r_[False, shut[:-1]])
    ends = np.flatnonzero(shut & ~np.r_[shut[1:], False])
    assert len(starts) == 150
    gaps_s = np.diff(starts) / 25
    assert gaps_s.min() >= 1.9
    assert gaps_s.max() <= 6.1
    assert gaps_s.std() > 0.5
    lengths = ends - starts + 1
    assert set(lengths) <= {4, 5, 6}
    for start, end in zip(starts, ends, strict=True):
        blink = closure[start : end + 1]
        assert blink.max() > 0.999  # at least one frame is shut
        assert np.argmax(blink) < len(blink) / 2  # shuts faster than it opens


def test_blinks_close_the_eyes_in_place():
    numbers = np.arange(400)
    closure = blink_closure(2, numbers)
    points = idle_motion(REST, 400, 2).points_px
    for eye in (layout.RIGHT_EYE_LIDS, layout.LEFT_EYE_LIDS):
        lids = points[:, eye]
        opening = np.linalg.norm(lids[:, [1, 2]] - lids[:, [5, 4]], axis=-1).mean(axis=1)
        rest = np.linalg.norm(REST.points_px[0, eye][[1, 2]] - REST.points_px[0, eye][[5, 4]], axis=-1).mean()
        np.testing.assert_allclose(opening[25:], rest * (1 - closure[25:]), atol=0.1 * rest)
        # Turns of the head narrow the eyes by a tenth; a blink does not.
        width = np.linalg.norm(lids[:, 0] - lids[:, 3], axis=-1)
        assert np.abs(width - np.median(width)).max() < 0.15 * width.mean()
        np.testing.assert_allclose(width[shut := np.flatnonzero(closure > 0)], width[shut - 8], rtol=0.05)


def test_points_that_the_rest_pose_lacks_stay_unseen_and_spread_nothing():
    rest = default_rest_pose(128, 128)
    missing = np.zeros(133, bool)
    missing[[layout.LEFT_HAND.start, layout.JAW.start, layout.RIGHT_EYE_LIDS.start + 1]] = True
    rest.points_px[:, missing], rest.confidence[:, missing] = np.nan, 0
    motion = idle_motion(rest, 60, 0)
    assert (motion.confidence[:, missing] == 0).all()
    assert np.isfinite(motion.points_px[:, ~missing]).all()


def test_bad_requests_are_refused():
    for arguments in ((REST, 0, 1), (REST, 5, -1), (REST, 5, 1, -1), (idle_motion(REST, 2, 0), 5, 1)):
        with pytest.raises(InputError, match="idle motion"):
            idle_motion(*arguments)


@pytest.mark.parametrize("size", [(128, 128), (640, 480), (480, 832)])
def test_rest_pose_is_framed_as_documented(size):
    pose = default_rest_pose(*size)
    points = (pose.points_px[0] - np.array(size) / 2) / min(size) + 0.5
    assert (pose.width_px, pose.height_px) == size
    for part, y in ((EYES, 0.43), (layout.JAW.start + 8, 0.70), (SHOULDERS, 0.85)):
        np.testing.assert_allclose(points[part, 1].mean(), y, atol=0.01)
    hands = points[HANDS]
    assert hands[:, 1].min() > points[SHOULDERS, 1].max()
    assert hands.max() < 1
    assert points[[*ELBOWS, layout.LEFT_HIP, layout.RIGHT_HIP], 1].min() > 1
    unseen = pose.confidence[0] == 0
    assert set(np.flatnonzero(unseen)) == {*range(layout.LEFT_KNEE, layout.FEET.stop)}
    assert (pose.confidence[0][~unseen] == 1).all()


def test_rest_pose_mirrors_itself_and_left_is_right_in_the_picture():
    points = default_rest_pose(1, 1).points_px[0]
    mirrored = points * (-1, 1) + (1, 0)
    for left, right in (
        (layout.LEFT_HAND, layout.RIGHT_HAND),
        (slice(1, layout.LEFT_KNEE, 2), slice(2, layout.LEFT_KNEE, 2)),
    ):
        np.testing.assert_allclose(points[left], mirrored[right], atol=1e-4)
        assert (points[left, 0] > 0.5).all()
    np.testing.assert_allclose(points[layout.JAW], mirrored[layout.JAW][::-1], atol=1e-4)
    assert (np.diff(points[layout.JAW, 0])[1:-1] > 0).all()
    np.testing.assert_allclose(points[layout.LEFT_BROW], mirrored[layout.RIGHT_BROW][::-1], atol=1e-4)


@pytest.mark.parametrize("hand", [layout.LEFT_HAND, layout.RIGHT_HAND])
def test_fingers_of_the_rest_pose_are_fingers(hand):
    points = default_rest_pose(1, 1).points_px[0]
    root, fingers = points[hand][0], points[hand][1:].reshape(5, 4, 2)
    np.testing.assert_allclose(root, points[{91: layout.LEFT_WRIST, 112: layout.RIGHT_WRIST}[hand.start]])
    reach = np.linalg.norm(fingers - root, axis=-1)
    assert (np.diff(reach, axis=1) > 0).all()  # every joint lies further out than the one before
    length = reach[:, -1]
    assert np.argmax(length) == 2  # the middle finger is the longest
    assert length.max() < 0.5 * (points[39, 0] - points[23, 0])
    assert (np.diff(fingers[:, -1, 1]) > 0).all()  # thumb above index above ... little finger
    assert (np.abs(fingers[..., 0] - 0.5) < abs(root[0] - 0.5)).all()  # they point inwards


def test_rest_pose_is_the_mean_person_of_the_world():
    people = [
        skeleton_of(sample_identity(seed), neutral_performance(), square(1)).points_px[0]
        for seed in range(900, 940)
    ]
    pose = default_rest_pose(1, 1)
    seen = pose.confidence[0] > 0
    np.testing.assert_array_equal(seen, confidence_of(1)[0] > 0)
    # People differ by about 0.015 along x and y, so a mean of forty of them lies within a hundredth.
    np.testing.assert_allclose(np.mean(people, axis=0)[seen], pose.points_px[0, seen], atol=0.01)


def test_idle_motion_is_a_bit_calmer_than_people_of_the_world():
    """What the embedded models are trained on holds what they are asked for."""
    idle_spread, world_spread = [], []
    syllables = np.sin(np.arange(150) * 2 * np.pi * 4 / 25).clip(0)
    moments = range(0, 150, 10)
    for seed in range(12):
        random = np.random.default_rng(seed)
        identity, performance = sample_identity(seed), perform(random, syllables, syllables, np.ones(150))
        world_spread.append(relative_spread(np.stack([keypoints(identity, performance, t) for t in moments])))
        idle_spread.append(
            relative_spread(idle_motion(default_rest_pose(1, 1), 150, seed, 50).points_px[moments])
        )
    share = np.mean(idle_spread, axis=0) / np.mean(world_spread, axis=0)
    assert ((share[:-1] > 0.4) & (share[:-1] < 1.1)).all(), "head and shoulders"
    assert share[:-1].mean() < 0.9
    assert ((share[-1] > 0.05) & (share[-1] < 0.5)).all(), "hands: gestures go with speech"


def relative_spread(points: np.ndarray) -> np.ndarray:
    """Standard deviations over time: chin, nose against the jaw's ends (a turn, a nod), shoulders, wrists."""
    turn = points[:, layout.NOSE] - points[:, [layout.JAW.start, layout.JAW.stop - 1]].mean(axis=1)
    shoulders, wrists = points[:, SHOULDERS], points[:, [layout.LEFT_WRIST, layout.RIGHT_WRIST]]
    paths = (points[:, 31], turn, shoulders.mean(axis=1), wrists.mean(axis=1))
    return np.stack([path.std(axis=0) for path in paths])
