"""Following, bridging and smoothing with an estimator whose answers are painted into the frames."""

from dataclasses import replace

import numpy as np
import pytest

from hallo4.errors import InputError
from hallo4.motion import PersonChoice
from hallo4.motion.gaps import BRIDGED_CONFIDENCE, bridged
from hallo4.pose import Candidate, PersonPose, PoseEstimator
from hallo4.pose.estimator import box_centre, box_side
from hallo4.pose.follow import follow
from hallo4.pose.measure import _findings, estimate_image
from hallo4.pose.smooth import smoothed

FPS = 25.0
SIZE = (320, 180)


class PaintedPeople:
    """People are rectangles of red 200 + number on any ground; all 133 points lie in the middle."""

    name = "painted"

    def __init__(self):
        self.looks = 0

    def find(self, frame_u8):
        found = []
        for number in range(1, 6):
            rows, columns = np.nonzero(frame_u8[..., 0] == 200 + number)
            if len(rows):
                box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)
                found.append(Candidate(box, number))
        return found

    def look(self, frame_u8, near):
        """Whoever is nearest to the last place: it can be led astray, as networks can."""
        self.looks += 1
        people = self.find(frame_u8)
        if not people:
            return None
        one = min(people, key=lambda p: np.linalg.norm(box_centre(p.box_px) - box_centre(near.box_px)))
        points = np.tile(box_centre(one.box_px), (133, 1)).astype(np.float32)
        return PersonPose(
            points, np.full(133, 0.9, np.float32), one.box_px, one.box_px, one.box_px, one.trace
        )


def frame_of(*people, ground: int = 0) -> np.ndarray:
    """people: (number, middle x, middle y, side)."""
    rng = np.random.default_rng(ground)
    # Coarse blocks of colour, as scenes have; the same ground is the same scene.
    frame = rng.integers(0, 190, (9, 16, 3)).astype(np.uint8).repeat(20, axis=0).repeat(20, axis=1)
    for number, x, y, side in people:
        box = slice(int(y - side / 2), int(y + side / 2)), slice(int(x - side / 2), int(x + side / 2))
        frame[box] = (200 + number, 0, 0)
    return frame


def found_in(frames, person="largest"):
    choice = PersonChoice.of(person)
    track = follow(frames, PaintedPeople(), choice, FPS)
    return _findings(track, "toy.mp4", SIZE, FPS, choice, [])


def test_it_is_an_estimator():
    assert isinstance(PaintedPeople(), PoseEstimator)


THREE = [(1, 250, 90, 30), (2, 60, 90, 40), (3, 150, 60, 20)]


@pytest.mark.parametrize(
    ("person", "x"),
    [
        ("largest", 60),
        ("left", 60),
        ("right", 250),
        ("1", 60),
        ("2", 150),
        ("3", 250),
        ("149,62", 150),
        (" LEFT ", 60),
    ],
)
def test_the_person_is_chosen(person, x):
    findings = found_in([frame_of(*THREE)], person)
    assert findings.skeleton.points_px[0, 0, 0] == x
    assert "3 people are seen at 60,90 and 150,60 and 250,90" in findings.notes[0]
    assert f" at {x},{60 if x == 150 else 90} is followed; --person chooses" in findings.notes[0]


def test_a_person_who_is_not_there_is_said_with_where_the_others_are():
    with pytest.raises(
        InputError, match=r"person 4 from the left was asked for, and 3 people are seen at 60,90 and 150,60"
    ):
        found_in([frame_of(*THREE)], "4")
    with pytest.raises(InputError, match="and 1 person is seen"):
        found_in([frame_of(THREE[0])], "2")


@pytest.mark.parametrize("word", ["", "middle", "0", "-1", "1.5", "3,", "1,2,3", "nan,nan"])
def test_odd_words_for_a_person_are_refused(word):
    with pytest.raises(InputError, match=r"write largest, left, right, a number .* or x,y"):
        PersonChoice.of(word)


def test_the_one_chosen_is_followed_though_another_is_larger_later():
    frames = [frame_of((1, 60 + 2 * k, 90, 40), (2, 220, 90, min(20 + 2 * k, 80))) for k in range(40)]
    findings = found_in(frames)
    np.testing.assert_allclose(findings.skeleton.points_px[:, 0, 0], 60 + 2.0 * np.arange(40), atol=1.5)
    assert findings.found.all()
    assert len(findings.notes) == 1


