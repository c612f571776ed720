"""Several people in a file: the words that choose one, and one person followed through all frames."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from hallo4.errors import InputError
from hallo4.media import MediaWarning
from hallo4.motion import PersonChoice, default_rest_pose, idle_motion, load_skeleton
from hallo4.motion.person import figure_boxes, follow_person

BOXES = np.array([[50, 0, 60, 10], [0, 0, 20, 30], [100, 5, 115, 20.0]])
"""Of somebody in the middle, a large figure at the left, one at the right."""


@pytest.mark.parametrize(
    ("words", "index"),
    [
        ("largest", 1), ("left", 1), ("right", 2), ("1", 1), ("2", 0), ("3", 2), ("4", None),
        ("55,5", 0), ("107.5, 19.5", 2), ("40,5", None), (" left ", 1),
    ],
)  # fmt: skip
def test_words_choose_a_box(words, index):
    assert PersonChoice.of(words).index(BOXES) == index
    assert PersonChoice.of(words).index(np.zeros((0, 4))) is None


def test_of_boxes_around_a_place_the_smallest_is_meant():
    nested = np.array([[0, 0, 100, 100], [40, 40, 60, 60.0]])
    assert PersonChoice.of("50,50").index(nested) == 1
    assert PersonChoice.of("10,50").index(nested) == 0


@pytest.mark.parametrize("words", ["", "0", "-1", "middle", "1,2,3", "1;2", "nan,1", "left right", "99999"])
def test_other_words_are_refused(words):
    with pytest.raises(InputError, match="write largest, left, right, a number"):
        PersonChoice.of(words)


@pytest.fixture(scope="module")
def pair():
    """Two people of 40 frames: small at the left, large at the right; [40, 133, 3] each."""
    found = []
    for seed, scale, place in ((1, 0.4, (20, 100)), (2, 0.9, (330, 20))):
        moving = idle_motion(default_rest_pose(300, 300), 40, seed)
        points = moving.points_px * scale + place
        found.append(np.concatenate([points, moving.confidence[..., None]], axis=-1))
    return found


def saved(path, frames):
    """A file of DWPose's arrays in JSON: a list of people for every frame."""
    import json

    value = {"keypoints": [[one.tolist() for one in people] for people in frames], "fps": 25}
    path.write_text(json.dumps(value | {"width_px": 640, "height_px": 320}))
    return path


def read(path, person=None):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", MediaWarning)
        skeleton = load_skeleton(path, person=person)
    return skeleton.points_px, [str(warning.message) for warning in said]


def test_the_chosen_one_is_followed_whatever_order_people_come_in(tmp_path, pair):
    small, large = pair
    orders = np.random.default_rng(0).random(40) < 0.5
    path = saved(tmp_path / "two.json", [[a, b] if o else [b, a] for a, b, o in zip(small, large, orders)])
    for person, expected in (
        (None, large), ("largest", large), ("left", small), ("right", large), ("1", small), ("2", large),
        ("60,150", small),
    ):  # fmt: skip
        points, (note,) = read(path, person)
        np.testing.assert_allclose(points, expected[..., :2], atol=1e-3)
        assert "up to 2 people (40 of 40 frames show more than one)" in note
    with pytest.raises(
        InputError, match=r"two.json: person 3 from the left is not there: at most 2 .* x 33-127, y 137-246"
    ):
        load_skeleton(path, person="3")
    with pytest.raises(InputError, match="the person at 300,10 is not there"):
        load_skeleton(path, person="300,10")


def test_one_person_makes_no_note_and_can_be_chosen(tmp_path, pair):
    path = saved(tmp_path / "one.json", [[one] for one in pair[0]])
    for person in (None, "left", "1", "60,150"):
        points, notes = read(path, person)
        np.testing.assert_allclose(points, pair[0][..., :2], atol=1e-3)
        assert notes == []
    with pytest.raises(InputError, match="person 2 from the left is not there"):
        load_skeleton(path, person="2")


def test_nobody_else_takes_the_place_of_a_lost_person(tmp_path, pair):
    """While the small one is lost the other is still seen; and the choice is made where both are."""
    frames = [[a, b] for a, b in zip(*pair)]
    for lost in (0, 1, 20, 21, 22):
        frames[lost] = [pair[1][lost]]
    path = saved(tmp_path / "two.json", frames)
    with pytest.warns(MediaWarning):
        back = load_skeleton(path, person="left")
    seen = back.confidence.any(axis=1)
    assert np.flatnonzero(~seen).tolist() == [0, 1, 20, 21, 22]
    np.testing.assert_allclose(back.points_px[seen], pair[0][seen][..., :2], atol=1e-3)


def test_a_lone_person_may_jump(pair):
    """A cut in a film of one person: there is nobody else to be taken for them."""
    jumping = pair[0].copy()
    jumping[20:, :, 0] += 400
    chosen, note = follow_person(jumping, np.arange(40), 40, PersonChoice())
    np.testing.assert_array_equal(chosen, jumping)
    assert note == ""


def test_boxes_hold_the_seen_points_alone(pair):
    person = pair[0][:1].copy()
    person[0, 7, :2], person[0, 7, 2] = 9999, 0.1
    least, most = figure_boxes(person)[0, :2], figure_boxes(person)[0, 2:]
    seen = person[0, person[0, :, 2] >= 0.3, :2]
    np.testing.assert_array_equal(least, seen.min(axis=0))
    np.testing.assert_array_equal(most, seen.max(axis=0))


def test_hints_know_the_words():
    from hallo4.motion import MotionHints

    assert MotionHints(person="left").choice == PersonChoice("left")
    assert MotionHints().choice == PersonChoice("largest")
    with pytest.raises(InputError, match="write largest"):
        replace(MotionHints(), person="tallest")
