"""Identity by aligned faces, keypoint metrics, dynamics and drift: mathematics on inputs with known
answers.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from hallo4.errors import CheckpointError, InputError, ShapeError
from hallo4.evaluation.measures import dynamics, identity, keypoints
from hallo4.evaluation.suites import video_measures
from hallo4.motion import layout
from hallo4.types import Skeleton

RNG = np.random.default_rng(0)


def _skeleton(frames=12, size=200, seed=0):
    points = np.random.default_rng(seed).uniform(20, size - 20, (1, 133, 2)).repeat(frames, axis=0)
    points[:, layout.LEFT_EYE], points[:, layout.RIGHT_EYE] = (120, 60), (80, 60)  # 40 px apart
    points[:, layout.LEFT_SHOULDER], points[:, layout.RIGHT_SHOULDER] = (150, 120), (50, 120)  # 100 px
    return Skeleton(points.astype(np.float32), np.ones((frames, 133), np.float32), 25.0, size, size)


def _moved(skeleton, by, points=slice(None)):
    moved = skeleton.points_px.copy()
    moved[:, points] += np.float32(by)
    return Skeleton(moved, skeleton.confidence.copy(), skeleton.fps, skeleton.width_px, skeleton.height_px)


# ---------------------------------------------------------------------- identity


def test_a_similarity_transform_is_found_again_and_never_mirrors():
    points = RNG.normal(size=(5, 2))
    angle, scale, shift = 0.7, 1.8, np.array([3.0, -2.0])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found = identity.similarity_transform(points, points @ turn.T + shift)
    assert found == pytest.approx(np.column_stack([turn, shift]))
    mirrored = identity.similarity_transform(points, points * [-1, 1])
    assert np.linalg.det(mirrored[:, :2]) > 0
    with pytest.raises(InputError):
        identity.similarity_transform(np.zeros((5, 2)), points)


def test_faces_are_set_upright_where_arcface_wants_them():
    eye, other_eye, nose, corner, other_corner = identity.TEMPLATE_PX
    assert eye[0] < nose[0] < other_eye[0]
    assert eye[1] < nose[1] < corner[1]
    assert corner[0] < other_corner[0]
    assert nose.tolist() == [56.0252, 71.7366]
    frame = np.zeros((300, 300, 3), np.uint8)
    turn = np.array([[0.0, -2.0], [2.0, 0.0]])  # lying on its side, twice as large
    points = identity.TEMPLATE_PX @ turn.T + [280, 30]
    for x, y in points:
        frame[int(y) - 4 : int(y) + 5, int(x) - 4 : int(x) + 5] = 255
    face = identity.align_face(frame, points)
    assert face.shape == (112, 112, 3)
    for x, y in identity.TEMPLATE_PX:
        assert face[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2].mean() > 200
    assert face.mean() < 20


def _norm_crop(frame_u8, points_px):
    """insightface's `norm_crop`, pixel by pixel: points and pixels are named by the middles of pixels, a
    similarity by least squares, then `cv2.warpAffine`, bilinear with black beyond the frame."""
    x, y = points_px.T
    ones, zeros = np.ones(5), np.zeros(5)
    rows = np.concatenate([np.stack([x, -y, ones, zeros], 1), np.stack([y, x, zeros, ones], 1)])
    a, b, right, down = np.linalg.lstsq(rows, identity.TEMPLATE_PX.T.ravel(), rcond=None)[0]
    back = np.linalg.inv([[a, -b, right], [b, a, down], [0, 0, 1]])
    height, width = frame_u8.shape[:2]

    def level(row, column):
        inside = 0 <= row < height and 0 <= column < width
        return frame_u8[row, column].astype(float) if inside else np.zeros(3)

    face = np.zeros((112, 112, 3))
    for down in range(112):
        for across in range(112):
            x, y, _ = back @ [across, down, 1]
            left, top = math.floor(x), math.floor(y)
            upper = level(top, left) * (left + 1 - x) + level(top, left + 1) * (x - left)
            lower = level(top + 1, left) * (left + 1 - x) + level(top + 1, left + 1) * (x - left)
            face[down, across] = upper * (top + 1 - y) + lower * (y - top)
    return face


@pytest.mark.parametrize(("scale", "turn", "place"), [(1.8, 0.3, (40, 20)), (0.7, -0.8, (-20, 60))])
def test_faces_are_cut_as_the_published_program_cuts_them(scale, turn, place):
    frame = np.random.default_rng(5).integers(0, 256, (150, 190, 3), dtype=np.uint8)
    turned = scale * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    points = identity.TEMPLATE_PX @ turned.T + place + RNG.normal(size=(5, 2))
    expected = _norm_crop(frame, points - 0.5)  # ours count from the corner of the first pixel
    assert (expected == 0).all(axis=-1).any(), "some of it lies beyond the frame"
    np.testing.assert_allclose(identity.align_face(frame, points), expected, atol=1)


def test_csim_is_a_cosine_in_the_frames_with_a_face():
    reference = np.array([1.0, 0, 0])
    vectors = np.array([[2.0, 0, 0], [0, 3.0, 0], [1.0, 1.0, 0], [math.nan, 0, 0]])
    result = identity.cosine_similarity(vectors, reference)
    assert result[:3] == pytest.approx([1, 0, math.sqrt(0.5)])
    assert math.isnan(result[3])
    with pytest.raises(InputError, match="portrait"):
        identity.cosine_similarity(vectors, np.zeros(3))
    with pytest.raises(ShapeError):
        identity.cosine_similarity(vectors, np.zeros(4))


def test_two_videos_are_alike_by_the_colours_of_the_face_alone():
    rng = np.random.default_rng(3)
    video = rng.integers(0, 256, (4, 112, 112, 3), dtype=np.uint8)
    points = np.repeat(identity.TEMPLATE_PX[None] + 0.5, 4, axis=0)  # from the corner of the first pixel
    points[2, 1] = math.nan
    assert identity.faces_alike(video, points, video, points) == pytest.approx(
        [1, 1, math.nan, 1], nan_ok=True
    )
    opposite = 256 - np.maximum(video.astype(int), 1)  # x - 128 becomes 128 - x
    other = video.copy()
    other[1] = opposite[1]
    other[3, :16] = other[3, 104:] = other[3, :, :16] = other[3, :, 96:] = 0  # what is no face
    found = identity.faces_alike(other, points, video, points)
    assert found[1] == pytest.approx(-1, abs=0.01)
    assert found[0] == pytest.approx(1)
    assert found[3] == pytest.approx(1, abs=1e-4)
    moved = np.roll(video, 9, axis=2)
    moved[:, :, :9] = 0
    found = identity.faces_alike(moved[:1], points[:1] + [9, 0], video[:1], points[:1])
    assert found == pytest.approx([1], abs=1e-3), "where it is does not matter"
    grey = np.full_like(video, 128)
    assert np.isnan(identity.faces_alike(grey, points, video, points)).all()
    nowhere = np.full_like(points, math.nan)
    assert np.isnan(identity.faces_alike(video, points, video, nowhere)).all()


def test_arcface_without_its_file_says_which(tmp_path):
    with pytest.raises(CheckpointError, match=r"CSIM needs the weights w600k_r50\.onnx"):
        identity.ArcFaceEncoder(tmp_path)


def test_five_points_are_eyes_nose_and_mouth_corners():
    skeleton = _skeleton()
    five = identity.five_points(skeleton)
    for place, index in enumerate((2, 1, 0, 71, 77)):
        assert np.array_equal(five[0, place], skeleton.points_px[0, index])
    skeleton.confidence[3, 71] = 0.2
    assert np.isnan(identity.five_points(skeleton)[3]).all()
    skeleton.points_px[4] = 0  # seen, it says, but all in one place: that has no direction
    assert identity.faces_found(skeleton).tolist() == [t not in (3, 4) for t in range(12)]


def test_a_face_is_found_where_it_can_be_set_upright():
    """DWPose gives every point some confidence, in pictures of nothing too."""
    skeleton = _skeleton()
    skeleton.confidence[:] = 0.05
    pair = SimpleNamespace(video=SimpleNamespace(skeleton=skeleton))
    assert video_measures.found_rate(pair) == 0
    skeleton.confidence[:3] = 0.9
    assert video_measures.found_rate(pair) == 0.25
    assert math.isnan(video_measures.found_rate(SimpleNamespace(video=SimpleNamespace(skeleton=None))))


def test_the_patch_encoder_sees_the_inner_face_less_mid_grey():
    faces = np.full((2, 112, 112, 3), 130, np.uint8)
    faces[:, :16] = faces[:, -8:] = faces[:, :, :16] = faces[:, :, -16:] = 255
    vectors = identity.PatchEncoder()(faces)
    assert vectors.shape == (2, 330)
    assert (vectors == 2).all()


# ---------------------------------------------------------------------- keypoints


def test_akd_is_the_distance_in_frame_widths_at_any_size():
    true = _skeleton()
    assert keypoints.keypoint_distance(true, true) == 0
    assert keypoints.keypoint_distance(_moved(true, (6, 8)), true) == pytest.approx(10 / 200)
    doubled = Skeleton(true.points_px * 2, true.confidence, 25.0, 400, 400)
    assert keypoints.keypoint_distance(doubled, true) == pytest.approx(0, abs=1e-7)
    assert keypoints.keypoint_distance(_moved(true, (200, 0), slice(0, 17)), true, (50, 51)) == 0


def test_a_lost_point_shows_in_mkr_and_not_in_akd():
    true = _skeleton()
    lost = _moved(true, (300, 300), slice(91, 112))
    lost.confidence[:, 91:112] = 0.1
    assert keypoints.keypoint_distance(lost, true) == 0
    assert keypoints.missed_keypoint_rate(lost, true) == pytest.approx(21 / 133)
    assert keypoints.missed_keypoint_rate(lost, true, keypoints.HAND_POINTS) == 0.5
    assert keypoints.missed_keypoint_rate(true, lost) == 0, "what the truth does not show cannot be missed"


def test_lmd_forgives_where_the_face_is_and_not_what_it_does():
    true = _skeleton()
    mouth = keypoints.MOUTH_POINTS
    assert keypoints.landmark_distance(_moved(true, (11, -7)), true, mouth) == pytest.approx(0, abs=1e-6)
    wider = true.points_px.copy()
    centre = wider[:, mouth].mean(axis=1, keepdims=True)
    wider[:, mouth] = centre + 1.5 * (wider[:, mouth] - centre)
    expected = 0.5 * np.linalg.norm(true.points_px[:, mouth] - centre, axis=-1).mean() / 40
    measured = Skeleton(wider, true.confidence, 25.0, 200, 200)
    assert keypoints.landmark_distance(measured, true, mouth) == pytest.approx(expected, rel=1e-5)


def test_hand_confidence_counts_points_the_detector_knows_where_a_wrist_is_seen():
    skeleton = _skeleton(10)
    skeleton.confidence[:, 91:133] = 0.0
    skeleton.confidence[:, [95, 99]] = 0.8  # left hand: two points known
    skeleton.confidence[:, [116, 120]] = 0.4
    assert keypoints.hand_confidence(skeleton) == pytest.approx(0.6)
    skeleton.confidence[5:, layout.RIGHT_WRIST] = 0.0  # the right hand is gone half of the time
    assert keypoints.hand_confidence(skeleton) == pytest.approx((0.8 * 10 + 0.4 * 5) / 15)
    assert keypoints.hand_visible_rate(skeleton) == 0.75
    skeleton.confidence[:, [layout.LEFT_WRIST, layout.RIGHT_WRIST]] = 0.0
    assert math.isnan(keypoints.hand_confidence(skeleton))
    assert math.isnan(keypoints.hand_variance(skeleton))


def test_hand_variance_is_that_of_positions_in_shoulder_widths():
    still = _skeleton(400)
    assert keypoints.hand_variance(still) == pytest.approx(0, abs=1e-6)
    moving = still.points_px.copy()
    swing = 20 * np.sin(np.arange(400) * 2 * np.pi / 40)
    moving[:, keypoints.HAND_POINTS, 0] += swing[:, None].astype(np.float32)
    waving = Skeleton(moving, still.confidence, 25.0, 200, 200)
    assert keypoints.hand_variance(waving) == pytest.approx(1e3 * (20**2 / 2) / 100**2, rel=1e-4)


@pytest.mark.parametrize("place", [0.0, math.nan])
def test_hand_variance_takes_no_position_of_a_point_that_is_not_seen(place):
    still = _skeleton(400)
    still.points_px[::2, 100], still.confidence[::2, 100] = place, 0.0
    still.points_px[1:, 120], still.confidence[1:, 120] = place, 0.2  # seen once: that has no variance
    assert keypoints.hand_variance(still) == pytest.approx(0, abs=1e-6)
    still.confidence[:, keypoints.HAND_POINTS] = 0.2
    assert math.isnan(keypoints.hand_variance(still))


def test_mouth_opening_is_the_inner_lips_over_the_eyes():
    skeleton = _skeleton()
    skeleton.points_px[:, layout.FACE.start + 62] = (100, 100)
    skeleton.points_px[:, layout.FACE.start + 66] = (100, 110)
    assert keypoints.mouth_opening(skeleton) == pytest.approx(10 / 40)


def test_skeletons_that_cannot_be_compared_are_refused():
    true = _skeleton()
    slow = Skeleton(true.points_px, true.confidence, 30.0, 200, 200)
    wide = Skeleton(true.points_px, true.confidence, 25.0, 300, 200)
    for other in (_skeleton(5), slow, wide):
        with pytest.raises(ShapeError):
            keypoints.keypoint_distance(other, true)


# ---------------------------------------------------------------------- dynamics and drift


def _texture(size=128):
    noise = RNG.normal(size=(size + 40, size + 40))
    kernel = np.ones(7) / 7
    for axis in (0, 1):
        noise = np.apply_along_axis(lambda row: np.convolve(row, kernel, "same"), axis, noise)
    return ((noise - noise.min()) / np.ptp(noise)).astype(np.float32)


def test_flow_measures_a_known_shift_in_widths_per_second():
    texture = _texture()
    for shift in (1, 2, 3):
        earlier, later = texture[20:148, 20:148], texture[20:148, 20 - shift : 148 - shift]
        inner = dynamics.flow_speed(earlier, later)[16:-16, 16:-16]
        assert inner.mean() == pytest.approx(25 * shift / 128, rel=0.1)
    assert dynamics.flow_speed(texture, texture).max() == 0
    with pytest.raises(ShapeError):
        dynamics.flow_speed(texture, texture[:-1])


def test_flow_frames_are_small_grey_and_keep_their_shape():
    assert dynamics.flow_frame(np.zeros((480, 832, 3), np.uint8)).shape == (55, 96)


def test_the_person_is_where_their_points_are():
    skeleton = _skeleton()
    skeleton.points_px[:, layout.NOSE] = (100, 60)
    mask = dynamics.person_mask(skeleton, 0, 100, 100)
    assert mask[30, 50], "head"
    assert mask[70, 50], "chest"
    assert not mask[2, 2]
    assert not mask[2, 97]
    skeleton.confidence[0, layout.NOSE] = 0
    assert dynamics.person_mask(skeleton, 0, 100, 100) is None
    assert math.isnan(dynamics.split_speed(np.ones((4, 4)), None)[1])
    halves = np.zeros((4, 4))
    halves[:, :2] = 3.0
    assert dynamics.split_speed(halves, halves > 0) == (1.5, 3.0, 0.0)


def test_flicker_is_what_alternates_and_not_what_changes_evenly():
    a, b = np.full((4, 4, 3), 100, np.uint8), np.full((4, 4, 3), 108, np.uint8)
    assert dynamics.flicker_levels(a, b, a) == 8
    assert dynamics.flicker_levels(a, b, np.full((4, 4, 3), 116, np.uint8)) == 0


def test_drift_is_a_slope_per_second_and_needs_a_second():
    t = np.arange(100) / 25
    curve = 3 - 0.2 * t
    assert dynamics.drift_per_second(curve) == pytest.approx(-0.2)
    curve[10:30] = math.nan
    assert dynamics.drift_per_second(curve) == pytest.approx(-0.2)
    assert math.isnan(dynamics.drift_per_second(curve[:20]))
    with pytest.raises(InputError):
        dynamics.drift_per_second(np.array([1.0, math.inf, 2.0]))


def test_colour_departs_from_the_first_second():
    colours = np.full((75, 3), 100.0)
    colours[50:] += [3, 0, 4]
    departure = dynamics.colour_departure(colours)
    assert departure[:50].max() == 0
    assert departure[50:] == pytest.approx(5)
