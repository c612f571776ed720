"""Retargeting: identity, the driving place and size do not matter, proportions, missing parts."""

from dataclasses import replace

import numpy as np
import pytest

from hallo4.errors import InputError
from hallo4.motion import default_rest_pose, idle_motion, layout, retarget
from hallo4.types import Skeleton

DRIVING = idle_motion(default_rest_pose(768, 768), 30, seed=4, start_frame=50)
MODES = ("parts", "whole")


def changed(skeleton: Skeleton, scale=1.0, shift=(0.0, 0.0)) -> Skeleton:
    return replace(skeleton, points_px=skeleton.points_px * np.float32(scale) + np.float32(shift))


def frame(skeleton: Skeleton, number: int) -> Skeleton:
    part = slice(number, number + 1)
    return replace(skeleton, points_px=skeleton.points_px[part], confidence=skeleton.confidence[part])


def hidden(skeleton: Skeleton, *parts) -> Skeleton:
    """`skeleton` without the given points, which are moreover NaN."""
    points, confidence = skeleton.points_px.copy(), skeleton.confidence.copy()
    for part in parts:
        points[:, part], confidence[:, part] = np.nan, 0
    return replace(skeleton, points_px=points, confidence=confidence)


def length(skeleton: Skeleton, one: int, other: int, number: int = 0) -> float:
    return float(np.linalg.norm(skeleton.points_px[number, one] - skeleton.points_px[number, other]))


def portrait() -> Skeleton:
    """Other proportions: a wider and shorter face, longer neck, narrower shoulders, in a smaller picture."""
    pose = default_rest_pose(256, 192)
    points = pose.points_px.copy()
    nose = points[0, layout.NOSE].copy()
    head = [0, 1, 2, 3, 4, *range(23, 91)]
    points[0, head] = (points[0, head] - nose) * (1.3, 0.8) + nose + (5, -12)
    points[0, 5:] = np.where(np.arange(5, 133)[:, None] < 23, points[0, 5:] * 0.7 + (38, 30), points[0, 5:])
    return replace(pose, points_px=points)


@pytest.mark.parametrize("mode", MODES)
def test_its_own_first_frame_changes_nothing(mode):
    out = retarget(DRIVING, frame(DRIVING, 0), mode)
    np.testing.assert_allclose(out.points_px, DRIVING.points_px, atol=1e-3)
    np.testing.assert_array_equal(out.confidence, DRIVING.confidence)


@pytest.mark.parametrize("mode", MODES)
def test_place_and_size_of_the_driving_do_not_matter(mode):
    expected = retarget(DRIVING, portrait(), mode)
    for scale, shift in ((1.0, (40, -25)), (2.5, (0, 0)), (0.3, (100, 7))):
        out = retarget(changed(DRIVING, scale, shift), portrait(), mode)
        np.testing.assert_allclose(out.points_px, expected.points_px, atol=2e-3)


@pytest.mark.parametrize("mode", MODES)
def test_the_result_goes_with_the_portrait(mode):
    expected = retarget(DRIVING, portrait(), mode)
    out = retarget(DRIVING, changed(portrait(), 1.7, (13, -9)), mode)
    np.testing.assert_allclose(out.points_px, changed(expected, 1.7, (13, -9)).points_px, atol=2e-3)
    assert (out.width_px, out.height_px, out.fps) == (256, 192, 25.0)


def test_parts_take_the_portraits_proportions():
    out, goal = retarget(DRIVING, portrait()), portrait()
    for one, other in ((5, 6), (23, 39)):  # shoulders, jaw
        assert length(out, one, other) == pytest.approx(length(goal, one, other), rel=1e-3)
    neck_out = out.points_px[0, [5, 6]].mean(axis=0)
    np.testing.assert_allclose(neck_out, goal.points_px[0, [5, 6]].mean(axis=0), atol=1e-3)
    nose = layout.NOSE_BRIDGE.stop - 1
    goal_neck = np.linalg.norm(goal.points_px[0, nose] - goal.points_px[0, [5, 6]].mean(axis=0))
    assert np.linalg.norm(out.points_px[0, nose] - neck_out) == pytest.approx(goal_neck, rel=1e-3)
    eyes_out = out.points_px[0, 59:71].mean(axis=0)
    eyes_goal = goal.points_px[0, 59:71].mean(axis=0)
    assert np.linalg.norm(out.points_px[0, 31] - eyes_out) == pytest.approx(
        np.linalg.norm(goal.points_px[0, 31] - eyes_goal), rel=1e-3
    )


