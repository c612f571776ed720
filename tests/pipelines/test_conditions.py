from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import soxr
from PIL import Image
from slow_resize import slow_fit_by_height

from hallo4.errors import InputError
from hallo4.media import MediaWarning, VideoWriter, load_audio, read_frames
from hallo4.motion import default_rest_pose, draw_skeleton, idle_motion, save_skeleton
from hallo4.pipelines.canvas import Canvas
from hallo4.pipelines.conditions import (
    fit_frame,
    prepare_audio,
    prepare_feature_sound,
    prepare_motion,
    prepare_portrait,
)
from hallo4.pipelines.conventions import Conventions
from hallo4.types import Audio


@pytest.fixture
def square(portrait_u8):
    return prepare_portrait(portrait_u8, 64)[0]


def numbered_video(path, frames, size_px=64, fps=25.0):
    """Frame i is grey of level 8 i."""
    with VideoWriter(path, size_px, size_px, fps=fps) as writer:
        for level in range(frames):
            writer.write(np.full((size_px, size_px, 3), 8 * level, np.uint8))
    return path


def levels(source, frames):
    return np.round(source.frames_u8(np.arange(frames)).mean(axis=(1, 2, 3)) / 8).astype(int).tolist()


def test_an_array_a_file_and_a_pil_image_are_the_same_portrait(portrait_u8, tmp_path):
    Image.fromarray(portrait_u8).save(tmp_path / "p.png")
    portraits = [
        prepare_portrait(image, 64)[0].pixels_u8
        for image in (portrait_u8, tmp_path / "p.png", Image.open(tmp_path / "p.png"))
    ]
    assert portraits[0].shape == (64, 64, 3)
    assert all(np.array_equal(portraits[0], other) for other in portraits[1:])


def test_the_size_is_said_unless_it_stays(portrait_u8):
    assert prepare_portrait(np.zeros((64, 64, 3), np.uint8), 64)[1] == []
    (note,) = prepare_portrait(np.zeros((100, 230, 3), np.uint8), 64)[1]
    assert "230x100" in note


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4), (0, 8, 3)])
def test_other_arrays_are_refused(shape):
    with pytest.raises(InputError, match="RGB"):
        prepare_portrait(np.zeros(shape, np.uint8), 64)
    with pytest.raises(InputError, match="float"):
        prepare_portrait(np.zeros((8, 8, 3)), 64)


@pytest.mark.parametrize(
    "samples", [np.zeros(0), np.zeros((2, 9)), np.array([0.0, np.nan]), np.array([np.inf])]
)
def test_impossible_sound_is_refused(samples):
    with pytest.raises(InputError):
        prepare_audio(Audio(samples, 16000))


def test_a_front_end_takes_the_samples_of_the_file_or_those_of_the_video(tmp_path):
    """A 16 kHz file reaches a front end at 16 kHz untouched unless it goes by the sound of the video."""
    samples = np.random.default_rng(0).normal(0, 0.1, 20_000).astype(np.float32)
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 16_000, subtype="FLOAT")
    video, notes = prepare_audio(path)
    assert (video.sample_rate_hz, len(video), notes) == (48_000, 60_000, [])
    direct = SimpleNamespace(sample_rate_hz=16_000, from_video_sound=False)
    through = SimpleNamespace(sample_rate_hz=16_000, from_video_sound=True)
    np.testing.assert_array_equal(prepare_feature_sound(path, video, direct).read(0, 20_000), samples)
    expected = soxr.resample(load_audio(path, 48_000).samples, 48_000, 16_000)
    np.testing.assert_array_equal(prepare_feature_sound(path, video, through).read(0, 20_000), expected)
    assert (expected != samples).any()
    in_memory, _ = prepare_audio(Audio(samples.astype(np.float64), 16_000))
    for front_end in (direct, through):
        np.testing.assert_array_equal(
            prepare_feature_sound(in_memory, in_memory, front_end).read(0, 20_000), samples
        )


def test_loud_sound_is_noted_once(tmp_path, recwarn):
    soundfile.write(tmp_path / "a.wav", np.full(999, 3.0, np.float32), 16_000, subtype="FLOAT")
    video, notes = prepare_audio(tmp_path / "a.wav")
    assert len(notes) == 1
    assert "louder than full scale" in notes[0]
    prepare_feature_sound(
        tmp_path / "a.wav", video, SimpleNamespace(sample_rate_hz=16_000, from_video_sound=False)
    )
    assert not [warning for warning in recwarn if issubclass(warning.category, MediaWarning)]


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
    source, notes = prepare_motion(other, square, 6, seed=0, rest_pose=lambda _: here, fit_motion=True)
    np.testing.assert_allclose(source.skeleton.points_px, moving.points_px, atol=1e-3)
    assert "fitted" in notes[-1]
    source, notes = prepare_motion(other, square, 6, seed=0, rest_pose=lambda _: None, fit_motion=True)
    np.testing.assert_array_equal(source.skeleton.points_px, other.points_px)
    assert "nobody was found" in notes[-1]


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
    moved = source.skeleton.points_px[0]
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
    np.testing.assert_allclose(source.skeleton.points_px[0], expected, atol=1e-3)
    assert (source.skeleton.width_px, source.skeleton.height_px) == (64, 32)


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


def test_an_opened_picture_is_read_as_its_file_is(tmp_path):
    """Orientation, transparency and depth of a PIL image count as they do in a file."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 4), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 7  # mirrored and turned
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    by_file, _ = prepare_portrait(tmp_path / "a.png", 32)
    opened, _ = prepare_portrait(Image.open(tmp_path / "a.png"), 32)
    assert (opened.image_width_px, opened.image_height_px) == (40, 56)
    assert np.array_equal(opened.pixels_u8, by_file.pixels_u8)
