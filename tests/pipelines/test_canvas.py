"""The frame that a video is made on: its size, what of pictures comes onto it, what of frames is kept."""

import math

import numpy as np
import pytest
from slow_resize import slow_fit_by_height

from hallo4.errors import InputError
from hallo4.pipelines.canvas import (
    Canvas,
    choose_canvas,
    fit_by_height,
    plan_canvas,
    plan_motion_box,
)
from hallo4.pipelines.conditions import prepare_portrait

TRAINED = ((480, 832), (832, 480))
"""Height and width, as of the released model."""


@pytest.mark.parametrize("size_px", [128, 512])
@pytest.mark.parametrize(
    "image", [(512, 512), (1080, 1920), (1920, 1080), (900, 800), (301, 400), (37, 41), (4000, 1000)]
)
def test_a_canvas_has_sides_of_16_the_area_and_the_aspect(image, size_px):
    canvas = plan_canvas(*image, size_px)
    assert canvas.width_px % 16 == canvas.height_px % 16 == 0
    assert 0.7 <= canvas.width_px * canvas.height_px / size_px**2 <= 1.3
    left, top, right, bottom = canvas.crop_box_px
    stretch = math.log((right - left) / (bottom - top) * canvas.height_px / canvas.width_px)
    rounding = 1.0 / min(right - left, bottom - top)
    assert abs(stretch) <= math.log(1.02) + rounding
    lost = 1 - (right - left) * (bottom - top) / (image[0] * image[1])
    assert lost <= 0.12
    cut = (right - left, bottom - top) != image
    assert ("cut, half" in canvas.describe(*image)) == cut


def test_a_square_image_loses_nothing():
    canvas = plan_canvas(700, 700, 128)
    assert (canvas.width_px, canvas.height_px, canvas.crop_box_px) == (128, 128, (0, 0, 700, 700))


def test_a_canvas_can_be_of_other_multiples():
    canvas = plan_canvas(300, 200, 128, multiple_px=32)
    assert canvas.width_px % 32 == canvas.height_px % 32 == 0


def test_even_a_strip_gets_a_canvas():
    canvas = plan_canvas(5000, 20, 128)
    assert canvas.width_px % 16 == canvas.height_px % 16 == 0
    with pytest.raises(InputError):
        plan_canvas(0, 5, 128)


def test_a_skeleton_of_the_images_shape_is_cut_like_the_image():
    canvas = plan_canvas(700, 400, 128)
    left, top, right, bottom = canvas.crop_box_px
    box, note = plan_motion_box(1400, 800, 700, 400, canvas)
    assert np.allclose(box, (2 * left, 2 * top, 2 * right, 2 * bottom))
    assert note == ""


@pytest.mark.parametrize(("frame", "word"), [((1600, 900), "cut"), ((600, 900), "black")])
def test_a_skeleton_of_another_shape_is_fitted_by_height_and_centred(frame, word):
    canvas = plan_canvas(512, 512, 128)
    (left, top, right, bottom), note = plan_motion_box(*frame, 512, 512, canvas)
    assert (top, bottom) == (0, 900)
    assert right - left == pytest.approx(900)
    assert (left + right) / 2 == pytest.approx(frame[0] / 2)
    assert word in note


# ---------------------------------------------------------------------- trained sizes


@pytest.mark.parametrize(
    ("image", "height", "width", "content", "cut"),
    [
        ((700, 700), 480, 832, 480, 0),  # square: 480 columns on the wide one, cut on the upright one
        ((600, 800), 480, 832, 360, 0),  # 3:4 would be cut by a quarter on the upright one
        ((450, 800), 832, 480, 468, 0),  # 9:16 fits on both, and is larger on the upright one
        ((1920, 1080), 480, 832, 832, 47),  # 16:9: 853 columns, of which 832 fit
        ((3000, 1000), 480, 832, 832, 1267),  # wider than any canvas
        ((832, 480), 480, 832, 832, 0),
        ((480, 832), 832, 480, 480, 0),
        ((1, 1000), 832, 480, 1, 0),
    ],
)
def test_the_canvas_is_the_trained_size_that_shows_most_of_the_image(image, height, width, content, cut):
    canvas = choose_canvas(*image, TRAINED)
    assert (canvas.height_px, canvas.width_px, canvas.content_width_px) == (height, width, content)
    assert canvas.by_height
    left, top, right, bottom = canvas.crop_box_px
    assert (top, bottom) == (0, image[1])
    assert image[0] - (right - left) == cut
    assert left == cut // 2
    line = canvas.describe(*image)
    assert f"image {image[0]}x{image[1]} -> video {content}x{height}" in line
    assert ("black bars, which are cut away" in line) == (content < width)
    assert (f"{cut} of {image[0]} columns cut" in line) == bool(cut)


def test_of_equally_good_sizes_the_first_is_taken():
    assert choose_canvas(64, 64, ((64, 128), (64, 96))).width_px == 128
    assert choose_canvas(64, 64, ((64, 96), (64, 128))).width_px == 96
    with pytest.raises(InputError, match="no area"):
        choose_canvas(0, 5, TRAINED)


@pytest.mark.parametrize(("width", "content", "left"), [(96, 71, 12), (96, 72, 12), (96, 96, 0), (96, 1, 47)])
def test_the_columns_that_are_kept_are_those_the_image_was_put_on(width, content, left):
    """The left bar is the narrower one where they differ."""
    columns = Canvas(width, 64, (0, 0, 1, 1), by_height=True, content_width_px=content).content_columns
    assert (columns.start, columns.stop) == (left, left + content)
    white = np.full((1, 64, content, 3), 255, np.uint8)
    bright = fit_by_height(white, Canvas(width, 64, (0, 0, content, 64), by_height=True))[0, 0, 0] > 0
    assert bright.nonzero().flatten().tolist() == list(range(left, left + content))
    own = plan_canvas(300, 200, 128)
    assert own.content_columns == slice(0, own.width_px)


@pytest.mark.parametrize(
    "size",
    [(100, 111), (40, 20), (23, 30), (64, 96), (200, 400), (64, 300), (31, 90)],
    ids=lambda size: f"{size[0]}x{size[1]}",
)
def test_fitting_by_height_equals_a_slow_antialiased_resize(size):
    """Smaller, larger, of the same size; with bars, exactly, and cut on both sides."""
    frames = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    canvas = Canvas(96, 64, (0, 0, size[1], size[0]), by_height=True)
    fitted = fit_by_height(frames, canvas)
    assert fitted.shape == (2, 3, 64, 96)
    for frame, found in zip(frames, fitted.numpy()):
        np.testing.assert_allclose(found, slow_fit_by_height(frame, 64, 96), atol=1e-5)


def test_a_portrait_on_a_trained_size_keeps_its_fractions_of_levels(portrait_u8):
    portrait, notes = prepare_portrait(portrait_u8, 64, 16, ((32, 64),))
    np.testing.assert_allclose(portrait.video_pm1.numpy(), slow_fit_by_height(portrait_u8, 32, 64), atol=1e-5)
    levels = (portrait.video_pm1.movedim(0, -1).numpy() + 1) * 127.5
    assert np.abs(levels - levels.round()).max() > 0.1, "the model sees what was not rounded"
    np.testing.assert_array_equal(portrait.pixels_u8, levels.round().astype(np.uint8))
    assert len(notes) == 1
    assert "image 40x40 -> video 32x32 (made on 64x32 with black bars" in notes[0]
