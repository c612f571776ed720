"""DWPose's pre- and postprocessing around small ONNX graphs of the same inputs and outputs."""

import numpy as np
import pytest
from toy_networks import ANCHORS, DETECTOR_FILE, POSE_FILE, POSE_SIZE_PX, save_detector, save_pose, yolox_rows

from hallo4.errors import CheckpointError, InputError, MissingExtraError
from hallo4.pose import PoseEstimator
from hallo4.pose.dwpose import (
    DwposeEstimator,
    cut_box,
    decode_simcc,
    letterboxed,
    normalised,
    padded_box,
    person_boxes,
)

TWO = [((64.0, 80.0, 224.0, 336.0), 0.9), ((320.0, 100.0, 400.0, 300.0), 0.7)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dwpose")
    save_detector(folder, yolox_rows(TWO))
    save_pose(folder)
    return folder


@pytest.fixture(scope="module")
def estimator(folder):
    return DwposeEstimator(folder, "cpu")


def dot(width_px: int, height_px: int, x: int, y: int) -> np.ndarray:
    """A grey frame with a red point of one pixel's width, soft around it."""
    down, across = np.mgrid[0:height_px, 0:width_px]
    frame = np.full((height_px, width_px, 3), 100, np.uint8)
    glow = np.exp(-((across - x) ** 2 + (down - y) ** 2) / 18.0)
    frame[..., 0] = np.rint(100 + 155 * glow)
    return frame


def test_it_is_an_estimator(estimator):
    assert isinstance(estimator, PoseEstimator)


@pytest.mark.parametrize(("width", "height", "scale"), [(640, 640, 1.0), (1280, 720, 2.0), (320, 200, 0.5)])
def test_boxes_come_back_in_pixels_of_the_frame(estimator, width, height, scale):
    found = estimator.find(np.full((height, width, 3), 128, np.uint8))
    assert len(found) == 2
    for one, (box, _) in zip(found, TWO, strict=True):
        np.testing.assert_allclose(one.box_px, np.array(box) * scale, atol=1e-3)


def test_the_best_of_overlapping_boxes_stays_and_the_unlikely_go():
    one = (100.0, 100.0, 200.0, 300.0)
    beside = (108.0, 100.0, 208.0, 300.0)  # overlap 92 / 108
    apart = (160.0, 100.0, 260.0, 300.0)  # overlap 40 / 160
    rows = yolox_rows([(beside, 0.8), (one, 0.6), (apart, 0.5), ((300.0, 300.0, 400.0, 400.0), 0.29)])
    boxes = person_boxes(rows, 1.0)
    np.testing.assert_allclose(boxes, [beside, apart], atol=1e-3)
    rows = yolox_rows([(one, 0.6)])
    rows[rows[:, 4] > 0, 5:7] = 0.1, 0.9  # an object, but no person
    assert person_boxes(rows, 1.0) == []


def test_anchors_of_all_three_strides():
    """A row of zeros at anchor i is a box of one cell's size with its centre at the cell's corner."""
    for anchor, stride, x, y in ((79, 8, 632, 0), (6400 + 41, 16, 16, 16), (ANCHORS - 1, 32, 608, 608)):
        rows = np.zeros((ANCHORS, 85), np.float32)
        rows[anchor, 4:6] = 1.0
        half = stride / 2
        np.testing.assert_allclose(person_boxes(rows, 1.0), [[x - half, y - half, x + half, y + half]])


def test_the_letterbox_is_grey_below_and_keeps_levels():
    frame = np.full((100, 200, 3), (10, 20, 30), np.uint8)
    picture, ratio = letterboxed(frame)
    assert (picture.shape, picture.dtype, ratio) == ((1, 3, 640, 640), np.float32, 3.2)
    np.testing.assert_array_equal(picture[0, :, :320].reshape(3, -1).T, np.tile([10, 20, 30], (320 * 640, 1)))
    assert (picture[0, :, 320:] == 114).all()


def test_the_looked_at_box_has_the_network_s_shape_and_a_quarter_more_room():
    centre, extent = padded_box(np.array([10.0, 20.0, 110.0, 420.0]), (288, 384))
    np.testing.assert_allclose([centre, extent], [[60, 220], [375, 500]])
    _, extent = padded_box(np.array([0.0, 0.0, 400.0, 100.0]), (288, 384))
    np.testing.assert_allclose(extent, [500, 500 / 0.75])


def test_cutting_is_bilinear_with_black_beyond_as_in_warp_affine():
    """Against a slow reading of OpenCV's rule: destination pixel i lies on source pixel i step + start."""
    frame = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    centre, extent, size = np.array([23.0, 21.5]), np.array([36.0, 48.0]), (12, 16)
    step, start = extent / size, centre - extent / 2
    slow = np.zeros((size[1], size[0], 3))
    for row in range(size[1]):
        for column in range(size[0]):
            x, y = start + step * (column, row)
            left, top = int(np.floor(x)), int(np.floor(y))
            for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
                weight = (1 - abs(x - left - j)) * (1 - abs(y - top - i))
                if 0 <= top + i < 40 and 0 <= left + j < 50:
                    slow[row, column] += weight * frame[top + i, left + j]
    inside = slice(2, -2)
    cut = cut_box(frame, centre, extent, size).astype(float)
    np.testing.assert_allclose(cut[inside, inside], slow[inside, inside], atol=1.01)
    outside = cut_box(frame, np.array([-100.0, 0.0]), extent, size)
    assert (outside == 0).all()


def test_normalising_takes_mean_and_deviation_of_imagenet():
    picture = np.tile(np.uint8([124, 116, 104]), (4, 3, 1))
    values = normalised(picture)
    assert values.shape == (1, 3, 4, 3)
    np.testing.assert_allclose(values[0, :, 0, 0], [0.325 / 58.395, -0.28 / 57.12, 0.47 / 57.375], rtol=1e-4)


def test_bins_become_points():
    bins_x, bins_y = np.zeros((133, 576), np.float32), np.zeros((133, 768), np.float32)
    bins_x[7, 100], bins_y[7, 300] = 0.75, 0.5
    points, score = decode_simcc(
        bins_x, bins_y, np.array([200.0, 150.0]), np.array([144.0, 192.0]), (288, 384)
    )
    # Bin 100 is pixel 50 of 288: 50 / 288 of 144 px to the right of 200 - 72, and half a pixel to its middle.
    np.testing.assert_allclose(points[7], [128 + 25 + 0.5, 54 + 75 + 0.5])
    assert (score[7], score[6]) == (0.5, 0.0)


@pytest.mark.parametrize(("x", "y"), [(120, 150), (180, 260), (75, 95)])
def test_a_seen_point_comes_back_where_it_is(estimator, x, y):
    frame = dot(640, 640, x, y)
    pose = estimator.look(frame, estimator.find(frame)[0])
    step = 1.25 * 256 / 384
    np.testing.assert_allclose(pose.points_px[0], [x + 0.5, y + 0.5], atol=step)
    assert pose.confidence[0] > 0.9
    # The others stand at bins 4 k, 5 k of the padded box: centre (144, 208), extent (240, 320).
    k = np.arange(1, 100)
    expected = np.stack([2 * k / 288 * 240 + 24, 2.5 * k / 384 * 320 + 48], axis=-1) + 0.5
    np.testing.assert_allclose(pose.points_px[1:100], expected, atol=1e-2)
    np.testing.assert_allclose(pose.confidence[1:100], 0.8, atol=1e-6)
    np.testing.assert_allclose(pose.box_px, TWO[0][0], atol=1e-3)
    assert POSE_SIZE_PX == (288, 384)


def test_the_next_frame_s_person_is_the_one_who_overlaps(estimator):
    frame = dot(640, 640, 350, 200)
    first, second = estimator.find(frame)
    pose = estimator.look(frame, second)
    again = estimator.look(frame, pose)
    np.testing.assert_allclose(again.box_px, second.box_px)
    np.testing.assert_allclose(again.points_px, pose.points_px)
    assert not np.allclose(again.box_px, first.box_px)
    assert estimator.look(np.zeros((640, 640, 3), np.uint8), pose) is None


def test_points_outside_of_the_frame_are_not_seen(estimator):
    frame = np.full((130, 640, 3), 120, np.uint8)  # the box goes on below it
    pose = estimator.look(frame, estimator.find(frame)[0])
    seen = pose.confidence > 0
    assert 0 < seen.sum() < 133
    assert (pose.points_px[seen, 1] <= 130).all()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda folder: (folder / POSE_FILE).unlink(),
            r"dw-ll_ucoco_384\.onnx, which are not in .*weights fetch dwpose",
        ),
        (lambda folder: (folder / POSE_FILE).write_bytes(b"PK"), "onnxruntime cannot open it"),
        (lambda folder: cut_short(folder / DETECTOR_FILE), "onnxruntime cannot open it"),
        (lambda folder: (folder / DETECTOR_FILE).write_bytes(b""), "it is empty"),
        (lambda folder: save_pose(folder, points=17), "another network: .*17, 576"),
        (lambda folder: save_detector(folder, yolox_rows(TWO), size_px=416), "another network: .*416"),
        (lambda folder: save_detector(folder, yolox_rows(TWO)[:100]), "another network: .*100"),
    ],
)
def test_files_that_are_not_the_networks_are_said_in_one_line(tmp_path, damage, words):
    save_detector(tmp_path, yolox_rows(TWO))
    save_pose(tmp_path)
    damage(tmp_path)
    with pytest.raises(CheckpointError, match=words) as caught:
        DwposeEstimator(tmp_path, "cpu")
    assert "\n" not in str(caught.value)


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_without_onnxruntime_or_with_an_odd_device(folder, monkeypatch):
    with pytest.raises(InputError, match="device is 'abacus'; use auto, cpu or cuda"):
        DwposeEstimator(folder, "abacus")
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hallo4\[pose\]'"):
        DwposeEstimator(folder)
