"""The frame that a video is made on: its size, what of pictures comes onto it, what of frames is kept."""

import math

import numpy as np
import pytest

from hallo4.errors import InputError
from hallo4.pipelines.canvas import plan_canvas, plan_motion_box


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
