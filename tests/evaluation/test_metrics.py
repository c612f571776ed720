"""Metrics of curves, joints and pictures: closed forms, known shifts, scikit-image, input they refuse."""

import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from hallo4.errors import InputError, ShapeError
from hallo4.evaluation.measures import arrays as metrics

RNG = np.random.default_rng(7)


def _curve(frames: int = 80) -> np.ndarray:
    t = np.arange(frames)
    return 0.4 + 0.3 * np.sin(0.7 * t) * np.sin(0.11 * t) + 0.02 * RNG.random(frames)


# ---------------------------------------------------------------------- curves


def test_correlation_is_numpys_and_blind_to_scale_and_offset():
    a, b = RNG.random(50), RNG.random(50)
    assert metrics.correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert metrics.correlation(a, 3 * a - 2) == pytest.approx(1)
    assert metrics.correlation(a, -a) == pytest.approx(-1)


def test_a_constant_curve_has_no_correlation():
    assert math.isnan(metrics.correlation(np.full(20, 0.3), RNG.random(20)))
    assert math.isnan(metrics.best_lag_frames(RNG.random(20), np.zeros(20)))
    assert math.isnan(metrics.amplitude_ratio(RNG.random(20), np.zeros(20)))


@pytest.mark.parametrize("shift", [-5, -2, 0, 1, 4])
def test_shifting_the_mouth_by_k_frames_moves_the_best_lag_by_k(shift):
    long = _curve(100)
    true, late = long[10:90], long[10 - shift : 90 - shift]
    assert metrics.best_lag_frames(late, true) == shift
    assert metrics.best_lag_frames(true, late) == -shift


def test_lag_of_a_periodic_curve_is_the_nearest_of_equals():
    wave = np.tile([0.0, 1.0, 0.5, 0.2], 20)
    assert metrics.best_lag_frames(wave, wave) == 0
    assert abs(metrics.best_lag_frames(np.roll(wave, 1), wave)) == 1


def test_lags_of_short_clips_leave_two_thirds_of_the_frames():
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        true = np.convolve(rng.normal(size=23), np.ones(3) / 3, "same")[:20]
        measured = true / true.std() + rng.normal(size=20)
        lag = metrics.best_lag_frames(measured, true, 15)
        assert abs(lag) <= 20 // 3
        wrong += abs(lag) > 1
    assert wrong < 0.08 * 200, "few frames correlate by chance: half of these clips, if three are enough"


@pytest.mark.parametrize("frames", [49, 60])
def test_lags_of_clips_that_are_long_enough_are_all_compared(frames):
    rng = np.random.default_rng(0)
    for shift in range(-15, 16):
        long = rng.random(frames + 30)
        true, late = long[15 : 15 + frames], long[15 - shift : 15 - shift + frames]
        assert metrics.best_lag_frames(late, true, 15) == shift


def test_standing_still_while_the_truth_moves_is_zero_not_undefined():
    true = _curve()
    assert metrics.following(np.zeros(80), true) == 0
    assert metrics.following(true + 1, true) == pytest.approx(1)
    assert math.isnan(metrics.following(true, np.zeros(80)))


def test_amplitude_and_mean_error():
    a = _curve()
    assert metrics.amplitude_ratio(0.5 * a + 9, a) == pytest.approx(0.5)
    assert metrics.mean_absolute_error(a + 0.25, a) == pytest.approx(0.25)


def test_silence_keeps_its_margin_from_speech():
    speaking = np.zeros(30)
    speaking[10:15] = [0.2, 1, 1, 1, 0.1]  # shares of a frame count as speech
    silent = metrics.silent_frames(speaking, margin=3)
    assert silent.tolist() == [t < 7 or t > 17 for t in range(30)]


