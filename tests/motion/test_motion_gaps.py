"""Gaps of a detector: straight lines over short ones, against a slow loop; long ones are named and left."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from hallo4.motion import bridge_gaps, default_rest_pose, idle_motion, layout, load_skeleton
from hallo4.motion.gaps import BRIDGED_CONFIDENCE, frame_ranges
from hallo4.types import KEYPOINTS, Skeleton

CASES = Path(__file__).parents[3] / "shared/cases"


def straight(frames=60, fps=25.0):
    """Every point moves right by 4 px a frame, in a picture of 640x480."""
    points = np.zeros((frames, KEYPOINTS, 2), np.float32) + np.arange(KEYPOINTS)[:, None]
    points[..., 0] += 4 * np.arange(frames)[:, None]
    return Skeleton(points, np.full((frames, KEYPOINTS), 0.9, np.float32), fps, 640, 480)


def without(skeleton, frames, points=slice(None)):
    """Nobody, or not these points, in some frames: at 0, 0, as detectors write it."""
    lost = replace(skeleton, points_px=skeleton.points_px.copy(), confidence=skeleton.confidence.copy())
    for frame in frames:
        lost.points_px[frame, points] = 0
        lost.confidence[frame, points] = 0
    return lost


def test_straight_motion_goes_on_through_a_gap():
    whole = straight()
    mended, notes = bridge_gaps(without(whole, [20, 21, 22]))
    np.testing.assert_allclose(mended.points_px, whole.points_px, atol=1e-4)
    np.testing.assert_allclose(mended.confidence[[19, 23]], 0.9)
    np.testing.assert_allclose(mended.confidence[20:23], BRIDGED_CONFIDENCE)
    assert notes == ["no person was seen in 3 of 60 frames (20-22); bridged from the frames around them"]


@pytest.mark.parametrize(("fps", "longest"), [(25.0, 10), (50.0, 20), (10.0, 4)])
def test_so_long_is_bridged_and_a_frame_more_is_not(fps, longest):
    whole = straight(fps=fps)
    bridged, (note,) = bridge_gaps(without(whole, range(10, 10 + longest)))
    assert (bridged.confidence > 0.3).all()
    assert "bridged" in note
    left = without(whole, range(10, 11 + longest))
    same, (note,) = bridge_gaps(left)
    assert same is left
    lost = f"{longest + 1} of 60 frames (10-{10 + longest})"
    assert f"no person was seen in {lost}, longer than the 0.4 s" in note


def test_random_gaps_as_a_slow_loop_bridges_them():
    random = np.random.default_rng(0)
    moving = idle_motion(default_rest_pose(256, 256), 50, seed=1)
    moving.confidence[:] = random.uniform(0.3, 1, moving.confidence.shape)
    moving.confidence[random.random(moving.confidence.shape) < 0.3] = 0
    moving.confidence[:, 40] = 0
    moving.confidence[5:30, 41] = 0
    mended, _ = bridge_gaps(moving)
    points, confidence = moving.points_px.copy(), moving.confidence.copy()
    for point in range(KEYPOINTS):
        seen = [frame for frame in range(50) if moving.confidence[frame, point] >= layout.SEEN]
        for one, other in pairwise(seen):
            for frame in range(one + 1, other) if other - one - 1 <= 10 else ():
                share = (frame - one) / (other - one)
                points[frame, point] = (1 - share) * moving.points_px[one, point] + share * moving.points_px[
                    other, point
                ]
                ends = moving.confidence[[one, other], point]
                confidence[frame, point] = min(*ends, BRIDGED_CONFIDENCE)
    np.testing.assert_allclose(mended.points_px, points, atol=1e-4)
    np.testing.assert_allclose(mended.confidence, confidence, atol=1e-5)


def test_the_nearest_pose_is_held_where_nobody_is_seen_at_the_ends():
    whole = straight()
    mended, notes = bridge_gaps(without(whole, [0, 1, 58, 59]))
    np.testing.assert_array_equal(mended.points_px[[0, 1]], whole.points_px[[2, 2]])
    np.testing.assert_array_equal(mended.points_px[[58, 59]], whole.points_px[[57, 57]])
    assert "in 4 of 60 frames (0-1, 58-59)" in notes[0]
    late = without(whole, range(20))
    assert bridge_gaps(late)[0] is late  # too long: nothing is made up


def test_a_part_that_leaves_at_the_end_stays_away():
    hand = without(straight(), [55, 56, 57, 58, 59], layout.LEFT_HAND)
    assert bridge_gaps(hand)[0] is hand


def test_parts_are_named():
    lost = without(straight(), [12, 13], layout.FACE)
    lost = without(lost, [30, 40], layout.LEFT_HAND)
    mended, notes = bridge_gaps(lost)
    np.testing.assert_allclose(mended.points_px, straight().points_px, atol=1e-4)
    (note,) = notes
    assert note.endswith("of 60 frames: face in 2 (12-13); left hand in 2 (30, 40)")
    faceless, notes = bridge_gaps(without(straight(), range(10, 40), layout.FACE))
    assert notes == ["no face was seen in 30 of 60 frames (10-39)"]
    assert not faceless.confidence[20, layout.FACE].any()


def test_without_gaps_the_same_object_comes_back_and_nothing_is_said():
    whole = straight()
    whole.confidence[:, layout.FEET] = 0  # never seen is no gap
    mended, notes = bridge_gaps(whole)
    assert mended is whole
    assert notes == []


def test_ranges_in_words():
    assert frame_ranges(np.array([3])) == "3"
    assert frame_ranges(np.array([3, 4, 7, 9, 10, 11])) == "3-4, 7, 9-11"
    assert frame_ranges(np.arange(0, 20, 2)) == "0, 2, 4, 6, 8 and 5 more ranges"


@pytest.mark.skipif(not CASES.is_dir(), reason="the folder of cases is not beside the repository")
@pytest.mark.filterwarnings("ignore::hallo4.media.MediaWarning")
def test_two_frames_that_a_detector_lost_come_back_where_they_were():
    lost = load_skeleton(CASES / "detector-lost-the-person/gap2.json")
    demo = load_skeleton(Path(__file__).parents[2] / "demo/keypoints.json")
    mended, (note,) = bridge_gaps(lost)
    assert note == "no person was seen in 2 of 30 frames (12-13); bridged from the frames around them"
    drawn = np.r_[0:17, 23:133]
    assert not lost.confidence[12:14].any()
    np.testing.assert_allclose(mended.points_px[12:14, drawn], demo.points_px[12:14, drawn], atol=2.0)
    sure = demo.confidence[:30, drawn].copy()
    sure[12:14] = np.minimum(sure[12:14], BRIDGED_CONFIDENCE)
    np.testing.assert_array_equal(mended.confidence[:, drawn], sure)
