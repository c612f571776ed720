"""Units, pictures and rates that a skeleton file does not say: recognised, given or refused, never silent."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hallo4.errors import InputError
from hallo4.media import MediaWarning
from hallo4.motion import default_rest_pose, idle_motion, layout, load_skeleton, save_skeleton
from hallo4.motion.hints import MotionHints, parse_size

CASES = Path(__file__).parents[3] / "shared/cases"
needs_cases = pytest.mark.skipif(
    not CASES.is_dir(), reason="the folder of cases is not beside the repository"
)

WIDTH, HEIGHT = 640, 480


@pytest.fixture(scope="module")
def sequence():
    return idle_motion(default_rest_pose(WIDTH, HEIGHT), 8, seed=2)


def read(path, **told):
    """(skeleton, notes without the file's name)."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", MediaWarning)
        skeleton = load_skeleton(path, **told)
    return skeleton, [str(warning.message).removeprefix(f"{Path(path).name}: ") for warning in said]


def saved(path, points, sequence, **fields):
    """A file of DWPose's arrays that says what `fields` say."""
    np.savez(path, keypoints=points, scores=sequence.confidence, **fields)
    return path


SAYS = {"width_px": WIDTH, "height_px": HEIGHT, "fps": 25.0}


def test_pixels_that_say_everything_are_left_alone_and_nothing_is_said(tmp_path, sequence):
    back, notes = read(saved(tmp_path / "a.npz", sequence.points_px, sequence, **SAYS))
    np.testing.assert_array_equal(back.points_px, sequence.points_px)
    assert notes == []


@pytest.mark.parametrize("unit", ["0..1", "-1..1"])
def test_fractions_are_scaled_and_said(tmp_path, sequence, unit):
    fractions = sequence.points_px / [WIDTH, HEIGHT]
    if unit == "-1..1":
        fractions = 2 * fractions - 1
    back, notes = read(saved(tmp_path / "a.npz", fractions, sequence, **SAYS))
    np.testing.assert_allclose(back.points_px, sequence.points_px, atol=1e-3)
    assert notes == [f"coordinates are fractions ({unit}) and were scaled to 640x480 px"]


@pytest.mark.parametrize("pixels", ["left hand", "face"])
def test_each_part_has_its_own_unit(tmp_path, sequence, pixels):
    """Editors move some parts in pixels and leave others in fractions."""
    mixed = sequence.points_px / [WIDTH, HEIGHT]
    part = layout.FACE if pixels == "face" else layout.LEFT_HAND
    mixed[:, part] = sequence.points_px[:, part]
    back, (note,) = read(saved(tmp_path / "a.npz", mixed, sequence, **SAYS))
    np.testing.assert_allclose(back.points_px, sequence.points_px, atol=1e-3)
    assert "body" in note
    assert pixels not in note


def test_a_wild_point_hides_no_fractions(tmp_path, sequence):
    fractions = sequence.points_px / [WIDTH, HEIGHT]
    fractions[3, 40] = [7.0, -3.0]
    back, _ = read(saved(tmp_path / "a.npz", fractions, sequence, **SAYS))
    np.testing.assert_allclose(back.points_px[:3], sequence.points_px[:3], atol=1e-3)


def test_a_picture_that_the_file_does_not_say_is_assumed_only_where_the_points_lie_in_it(tmp_path, sequence):
    path = saved(tmp_path / "a.npz", sequence.points_px, sequence, fps=25.0)
    back, (note,) = read(path, assumed_size_px=(WIDTH, HEIGHT))
    assert (back.width_px, back.height_px) == (WIDTH, HEIGHT)
    assert "640x480 px is assumed" in note
    assert "--motion-size" in note
    with pytest.raises(InputError, match=r"lie outside 256x256 px \(they reach x .*--motion-size WxH"):
        load_skeleton(path, assumed_size_px=(256, 256))
    with pytest.raises(InputError, match=r"does not say how large .* its points reach x .*--motion-size"):
        load_skeleton(path)
    back, notes = read(path, size_px=(WIDTH, HEIGHT))
    assert (back.width_px, back.height_px, notes) == (WIDTH, HEIGHT, [])


def test_fractions_of_an_assumed_picture_are_both_said(tmp_path, sequence):
    fractions = sequence.points_px / [WIDTH, HEIGHT]
    path = saved(tmp_path / "a.npz", fractions, sequence, fps=25.0)
    back, notes = read(path, assumed_size_px=(WIDTH, HEIGHT))
    np.testing.assert_allclose(back.points_px, sequence.points_px, atol=1e-3)
    assert ["assumed" in note for note in notes] == [True, False]
    assert "fractions" in notes[1]


def test_the_caller_counts_more_than_the_file_and_the_difference_is_said(tmp_path, sequence):
    path = saved(tmp_path / "a.npz", sequence.points_px, sequence, **SAYS)
    back, notes = read(path, size_px=(1280, 960), fps=30.0)
    assert (back.width_px, back.height_px, back.fps) == (1280, 960, 30.0)
    assert sorted(notes) == [
        "says 25 fps; taken at 30, as asked",
        "says 640x480 px; taken as 1280x960, as asked",
    ]
    np.testing.assert_array_equal(back.points_px, sequence.points_px)
    assert read(path, size_px=(WIDTH, HEIGHT), fps=25.0)[1] == []


def test_a_rate_that_nobody_says_is_said(tmp_path, sequence):
    path = saved(tmp_path / "a.npz", sequence.points_px, sequence, width_px=WIDTH, height_px=HEIGHT)
    back, (note,) = read(path)
    assert back.fps == 25.0
    assert "25 fps is assumed" in note
    assert "--motion-fps" in note
    assert read(path, assumed_fps=50.0)[0].fps == 50.0  # of the video that it lies beside
    assert read(path, fps=30.0)[0].fps == 30.0


def test_most_points_outside_the_picture_are_refused_and_many_are_said(tmp_path, sequence):
    def moved(right_px):
        return saved(tmp_path / "a.npz", sequence.points_px + [right_px, 0], sequence, **SAYS)

    assert read(moved(0))[1] == []
    (note,) = read(moved(280))[1]
    assert "of its seen points lie outside its picture of 640x480 px" in note
    with pytest.raises(InputError, match=r"lie outside its picture of 640x480 px .*--motion-size"):
        load_skeleton(moved(500))


def test_a_figure_of_a_few_pixels_is_refused(tmp_path, sequence):
    """Metres, or hundredths of the picture: numbers that are neither pixels nor fractions."""
    small = 2 + sequence.points_px / WIDTH * 8
    with pytest.raises(
        InputError, match=r"px large in a picture of 640x480 px .*must be pixels, or fractions"
    ):
        load_skeleton(saved(tmp_path / "a.npz", small, sequence, **SAYS))


def test_points_at_zero_are_not_seen_whatever_their_confidence(tmp_path, sequence):
    points = sequence.points_px.copy()
    points[2, layout.LEFT_HAND] = 0
    points[5, 0] = 0
    back, (note,) = read(saved(tmp_path / "a.npz", points, sequence, **SAYS))
    assert note == "22 points at 0, 0 in 2 frames are taken as not seen"
    assert not back.confidence[2, layout.LEFT_HAND].any()
    assert back.confidence[5, 0] == 0
    assert back.confidence.astype(bool).sum() == sequence.confidence.astype(bool).sum() - 22


def test_nobody_is_said(tmp_path, sequence):
    unsure = replace(sequence, confidence=np.full_like(sequence.confidence, 0.05))
    save_skeleton(tmp_path / "a.json", unsure)
    back, (note,) = read(tmp_path / "a.json")
    assert "no person is seen in any of its 8 frames" in note
    assert not back.confidence.any()


@needs_cases
@pytest.mark.parametrize("name", ["comfy_norm.json", "comfy_mixed.json", "dwpose_norm.npz"])
def test_fractions_that_tools_wrote_are_the_motion_they_were_made_of(name):
    demo = load_skeleton(Path(__file__).parents[2] / "demo/keypoints.json")
    back, notes = read(CASES / "pose-normalised-coordinates" / name)
    drawn = np.r_[0:17, 23:133]
    np.testing.assert_allclose(back.points_px[:, drawn], demo.points_px[:30, drawn], atol=0.01)
    assert any("fractions" in note for note in notes)


@needs_cases
def test_openpose_of_a_large_video_is_refused_until_its_size_is_said():
    folder = CASES / "openpose-no-canvas/op720"
    with pytest.raises(InputError, match="100% of its points lie outside 256x256 px"):
        load_skeleton(folder, assumed_size_px=(256, 256))
    back, notes = read(folder, size_px=(1280, 720), fps=30.0)
    assert (back.width_px, back.height_px, back.fps, notes) == (1280, 720, 30.0, [])


def test_sizes_are_written_as_width_x_height():
    assert parse_size("1280x720") == parse_size(" 1280 X 720") == (1280, 720)
    for words in ("1280", "1280x", "x720", "-1x5", "1280*720", "1e3x5"):
        with pytest.raises(InputError, match="as in 1280x720"):
            parse_size(words)
    assert not MotionHints()
    assert MotionHints(fps=30.0)


@pytest.mark.parametrize(
    "told", [{"fps": 0.0}, {"fps": float("nan")}, {"size_px": (4, 4)}, {"size_px": (0, 99)}]
)
def test_numbers_out_of_range_that_a_caller_says_are_refused(tmp_path, sequence, told):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"keypoints": [[[1, 2, 1]] * 133]}))
    with pytest.raises(InputError, match="allowed is a number"):
        load_skeleton(path, **({"size_px": (WIDTH, HEIGHT)} | told))
