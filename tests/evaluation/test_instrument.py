"""The instrument: it reads what is painted, its batches keep pixels and truth together, it loads strictly."""

import math

import numpy as np
import pytest
import torch

from hallo4.errors import CheckpointError, InputError, ShapeError
from hallo4.evaluation.look.instrument import load_observer, measure, true_key_points
from hallo4.evaluation.look.speech import measure_speech_response
from hallo4.evaluation.measures.speech import loudness_dbfs, speech_and_pauses
from hallo4.models.observer import KEY_POINTS, STATES, PortraitObserver
from hallo4.recipes.observer_data import (
    Disturbance,
    ObserverData,
    _blur,
    _quantise_blocks,
    disturb,
    observation_targets,
    observer_method,
)
from hallo4.types import FPS, Audio
from hallo4.weights.module_folder import save_weights

STILL = Disturbance(0, 1.0, 0, 0, 0, 0, 0, 0, untouched_share=0.0)


def test_measure_reads_every_frame_in_pixels_and_ranges(make_painted, reader):
    episode = make_painted(1, seconds=3.0)
    seen = measure(reader, episode.frames_u8)
    assert len(seen) == 75
    for name in STATES:
        assert np.abs(getattr(seen, name) - getattr(episode.truth, name)).max() < 1 / 120
    points, visible = true_key_points(episode.skeleton)
    assert np.abs(seen.points_px - points).max() < 64 / 255
    assert (seen.seen == visible).all()
    assert not visible[:, -1].any()
    with pytest.raises(ShapeError, match="uint8"):
        measure(reader, episode.frames_u8.astype(np.float32))


def test_points_outside_the_frame_are_not_visible(make_painted):
    episode = make_painted(1)
    episode.skeleton.points_px[:, KEY_POINTS["nose"]] = (-0.5, 10)
    episode.skeleton.points_px[:, KEY_POINTS["chin"]] = (64.0, 10)
    _, visible = true_key_points(episode.skeleton)
    assert not visible[:, list(KEY_POINTS).index("nose")].any()
    assert visible[:, list(KEY_POINTS).index("chin")].all()


def test_an_observer_comes_back_from_its_folder_and_a_bad_folder_says_so(tmp_path):
    torch.manual_seed(0)
    observer = PortraitObserver(width=4)
    save_weights(tmp_path / "good", observer, torch.float32)
    again = load_observer(tmp_path / "good")
    for name, value in observer.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    with pytest.raises(CheckpointError, match="no observer lies there"):
        load_observer(tmp_path / "nowhere")
    (tmp_path / "good" / "config.json").write_text('{"width": 8}')
    with pytest.raises(CheckpointError, match="does not fit"):
        load_observer(tmp_path / "good")


# ---------------------------------------------------------------------- what it learns from


def test_a_batch_depends_on_its_generator_alone_and_keeps_frames_with_their_truth(make_painted, reader):
    data = ObserverData([make_painted(1), make_painted(2, 1.0)], batch_size=9, disturbance=None)
    batch = data(0, torch.Generator().manual_seed(4))
    again = data(77, torch.Generator().manual_seed(4))
    other = data(0, torch.Generator().manual_seed(5))
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert not torch.equal(batch["frames_pm1"], other["frames_pm1"])
    seen = reader(batch["frames_pm1"])
    for name in STATES:
        assert (getattr(seen, name) - batch[name]).abs().max() < 1 / 120
    assert (seen.points_01 - batch["points_01"]).abs().max() < 1 / 250


def test_targets_are_fractions_of_the_frame(make_painted):
    episode = make_painted(3)
    targets = observation_targets(episode)
    assert targets["points_01"].shape == (50, len(KEY_POINTS), 2)
    assert 0 <= targets["points_01"].min() <= targets["points_01"].max() <= 1
    assert targets["visible"][:, -1].sum() == 0


def test_points_move_with_their_pixels():
    """One white disc a frame, its centre the only point: after any move the disc is at the moved point."""
    count, size = 16, 96
    generator = torch.Generator().manual_seed(0)
    centre = 0.3 + 0.4 * torch.rand(count, 1, 2, generator=generator)
    axis = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    distance = (x - centre[..., 0, None]) ** 2 + (y - centre[..., 1, None]) ** 2
    frames = 2 * torch.exp(-distance / 0.002) - 1
    batch = {
        "frames_pm1": frames[:, None].expand(-1, 3, -1, -1).contiguous(),
        "points_01": centre,
        "visible": torch.ones(count, 1),
    }
    strong = Disturbance(0.15, 1.4, 0.5, 0, 0, 0, 0, 0, untouched_share=0.0)
    moved = disturb(batch, strong, generator)
    assert (moved["points_01"] - centre).norm(dim=-1).mean() > 0.05
    weight = (moved["frames_pm1"][:, 0] + 1).clamp_min(0)
    total = weight.sum((1, 2))
    found = torch.stack([(weight * x).sum((1, 2)) / total, (weight * y).sum((1, 2)) / total], -1)
    well_inside = ((moved["points_01"] > 0.15) & (moved["points_01"] < 0.85)).all(-1)[:, 0]
    assert well_inside.sum() > 8
    assert (found - moved["points_01"][:, 0])[well_inside].abs().max() < 0.005