def test_mouth_closed_is_counted_in_silence_alone():
    speaking, opening = np.zeros(20), np.zeros(20)
    speaking[10:] = 1
    opening[10:] = 0.9
    assert metrics.mouth_closed_in_silence(opening, speaking) == 1
    opening[[0, 1]] = 0.15  # not below the limit
    assert metrics.mouth_closed_in_silence(opening, speaking) == pytest.approx(5 / 7)
    assert math.isnan(metrics.mouth_closed_in_silence(opening, np.ones(20)))


def test_curves_that_cannot_be_compared_are_refused():
    with pytest.raises(ShapeError, match=r"\[20\] and \[21\]"):
        metrics.correlation(np.zeros(20), np.zeros(21))
    with pytest.raises(InputError, match="1 values that are not finite"):
        metrics.best_lag_frames(np.array([0, 1, np.nan, 2]), np.arange(4))


# ---------------------------------------------------------------------- joints


def _joints(frames: int = 40, joints: int = 5) -> tuple[np.ndarray, np.ndarray]:
    t = np.arange(frames)[:, None, None]
    phase = RNG.random((1, joints, 2)) * 6
    return (60 + 10 * np.sin(0.3 * t + phase)).astype(np.float32), np.ones((frames, joints), bool)


def test_joint_error_is_a_distance_over_the_width_of_visible_joints():
    true, visible = _joints()
    moved = true + np.float32([3, 4])
    moved[:, 2] = 1e6
    visible[:, 2] = False
    assert metrics.joint_error_fraction(moved, true, visible, 128) == pytest.approx(5 / 128, rel=1e-5)
    assert math.isnan(metrics.joint_error_fraction(moved, true, np.zeros_like(visible), 128))


def test_missing_fraction():
    visible = np.array([[1, 1, 0], [1, 1, 0]], bool)
    seen = np.array([[1, 0, 0], [1, 1, 1]], bool)
    assert metrics.missing_fraction(seen, visible) == 0.25
    assert math.isnan(metrics.missing_fraction(seen, np.zeros_like(visible)))


def test_half_the_motion_is_half_the_amplitude_and_a_still_picture_none():
    true, visible = _joints()
    mean = true.mean(axis=0)
    assert metrics.motion_amplitude_ratio(mean + 0.5 * (true - mean), true, visible) == pytest.approx(0.5)
    assert metrics.motion_amplitude_ratio(np.broadcast_to(mean, true.shape), true, visible) == pytest.approx(
        0
    )
    assert math.isnan(metrics.motion_amplitude_ratio(true, np.broadcast_to(mean, true.shape), visible))


def test_jitter_is_blind_to_steady_motion_and_sees_noise():
    true, visible = _joints()
    drift = np.arange(len(true), dtype=np.float32)[:, None, None]
    assert metrics.jitter_ratio(true + drift, true, visible) == pytest.approx(1, rel=1e-4)
    assert metrics.jitter_ratio(true + RNG.normal(0, 3, true.shape), true, visible) > 2
    visible[::2] = False  # never three frames in a row
    assert math.isnan(metrics.jitter_ratio(true, true, visible))


def test_joints_that_cannot_be_compared_are_refused():
    true, visible = _joints()
    with pytest.raises(ShapeError):
        metrics.joint_error_fraction(true[:-1], true, visible, 128)
    bad = true.copy()
    bad[3, 1] = np.nan
    with pytest.raises(InputError, match="1 visible joints"):
        metrics.jitter_ratio(bad, true, visible)


# ---------------------------------------------------------------------- pictures


def _video(frames: int = 3, height: int = 40, width: int = 56) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    base = 128 + 60 * np.sin(0.3 * x + 0.2 * y)
    video = (
        base[None, ..., None]
        + 30 * RNG.random((frames, 1, 1, 3))
        + 10 * RNG.random((frames, height, width, 3))
    )
    return video.clip(0, 255).astype(np.uint8)


