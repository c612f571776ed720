"""The pose of the person in a portrait: where the observer looks, what is believed, what is said about it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hallo4.errors import CheckpointError
from hallo4.models.observer import KEY_POINTS, PortraitObserver
from hallo4.motion import default_rest_pose
from hallo4.pipelines import portrait_pose
from hallo4.pipelines.conditions import prepare_portrait
from hallo4.pipelines.portrait_pose import OBSERVER_FOLDER, load_observer, observed_rest, packaged_rest
from hallo4.pipelines.portrait_rest import RestPose
from hallo4.pipelines.prepare_motion import prepare_motion
from hallo4.world import make_episode

INDICES = np.array(list(KEY_POINTS.values()))


class Surveyor(torch.nn.Module):
    """An observer of maps: the colours tell it which square it looks at, and it knows the `truth`."""

    config = SimpleNamespace(frame_px=128)

    def __init__(self, truth_px: np.ndarray, size_px: tuple[int, int]):
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1))
        self.truth_px, self.size_px, self.squares = truth_px, size_px, []

    @staticmethod
    def map_of(width_px: int, height_px: int) -> np.ndarray:
        """[H, W, 3]: red tells x, green tells y."""
        y, x = np.mgrid[:height_px, :width_px] + 0.5
        return np.stack([255 * x / width_px, 255 * y / height_px, 0 * x], axis=-1).round().astype(np.uint8)

    def forward(self, frames_pm1: torch.Tensor) -> SimpleNamespace:
        assert frames_pm1.shape == (1, 3, 128, 128)
        place_px = (frames_pm1[0, :2].movedim(0, -1) + 1) / 2 * torch.tensor(self.size_px)
        middle = slice(32, 96)  # away from the rim, which goes on where the picture ends
        x = place_px[middle, middle, 0].mean(dim=0).double().numpy()
        y = place_px[middle, middle, 1].mean(dim=1).double().numpy()
        at = (np.arange(32, 96) + 0.5) / 128
        (side_x, left), (side_y, top) = np.polyfit(at, x, 1), np.polyfit(at, y, 1)
        self.squares.append((left, top, side_x, side_y))
        points_01 = (self.truth_px[INDICES] - (left, top)) / (side_x, side_y)
        inside = ((points_01 > 0) & (points_01 < 1)).all(axis=-1)
        return SimpleNamespace(
            points_01=torch.from_numpy(points_01)[None].float(),
            visibility_logits=torch.from_numpy(np.where(inside, 3.0, -3.0))[None],
        )


@pytest.mark.parametrize("size_px", [(300, 300), (420, 300), (300, 480)])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, (0, 0)), (0.7, (12, -20)), (1.15, (-9, 25))])
def test_points_come_back_into_the_picture_from_wherever_it_looked(size_px, scale, shift):
    middle = np.array(size_px) / 2
    truth = scale * (default_rest_pose(*size_px).points_px[0] - middle) + middle + shift
    observer = Surveyor(truth, size_px)
    pose = observed_rest(Surveyor.map_of(*size_px), observer)
    drawn = pose.confidence[0] > 0
    np.testing.assert_allclose(pose.points_px[0, drawn], truth[drawn], atol=6)
    assert (pose.width_px, pose.height_px, len(pose)) == (*size_px, 1)
    # The first look is at the middle square, the last one is framed by the person.
    side = min(size_px)
    np.testing.assert_allclose(observer.squares[0], (*(middle - side / 2), side, side), atol=2)
    last = observer.squares[-1]
    np.testing.assert_allclose(last[2:], scale * side, rtol=0.06)
    np.testing.assert_allclose(last[:2], scale * (-side / 2) + middle + shift, atol=9)


def test_no_person_seen_is_no_person_found():
    truth = np.random.default_rng(0).uniform(0, 200, (133, 2))
    assert observed_rest(Surveyor.map_of(200, 200), Surveyor(truth, (200, 200))) is None


def test_the_notes_say_where_idle_motion_comes_from(portrait_u8, monkeypatch, tmp_path):
    portrait = prepare_portrait(portrait_u8, 64)[0]
    found = RestPose(default_rest_pose(64, 64), "by hand")
    source, notes = prepare_motion(None, portrait, 5, 0, rest_pose=lambda portrait: found)
    assert notes == ["no motion given: idle motion with blinks is supplied, fitted to the portrait, by hand"]
    assert source.rest is found.skeleton
    default = ["no motion given: idle motion with blinks is supplied, by the default pose"]
    source, notes = prepare_motion(None, portrait, 5, 0, rest_pose=lambda image: None)
    assert notes == default
    np.testing.assert_array_equal(source.rest.points_px, default_rest_pose(64, 64).points_px)
    monkeypatch.setattr(portrait_pose, "OBSERVER_FOLDER", tmp_path / "none")
    assert prepare_motion(None, portrait, 5, 0)[1] == default


def test_a_damaged_observer_is_not_passed_over(portrait_u8, monkeypatch, tmp_path):
    PortraitObserver(width=4).save_pretrained(tmp_path)
    weights = next(tmp_path.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-100])
    monkeypatch.setattr(portrait_pose, "OBSERVER_FOLDER", tmp_path)
    portrait_pose._packaged_observer.cache_clear()
    try:
        with pytest.raises(CheckpointError, match="damaged"):
            packaged_rest(portrait_u8)
    finally:
        portrait_pose._packaged_observer.cache_clear()


@pytest.mark.skipif(not OBSERVER_FOLDER.is_dir(), reason="no observer comes with this package")
def test_the_observer_of_the_package_follows_people_through_the_picture():
    observer = load_observer()
    for seed in (611, 612, 613):
        episode = make_episode(seed, 0.04)
        for shift in ((10, 0), (-12, -6)):
            wide = np.pad(episode.portrait_u8, ((16, 16), (16, 16), (0, 0)), mode="edge")
            image = np.roll(wide, shift[::-1], axis=(0, 1))[16:-16, 16:-16]
            truth = episode.rest.points_px[0] + shift
            pose = observed_rest(np.ascontiguousarray(image), observer)
            head = slice(23, 91)
            error_px = np.linalg.norm(pose.points_px[0] - truth, axis=-1)[head].mean()
            assert error_px < 0.5 * np.linalg.norm(shift)
