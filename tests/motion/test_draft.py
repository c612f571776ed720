"""Drafts: what is moved, by how much, and what stays."""

from dataclasses import replace

import numpy as np
import pytest

from hallo4.motion import PortraitDraft, layout
from hallo4.motion.draft import HEAD_POINTS, TRUNK_POINTS
from hallo4.types import Skeleton
from hallo4.world import make_episode

SIDE_PX = 96
SHOULDER, ELBOW, WRIST = layout.LEFT_SHOULDER, layout.LEFT_ELBOW, layout.LEFT_WRIST
HEAD = [*HEAD_POINTS, *range(layout.FACE.start, layout.FACE.stop)]
ARM = [SHOULDER, ELBOW, WRIST]


def pose(**places):
    """A figure of 40 px from shoulder to shoulder; `places` moves joints by number, as in p7=(x, y)."""
    points = np.zeros((133, 2), np.float32)
    points[layout.LEFT_SHOULDER], points[layout.RIGHT_SHOULDER] = (68, 60), (28, 60)
    points[layout.LEFT_HIP], points[layout.RIGHT_HIP] = (60, 120), (36, 120)
    points[ELBOW], points[WRIST] = (68, 84), (44, 84)
    points[HEAD] = np.random.default_rng(0).uniform((40, 22), (56, 42), (len(HEAD), 2))
    points[layout.RIGHT_EYE_LIDS.start : layout.LEFT_EYE_LIDS.stop, 1] = 30  # shut
    points[layout.LEFT_EAR], points[layout.RIGHT_EAR] = (58, 30), (38, 30)
    points[layout.JAW.start], points[layout.JAW.stop - 1] = (38, 31), (58, 31)
    points[layout.JAW.start + 8] = (48, 44)
    for name, place in places.items():
        points[int(name[1:])] = place
    return points


def skeleton(points, seen):
    confidence = np.zeros((1, 133), np.float32)
    confidence[:, seen] = 1
    return Skeleton(points[None], confidence, 25.0, SIDE_PX, SIDE_PX)


def drafted(portrait_u8, then, now, seen):
    return PortraitDraft(portrait_u8, skeleton(then, seen)).frames_u8(skeleton(now, seen))[0]


@pytest.fixture
def noise_u8():
    return np.random.default_rng(1).integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8)


