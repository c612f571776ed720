"""Fitting the pose at rest: nearer to the truth than the mean, wherever the person is; and no phantoms."""

import numpy as np
import pytest

from hallo4.models.observer import KEY_POINTS
from hallo4.motion import default_rest_pose, layout
from hallo4.motion.align import align_rest, figure_square
from hallo4.motion.rest_pose import rest_modes
from hallo4.world.identity import sample_identity
from hallo4.world.performance import neutral_performance
from hallo4.world.truth import keypoints

SIDE_PX = 128
INDICES = np.array(list(KEY_POINTS.values()))
HEAD = [*range(5), *range(23, 91)]
DRAWN = default_rest_pose(1, 1).confidence[0] > 0


@pytest.fixture(scope="module")
def people() -> np.ndarray:
    """True rest poses [8, 133, 2] in pixels of a 128 px square, of people who are not in the mean."""
    return SIDE_PX * np.stack(
        [keypoints(sample_identity(seed), neutral_performance(), 0) for seed in range(700, 708)]
    )


def observed(truth: np.ndarray, noise_px: float, seed: int, size=(SIDE_PX, SIDE_PX)) -> tuple:
    """Key points of `truth` [133, 2], shaken, and which of them lie in the picture."""
    points = truth[INDICES] + np.random.default_rng(seed).normal(0, noise_px, (len(INDICES), 2))
    return points, ((truth[INDICES] >= 0) & (truth[INDICES] <= size)).all(axis=-1)


def error_px(pose: np.ndarray, truth: np.ndarray, part=DRAWN) -> float:
    return float(np.linalg.norm(pose - truth, axis=-1)[part].mean())


def aligned(truth, noise_px, seed=0, size=(SIDE_PX, SIDE_PX)) -> np.ndarray:
    points, seen = observed(truth, noise_px, seed, size)
    pose, found = align_rest(points, seen, INDICES, *size)
    assert found
    return pose.points_px[0]


@pytest.mark.parametrize("noise_px", [0.0, 0.7])
def test_it_is_nearer_to_the_person_than_the_mean_is(people, noise_px):
    default = default_rest_pose(SIDE_PX, SIDE_PX).points_px[0]
    for seed, truth in enumerate(people):
        assert error_px(aligned(truth, noise_px, seed), truth) < error_px(default, truth)


def test_it_follows_the_person_through_the_picture(people):
    default = default_rest_pose(SIDE_PX, SIDE_PX).points_px[0]
    for scale, shift in ((1.0, (9, -4)), (0.7, (0, 0)), (0.8, (-10, 6)), (1.25, (5, 30))):
        for seed, truth in enumerate(people):
            moved = scale * (truth - 64) + 64 + shift
            pose = aligned(moved, 0.7, seed)
            assert error_px(pose, moved) < 1.5
            assert error_px(pose, moved) < 0.3 * error_px(default, moved)


def test_pictures_that_are_not_square(people):
    truth = people[0] + (40, -11)
    pose = aligned(truth, 0.5, size=(240, 160))
    assert error_px(pose, truth) < 2.0
    points, seen = observed(truth, 0.5, 0)
    skeleton, _ = align_rest(points, seen, INDICES, 240, 160)
    assert (skeleton.width_px, skeleton.height_px, len(skeleton), skeleton.fps) == (240, 160, 1, 25.0)
    np.testing.assert_array_equal(skeleton.confidence, default_rest_pose(240, 160).confidence)


def test_a_leaning_head_leans_and_leaves_the_body_upright(people):
    angle = np.deg2rad(14)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    truth = people[3].copy()
    neck = truth[[5, 6]].mean(axis=0)
    truth[HEAD] = (truth[HEAD] - neck) @ turn + neck
    pose = aligned(truth, 0.5)
    assert error_px(pose, truth, HEAD) < 1.5
    assert error_px(pose, truth, [5, 6, 9, 10]) < 3.0
    tilt = np.subtract(*pose[[layout.LEFT_EYE, layout.RIGHT_EYE]])
    assert np.rad2deg(np.arctan2(tilt[1], tilt[0])) == pytest.approx(14, abs=4)


def test_what_it_is_not_shown_or_told_to_distrust_does_not_count(people):
    truth = people[1] + (8, 0)
    points, seen = observed(truth, 0.0, 0)
    whole = align_rest(points, seen, INDICES, SIDE_PX, SIDE_PX)[0].points_px
    unseen = points.copy()
    unseen[~seen] = 1e6
    np.testing.assert_array_equal(align_rest(unseen, seen, INDICES, SIDE_PX, SIDE_PX)[0].points_px, whole)
    fewer = seen & ~np.isin(INDICES, [layout.LEFT_SHOULDER, layout.RIGHT_SHOULDER, 3, 4])
    points[~fewer] = np.nan
    assert error_px(align_rest(points, fewer, INDICES, SIDE_PX, SIDE_PX)[0].points_px[0], truth) < 2.0


def test_nobody_is_made_up(people):
    default = default_rest_pose(SIDE_PX, SIDE_PX)
    random = np.random.default_rng(0)
    everything = np.ones(len(INDICES), bool)
    crowds = [random.uniform(0, SIDE_PX, (len(INDICES), 2)) for _ in range(20)]
    crowds += [random.normal(64, spread, (len(INDICES), 2)) for spread in (0.01, 1, 8, 16)]
    crowds += [people[0][INDICES] * (1, -1) + (0, SIDE_PX)]  # upside down
    cases = [(points, everything) for points in crowds]
    points, seen = observed(people[0], 0.0, 0)
    cases += [(points, ~everything), (points, seen & (np.cumsum(seen) <= 6))]
    for points, seen in cases:
        pose, found = align_rest(points, seen, INDICES, SIDE_PX, SIDE_PX)
        assert not found
        np.testing.assert_array_equal(pose.points_px, default.points_px)


def test_the_square_of_a_figure_goes_with_it():
    pose = default_rest_pose(200, 120)
    np.testing.assert_allclose(figure_square(pose), (40, 0, 120), atol=1e-3)
    pose.points_px[:] = pose.points_px * 0.5 + (7, 3)
    np.testing.assert_allclose(figure_square(pose), (27, 3, 60), atol=1e-3)


def test_people_differ_along_the_modes(people):
    """Eight modes hold nearly all of what is particular about people who took no part in making them."""
    mean = default_rest_pose(1, 1).points_px[0]
    modes = rest_modes()[:, DRAWN].reshape(8, -1)
    lengths = np.linalg.norm(modes, axis=1)
    np.testing.assert_allclose(modes @ modes.T, np.diag(lengths**2), atol=1e-6)
    assert (np.diff(lengths) < 0).all()
    differences = (people / SIDE_PX - mean)[:, DRAWN].reshape(len(people), -1)
    amounts = differences @ (modes / lengths[:, None] ** 2).T
    left = differences - amounts @ modes
    assert (left**2).sum() < 0.05 * (differences**2).sum()
    assert np.abs(amounts).max() < 4
    assert 0.5 < amounts.std() < 1.5