def test_ssim_and_psnr_are_scikit_images():
    true = _video()
    frames = (true + RNG.normal(0, 12, true.shape)).clip(0, 255).astype(np.uint8)
    expected_ssim = np.mean(
        [
            structural_similarity(
                a / 255,
                b / 255,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=1.0,
                channel_axis=-1,
            )
            for a, b in zip(frames, true, strict=True)
        ]
    )
    assert metrics.ssim(frames, true) == pytest.approx(expected_ssim, abs=1e-9)
    expected_psnr = np.mean([peak_signal_noise_ratio(b, a) for a, b in zip(frames, true, strict=True)])
    assert metrics.psnr_db(frames, true) == pytest.approx(expected_psnr, abs=1e-9)


def test_ssim_in_chunks_is_the_mean_of_its_frames():
    true = _video(frames=19, height=16, width=16)
    frames = true[::-1].copy()
    singly = np.mean([metrics.ssim(frames[t : t + 1], true[t : t + 1]) for t in range(19)])
    assert metrics.ssim(frames, true) == pytest.approx(singly)


def test_an_identical_video_scores_best():
    true = _video()
    assert metrics.ssim(true, true) == pytest.approx(1)
    assert metrics.psnr_db(true, true) == metrics.PSNR_CAP_DB
    assert metrics.sharpness_ratio(true, true) == 1


def test_psnr_averages_frames_not_errors():
    true = np.full((2, 12, 12, 3), 100, np.uint8)
    frames = true.copy()
    frames[0] += 1
    frames[1] += 50
    expected = np.mean([20 * math.log10(255 / 1), 20 * math.log10(255 / 50)])
    assert metrics.psnr_db(frames, true) == pytest.approx(expected)


def test_flicker_is_the_change_of_pixels_that_stand_still_in_the_truth():
    true = np.full((6, 12, 12, 3), 100, np.uint8)
    true[:, :6] += np.arange(0, 60, 10, dtype=np.uint8)[:, None, None, None]  # the moving half does not count
    frames = true.copy()
    frames[::2, 6:] += 8
    assert metrics.background_flicker(true, true) == 0
    assert metrics.background_flicker(frames, true) == 8
    moving = np.arange(0, 60, 10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 12, 12, 3), np.uint8)
    assert math.isnan(metrics.background_flicker(moving, moving))


def test_sharpness_is_an_energy_and_blur_lowers_it():
    true = (2 * RNG.integers(0, 100, (2, 24, 24, 3))).astype(np.uint8)
    assert metrics.sharpness_ratio(true // 2, true) == pytest.approx(
        0.25
    )  # half the contrast, a quarter the energy
    wide = true.astype(int)
    blurred = (
        (wide + np.roll(wide, 1, 1) + np.roll(wide, 1, 2) + np.roll(wide, (1, 1), (1, 2))) // 4
    ).astype(np.uint8)
    assert metrics.sharpness_ratio(blurred, true) < 0.3
    assert math.isnan(metrics.sharpness_ratio(true, np.zeros_like(true)))


def test_pictures_that_cannot_be_compared_are_refused():
    true = _video()
    for measure in (metrics.ssim, metrics.psnr_db, metrics.background_flicker, metrics.sharpness_ratio):
        with pytest.raises(ShapeError):
            measure(true[:-1], true)
        with pytest.raises(ShapeError):
            measure(true.astype(np.float32), true)
    with pytest.raises(ShapeError, match="11x11"):
        metrics.ssim(true[:, :8, :8], true[:, :8, :8])


def test_colours_are_compared_as_a_whole():
    red, blue = np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 8, 8, 3), np.uint8)
    red[..., 0], blue[..., 2] = 250, 250
    assert metrics.colour_overlap(red, red) == 1.0
    assert metrics.colour_overlap(red, blue) == 0.0
    assert metrics.colour_overlap(red, np.concatenate([red, blue], axis=1)) == 0.5
    assert metrics.colour_overlap(red, np.stack([red[0], blue[0]])) == 0.5, "the mean over frames"
    assert metrics.colour_overlap(np.stack([red[0], blue[0]]), red[:1]) == 0.5, "one picture for all"