def ramp_u8():
    """Values that are linear in x, y and both, so that what lies between pixels is known."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    return np.stack([2 * x, 2 * y, x + y], -1).astype(np.uint8)


def test_a_head_that_goes_right_takes_its_pixels_along_and_the_corners_stay(noise_u8):
    then = pose()
    now = then.copy()
    now[HEAD] += (4, 0)
    frame = drafted(noise_u8, then, now, HEAD)
    np.testing.assert_array_equal(frame[24:42, 44:60], noise_u8[24:42, 40:56])
    np.testing.assert_array_equal(frame[80:, :8], noise_u8[80:, :8])


def test_nothing_is_changed_where_nothing_is_seen(noise_u8):
    then = pose()
    moved = then + 5
    np.testing.assert_array_equal(drafted(noise_u8, then, moved, []), noise_u8)
    np.testing.assert_array_equal(drafted(noise_u8, then, then, [*HEAD, *TRUNK_POINTS]), noise_u8)


@pytest.mark.parametrize(
    ("now", "place", "source"),
    [
        ({"p9": (68.0, 108.0)}, (69.5, 92.5), (59.5, 85.5)),  # turned by a right angle, about the elbow
        ({"p9": (56.0, 84.0)}, (60.5, 84.5), (53.0, 84.5)),  # half as long
        ({"p7": (72.0, 80.0), "p9": (48.0, 80.0)}, (56.5, 81.5), (52.5, 85.5)),  # moved
    ],
)
def test_a_forearm_is_laid_along_its_bone(now, place, source):
    seen = [*ARM, layout.RIGHT_SHOULDER]
    frame = drafted(ramp_u8(), pose(), pose(**now), seen)
    x, y = (int(value) for value in place)
    found = frame[y, x].astype(float)
    wanted = np.array([2 * (source[0] - 0.5), 2 * (source[1] - 0.5), sum(source) - 1])
    np.testing.assert_allclose(found, wanted, atol=1.01)


def test_where_an_arm_was_lies_what_is_around_it():
    portrait_u8 = np.full((SIDE_PX, SIDE_PX, 3), 40, np.uint8)
    portrait_u8[80:88, 40:72] = 200  # the forearm
    then = pose()
    away = pose(p7=(90, 70), p9=(90, 46))
    frame = drafted(portrait_u8, then, away, [*ARM, layout.RIGHT_SHOULDER])
    assert (frame[82:86, 46:60] == 40).all()
    assert (frame[54:66, 90] == 200).all()


def test_an_arm_that_comes_from_beyond_the_portrait_is_not_laid():
    then, now = pose(p7=(120, 84), p9=(140, 84)), pose(p7=(68, 84), p9=(88, 84))
    portrait_u8 = ramp_u8()
    seen = [ELBOW, WRIST, layout.LEFT_EAR, layout.RIGHT_EAR]
    assert (drafted(portrait_u8, pose(), now, seen) != portrait_u8).any(), "one that is in it is laid"
    np.testing.assert_array_equal(drafted(portrait_u8, then, now, seen), portrait_u8)


def test_an_arm_that_leaves_the_portrait_goes_on_as_it_was_where_it_left():
    portrait_u8 = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    portrait_u8[:] = np.arange(SIDE_PX, dtype=np.uint8)[:, None, None]  # by rows
    then = pose(p7=(68, 84), p9=(68, 108))  # the forearm goes down, beyond the picture
    now = pose(p7=(24, 84), p9=(48, 84))
    frame = drafted(portrait_u8, then, now, [ELBOW, WRIST, layout.RIGHT_SHOULDER, SHOULDER])
    row = frame[84, 24:48, 0].astype(int)
    np.testing.assert_array_equal(row[2:11], range(86, 95))  # before is the upper arm
    assert (row[12:] == 95).all()


def test_fingers_move_with_their_joints(noise_u8):
    then = pose()
    hand = range(layout.LEFT_HAND.start, layout.LEFT_HAND.stop)
    for number, point in enumerate(hand):
        then[point] = (20.5 + 3 * (number % 5), 60.5 + 2 * (number // 5))
    now = then.copy()
    now[[*hand]] += (7, 9)
    seen = [*hand, *TRUNK_POINTS[:2]]
    frame = drafted(noise_u8, then, now, seen)
    tips = [int(point) for point in hand if (point - hand.start) % 4 == 0 and point != hand.start]
    for tip in tips:
        x, y = (int(value) for value in then[tip])
        np.testing.assert_array_equal(frame[y + 9, x + 7], noise_u8[y, x])


@pytest.mark.parametrize("length", [13, 4, 1, 0])
def test_an_arm_that_points_at_the_camera_keeps_its_round_end(length):
    portrait_u8 = np.full((SIDE_PX, SIDE_PX, 3), 40, np.uint8)
    portrait_u8[78:90, 38:74] = 200  # the forearm, and some of its rim
    now = pose(p9=(68 - length, 84))
    frame = drafted(portrait_u8, pose(), now, [ELBOW, WRIST, *TRUNK_POINTS[:2]])
    assert (frame[84, 68 - length - 3 : 68] == 200).all()


@pytest.mark.parametrize("missing", [[layout.LEFT_EAR], [layout.JAW.start + 8], [layout.RIGHT_HIP]])
@pytest.mark.parametrize("nowhere", [0.0, np.nan, 1e9])
def test_where_a_missing_point_is_said_to_lie_does_not_matter(noise_u8, missing, nowhere):
    then = pose()
    now = then.copy()
    now[[*HEAD, *TRUNK_POINTS]] += (3, 1)
    seen = [point for point in [*HEAD, *TRUNK_POINTS] if point not in missing]
    expected = drafted(noise_u8, then, now, seen)
    assert (expected != noise_u8).mean() > 0.1
    for points in (then, now):
        points[missing] = nowhere
    np.testing.assert_array_equal(drafted(noise_u8, then, now, seen), expected)
    if missing == [layout.LEFT_EAR]:  # the ends of the jaw say where the head is
        np.testing.assert_array_equal(expected[26:40, 46:56], noise_u8[25:39, 43:53])


def test_too_little_of_a_person_moves_nothing(noise_u8):
    then = pose()
    one_shoulder = [layout.LEFT_SHOULDER, ELBOW, WRIST]
    draft = PortraitDraft(noise_u8, skeleton(then, one_shoulder))
    assert not draft.moves
    np.testing.assert_array_equal(draft.frames_u8(skeleton(then + 9, one_shoulder))[0], noise_u8)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (2, 3)])
def test_the_smallest_portraits_and_figures_without_extent_are_no_error(size):
    portrait_u8 = np.full((*size, 3), 7, np.uint8)
    points = pose()
    for now in (points, 0 * points):
        assert (drafted(portrait_u8, points, now, range(133)) == 7).all()


def test_frames_are_made_one_by_one(noise_u8):
    then = pose()
    moved = [then, then + 3, pose(p9=(68, 60))]
    seen = [*HEAD, *ARM, layout.RIGHT_SHOULDER]
    draft = PortraitDraft(noise_u8, skeleton(then, seen))
    alone = [draft.frames_u8(skeleton(points, seen))[0] for points in moved]
    one = skeleton(then, seen)
    several = replace(one, points_px=np.stack(moved), confidence=one.confidence.repeat(3, 0))
    np.testing.assert_array_equal(draft.frames_u8(several), np.stack(alone))


def test_a_draft_of_the_world_is_nearer_to_the_truth_than_the_portrait():
    errors = []
    for seed in range(900, 906):
        episode = make_episode(seed, seconds=0.6, world="lit-1")
        draft_u8 = PortraitDraft(episode.portrait_u8, episode.rest).frames_u8(episode.skeleton)
        pictures = (episode.portrait_u8[None], draft_u8)
        errors.append([((p.astype(float) - episode.frames_u8) ** 2).mean() for p in pictures])
    still, moved = np.mean(errors, axis=0)
    assert moved < 0.6 * still
