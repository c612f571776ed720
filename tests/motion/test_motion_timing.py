"""Resampling: closed forms on straight motion, the mirror at the end, and unseen points."""

import numpy as np
import pytest

from hallo4.errors import InputError
from hallo4.motion import resample
from hallo4.types import KEYPOINTS, Skeleton


def straight(frames: int, fps: float) -> Skeleton:
    """Every point moves right at 100 px a second."""
    points = np.zeros((frames, KEYPOINTS, 2), np.float32)
    points[..., 0] = 100 * np.arange(frames)[:, None] / fps
    return Skeleton(points, np.ones((frames, KEYPOINTS), np.float32), fps, 640, 480)


@pytest.mark.parametrize("fps", [12.5, 24.0, 25.0, 29.97, 30.0, 50.0, 60.0])
def test_straight_motion_stays_straight_at_any_rate(fps):
    out, _ = resample(straight(int(4 * fps), fps), 90)
    assert out.fps == 25.0
    expected = 100 * np.arange(90) / 25.0
    np.testing.assert_allclose(out.points_px[..., 0], np.tile(expected[:, None], KEYPOINTS), atol=1e-3)


def test_right_rate_and_length_is_untouched_and_says_nothing():
    source = straight(33, 25.0)
    out, note = resample(source, 33)
    np.testing.assert_array_equal(out.points_px, source.points_px)
    np.testing.assert_array_equal(out.confidence, source.confidence)
    assert note == ""


def test_longer_is_cut():
    source = straight(50, 25.0)
    out, note = resample(source, 10)
    np.testing.assert_array_equal(out.points_px, source.points_px[:10])
    assert note == "skeleton: cut from 2.00 s to 0.40 s"


def test_shorter_runs_back_and_forth():
    out, note = resample(straight(4, 25.0), 12)
    np.testing.assert_allclose(out.points_px[:, 0, 0] / 4, [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1], atol=1e-5)
    assert "0.16 s is shorter than 0.48 s, so it runs back and forth" in note
    steps = np.abs(np.diff(resample(straight(7, 30.0), 200)[0].points_px[:, 0, 0]))
    assert steps.max() <= 4.0 + 1e-3  # 100 px/s at 25 fps: never faster than the source


def test_a_single_frame_is_held():
    out, note = resample(straight(1, 25.0), 5)
    assert (out.points_px == 0).all()
    assert "held for 0.20 s" in note


def test_the_24_fps_demo_keeps_its_speed():
    out, note = resample(straight(162, 24.0), 169)
    np.testing.assert_allclose(out.points_px[:168, 0, 0], 4.0 * np.arange(168), atol=1e-2)
    assert note == "skeleton: resampled from 24 to 25 fps"
    np.testing.assert_array_equal(out.points_px[168], straight(162, 24.0).points_px[161])
    assert "is shorter than 6.80 s" in resample(straight(162, 24.0), 170)[1]


def test_twice_the_rate_of_a_skeleton_as_long_as_the_video_holds_its_last_frame():
    source = straight(10, 25.0)
    out, note = resample(source, 20, 50.0)
    np.testing.assert_allclose(out.points_px[:, 0, 0], [*np.arange(19) * 2.0, 36.0], atol=1e-4)
    assert note == "skeleton: resampled from 25 to 50 fps"


def test_unseen_points_are_not_interpolated():
    source = straight(3, 12.5)
    source.confidence[1, 7] = 0
    source.points_px[1, 7] = np.nan
    out, _ = resample(source, 5)  # times 0, .5, 1, 1.5, 2 of the source
    seen = out.confidence[:, 7] > 0
    np.testing.assert_array_equal(seen, [True, True, False, False, True])
    np.testing.assert_array_equal(out.points_px[seen, 7, 0], source.points_px[[0, 0, 2], 7, 0])
    np.testing.assert_allclose(out.points_px[:, 8, 0], [0, 4, 8, 12, 16], atol=1e-4)
    assert np.isfinite(out.points_px[:, 8]).all()


def test_confidence_is_interpolated_where_both_are_seen():
    source = straight(2, 12.5)
    source.confidence[:, 3] = (0.2, 0.8)
    out, _ = resample(source, 3)
    np.testing.assert_allclose(out.confidence[:, 3], [0.2, 0.5, 0.8], atol=1e-6)


@pytest.mark.parametrize(("frames", "fps"), [(0, 25.0), (5, 0.0), (5, float("nan"))])
def test_nonsense_is_refused(frames, fps):
    with pytest.raises(InputError, match="at least 1 frame"):
        resample(straight(3, 25.0), frames, fps)
