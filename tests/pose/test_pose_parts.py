"""Squares, anchors, suppression and the mapping of points: closed forms and slow readings of the rules."""

import math

import numpy as np
import pytest

from hallo4.motion import layout
from hallo4.pose.crops import Region, cut, square_around, whole_frame
from hallo4.pose.detections import Detection, anchors_01, decode, suppressed
from hallo4.pose.estimator import overlap
from hallo4.pose.light_parts import body_region, face_region, palm_region, peaks_near
from hallo4.pose.light_points import Points, jaw

RNG = np.random.default_rng(4)


def slow_cut(frame: np.ndarray, region: Region, size: int, rim: bool) -> np.ndarray:
    """Bilinear reading at the middle of every pixel, one by one."""
    height, width = frame.shape[:2]
    result = np.zeros((size, size, 3))
    cosine, sine = math.cos(region.roll), math.sin(region.roll)
    for row in range(size):
        for column in range(size):
            a, b = ((column + 0.5) / size - 0.5) * region.side_px, ((row + 0.5) / size - 0.5) * region.side_px
            x = region.x_px + a * cosine - b * sine - 0.5
            y = region.y_px + a * sine + b * cosine - 0.5
            left, top = math.floor(x), math.floor(y)
            for i in (0, 1):
                for j in (0, 1):
                    weight = (1 - abs(x - left - j)) * (1 - abs(y - top - i))
                    inside = 0 <= top + i < height and 0 <= left + j < width
                    if rim:
                        result[row, column] += (
                            weight * frame[min(max(top + i, 0), height - 1), min(max(left + j, 0), width - 1)]
                        )
                    elif inside:
                        result[row, column] += weight * frame[top + i, left + j]
    return result


@pytest.mark.parametrize(
    "region",
    [Region(30, 22, 20, 0.5), Region(5, 3, 24, -2.0), Region(48, 38, 16), Region(30.3, 20.7, 39, 3.0)],
)
def test_a_cut_with_its_rim_going_on_is_a_bilinear_reading(region):
    frame = RNG.integers(0, 256, (40, 50, 3)).astype(np.uint8)
    np.testing.assert_allclose(
        cut(frame, region, 20, "rim").astype(float), slow_cut(frame, region, 20, rim=True), atol=1.01
    )


def test_a_cut_of_the_whole_frame_is_black_beside_it():
    frame = RNG.integers(1, 256, (40, 80, 3)).astype(np.uint8)
    picture = cut(frame, whole_frame(frame), 80, "black")
    np.testing.assert_array_equal(picture[20:60], frame)
    assert not picture[:20].any()
    assert not picture[60:].any()


def test_shrinking_averages():
    """A chessboard of single pixels becomes grey, and not a chessboard or black."""
    board = np.uint8(255 * (np.indices((400, 400)).sum(axis=0) % 2))[..., None].repeat(3, axis=-1)
    picture = cut(board, whole_frame(board), 100, "rim").astype(int)
    assert abs(picture[1:-1, 1:-1] - 127).max() <= 1


@pytest.mark.parametrize(
    "region",
    [Region(500, 20, 10), Region(20, 20, 0.0), Region(float("nan"), 1, 5), Region(0, 0, float("inf"))],
)
def test_there_is_no_cut_where_nothing_of_the_frame_is(region):
    assert cut(np.zeros((40, 50, 3), np.uint8), region, 8, "black") is None


def test_points_go_to_the_frame_and_back():
    region = Region(30, 20, 50, 0.7)
    points = RNG.random((9, 2))
    np.testing.assert_allclose(region.turned(region.to_frame(points)) / 50 + 0.5, points)
    np.testing.assert_allclose(region.to_frame(np.array([0.5, 0.5])), [30, 20])
    quarter = Region(0, 0, 2, math.pi / 2)  # its own right is the frame's down
    np.testing.assert_allclose(quarter.to_frame(np.array([1.0, 0.5])), [0, 1], atol=1e-12)