def test_who_leaves_is_not_replaced_by_somebody_far_away():
    there = [frame_of((1, 60, 90, 40), (2, 260, 90, 30)) for _ in range(10)]
    gone = [frame_of((2, 260, 90, 30)) for _ in range(20)]
    findings = found_in(there + gone)
    assert findings.found.sum() == 10
    assert not findings.skeleton.confidence[10:].any()
    assert "not found in 20 of 30 frames; nothing is drawn at 0.40-1.20 s" in findings.notes[-1]


def test_after_a_second_of_absence_the_choice_is_made_anew_and_said():
    there = [frame_of((1, 60, 90, 40)) for _ in range(10)]
    empty = [frame_of() for _ in range(40)]
    other = [frame_of((2, 260, 90, 40)) for _ in range(10)]
    findings = found_in(there + empty + other)
    assert findings.found.sum() == 20
    assert any("a person comes into view at 2.00 s" in note for note in findings.notes)
    assert findings.cuts_s == ()


def test_a_cut_is_found_said_and_not_smoothed_over():
    first = [frame_of((1, 100, 90, 40)) for _ in range(20)]
    second = [frame_of((2, 130, 90, 40), ground=7) for _ in range(20)]
    findings = found_in(first + second)
    assert findings.cuts_s == (0.8,)
    assert any("a cut at 0.80 s" in note for note in findings.notes)
    x = findings.skeleton.points_px[:, 0, 0]
    np.testing.assert_allclose(x[:20], 100)
    np.testing.assert_allclose(x[20:], 130)


def test_a_blank_frame_is_a_gap_and_no_cut():
    frames = [frame_of((1, 100 + k, 90, 40)) for k in range(30)]
    for blank in (5, 12, 13, 14, 29):
        frames[blank] = np.zeros_like(frames[0])
    findings = found_in(frames)
    assert findings.cuts_s == ()
    np.testing.assert_array_equal(np.flatnonzero(~findings.found), [5, 12, 13, 14, 29])
    x, sure = findings.skeleton.points_px[:29, 0, 0], findings.skeleton.confidence[:, 0]
    np.testing.assert_allclose(x, 100 + np.arange(29), atol=0.7)
    np.testing.assert_allclose(sure[[5, 12, 13, 14]], BRIDGED_CONFIDENCE)
    assert sure[29] == 0  # nothing behind it: it is not invented
    assert findings.filled[12].all()
    assert (
        "5 of 30 frames; 4 of them in gaps of at most 0.4 s, which were bridged; nothing is drawn at 1.16"
        in (findings.notes[-1])
    )


def test_nobody_is_one_line():
    with pytest.raises(InputError, match=r"toy\.mp4: no person was found in any of 3 frames \(320x180 px\)"):
        found_in([frame_of() for _ in range(3)])
    with pytest.raises(InputError, match=r"the picture: no person was found in the picture"):
        estimate_image(frame_of(), PaintedPeople())


def test_something_that_looks_like_a_body_now_and_then_is_nobody():
    class Faceless(PaintedPeople):
        def look(self, frame_u8, near):
            pose = super().look(frame_u8, near)
            return None if pose is None else replace(pose, face_box_px=None)

    def measured(seen):
        frames = [frame_of((1, 100, 90, 40))] * seen + [frame_of()] * (10 - seen)
        choice = PersonChoice()
        return _findings(follow(frames, Faceless(), choice, FPS), "toy.mp4", SIZE, FPS, choice, [])

    with pytest.raises(InputError, match=r"a body was found in 4 of 10 frames, and never a face"):
        measured(4)
    assert measured(6).found.sum() == 6  # somebody who turns their back, with a note


def test_a_small_face_is_noted():
    assert "the face is 20 px wide: its points are coarse" in found_in([frame_of((1, 90, 90, 20))]).notes[-1]


