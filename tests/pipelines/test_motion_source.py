"""Motion: the same in any pieces; keypoints lie where the portrait does; films keep frames and rate."""

import json
from dataclasses import replace

import numpy as np
import pytest
from slow_resize import slow_fit_by_height

from hallo4.errors import InputError
from hallo4.media import VideoWriter, read_frames
from hallo4.motion import (
    MotionHints,
    default_rest_pose,
    draw_skeleton,
    idle_motion,
    layout,
    resample,
    retarget,
    save_skeleton,
)
from hallo4.motion.gaps import BRIDGED_CONFIDENCE
from hallo4.pipelines.canvas import Canvas
from hallo4.pipelines.conditions import prepare_portrait
from hallo4.pipelines.conventions import Conventions
from hallo4.pipelines.motion_source import fit_frame
from hallo4.pipelines.portrait_rest import RestPose
from hallo4.pipelines.prepare_motion import prepare_motion
from hallo4.types import Skeleton


@pytest.fixture
def square(portrait_u8):
    return prepare_portrait(portrait_u8, 64)[0]


def numbered_video(path, frames, size_px=64, fps=25.0):
    """Black, as drawn skeletons are, with a red bar above, of level 40 + 8 i in frame i."""
    with VideoWriter(path, size_px, size_px, fps=fps) as writer:
        for number in range(frames):
            frame = np.zeros((size_px, size_px, 3), np.uint8)
            frame[: size_px // 4, :, 0] = 40 + 8 * number
            writer.write(frame)
    return path


def levels(source, frames):
    red = source.frames_u8(np.arange(frames))[:, 2:12, :, 0].mean(axis=(1, 2))
    return np.round((red - 40) / 8).astype(int).tolist()


def test_idle_motion_is_the_same_in_any_pieces(square):
    source, notes = prepare_motion(None, square, 30, seed=4)
    whole = source.frames_u8(np.arange(30))
    pieces = [source.frames_u8(np.arange(start, start + 10)) for start in (0, 10, 20)]
    assert np.array_equal(whole, np.concatenate(pieces))
    assert whole.shape == (30, 64, 64, 3)
    assert (whole[0] != whole[25]).any()
    assert "idle" in notes[0]


def test_keypoints_are_drawn_where_the_portrait_is(square, tmp_path):
    """The same skeleton in a frame of three times the size gives the same drawing."""
    moving = idle_motion(default_rest_pose(64, 64), 6, seed=1)
    save_skeleton(tmp_path / "k.json", idle_motion(default_rest_pose(192, 192), 6, seed=1))
    source, notes = prepare_motion(tmp_path / "k.json", square, 6, seed=0)
    drawn = source.frames_u8(np.arange(6)).astype(int)
    assert np.abs(drawn - draw_skeleton(moving, 64, 64)).mean() < 0.5
    assert notes == []


def test_motion_of_another_person_takes_the_place_and_size_of_this_one(square):
    """Fitted, the motion of a figure half as large and off to one side is that of the person at rest here."""
    rest = default_rest_pose(64, 64)
    moving = idle_motion(rest, 6, seed=1)
    other = replace(moving, points_px=(0.5 * moving.points_px + [25, 3]).astype(np.float32))
    here = replace(rest, points_px=moving.points_px[:1])
    source, notes = prepare_motion(
        other, square, 6, seed=0, rest_pose=lambda _: RestPose(here, "by hand"), fit_motion=True
    )
    np.testing.assert_allclose(source.skeleton(np.arange(6)).points_px, moving.points_px, atol=1e-3)
    assert notes[-1] == "motion fitted to the face and shoulders in the portrait, by hand"
    source, notes = prepare_motion(other, square, 6, seed=0, rest_pose=lambda _: None, fit_motion=True)
    np.testing.assert_array_equal(source.skeleton(np.arange(6)).points_px, other.points_px)
    assert "no person was found" in notes[-1]


def test_windows_of_keypoints_are_those_of_the_whole_clip_bit_by_bit():
    """30 fps in another picture's size, run back and forth: moved and drawn whole, as a slow way would."""
    portrait, _ = prepare_portrait(np.zeros((400, 731, 3), np.uint8), 64)
    given = idle_motion(default_rest_pose(1462, 800), 20, seed=1, fps=30.0)
    given.confidence[2:19, 91:112] = 0  # too long to be bridged
    source, notes = prepare_motion(given, portrait, 60, seed=0)
    whole, note = resample(given, 60)
    assert note in notes
    canvas = portrait.canvas
    left, top, right, bottom = (2 * edge for edge in canvas.crop_box_px)
    scale = [canvas.width_px / (right - left), canvas.height_px / (bottom - top)]
    moved = ((whole.points_px - [left, top]) * scale).astype(np.float32)
    slow = Skeleton(moved, whole.confidence, 25.0, canvas.width_px, canvas.height_px)
    pictures = draw_skeleton(slow, canvas.width_px, canvas.height_px)
    for indices in (np.arange(0, 21), np.arange(20, 41), np.minimum(np.arange(40, 61), 59), np.array([59])):
        part = source.skeleton(indices)
        np.testing.assert_array_equal(part.points_px, moved[indices])
        np.testing.assert_array_equal(part.confidence, whole.confidence[indices])
        np.testing.assert_array_equal(source.frames_u8(indices), pictures[indices])
    assert source.source is given  # nothing as long as the video is held


def test_fitting_before_or_after_resampling_is_the_same_to_a_hundredth_of_a_pixel(square):
    rest = default_rest_pose(64, 64)
    given = idle_motion(default_rest_pose(200, 200), 30, seed=1, fps=30.0)
    source, _ = prepare_motion(
        given, square, 25, seed=0, rest_pose=lambda _: RestPose(rest, "by hand"), fit_motion=True
    )
    afterwards = retarget(resample(given, 25)[0], rest)
    found = source.skeleton(np.arange(25))
    np.testing.assert_allclose(found.points_px, afterwards.points_px, atol=0.01)


def test_only_keypoints_can_be_fitted(square, tmp_path):
    with pytest.raises(InputError, match="nothing to fit"):
        prepare_motion(None, square, 3, seed=0, fit_motion=True)
    with pytest.raises(InputError, match="give the keypoints instead"):
        prepare_motion(numbered_video(tmp_path / "s.mp4", 3), square, 3, seed=0, fit_motion=True)


def test_of_a_cut_image_the_skeleton_is_cut_as_well():
    portrait, _ = prepare_portrait(np.zeros((400, 731, 3), np.uint8), 64)
    left, top, right, bottom = portrait.canvas.crop_box_px
    assert (right - left, bottom - top) != (731, 400)
    rest = default_rest_pose(731, 400)
    source, _ = prepare_motion(rest, portrait, 1, seed=0)
    moved = source.skeleton(np.array([0])).points_px[0]
    scale = portrait.canvas.width_px / (right - left), portrait.canvas.height_px / (bottom - top)
    assert np.allclose(moved, (rest.points_px[0] - [left, top]) * scale, atol=1e-3)


def test_the_last_frame_may_be_asked_for_again_and_again(square):
    rest = default_rest_pose(64, 64)
    for motion in (None, rest):
        source, _ = prepare_motion(motion, square, 3, seed=0)
        frames = source.frames_u8(np.array([1, 2, 2, 2]))
        assert np.array_equal(frames[1], frames[3])


def test_a_film_as_long_as_the_sound_is_taken_frame_by_frame(square, tmp_path):
    source, notes = prepare_motion(numbered_video(tmp_path / "s.mp4", 10), square, 10, seed=0)
    assert levels(source, 10) == list(range(10))
    assert notes == []


def test_a_longer_film_is_cut_and_a_shorter_one_runs_back_and_forth(square, tmp_path):
    film = numbered_video(tmp_path / "s.mp4", 5)
    source, notes = prepare_motion(film, square, 3, seed=0)
    assert levels(source, 3) == [0, 1, 2]
    assert len(notes) == 1
    assert "cut" in notes[0]
    source, notes = prepare_motion(film, square, 12, seed=0)
    assert levels(source, 12) == [0, 1, 2, 3, 4, 3, 2, 1, 0, 1, 2, 3]
    assert len(notes) == 1
    assert "back and forth" in notes[0]


def test_a_film_of_another_rate_keeps_its_duration(square, tmp_path):
    source, notes = prepare_motion(numbered_video(tmp_path / "s.mp4", 20, fps=50.0), square, 10, seed=0)
    assert levels(source, 10) == list(range(0, 20, 2))
    assert notes == ["skeleton: resampled from 50 to 25 fps"]


def test_a_film_on_a_trained_size_is_resized_without_rounding_when_it_is_needed(portrait_u8, tmp_path):
    """Frames are kept as they are, and each is what the slow resize makes of it, also when it runs back."""
    portrait, _ = prepare_portrait(portrait_u8, 64, 16, ((32, 48),))
    frames = np.random.default_rng(1).integers(0, 256, (3, 40, 50, 3), np.uint8)
    frames[:, :, 12:] = 0
    with VideoWriter(tmp_path / "s.mkv", 50, 40) as writer:
        for frame in frames:
            writer.write(frame)
    kept = list(read_frames(tmp_path / "s.mkv"))
    source, notes = prepare_motion(tmp_path / "s.mkv", portrait, 7, seed=0)
    assert source.frames == 7
    assert any("back and forth" in note for note in notes)
    found = source.frames_pm1(np.array([0, 2, 3, 5])).numpy()
    assert found.shape == (4, 3, 32, 48)
    for picture, index in zip(found, (0, 2, 1, 1)):
        np.testing.assert_allclose(picture, slow_fit_by_height(kept[index], 32, 48), atol=1e-5)
    whole = source.frames_u8(np.array([0, 2, 3, 5]))
    np.testing.assert_array_equal(whole, ((found + 1) * 127.5).round().astype(np.uint8).transpose(0, 2, 3, 1))


def test_keypoints_on_a_trained_size_lie_where_the_portrait_does(portrait_u8):
    """A skeleton of the image's own frame is moved by the bar on the left and scaled by the height."""
    portrait, _ = prepare_portrait(portrait_u8, 64, 16, ((32, 64),))
    rest = default_rest_pose(40, 40)
    source, _ = prepare_motion(rest, portrait, 1, seed=0)
    expected = rest.points_px[0] * (32 / 40) + np.array([16, 0])
    moved = source.skeleton(np.array([0]))
    np.testing.assert_allclose(moved.points_px[0], expected, atol=1e-3)
    assert (moved.width_px, moved.height_px) == (64, 32)


def test_frame_by_frame_takes_every_frame_from_the_start_frame_on(square, tmp_path):
    film = numbered_video(tmp_path / "s.mp4", 10, fps=50.0)
    released = Conventions(skeleton_timing="frame_by_frame", start_frame=3)
    source, notes = prepare_motion(film, square, 99, seed=0, conventions=released)
    assert source.frames == 7
    assert levels(source, 7) == list(range(3, 10))
    assert "one by one" in notes[0]
    with pytest.raises(InputError, match="no frame from frame 10 on"):
        prepare_motion(film, square, 99, seed=0, conventions=replace(released, start_frame=10))


def test_a_film_of_one_frame_is_held(square, tmp_path):
    source, notes = prepare_motion(numbered_video(tmp_path / "s.mp4", 1), square, 4, seed=0)
    assert levels(source, 4) == [0, 0, 0, 0]
    assert "held" in notes[0]


def test_what_lies_beyond_a_frame_is_black():
    frame = np.full((10, 10, 3), 200, np.uint8)
    fitted = fit_frame(frame, (-5.0, 0.0, 15.0, 10.0), Canvas(32, 16, (0, 0, 1, 1)))
    assert fitted.shape == (16, 32, 3)
    assert not fitted[:, :8].any()
    assert not fitted[:, 24:].any()
    assert (fitted[:, 8:24] == 200).all()


def test_a_frame_that_fits_is_not_touched():
    frame = np.random.default_rng(0).integers(0, 256, (16, 32, 3), np.uint8)
    assert fit_frame(frame, (0.0, 0.0, 32.0, 16.0), Canvas(32, 16, (0, 0, 1, 1))) is frame


# ------------------------------------------------- keypoints and films as people bring them


def other_people(tmp_path, size_px=(1280, 720), frames=10):
    """A folder of OpenPose's JSON of a person in a large video: no size, no rate in it."""
    moving = idle_motion(default_rest_pose(*size_px), frames, seed=1, fps=30.0)
    (tmp_path / "op").mkdir()
    for number, (points, confidence) in enumerate(zip(moving.points_px, moving.confidence)):
        triples = np.concatenate([points, confidence[:, None]], axis=-1)
        person = {"face_keypoints_2d": triples[layout.FACE].ravel().tolist()}
        (tmp_path / "op" / f"{number:012}_keypoints.json").write_text(json.dumps({"people": [person]}))
    return tmp_path / "op", moving


def test_keypoints_of_a_large_video_are_refused_until_its_size_is_said(square, tmp_path):
    folder, moving = other_people(tmp_path)
    with pytest.raises(InputError, match=r"of its points lie outside 40x40 px .*--motion-size WxH"):
        prepare_motion(folder, square, 8, seed=0)
    source, notes = prepare_motion(folder, square, 8, seed=0, hints=MotionHints((1280, 720), 30.0))
    known, known_notes = prepare_motion(moving, square, 8, seed=0)
    assert notes == known_notes  # resampled from 30 fps, and shown as its shape says: nothing is assumed
    found, expected = (one.skeleton(np.arange(8)).points_px[:, layout.FACE] for one in (source, known))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_picture_as_large_as_the_portrait_is_assumed_and_said(square, tmp_path):
    folder, _ = other_people(tmp_path, (40, 40))
    _, notes = prepare_motion(folder, square, 8, seed=0)
    assert "op: does not say how large its picture is; 40x40 px is assumed" in notes[1]
    assert "op: does not say its frame rate; 25 fps is assumed" in notes[0]


def test_hints_are_for_files_of_keypoints_alone(square, tmp_path):
    film = numbered_video(tmp_path / "s.mp4", 3)
    for motion, what in (
        (None, "no motion is given"),
        (film, "is a video|in which no person can be chosen"),
        (default_rest_pose(9, 9), "Skeleton"),
    ):
        for hints in (MotionHints((640, 480)), MotionHints(fps=30.0), MotionHints(person="left")):
            with pytest.raises(InputError, match=what):
                prepare_motion(motion, square, 3, seed=0, hints=hints)


def test_frames_that_a_detector_lost_are_drawn_between_their_neighbours(square):
    moving = idle_motion(default_rest_pose(64, 64), 12, seed=1)
    lost = replace(moving, points_px=moving.points_px.copy(), confidence=moving.confidence.copy())
    lost.points_px[5:7], lost.confidence[5:7] = 0, 0
    source, notes = prepare_motion(lost, square, 12, seed=0)
    said = "no person was seen in 2 of 12 frames (5-6); bridged from the frames around them"
    assert notes == [f"skeleton: {said}"]
    found = source.skeleton(np.arange(12))
    np.testing.assert_allclose(found.points_px, moving.points_px, atol=0.5)
    sure = moving.confidence.copy()
    sure[5:7] = np.minimum(sure[5:7], BRIDGED_CONFIDENCE)
    np.testing.assert_allclose(found.confidence, sure, atol=1e-6)
    drawn = source.frames_u8(np.arange(12))
    assert (drawn.max(axis=(1, 2, 3)) > 200).all()


def test_a_skeleton_without_a_person_is_refused(square):
    rest = default_rest_pose(64, 64)
    with pytest.raises(InputError, match="no person is seen in the 1 frames"):
        prepare_motion(replace(rest, confidence=rest.confidence * 0.2), square, 3, seed=0)


def test_where_nothing_is_drawn_the_frame_before_is_held_for_a_while(square, tmp_path):
    frames = [np.zeros((64, 64, 3), np.uint8) for _ in range(40)]
    for number in (1, 2, 3, 6, 7, 30, 31):
        frames[number][:16, :, 0] = 40 + 8 * number % 200
    with VideoWriter(tmp_path / "s.mp4", 64, 64) as writer:
        for frame in frames:
            writer.write(frame)
    source, notes = prepare_motion(tmp_path / "s.mp4", square, 40, seed=0)
    drawn = source.frames_u8(np.arange(40))
    for number, shown in ((4, 3), (5, 3), (8, 7), (17, 7), (32, 31), (39, 31)):
        np.testing.assert_array_equal(drawn[number], drawn[shown])
    assert not drawn[[0, *range(18, 30)]].max() > 20
    assert notes == [
        "skeleton: nothing is drawn in 20 of 40 frames (4-5, 8-17, 32-39); the frame before is held",
        "skeleton: nothing is drawn in 13 of 40 frames (0, 18-29); they stay black",
    ]
    black = tmp_path / "black.mp4"
    with VideoWriter(black, 64, 64) as writer:
        writer.write(frames[0])
    with pytest.raises(InputError, match=r"black\.mp4: every picture that was looked at is black"):
        prepare_motion(black, square, 3, seed=0)