def test_the_square_around_points_is_in_their_own_axes():
    angle = 0.4
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    box = np.array([[-3.0, -1], [3, -1], [3, 1], [-3, 1], [0, 0.2]]) @ turn + (10, 20)
    region = square_around(box, angle, 1.5)
    np.testing.assert_allclose([region.x_px, region.y_px, region.side_px], [10, 20, 9])
    lower = square_around(box, angle, 1.5, shift_down=0.5)
    np.testing.assert_allclose([lower.x_px, lower.y_px], (10, 20) + np.array([0, 1]) @ turn)


@pytest.mark.parametrize(
    ("size", "strides", "count"),
    [(128, (8, 16, 16, 16), 896), (224, (8, 16, 32, 32, 32), 2254), (192, (8, 16, 16, 16), 2016)],
)
def test_there_are_as_many_anchors_as_the_networks_have_rows(size, strides, count):
    anchors = anchors_01(size, strides)
    assert anchors.shape == (count, 2)
    np.testing.assert_allclose(anchors[0], [4 / size, 4 / size])
    np.testing.assert_array_equal(anchors[0], anchors[1])
    np.testing.assert_allclose(anchors[2], [12 / size, 4 / size])
    np.testing.assert_allclose(anchors[-1], 1 - strides[-1] / 2 / size)


def test_a_row_is_decoded_about_its_anchor():
    anchors = anchors_01(128, (8, 16, 16, 16))
    rows, logits = np.zeros((896, 16), np.float32), np.full(896, -100.0, np.float32)
    rows[100, :8], logits[100] = [12.8, -6.4, 25.6, 38.4, 64, 0, 0, 32], math.log(3)
    (found,) = decode(rows, logits, anchors, 128)
    assert found.score == pytest.approx(0.75)
    np.testing.assert_allclose(found.box, np.tile(anchors[100], 2) + [0, -0.2, 0.2, 0.1], atol=1e-6)
    np.testing.assert_allclose(found.points[:2], anchors[100] + [[0.5, 0], [0, 0.25]], atol=1e-6)
    assert decode(rows, np.full(896, -1e5, np.float32), anchors, 128) == []


def test_what_is_found_twice_becomes_its_weighted_mean():
    def one(left: float, score: float) -> Detection:
        return Detection(np.array([left, 0, left + 10, 10]), np.array([[left, 5.0]]), score)

    merged, apart = suppressed([one(0, 0.6), one(50, 0.55), one(2, 0.9)])
    assert (merged.score, apart.score) == (0.9, 0.55)
    mean = (0.6 * 0 + 0.9 * 2) / 1.5
    np.testing.assert_allclose(merged.box, [mean, 0, mean + 10, 10])
    np.testing.assert_allclose(merged.points, [[mean, 5]])
    np.testing.assert_allclose(apart.box, [50, 0, 60, 10])


def test_overlap_is_intersection_over_union():
    boxes = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [2, 0, 4, 2], [0.5, 0.5, 1, 1]], float)
    np.testing.assert_allclose(overlap(boxes[0], boxes), [1, 1 / 3, 0, 1 / 16])


def test_regions_turn_with_what_was_detected():
    upright = Detection(np.array([40.0, 40, 60, 60]), np.array([[45.0, 45], [55, 45], [50, 50]]), 1.0)
    assert face_region(upright) == Region(50, 50, 30, 0.0)
    leaning = Detection(upright.box, np.array([[45.0, 45], [55, 55]]), 1.0)
    assert face_region(leaning).roll == pytest.approx(math.pi / 4)
    body = body_region(np.array([50.0, 80.0]), np.array([50.0, 20.0]))
    assert (body.side_px, body.roll) == (150, 0)
    hand = palm_region(Detection(upright.box, np.array([[50.0, 60], [0, 0], [50, 40]]), 1.0))
    np.testing.assert_allclose([hand.x_px, hand.y_px, hand.side_px, hand.roll], [50, 40, 52, 0], atol=1e-9)