def test_frames_stream():
    """No frame is kept: each is made, looked at and gone."""
    import weakref

    alive = []

    class Frame(np.ndarray):
        pass

    def frames():
        for k in range(30):
            frame = frame_of((1, 100 + k, 90, 40)).view(Frame)
            alive.append(weakref.ref(frame))
            assert sum(ref() is not None for ref in alive) <= 2
            yield frame

    assert follow(frames(), PaintedPeople(), PersonChoice(), FPS).found.all()


def one_point(values: np.ndarray, confidence: np.ndarray | float = 1.0):
    points = np.zeros((len(values), 133, 2))
    points[..., 0] = values[:, None]
    return points, np.broadcast_to(np.asarray(confidence, float)[..., None], (len(values), 133)).copy()


def smooth(values, shot=None, head_px=100.0):
    points, sure = one_point(values)
    shot = np.zeros(len(values), int) if shot is None else shot
    return smoothed(points, sure, shot, FPS, head_px)[..., 0]


def test_smoothing_keeps_what_stands_still_and_one_frame():
    np.testing.assert_allclose(smooth(np.full(20, 42.0)), 42.0)
    np.testing.assert_allclose(smooth(np.array([42.0])), 42.0)


def test_reversing_time_reverses_the_result():
    values = np.cumsum(np.random.default_rng(0).normal(0, 3, 80))
    np.testing.assert_allclose(smooth(values[::-1])[::-1], smooth(values), atol=1e-9)


def test_the_size_of_the_picture_does_not_matter():
    values = np.cumsum(np.random.default_rng(1).normal(0, 3, 60))
    np.testing.assert_allclose(smooth(4 * values, head_px=400.0), 4 * smooth(values), rtol=1e-9)


@pytest.mark.parametrize("hertz", [0.5, 1.0, 2.0, 4.0])
def test_motion_comes_neither_late_nor_early_and_keeps_most_of_its_size(hertz):
    time = np.arange(250) / FPS
    truth = 20 * np.sin(2 * np.pi * hertz * time)  # a fifth of a head: a nod
    result = smooth(truth)
    face, inner = result[:, 30], slice(25, -25)
    wave = np.exp(-2j * np.pi * hertz * time[inner])
    response = (face[inner] @ wave) / (truth[inner] @ wave)
    assert abs(np.angle(response)) / (2 * np.pi * hertz) < 0.002  # seconds
    assert 0.75 < abs(response) <= 1.0


def test_jitter_of_a_point_at_rest_becomes_small():
    noise = np.random.default_rng(2).normal(0, 0.5, 500)  # half a per cent of a head
    result = smooth(noise)
    assert result[:, 30].std() < 0.7 * noise.std()  # face
    assert result[:, 5].std() < 0.5 * noise.std()  # shoulders


def test_smoothing_begins_anew_behind_a_cut():
    values = np.concatenate([np.full(10, 0.0), np.full(10, 100.0)])
    np.testing.assert_allclose(smooth(values, np.repeat([0, 1], 10))[:, 30], values)
    assert np.abs(smooth(values)[:, 30] - values).max() > 1


def test_short_gaps_of_a_point_are_bridged_and_long_ones_are_not():
    values, sure = np.arange(40.0), np.ones(40)
    sure[[5, 6, 7]], sure[12:23], sure[30] = 0.1, 0.0, 0.29
    sure[8] = 0.4
    values[sure < 0.3] = -999
    points, confidence = one_point(values, sure)
    shot = np.zeros(40, int)
    bridged_px, bridged_sure, filled = bridged(points, confidence, FPS, shot)
    np.testing.assert_allclose(bridged_px[[5, 6, 7, 30], 0, 0], [5, 6, 7, 30])
    np.testing.assert_allclose(bridged_sure[[5, 6, 7], 0], 0.4)  # no surer than the less certain end
    assert bridged_sure[30, 0] == BRIDGED_CONFIDENCE
    assert (bridged_sure[12:23, 0] == 0).all()
    np.testing.assert_array_equal(np.flatnonzero(filled[:, 0]), [5, 6, 7, 30])
    shot[6:] = 1
    assert not bridged(points, confidence, FPS, shot)[2][:8].any()


def test_boxes():
    box = np.array([10.0, 20, 40, 60])
    np.testing.assert_array_equal(box_centre(box), [25, 40])
    assert box_side(box) == pytest.approx(np.sqrt(1200))
