"""The truth about where things are: names, bones, and how the points follow the performance."""

import numpy as np
import pytest

from hallo4.motion import draw_skeleton, layout
from hallo4.types import FPS
from hallo4.world import sample_identity
from hallo4.world.framing import square
from hallo4.world.performance import perform
from hallo4.world.rig import FACE_RADIUS, FOREARM, UPPER_ARM
from hallo4.world.truth import keypoints, skeleton_of

LIPS_INNER_TOP, LIPS_INNER_BOTTOM = 85, 89  # middles of the inner lips: 62 and 66 of the 68 face points
SIDED = {
    "eye": (layout.LEFT_EYE, layout.RIGHT_EYE),
    "ear": (layout.LEFT_EAR, layout.RIGHT_EAR),
    "shoulder": (layout.LEFT_SHOULDER, layout.RIGHT_SHOULDER),
    "elbow": (layout.LEFT_ELBOW, layout.RIGHT_ELBOW),
    "wrist": (layout.LEFT_WRIST, layout.RIGHT_WRIST),
    "hip": (layout.LEFT_HIP, layout.RIGHT_HIP),
}
MIRRORED_FACE = [
    *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), 45, 44, 43, 42, 47, 46,
    39, 38, 37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1),
]  # fmt: skip


@pytest.fixture(scope="module")
def gestures():
    """Four seconds of lively motion."""
    talk = np.ones(100, np.float32)
    mouth = (0.5 + 0.5 * np.sin(np.arange(100))).astype(np.float32)
    return perform(np.random.default_rng(3), mouth, 0.5 * talk, talk)


def test_a_skeleton_has_all_frames_in_pixels_of_the_frame(plain_person, gestures):
    skeleton = skeleton_of(plain_person, gestures, square(128))
    assert skeleton.points_px.shape == (100, 133, 2)
    assert skeleton.points_px.dtype == np.float32
    assert (skeleton.fps, skeleton.width_px, skeleton.height_px) == (FPS, 128, 128)
    unseen = {*range(17, 23), *range(13, 17)}  # feet, knees, ankles
    assert {i for i in range(133) if not skeleton.confidence[:, i].any()} == unseen
    assert set(np.unique(skeleton.confidence)) == {0.0, 1.0}
    face = skeleton.points_px[:, layout.FACE]
    assert face.min() > 0
    assert face.max() < 128


def test_left_is_the_persons_left_which_is_right_in_the_picture(plain_person, gestures):
    for t in (0, 60, 99):
        points = keypoints(plain_person, gestures, t)
        for name, (left, right) in SIDED.items():
            assert points[left, 0] > 0.5 > points[right, 0], name
        for left, right in (
            (layout.LEFT_HAND, layout.RIGHT_HAND),
            (layout.LEFT_BROW, layout.RIGHT_BROW),
            (layout.LEFT_EYE_LIDS, layout.RIGHT_EYE_LIDS),
        ):
            assert points[left, 0].min() > points[right, 0].max()
        np.testing.assert_array_equal(points[layout.LEFT_HAND][0], points[layout.LEFT_WRIST])
        np.testing.assert_array_equal(points[layout.RIGHT_HAND][0], points[layout.RIGHT_WRIST])


def test_a_person_at_rest_is_symmetric(plain_person, pose):
    points = keypoints(plain_person, pose(), 0)
    mirrored = points * [-1, 1] + [1, 0]
    for name, (left, right) in SIDED.items():
        np.testing.assert_allclose(mirrored[left], points[right], atol=1e-6, err_msg=name)
    np.testing.assert_allclose(mirrored[layout.LEFT_HAND], points[layout.RIGHT_HAND], atol=1e-6)
    np.testing.assert_allclose(
        mirrored[layout.FACE][MIRRORED_FACE], points[layout.FACE], atol=1e-9, err_msg="68 points"
    )


def test_the_inner_lips_are_apart_by_the_opening(plain_person, pose):
    opening = np.linspace(0, 1, 9)
    points = skeleton_of(plain_person, pose(mouth_open=opening), square(128)).points_px
    gap = points[:, LIPS_INNER_BOTTOM] - points[:, LIPS_INNER_TOP]
    np.testing.assert_allclose(gap[:, 0], 0, atol=1e-4)
    np.testing.assert_allclose(gap[:, 1], 0.46 * opening * FACE_RADIUS * 128, atol=1e-3)


def test_wide_lips_are_far_apart_at_the_corners(plain_person, pose):
    points = skeleton_of(plain_person, pose(mouth_wide=[0.0, 0.5, 1.0]), square(128)).points_px[
        :, layout.MOUTH
    ]
    width = points[:, 6, 0] - points[:, 0, 0]
    np.testing.assert_allclose(np.diff(width), width[1] - width[0], rtol=1e-4)
    assert width[2] > 1.7 * width[0]


def test_lids_meet_in_a_blink(plain_person, pose):
    points = skeleton_of(plain_person, pose(blink=np.linspace(0, 1, 6)), square(128)).points_px
    for lids in (points[:, layout.LEFT_EYE_LIDS], points[:, layout.RIGHT_EYE_LIDS]):
        height = (lids[:, 5] - lids[:, 1])[:, 1] + (lids[:, 4] - lids[:, 2])[:, 1]
        assert (np.diff(height) < 0).all()
        assert height[-1] == pytest.approx(0, abs=1e-4)
        assert height[0] > 8