def test_landmarks_move_to_the_middle_of_their_heat_and_not_to_cold_or_far_places():
    heat = np.full((64, 64, 4), -50.0)
    heat[30:33, 40:43, 0] = 5.0  # in the window
    heat[10, 10, 1] = 5.0  # too far away
    heat[30:33, 40:43, 2] = -0.1  # too cold
    points = np.full((4, 2), (41.5 / 64, 30.5 / 64))
    points[3] = 2.0  # outside
    moved = peaks_near(points, heat)
    np.testing.assert_allclose(moved[0], [41 / 64, 31 / 64])
    np.testing.assert_array_equal(moved[1:], points[1:])


def test_the_jaw_is_even_and_ends_at_ears_height_and_chin():
    mesh = RNG.random((468, 2))
    oval = [127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152]
    oval += [377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 356]
    angles = np.sort(RNG.random(len(oval))) * np.pi  # a half circle of uneven vertices
    angles[0], angles[11], angles[-1] = 0, np.pi / 2, np.pi
    angles[1:11], angles[12:-1] = (
        np.sort(angles[1:11]) % (np.pi / 2),
        np.pi / 2 + np.sort(angles[12:-1]) % (np.pi / 2),
    )
    angles[1:11].sort()
    angles[12:-1].sort()
    mesh[oval] = np.stack([-np.cos(angles), np.sin(angles)], axis=-1)
    points = jaw(mesh)
    assert points.shape == (17, 2)
    np.testing.assert_allclose(points[[0, 8, 16]], mesh[[127, 152, 356]])
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    assert steps.max() < 1.15 * steps.min()


def test_parts_go_to_their_places_and_nothing_else_is_seen():
    points = Points()
    body = np.arange(66.0).reshape(33, 2)
    points.put_body(body, np.linspace(0.5, 1, 33))
    px, confidence = points.inside(1000, 1000)
    np.testing.assert_array_equal(px[layout.LEFT_SHOULDER], body[11])
    np.testing.assert_array_equal(px[layout.RIGHT_ANKLE], body[28])
    # Left big toe and heel, then the right ones; there are no small toes.
    np.testing.assert_array_equal(px[[17, 19, 20, 22]], body[[31, 29, 32, 30]])
    assert set(np.flatnonzero(confidence == 0)) == {0, 1, 2, 3, 4, 18, 21, *range(23, 133)}
    mesh = RNG.random((468, 2)) * 100
    points.put_face(mesh, 0.9)
    px, confidence = points.inside(1000, 1000)
    np.testing.assert_allclose(px[0], mesh[4], rtol=1e-6)
    np.testing.assert_allclose(px[1], mesh[[362, 263, 386, 374]].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(px[[3, 4]], mesh[[454, 234]], rtol=1e-6)
    # Outer corners of eyes and mouth, right then left, in the 68-point scheme: 36, 45, 48, 54.
    np.testing.assert_allclose(px[23 + np.array([36, 45, 48, 54])], mesh[[33, 263, 61, 291]], rtol=1e-6)
    assert (confidence[:91] > 0).sum() == 89


def test_a_hand_lends_its_root_to_a_wrist_that_is_not_seen():
    points = Points()
    confidence = np.zeros(33)
    confidence[15] = 0.8  # the left wrist is seen, the right one is not
    points.put_body(np.full((33, 2), 7.0), confidence)
    hands = np.arange(42.0).reshape(21, 2) + 20
    for side in (0, 1):
        points.put_hand(side, hands + side, 0.9)
    px, sure = points.inside(100, 100)
    np.testing.assert_array_equal(px[layout.LEFT_WRIST], [7, 7])
    np.testing.assert_array_equal(px[layout.RIGHT_WRIST], hands[0] + 1)
    np.testing.assert_array_equal(px[layout.LEFT_HAND], hands)
    np.testing.assert_array_equal(px[layout.RIGHT_HAND], hands + 1)
    np.testing.assert_allclose(sure[[9, 10]], [0.8, 0.9])


def test_what_lies_outside_of_the_frame_is_not_seen():
    points = Points()
    points.put_face(np.tile([50.0, 120.0], (468, 1)), 1.0)
    px, confidence = points.inside(100, 100)
    assert not confidence.any()
    assert not px.any()
