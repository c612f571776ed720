from itertools import pairwise

import pytest
import torch

from hallo4.pipelines.plan import frame_count, plan_windows, window_count, window_noise


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


def test_shared_noise_is_what_a_cpu_generator_with_the_seed_draws_first():
    shape = (4, 3, 8, 8)
    expected = torch.randn(1, *shape, generator=torch.Generator("cpu").manual_seed(2025))
    for index in (0, 1, 7):
        assert torch.equal(window_noise(shape, 2025, index, "shared"), expected)
    assert not torch.equal(window_noise(shape, 2025, 0, "own"), expected)
    assert not torch.equal(window_noise(shape, 2026, 0, "shared"), expected)
