"""Lids of drafts: what covers an eye, what stays as it is."""

import numpy as np
import pytest

from hallo4.motion.draft_lids import LASHES, DraftEye
from hallo4.motion.draft_sampling import pixel_centres

SIDE_PX = 96
CORNER, WIDTH = np.float32([28, 48]), 40.0
SKIN, WHITE, DARK = (200, 150, 120), (255, 255, 255), (10, 10, 10)
ROWS, COLUMNS = pixel_centres(SIDE_PX, SIDE_PX, SIDE_PX, SIDE_PX)


def lids(upper, lower, turn_rad=0.0, shift=(0, 0)):
    """Six points of an eye whose lids are `upper` above and `lower` below the corners, in widths of it."""
    arc = (4 / 3 * 2 / 3) ** 0.75
    points = [(0, 0), (1 / 3, -upper * arc), (2 / 3, -upper * arc)]
    points += [(1, 0), (2 / 3, lower * arc), (1 / 3, lower * arc)]
    cosine, sine = np.cos(turn_rad), np.sin(turn_rad)
    turned = np.array(points) @ np.array([[cosine, sine], [-sine, cosine]])
    return np.float32(CORNER + WIDTH * turned + shift)


def portrait(upper, lower, turn_rad=0.0):
    """Skin with an eye: white between its lids, and a dark edge of the upper one."""
    right, down = COLUMNS - CORNER[0], ROWS - CORNER[1]
    along = (right * np.cos(turn_rad) + down * np.sin(turn_rad)) / WIDTH
    height = (down * np.cos(turn_rad) - right * np.sin(turn_rad)) / WIDTH
    arc = np.maximum(4 * along * (1 - along), 0) ** 0.75
    picture = np.empty((SIDE_PX, SIDE_PX, 3), np.float32)
    picture[:] = SKIN
    picture[(height > -arc * upper) & (height < arc * lower)] = WHITE
    picture[(np.abs(height + arc * upper) < LASHES * 0.5) & (arc > 0)] = DARK
    return picture


def blinked(picture, then, now):
    eye, frame = DraftEye(picture, then), picture.copy()
    assert eye.opens
    eye.move_lids(frame, ROWS, COLUMNS, now)
    return frame


@pytest.mark.parametrize("turn_rad", [0.0, 0.3, -0.4])
def test_an_eye_that_shuts_shows_skin_and_one_dark_line(turn_rad):
    picture = portrait(0.3, 0.2, turn_rad)
    frame = blinked(picture, lids(0.3, 0.2, turn_rad), lids(-0.1, 0.1, turn_rad))
    middle = CORNER + WIDTH * np.array([np.cos(turn_rad), np.sin(turn_rad)]) / 2
    downward = np.array([-np.sin(turn_rad), np.cos(turn_rad)])
    for height, colour in ((-0.3, SKIN), (-0.15, SKIN), (0.0, SKIN), (0.19, SKIN), (0.3, SKIN)):
        x, y = (middle + height * WIDTH * downward).astype(int)
        np.testing.assert_allclose(frame[y, x], colour, atol=1, err_msg=f"at {height}")
    line = [frame[*(middle + h * WIDTH * downward).astype(int)[::-1]].mean() for h in (0.075, 0.1, 0.125)]
    assert min(line) < 60
    assert (picture == 255).all(-1).sum() > 400
    assert (frame > 240).all(-1).sum() < 12, "but for pixels at the corners"


def test_a_lid_halfway_down_leaves_the_eye_below_it_where_it_is():
    picture = portrait(0.3, 0.2)
    picture[44:54, 44:52] = (60, 90, 200)  # an iris
    frame = blinked(picture, lids(0.3, 0.2), lids(0.1, 0.2))
    x, top = int(CORNER[0] + WIDTH / 2), CORNER[1] - 0.1 * WIDTH
    np.testing.assert_array_equal(
        frame[int(top + 0.06 * WIDTH) : 56, x], picture[int(top + 0.06 * WIDTH) : 56, x]
    )
    np.testing.assert_allclose(frame[int(top), x], DARK, atol=1)
    np.testing.assert_allclose(frame[int(top - 0.1 * WIDTH), x], SKIN, atol=1)


def test_lids_that_do_not_move_change_nothing():
    picture = portrait(0.3, 0.2)
    np.testing.assert_array_equal(blinked(picture, lids(0.3, 0.2), lids(0.3, 0.2)), picture)


def test_an_eye_that_opens_wider_has_its_lashes_higher():
    frame = blinked(portrait(0.2, 0.2), lids(0.2, 0.2), lids(0.35, 0.2))
    column = frame[:, int(CORNER[0] + WIDTH / 2), 0]
    dark = np.flatnonzero(column < 100)
    assert abs(dark.mean() + 0.5 - (CORNER[1] - 0.35 * WIDTH)) < 1
    assert (column[dark.max() + 2 : int(CORNER[1] + 0.15 * WIDTH)] == 255).all()


def test_lids_move_with_the_head():
    """A head that goes right by 7 pixels: the frame comes from 7 to the left, and so are its lids."""
    picture = portrait(0.3, 0.2)
    eye, frame = DraftEye(picture, lids(0.3, 0.2)), np.roll(picture, 7, 1)
    eye.move_lids(frame, ROWS, COLUMNS - 7, lids(-0.1, 0.1, shift=(7, 0)))
    np.testing.assert_allclose(
        frame[:, 12:], np.roll(blinked(picture, lids(0.3, 0.2), lids(-0.1, 0.1)), 7, 1)[:, 12:], atol=1e-3
    )


def test_the_colour_of_lids_is_that_of_the_skin_and_not_of_glasses():
    picture = portrait(0.3, 0.2)
    picture[18:22], picture[64:66] = DARK, DARK  # rims, within what is looked at
    frame = blinked(picture, lids(0.3, 0.2), lids(-0.1, 0.1))
    np.testing.assert_allclose(frame[44, 48], SKIN, atol=2)
    np.testing.assert_array_equal(frame[18:22], picture[18:22])


@pytest.mark.parametrize(
    "points",
    [lids(0.02, 0.02), lids(0.3, 0.2, shift=(60, 0)), 0 * lids(0.3, 0.2)],
    ids=["shut", "out", "none"],
)
def test_an_eye_that_is_shut_or_not_in_the_picture_has_no_lids_to_move(points):
    assert not DraftEye(portrait(0.3, 0.2), points).opens


@pytest.mark.parametrize("shift", [(-500, 0), (500, 500), (-60, -70)])
def test_an_eye_that_leaves_the_frame_is_no_error(shift):
    picture = portrait(0.3, 0.2)
    blinked(picture, lids(0.3, 0.2), lids(-0.1, 0.1, shift=shift))