def test_a_point_that_is_moved_out_of_the_frame_is_no_longer_visible():
    batch = {
        "frames_pm1": torch.zeros(64, 3, 16, 16),
        "points_01": torch.full((64, 1, 2), 0.97),
        "visible": torch.ones(64, 1),
    }
    moved = disturb(batch, Disturbance(0.2, untouched_share=0.0), torch.Generator().manual_seed(0))
    inside = (moved["points_01"] <= 1).all(-1).float()
    assert torch.equal(moved["visible"], inside)
    assert 0 < inside.mean() < 1


def test_untouched_frames_are_bitwise_so_and_no_strength_is_no_change(make_painted):
    data = ObserverData([make_painted(1)], batch_size=40, disturbance=None)
    batch = data(0, torch.Generator().manual_seed(1))
    all_untouched = disturb(batch, Disturbance(untouched_share=1.0), torch.Generator().manual_seed(2))
    assert torch.allclose(all_untouched["frames_pm1"], batch["frames_pm1"], atol=2e-6)
    assert torch.equal(all_untouched["visible"], batch["visible"])
    torch.testing.assert_close(all_untouched["points_01"], batch["points_01"])
    still = disturb(batch, STILL, torch.Generator().manual_seed(2))
    torch.testing.assert_close(still["frames_pm1"], batch["frames_pm1"], atol=1e-4, rtol=0)
    full = disturb(batch, Disturbance(), torch.Generator().manual_seed(2))
    assert (full["frames_pm1"] - batch["frames_pm1"]).abs().mean() > 0.02
    assert full["frames_pm1"].abs().max() <= 1


def test_blur_of_an_impulse_is_a_gaussian_of_each_frames_width():
    frames = torch.zeros(2, 3, 21, 21)
    frames[:, :, 10, 10] = 1
    blurred = _blur(frames, torch.tensor([0.0, 1.2]))
    torch.testing.assert_close(blurred[0], frames[0])
    offsets = torch.arange(21.0) - 10
    torch.testing.assert_close(blurred[1].sum((1, 2)), torch.ones(3))
    spread = (blurred[1, 0].sum(0) * offsets**2).sum()
    torch.testing.assert_close(spread, torch.tensor(1.2**2), atol=0.03, rtol=0)
    flat = torch.full((1, 3, 9, 9), 0.3)
    torch.testing.assert_close(_blur(flat, torch.tensor([1.0])), flat)


def test_block_quantisation_keeps_energy_bounds_and_flat_blocks():
    frames = torch.rand(2, 3, 16, 24) * 2 - 1
    fine = _quantise_blocks(frames, torch.tensor([0.0, 0.0]))
    torch.testing.assert_close(fine, frames, atol=1e-4, rtol=0)
    step = 0.5
    coarse = _quantise_blocks(frames, torch.tensor([step, step]))
    assert (coarse - frames).abs().mean() > 0.01
    # The transform is orthonormal: a block is off by at most half a step in each of its 64 coefficients.
    k = torch.arange(8.0)
    limit = ((step * (1 + k[:, None] + k[None]) / 15 / 2) ** 2).sum()
    error = (coarse - frames).unflatten(-2, (2, 8)).unflatten(-1, (3, 8)).pow(2).sum((3, 5))
    assert error.max() <= limit * 1.001


def test_the_method_gives_a_loss_with_gradient(make_painted):
    data = ObserverData([make_painted(1)], batch_size=2)
    model = PortraitObserver(width=4)
    loss, logged = observer_method(model, data(0, torch.Generator().manual_seed(0)), step=0)
    loss.backward()
    assert math.isfinite(loss.item())
    assert {"point_error_fraction", "mouth_open_mae"} <= logged.keys()
    assert all(p.grad is not None for p in model.parameters())


# ---------------------------------------------------------------------- real speech


def _bursts(frames: int = 50) -> tuple[Audio, np.ndarray]:
    loud = (np.arange(frames) // 10) % 2 == 1
    samples = np.repeat(np.where(loud, 0.3, 0.001), 640).astype(np.float32)
    samples *= np.sin(np.arange(len(samples)) * 0.6).astype(np.float32)
    return Audio(samples, 16000), loud


def test_loudness_is_root_mean_square_per_frame():
    audio = Audio(np.full(44100, 0.1, np.float32), 44100)
    np.testing.assert_allclose(loudness_dbfs(audio, 25), -20, atol=1e-4)
    np.testing.assert_allclose(loudness_dbfs(Audio(np.zeros(44100), 44100), 25), -100)
    with pytest.raises(InputError, match="1 samples"):
        loudness_dbfs(Audio(np.array([0.0, np.nan]), 2), 25)


def test_speech_and_pauses_of_bursts_and_of_silence():
    audio, loud = _bursts()
    speech, pause = speech_and_pauses(loudness_dbfs(audio, 50))
    assert (speech == loud).all()
    assert not (pause & loud).any()
    assert pause.sum() == 8 + 6 + 8  # margins of two frames beside speech
    speech, pause = speech_and_pauses(loudness_dbfs(Audio(np.zeros(16000), 16000), 25))
    assert not speech.any()
    assert pause.all()


def test_a_mouth_that_follows_the_sound_is_open_in_speech_and_closed_in_pauses(reader):
    audio, loud = _bursts()
    frames = np.zeros((50, 64, 64, 3), np.uint8)
    frames[:, 0, 0] = np.where(loud, 200, 10)[:, None]
    response = measure_speech_response(frames, audio, reader)
    assert (response.open_in_speech, response.open_in_pauses) == (1, 0)
    assert response.loudness_correlation > 0.95
    assert len(response.mouth_open) == 50 == round(audio.duration_s * FPS)
    with pytest.raises(ShapeError, match="same length"):
        measure_speech_response(frames[:40], audio, reader)
