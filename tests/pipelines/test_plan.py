import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from hallo4.errors import InputError
from hallo4.pipelines.plan import (
    frame_count,
    plan_canvas,
    plan_motion_box,
    plan_windows,
    window_count,
    window_noise,
)


@pytest.mark.parametrize(("samples", "rate", "frames"), [(1, 48000, 1), (320, 16000, 1), (16000, 16000, 25)])
def test_the_video_is_as_long_as_the_sound(samples, rate, frames):
    assert frame_count(samples, rate) == frames


@pytest.mark.parametrize(("window_frames", "repeated"), [(5, 1), (17, 1), (81, 1), (14, 0), (2, 0), (9, 3)])
def test_windows_keep_every_frame_exactly_once_and_repeat_what_they_must(window_frames, repeated):
    for total in [*range(1, 3 * window_frames), 1000]:
        windows = list(plan_windows(total, window_frames, repeated))
        kept = [w.start + w.first_kept + i for w in windows for i in range(w.kept)]
        assert kept == list(range(total))
        assert len(windows) == window_count(total, window_frames, repeated)
        assert all(w.kept >= 1 for w in windows)
        for before, after in pairwise(windows):
            assert after.start == before.start + window_frames - repeated
            assert after.first_kept == repeated


def test_the_plan_of_the_released_demo_wastes_no_third_window():
    # 162 skeleton frames and 169 of audio: the released code makes 81 + 80 + 1 of the shorter.
    assert [w.kept for w in plan_windows(162, 81, 1)] == [81, 80, 1]
    assert [w.kept for w in plan_windows(161, 81, 1)] == [81, 80]


def test_noise_depends_on_seed_and_window_and_on_nothing_else():
    shape = (4, 3, 8, 8)
    first = window_noise(shape, 3, 5)
    torch.manual_seed(99)
    torch.rand(7)
    assert torch.equal(first, window_noise(shape, 3, 5))
    others = [window_noise(shape, seed, k) for seed, k in ((3, 6), (4, 5), (5, 3), (35, 0), (0, 35))]
    for other in others:
        assert abs(torch.corrcoef(torch.stack([first.flatten(), other.flatten()]))[0, 1]) < 0.15
    assert first.shape == (1, *shape)
    assert abs(float(first.std()) - 1) < 0.1


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