def test_the_head_starts_where_the_portraits_is_and_moves_as_the_driving_one():
    """Somebody whose head is held 30 px to the side moves the portrait's head from its own place."""
    beside = replace(DRIVING, points_px=DRIVING.points_px.copy())
    head = [0, 1, 2, 3, 4, *range(23, 91)]
    beside.points_px[:, head] += np.array([30, 0], np.float32)
    found, expected = retarget(beside, portrait()).points_px, retarget(DRIVING, portrait()).points_px
    nose = layout.NOSE_BRIDGE.stop - 1
    np.testing.assert_allclose(found[0, nose], portrait().points_px[0, nose], atol=1e-3)
    ways = [points[:, nose] - points[0, nose] for points in (found, expected)]
    assert np.abs(ways[1]).max() > 3
    np.testing.assert_allclose(ways[0], ways[1], rtol=0.15, atol=0.3)  # the measured neck is a little longer


def test_whole_keeps_the_figures_own_shape():
    out = retarget(DRIVING, portrait(), "whole")
    ratio = length(out, 5, 6) / length(DRIVING, 5, 6)
    for number in (0, 20):
        for one, other in ((0, 5), (23, 39), (9, 100), (31, 50)):
            assert length(out, one, other, number) == pytest.approx(
                ratio * length(DRIVING, one, other, number), rel=1e-3
            )


@pytest.mark.parametrize("mode", MODES)
def test_hands_follow_their_wrists(mode):
    out = retarget(DRIVING, portrait(), mode)
    for wrist, hand in ((layout.LEFT_WRIST, layout.LEFT_HAND), (layout.RIGHT_WRIST, layout.RIGHT_HAND)):
        np.testing.assert_allclose(out.points_px[:, wrist], out.points_px[:, hand.start], atol=1e-3)


def test_a_tilted_head_is_scaled_along_its_own_axes():
    # The driving head leans by 30 degrees in its second frame: so must the same face that came out at first.
    rest = default_rest_pose(768, 768)
    points = np.repeat(rest.points_px, 2, axis=0)
    nose = points[0, 53].copy()
    angle = np.deg2rad(30)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    head = [0, 1, 2, 3, 4, *range(23, 91)]
    points[1, head] = (points[1, head] - nose) @ turn + nose
    leaning = Skeleton(points, np.repeat(rest.confidence, 2, axis=0), 25.0, 768, 768)
    out = retarget(leaning, portrait()).points_px
    straight, leant = out[0, head] - out[0, 53], out[1, head] - out[1, 53]
    np.testing.assert_allclose(straight @ turn, leant, atol=1e-3)


def test_missing_parts_borrow_their_scale():
    no_shoulders = hidden(portrait(), [5, 6])
    out = retarget(DRIVING, no_shoulders)
    nose = layout.NOSE_BRIDGE.stop - 1
    np.testing.assert_allclose(out.points_px[0, nose], portrait().points_px[0, nose], atol=1e-3)
    assert length(out, 23, 39) == pytest.approx(length(portrait(), 23, 39), rel=1e-3)
    assert np.isfinite(out.points_px).all()

    no_face = hidden(portrait(), slice(0, 5), layout.FACE)
    out = retarget(DRIVING, no_face)
    assert length(out, 5, 6) == pytest.approx(length(portrait(), 5, 6), rel=1e-3)
    whole = retarget(DRIVING, portrait(), "whole")
    np.testing.assert_allclose(out.points_px, whole.points_px, atol=1e-3)

    eyes_only = hidden(DRIVING, layout.FACE)
    out = retarget(eyes_only, portrait())
    ratio = length(portrait(), 3, 4) / length(DRIVING, 3, 4)
    assert length(out, 1, 2) == pytest.approx(ratio * length(DRIVING, 1, 2), rel=1e-3)


def test_frames_without_shoulders_or_face_are_bridged():
    gaps = replace(DRIVING, points_px=DRIVING.points_px.copy(), confidence=DRIVING.confidence.copy())
    for part, when in (([5, 6], slice(10, 14)), (layout.FACE, slice(12, 16)), ([5], slice(0, 2))):
        index = np.arange(30)[when][:, None], np.arange(133)[part]
        gaps.points_px[index], gaps.confidence[index] = np.nan, 0
    out = retarget(gaps, portrait())
    seen = gaps.confidence > 0
    assert np.isfinite(out.points_px[seen]).all()
    full = retarget(DRIVING, portrait())
    # The gap's first frames shift the measured neck by what the body moved in two frames, no more.
    assert np.abs(out.points_px[seen] - full.points_px[seen]).max() < 1.0


def test_nothing_in_common_is_refused():
    with pytest.raises(InputError, match="neither both shoulders nor a face"):
        retarget(hidden(DRIVING, layout.FACE, slice(0, 5)), hidden(portrait(), [5, 6]))
    with pytest.raises(InputError, match='"parts" or "whole"'):
        retarget(DRIVING, portrait(), "arms")
