"""Pixels and tensors say the same."""

import numpy as np
import torch

from hallo4.media.pixels import frames_to_pm1, pm1_to_frames


def test_pictures_become_numbers_from_minus_one_to_one():
    picture = np.array([[[0, 255, 51]]], np.uint8)  # [1, 1, 3]
    torch.testing.assert_close(frames_to_pm1(picture), torch.tensor([-1.0, 1.0, -0.6]).view(3, 1, 1))


def test_every_level_comes_back_and_axes_with_it():
    frames = np.arange(2 * 8 * 16 * 3, dtype=np.uint32).astype(np.uint8).reshape(2, 8, 16, 3)
    assert set(frames.ravel()) == set(range(256))
    tensor = frames_to_pm1(frames)
    assert tensor.shape == (2, 3, 8, 16)
    np.testing.assert_array_equal(pm1_to_frames(tensor), frames)


def test_values_beyond_the_range_are_clipped_not_wrapped():
    tensor = torch.tensor([-3.0, 1.01, 0.0]).view(3, 1, 1)
    np.testing.assert_array_equal(pm1_to_frames(tensor), [[[0, 255, 128]]])


def test_the_frames_memory_is_copied():
    frames = np.zeros((1, 1, 3), np.uint8)
    tensor = frames_to_pm1(frames)
    frames[:] = 255
    assert (tensor == -1).all()
