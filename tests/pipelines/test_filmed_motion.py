"""A filmed video as the motion: its person is followed, and fitted to the one in the portrait."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from hallo4.errors import InputError
from hallo4.media import VideoWriter, probe_video
from hallo4.motion import MotionHints, default_rest_pose, layout
from hallo4.pipelines import PortraitAnimator, portrait_rest, prepare_motion
from hallo4.pipelines.conditions import prepare_portrait
from hallo4.pipelines.portrait_rest import RestPose, confidences
from hallo4.pose import Candidate, PersonPose
from hallo4.types import Audio

WIDTH, HEIGHT = 120, 96


class MarkEstimator:
    """Sees a person, the default pose, at a white pixel, and no person in a picture without one."""

    name = "mark"

    def find(self, frame_u8):
        bright = np.argwhere(frame_u8.min(axis=-1) == 255)
        return [Candidate(np.array([x, y, x + 1.0, y + 1.0])) for y, x in bright]

    def look(self, frame_u8, near):
        people = self.find(frame_u8)
        if not people:
            return None
        x, y = people[0].box_px[:2]
        pose = default_rest_pose(WIDTH, HEIGHT)
        points = pose.points_px[0] - pose.points_px[0, layout.NOSE] + (x, y)
        box = np.array([x - 20, y - 20, x + 20, y + 20])
        return PersonPose(points.astype(np.float32), pose.confidence[0], box, box, box)


@pytest.fixture
def estimator(monkeypatch):
    estimator = MarkEstimator()
    for room in (portrait_rest, prepare_motion):
        monkeypatch.setattr(room, "usable_estimator", lambda: estimator)
    return estimator


def marked(x, y):
    frame = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    if x is not None:
        frame[y : y + 1, x : x + 1] = 255
    return frame


def film(path, places, audio=None):
    with VideoWriter(path, WIDTH, HEIGHT, audio=audio) as writer:
        for place in places:
            writer.write(marked(*place))
    return path


@pytest.fixture
def square(portrait_u8):
    return prepare_portrait(portrait_u8, 64)[0]


def here(portrait):
    return RestPose(default_rest_pose(portrait.canvas.width_px, portrait.canvas.height_px), "by hand")


PLACES = [(50 + 2 * i, 40 + i) for i in range(12)]


def test_the_person_of_a_film_is_fitted_to_the_portrait_and_moves_as_they_do(estimator, square, tmp_path):
    path, done = film(tmp_path / "me.mkv", PLACES), []
    source, notes = prepare_motion.prepare_motion(
        path, square, 12, 0, here, on_frames=lambda n, total: done.append((n, total))
    )
    nose = source.skeleton(np.arange(12)).points_px[:, layout.NOSE]
    rest = here(square).skeleton
    np.testing.assert_allclose(nose[0], rest.points_px[0, layout.NOSE], atol=0.5)
    moved, expected = nose - nose[0], (np.array(PLACES) - PLACES[0]) * 64 / HEIGHT
    np.testing.assert_allclose(moved[3:-3], expected[3:-3], atol=0.7)  # smoothing bends the ends
    assert done == [(n + 1, 12) for n in range(12)]
    assert f"{path} is a filmed video; mark found the person in 12 of 12 frames (face 1.00" in notes[0]
    assert notes[-1] == "motion fitted to the face and shoulders in the portrait, by hand"


def test_without_an_estimator_the_error_says_how_to_get_one(square, tmp_path):
    path = film(tmp_path / "me.mp4", PLACES)
    with pytest.raises(
        InputError, match=r"does not look like a drawn skeleton.*weights fetch pose-light"
    ) as error:
        prepare_motion.prepare_motion(path, square, 3, 0, here)
    assert "\n" not in str(error.value)


def test_a_film_without_a_person_is_one_line(estimator, square, tmp_path):
    path = film(tmp_path / "me.mkv", [(None, None)] * 5)
    with pytest.raises(InputError, match="no person was found in any of 5 frames"):
        prepare_motion.prepare_motion(path, square, 3, 0, here)


def test_size_and_rate_of_a_film_cannot_be_told(estimator, square, tmp_path):
    path = film(tmp_path / "me.mkv", PLACES)
    for hints in (MotionHints((640, 480)), MotionHints(fps=30.0)):
        with pytest.raises(InputError, match="is a video, which says them itself"):
            prepare_motion.prepare_motion(path, square, 3, 0, here, hints=hints)


def test_without_sound_that_of_the_film_is_used(estimator, tiny_model, portrait_u8, tmp_path):
    tone = Audio(np.sin(np.arange(16000) / 5).astype(np.float32), 16000)
    path = film(tmp_path / "me.mp4", PLACES, audio=tone)
    result = PortraitAnimator(tiny_model).animate(portrait_u8, None, path, output=tmp_path / "o.mp4")
    assert probe_video(tmp_path / "o.mp4").frames == result.frames == 12
    assert f"no sound given: that of {path} is used" in result.notes
    for motion in (None, default_rest_pose(9, 9)):
        with pytest.raises(InputError, match="no sound is given"):
            PortraitAnimator(tiny_model).animate(portrait_u8, None, motion, output=tmp_path / "o.mp4")


# ---------------------------------------------------------------------- the pose in the portrait


def test_the_observer_is_believed_where_both_agree_on_the_face(estimator, monkeypatch):
    frame = marked(60, 40)
    portrait = prepare_portrait(frame, 64)[0]
    found = portrait_rest.portrait_rest(portrait)
    assert "as the estimator mark finds it (face 1.00" in found.how
    nose = found.skeleton.points_px[0, layout.NOSE]
    scale = portrait.canvas.width_px / WIDTH
    np.testing.assert_allclose(nose, np.array([60, 40]) * scale, atol=1.5)
    eyes = np.linalg.norm(
        found.skeleton.points_px[0, layout.LEFT_EYE] - found.skeleton.points_px[0, layout.RIGHT_EYE]
    )
    for shift, believed in ((0.2, True), (0.3, False)):
        moved = (found.skeleton.points_px + (shift * eyes, 0)).astype(np.float32)
        seen = replace(found.skeleton, points_px=moved)
        monkeypatch.setattr(portrait_rest, "packaged_rest", lambda image, seen=seen: seen)
        how = portrait_rest.portrait_rest(portrait).how
        assert ("observer" in how) == believed, shift


def test_what_else_is_seen_in_the_portrait_is_a_note(estimator, square):
    crowd = marked(30, 40)
    crowd[50, 90] = 255
    portrait = prepare_portrait(crowd, 64)[0]
    _, notes = prepare_motion.prepare_motion(None, portrait, 3, 0)
    assert any(note.startswith("portrait: 2 people are seen at") for note in notes)


def test_where_the_estimator_finds_no_person_the_observer_is_asked_and_it_is_said(estimator, monkeypatch):
    portrait = prepare_portrait(marked(None, None), 64)[0]
    monkeypatch.setattr(portrait_rest, "packaged_rest", lambda image: None)
    assert portrait_rest.portrait_rest(portrait) is None
    seen = here(portrait).skeleton
    monkeypatch.setattr(portrait_rest, "packaged_rest", lambda image: seen)
    found = portrait_rest.portrait_rest(portrait)
    assert found.skeleton is seen
    assert "mark finds no person" in found.how


def test_confidences_are_medians_of_what_is_seen():
    rest = default_rest_pose(64, 64)
    confidence = np.zeros_like(rest.confidence)
    confidence[:, layout.FACE] = 0.9
    confidence[:, [layout.LEFT_SHOULDER, layout.RIGHT_SHOULDER]] = 0.5
    assert (
        confidences(replace(rest, confidence=confidence))
        == "face 0.90, shoulders 0.50, no left hand, right hand"
    )


# ---------------------------------------------------------------------- the preview


def test_a_preview_shows_the_portrait_under_the_first_skeleton(tiny_model_folder, portrait_u8, hum, tmp_path):
    from hallo4.pipelines import AnimationRequest, preview, read_outline
    from hallo4.pipelines.progress import Reporter

    rest = default_rest_pose(40, 40)
    request = AnimationRequest(portrait_u8, hum(0.4), rest)
    looked = preview(read_outline(tiny_model_folder), request, Reporter())
    picture = looked.picture_u8
    assert (looked.size.frames, looked.size.height_px, looked.size.steps) == (10, 32, 2)
    assert picture.shape == (512, 512, 3)
    alone = np.asarray(Image.fromarray(portrait_u8).resize((512, 512), Image.Resampling.BICUBIC)).astype(int)
    changed = np.abs(picture - alone).max(axis=-1) > 40
    assert 0.005 < changed.mean() < 0.6, "lines over the picture, and the picture between them"
    x, y = (rest.points_px[0, layout.NOSE] * 512 / 40).astype(int)
    assert changed[y - 40 : y + 40, x - 40 : x + 40].any(), "the face of the skeleton"
    assert looked.notes[0].startswith("image 40x40")
