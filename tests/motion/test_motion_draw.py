"""The drawing: what is painted where, what never is, and that it matches the released model's own picture."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hallo4.motion import default_rest_pose, draw_skeleton, layout
from hallo4.motion.idle import blink_closure, idle_motion
from hallo4.types import KEYPOINTS, Skeleton

PICTURE = Path(__file__).parents[3] / "shared/golden/skeleton_format.png"

# OpenPose joints as read off the released picture's first frame (px, in 768 x 768), by COCO number.
PICTURE_JOINTS = {
    0: (353, 173),
    1: (394, 133),
    2: (319, 134),
    3: (451, 156),
    4: (279, 156),
    5: (561, 381),
    6: (196, 390),
    7: (601, 633),
    8: (143, 633),
    9: (484, 687),
    10: (297, 691),
    11: (497, 768),
    12: (277, 768),
}


def only(points: dict[int, tuple[float, float]], side_px: int = 768) -> Skeleton:
    """One frame that shows the given points alone."""
    places, confidence = np.zeros((1, KEYPOINTS, 2), np.float32), np.zeros((1, KEYPOINTS), np.float32)
    for point, place in points.items():
        places[0, point], confidence[0, point] = place, 1.0
    return Skeleton(places, confidence, 25.0, side_px, side_px)


def whole_pose(side_px: int) -> Skeleton:
    """The pose at rest at two thirds of its size: its elbows and hips lie inside the picture too."""
    pose = default_rest_pose(side_px, side_px)
    small = (pose.points_px - side_px / 2) * np.float32(2 / 3) + np.float32([side_px / 2, side_px / 3])
    pose = replace(pose, points_px=small)
    assert ((small > 0) & (small < side_px)).all(axis=-1)[pose.confidence > 0].all()
    return pose


def colour_at(picture: np.ndarray, x: float, y: float) -> tuple[int, ...]:
    return tuple(int(channel) for channel in picture[int(y), int(x)])


def test_layout_names_every_point_once_and_groups_tile_them():
    assert len(set(layout.NAMES)) == len(layout.NAMES) == KEYPOINTS
    groups = (layout.BODY, layout.FEET, layout.FACE, layout.LEFT_HAND, layout.RIGHT_HAND)
    assert [i for group in groups for i in range(KEYPOINTS)[group]] == list(range(KEYPOINTS))
    parts = (layout.JAW, layout.RIGHT_BROW, layout.LEFT_BROW, layout.NOSE_BRIDGE, layout.NOSE_BASE)
    parts += (layout.RIGHT_EYE_LIDS, layout.LEFT_EYE_LIDS, layout.MOUTH)
    assert [i for part in parts for i in range(KEYPOINTS)[part]] == list(range(KEYPOINTS)[layout.FACE])
    assert layout.NAMES[layout.LEFT_WRIST] == "left_wrist"
    assert layout.NAMES[layout.RIGHT_ANKLE] == "right_ankle"
    assert layout.NAMES[layout.RIGHT_HAND][0] == "right_hand_root"
    assert layout.OPENPOSE_NAMES[4] == "right_wrist"
    assert layout.OPENPOSE_NAMES[14:] == ("right_eye", "left_eye", "right_ear", "left_ear")


def test_hand_edges_reach_every_point_from_the_root():
    reached = {0}
    for start, end in layout.HAND_EDGES:
        assert start in reached
        reached.add(end)
    assert reached == set(range(21))


def test_limbs_have_their_colours_at_their_middles():
    pose = only({point: place for point, place in PICTURE_JOINTS.items() if point not in (11, 12)})
    picture = draw_skeleton(pose, 768, 768)[0]
    joints, seen = layout.openpose_body(pose.points_px[0], pose.confidence[0])
    drawn = 0
    for (a, b), colour in zip(layout.LIMBS, layout.LIMB_COLOURS, strict=True):
        if seen[a] and seen[b]:
            assert colour_at(picture, *(joints[a] + joints[b]) / 2) == colour
            drawn += 1
    assert drawn == 11
    assert colour_at(picture, 353, 173) == (255, 0, 0)  # nose
    assert colour_at(picture, 561, 381) == (85, 255, 0)  # left shoulder


@pytest.mark.skipif(not PICTURE.exists(), reason="needs ../shared/golden")
def test_limbs_lie_where_the_released_picture_has_them():
    released = np.asarray(Image.open(PICTURE).convert("RGB"))[:, :768].astype(int)
    places = {point: (x + 0.5, y + 0.5) for point, (x, y) in PICTURE_JOINTS.items()}
    drawn = draw_skeleton(only(places), 768, 768)[0].astype(int)
    solid = np.zeros(drawn.shape[:2], bool)
    for colour in layout.LIMB_COLOURS:
        solid |= (drawn == colour).all(axis=-1)
    assert solid.sum() > 8000

    def agreement(shift_px: int) -> float:
        """Share of the solid limb pixels where the (shifted) released picture has their colour."""
        other = np.roll(released, shift_px, axis=1)
        return float((np.abs(drawn - other)[solid].max(axis=-1) < 40).mean())

    # The rest are the picture's hands and face dots above the limbs, and its compression.
    assert agreement(0) > 0.85
    assert max(agreement(-5), agreement(5)) < 0.65
    # And the width of a limb: a column through the middle of the right shoulder line.
    thickness = (
        (drawn[370:400, 288].max(axis=-1) > 60).sum(),
        (released[370:400, 288].max(axis=-1) > 60).sum(),
    )
    assert abs(int(thickness[0]) - int(thickness[1])) <= 1


def test_mouth_and_feet_are_never_drawn():
    pose = default_rest_pose(128, 128)
    hidden = [*range(KEYPOINTS)[layout.MOUTH], *range(KEYPOINTS)[layout.FEET]]
    alone = only({point: (20 + point % 80, 60) for point in hidden}, 128)
    assert draw_skeleton(alone, 128, 128).max() == 0
    moved = replace(pose, points_px=pose.points_px.copy())
    moved.points_px[:, layout.MOUTH] += 9.0
    np.testing.assert_array_equal(draw_skeleton(pose, 128, 128), draw_skeleton(moved, 128, 128))


def test_every_other_point_leaves_a_mark_and_only_nearby():
    never = {*range(KEYPOINTS)[layout.MOUTH], *range(KEYPOINTS)[layout.FEET]}
    for point in sorted(set(range(KEYPOINTS)) - never):
        picture = draw_skeleton(only({point: (64.5, 40.5)}, 128), 128, 128)[0].max(axis=-1)
        assert picture[40, 64] > 200, layout.NAMES[point]
        assert not np.delete(np.delete(picture, slice(39, 42), 0), slice(63, 66), 1).any()


def test_points_below_the_threshold_take_their_lines_with_them():
    pose = whole_pose(256)
    hidden = replace(pose, confidence=pose.confidence.copy())
    hidden.confidence[0, layout.RIGHT_ELBOW] = layout.SEEN - 0.01
    elbow, shoulder, wrist = pose.points_px[
        0, [layout.RIGHT_ELBOW, layout.RIGHT_SHOULDER, layout.RIGHT_WRIST]
    ]
    for x, y in (elbow, (elbow + shoulder) / 2, (elbow + wrist) / 2):
        assert max(colour_at(draw_skeleton(pose, 256, 256)[0], x, y)) > 100
        assert max(colour_at(draw_skeleton(hidden, 256, 256)[0], x, y)) == 0
    hidden.confidence[0, layout.RIGHT_ELBOW] = layout.SEEN
    np.testing.assert_array_equal(draw_skeleton(pose, 256, 256), draw_skeleton(hidden, 256, 256))


def test_no_neck_without_both_shoulders():
    pose = only({0: (64, 30), layout.LEFT_SHOULDER: (100, 90)}, 128)
    picture = draw_skeleton(pose, 128, 128)[0]
    assert not (picture == layout.JOINT_COLOURS[1]).all(axis=-1).any()
    assert colour_at(picture, 64, 60) == (0, 0, 0)


def test_blinks_show_at_128_px():
    pose = default_rest_pose(128, 128)
    shut = int(np.argmax(blink_closure(0, np.arange(200))))
    blinking = idle_motion(pose, 200, 0)
    points = np.repeat(pose.points_px, 2, axis=0)
    eyes = slice(layout.RIGHT_EYE_LIDS.start, layout.LEFT_EYE_LIDS.stop)
    # Only the lids of the shut frame, moved back to the resting eyes' place.
    lids = blinking.points_px[shut, eyes]
    points[1, eyes] = lids - lids.mean(axis=0) + pose.points_px[0, eyes].mean(axis=0)
    two = Skeleton(points, np.repeat(pose.confidence, 2, axis=0), 25.0, 128, 128)
    drawings = draw_skeleton(two, 128, 128).astype(int)
    assert np.abs(drawings[1] - drawings[0]).max() > 100


def test_drawing_is_the_same_each_time_and_slices_agree():
    sequence = idle_motion(default_rest_pose(96, 96), 6, 1)
    whole = draw_skeleton(sequence, 64, 64)
    assert whole.shape == (6, 64, 64, 3)
    assert whole.dtype == np.uint8
    np.testing.assert_array_equal(whole, draw_skeleton(sequence, 64, 64))
    part = replace(sequence, points_px=sequence.points_px[2:5], confidence=sequence.confidence[2:5])
    np.testing.assert_array_equal(whole[2:5], draw_skeleton(part, 64, 64))


def test_coordinates_scale_with_the_picture():
    places = {0: (30.0, 20.0)}
    wide = Skeleton(only(places).points_px, only(places).confidence, 25.0, 60, 40)
    red = draw_skeleton(wide, 120, 240)[0][..., 0].astype(float)
    y, x = np.indices(red.shape) + 0.5
    assert abs((x * red).sum() / red.sum() - 60) < 0.3
    assert abs((y * red).sum() / red.sum() - 120) < 0.3


def test_points_far_outside_or_not_finite_do_no_harm():
    pose = whole_pose(64)
    wild = replace(pose, points_px=pose.points_px.copy())
    wild.points_px[0, layout.LEFT_ELBOW] = (1e30, -1e30)
    wild.points_px[0, layout.RIGHT_ELBOW] = (np.nan, 3.0)
    hidden = replace(pose, confidence=pose.confidence.copy())
    hidden.confidence[0, layout.RIGHT_ELBOW] = 0.0
    x, y = pose.points_px[0, layout.RIGHT_ELBOW]
    expected, found = draw_skeleton(hidden, 64, 64)[0], draw_skeleton(wild, 64, 64)[0]
    np.testing.assert_array_equal(found[:, :30], expected[:, :30])
    assert colour_at(found, x, y) == (0, 0, 0)
