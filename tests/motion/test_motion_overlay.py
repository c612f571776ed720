"""The skeleton over its picture: where it is drawn, and where the picture stays."""

import numpy as np
import pytest

from hallo4.motion import layout
from hallo4.motion.overlay import overlay
from hallo4.types import KEYPOINTS, Skeleton


def skeleton_of(*points: int, width: int = 320, height: int = 200) -> Skeleton:
    """Two frames; in the second one the `points` are seen, from (40, 40) on, 30 px apart."""
    px, confidence = np.zeros((2, KEYPOINTS, 2), np.float32), np.zeros((2, KEYPOINTS), np.float32)
    for place, point in enumerate(points):
        px[1, point], confidence[1, point] = (40 + 30 * place, 40), 1
    return Skeleton(px, confidence, 25.0, width, height)


@pytest.mark.parametrize(
    ("size", "drawn"), [((1920, 1080), (640, 360)), ((321, 201), (640, 400)), ((64, 48), (256, 192))]
)
def test_the_picture_becomes_small_and_even(size, drawn):
    frame = np.full((size[1], size[0], 3), 200, np.uint8)
    picture = overlay(frame, skeleton_of(width=size[0], height=size[1]), 0)
    assert picture.shape == (drawn[1], drawn[0], 3)
    assert (picture == 140).all()  # nothing is drawn, the picture is darkened


def test_points_are_drawn_where_they_are_and_the_mouth_and_feet_too():
    frame = np.full((200, 320, 3), 100, np.uint8)
    points = (layout.JAW.start, layout.MOUTH.start, layout.FEET.start)
    picture = overlay(frame, skeleton_of(*points), 1).astype(int)
    assert picture[80, 80].min() > 230  # a white dot of the face
    for x in (140, 200):
        np.testing.assert_array_equal(picture[79, x - 1], (255, 105, 180))
    changed = np.argwhere((picture != 70).any(axis=-1))
    assert all(min(abs(x - p) + abs(y - 80) for p in (80, 140, 200)) < 10 for y, x in changed)
    assert (overlay(frame, skeleton_of(*points), 0) == 70).all()