def test_brows_rise(plain_person, pose):
    points = skeleton_of(plain_person, pose(brow=[-1.0, 0.0, 1.0]), square(128)).points_px
    for brow in (layout.LEFT_BROW, layout.RIGHT_BROW):
        assert (np.diff(points[:, brow, 1].mean(1)) < -2).all()


@pytest.mark.parametrize(
    ("turn", "moved"),
    [
        ({"yaw": 0.3}, lambda p: p[layout.NOSE, 0] - (p[layout.LEFT_EAR, 0] + p[layout.RIGHT_EAR, 0]) / 2),
        ({"pitch": 0.3}, lambda p: p[layout.NOSE, 1] - (p[layout.LEFT_EAR, 1] + p[layout.RIGHT_EAR, 1]) / 2),
        ({"roll": 0.3}, lambda p: p[layout.LEFT_EYE, 1] - p[layout.RIGHT_EYE, 1]),
        ({"head": [0.05, 0.0]}, lambda p: p[layout.NOSE, 0]),
    ],
    ids=["yaw: to the right of the picture", "pitch: down", "roll: clockwise", "head: along x"],
)
def test_the_head_turns_the_way_the_names_say(plain_person, pose, turn, moved):
    rest, turned = keypoints(plain_person, pose(), 0), keypoints(plain_person, pose(**turn), 0)
    assert moved(turned) > moved(rest) + 0.02


def test_a_tilt_keeps_the_face_rigid(plain_person, pose):
    """Roll is a rotation in the picture, so all distances within the face stay."""
    faces = [keypoints(plain_person, pose(roll=roll), 0)[layout.FACE] for roll in (0.0, 0.25)]
    distances = [np.linalg.norm(face[:, None] - face[None], axis=-1) for face in faces]
    np.testing.assert_allclose(distances[1], distances[0], atol=1e-9)


def test_bones_keep_their_length_where_the_arm_reaches(gestures):
    person = sample_identity(11)
    points = np.stack([keypoints(person, gestures, t) for t in range(len(gestures))])
    for shoulder, elbow, wrist in zip(SIDED["shoulder"], SIDED["elbow"], SIDED["wrist"]):
        upper = np.linalg.norm(points[:, elbow] - points[:, shoulder], axis=-1)
        fore = np.linalg.norm(points[:, wrist] - points[:, elbow], axis=-1)
        reach = np.linalg.norm(points[:, wrist] - points[:, shoulder], axis=-1)
        within = (reach > 0.061) & (reach < UPPER_ARM + FOREARM - 0.005)
        assert within.mean() > 0.5
        np.testing.assert_allclose(upper[within], UPPER_ARM, atol=1e-9)
        np.testing.assert_allclose(fore[within], FOREARM, atol=1e-9)


def test_elbows_hang_down_and_outwards(plain_person, pose):
    rest = keypoints(plain_person, pose(), 0)
    under = {
        f"{side}_wrist": rest[SIDED["shoulder"][side == "right"]] + [0, 0.2] for side in ("left", "right")
    }
    points = keypoints(plain_person, pose(**under), 0)
    for shoulder, elbow, out in zip(SIDED["shoulder"], SIDED["elbow"], (1, -1)):
        assert out * (points[elbow, 0] - points[shoulder, 0]) > 0.1  # hands under the shoulders
        assert rest[elbow, 1] > rest[shoulder, 1] + 0.1


def test_fingers_keep_their_order_and_stretch_when_spread(plain_person, pose):
    hands = skeleton_of(plain_person, pose(left_spread=[0.0, 1.0]), square(100)).points_px[
        :, layout.LEFT_HAND
    ]
    tips = hands[:, 4::4]
    closed, spread = np.linalg.norm(tips[:, 0] - tips[:, -1], axis=-1)
    assert spread > 1.3 * closed
    lengths = np.linalg.norm(tips - hands[:, :1], axis=-1)
    assert (lengths[1] > lengths[0]).all()
    assert (lengths.argmax(1) == 2).all(), "the middle finger is the longest"


def test_truth_scales_with_the_picture(plain_person, gestures):
    small, large = (skeleton_of(plain_person, gestures, square(size)) for size in (64, 256))
    np.testing.assert_allclose(large.points_px, 4 * small.points_px, rtol=1e-5)


def test_lips_are_left_to_the_audio(plain_person, pose):
    """Two performances that differ in the mouth alone give the same drawn skeleton."""
    shut = skeleton_of(plain_person, pose(mouth_open=0.0, mouth_wide=0.1), square(128))
    wide = skeleton_of(plain_person, pose(mouth_open=1.0, mouth_wide=0.9), square(128))
    moved = np.abs(wide.points_px - shut.points_px).max((0, 2))
    assert moved[layout.MOUTH].max() > 5
    assert np.delete(moved, np.r_[layout.MOUTH]).max() == 0.0
    np.testing.assert_array_equal(draw_skeleton(shut, 128, 128), draw_skeleton(wide, 128, 128))
