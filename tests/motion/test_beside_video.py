"""Keypoints beside a video are, at 25 fps, those of what is to be seen in it, whatever the rates of both."""

import warnings

import numpy as np
import pytest

from hallo4.media import MediaWarning, VideoWriter, read_frames
from hallo4.motion import default_rest_pose, save_skeleton
from hallo4.motion.beside_video import given_skeleton
from hallo4.types import Skeleton

SIZE_PX = 64
SECONDS = 2.0


def moving(fps: float, of_time) -> Skeleton:
    """Everything lies at x = `of_time`(seconds)."""
    times = np.arange(round(SECONDS * fps)) / fps
    rest = default_rest_pose(SIZE_PX, SIZE_PX)
    points = np.repeat(rest.points_px[:1], len(times), axis=0).astype(np.float32)
    points[..., 0] = of_time(times)[:, None]
    confidence = np.ones(points.shape[:2], np.float32)
    return Skeleton(points, confidence, fps, SIZE_PX, SIZE_PX)


def read(folder, fps: float, video_fps: float, of_time) -> np.ndarray:
    """[T] x of every frame at 25 fps."""
    file = folder / "v.keypoints.npz"
    save_skeleton(file, moving(fps, of_time))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MediaWarning)
        skeleton = given_skeleton(file, SIZE_PX, SIZE_PX, video_fps)
    assert skeleton.fps == 25.0
    return skeleton.points_px[:, 0, 0]


def steadily(times):
    return 2 + 20 * times


@pytest.mark.parametrize("fps", [10.0, 24.0, 25.0, 30000 / 1001, 30.0, 50.0, 60.0, 100.0])
def test_at_a_rate_of_their_own_they_are_where_they_were_at_that_time(tmp_path, fps):
    """Exactly, of a point that moves steadily: the closed form at k / 25 s."""
    found = read(tmp_path, fps, 15.0, steadily)
    assert len(found) == SECONDS * 25
    within = np.arange(len(found)) / 25 <= (round(SECONDS * fps) - 1) / fps  # then the last one is held
    np.testing.assert_allclose(found[within], steadily(np.arange(len(found)) / 25)[within], atol=1e-4)


@pytest.mark.parametrize("fps", [12.5, 24.0, 30000 / 1001, 30.0, 50.0, 60.0])
def test_at_the_rate_of_the_video_they_are_those_of_the_nearest_picture(tmp_path, fps):
    """The picture says which it is: by eight stripes, the bits of its number."""
    pictures = round(SECONDS * fps)
    with VideoWriter(tmp_path / "v.mp4", SIZE_PX, SIZE_PX, fps=fps, crf=None) as writer:
        for number in range(pictures):
            stripes = np.repeat(255 * (number >> np.arange(8) & 1), SIZE_PX // 8).astype(np.uint8)
            writer.write(np.broadcast_to(stripes[:, None], (SIZE_PX, SIZE_PX, 3)).copy())
    middles = [frame[SIZE_PX // 2, 4::8, 0] > 127 for frame in read_frames(tmp_path / "v.mp4", 25.0)]
    shown = [int((middle * 2 ** np.arange(8)).sum()) for middle in middles]
    found = read(tmp_path, fps, fps, lambda times: np.rint(times * fps))
    count = min(len(found), len(shown))
    assert count >= SECONDS * 25 - 1
    np.testing.assert_array_equal(found[:count], shown[:count])


def test_what_swings_faster_than_the_rate_can_show_is_lost_and_said(tmp_path):
    """12 swings a second, in a file of 100: 25 skeletons a second have the swing at their own times exactly.
    At 20 swings they show another one."""

    def swing(per_second):
        return lambda times: 30 + 10 * np.sin(2 * np.pi * per_second * times)

    times = np.arange(50) / 25
    for per_second in (3, 12, 20):
        np.testing.assert_allclose(
            read(tmp_path, 100.0, 25.0, swing(per_second)), swing(per_second)(times), atol=1e-3
        )
    np.testing.assert_allclose(swing(20)(times), 60 - swing(5)(times), atol=1e-9)
    with pytest.warns(MediaWarning, match="has 100 skeletons a second, of which 25 are read") as said:
        given_skeleton(tmp_path / "v.keypoints.npz", SIZE_PX, SIZE_PX, 25.0)
    assert len(said) == 1
