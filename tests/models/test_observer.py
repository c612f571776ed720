"""The observer: what its geometry must satisfy whatever its weights are, and that its loss can teach it."""

import pytest
import torch

from hallo4.errors import ShapeError
from hallo4.models.observer import (
    KEY_POINTS,
    STATES,
    Observation,
    PortraitObserver,
    face_patches,
    observer_loss,
    soft_argmax,
)
from hallo4.motion import layout

PLACE = {name: i for i, name in enumerate(KEY_POINTS)}


def _targets(batch: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    targets = {name: torch.rand(batch, generator=generator) for name in STATES}
    targets["points_01"] = torch.rand(batch, len(KEY_POINTS), 2, generator=generator)
    targets["visible"] = torch.ones(batch, len(KEY_POINTS))
    return targets


def test_key_points_are_the_layouts_points():
    for name, index in KEY_POINTS.items():
        if index < layout.FEET.start:
            assert layout.NAMES[index] == name
    assert layout.NAMES[KEY_POINTS["chin"]] == "face_8"
    assert layout.RIGHT_BROW.start < KEY_POINTS["right_brow"] < layout.RIGHT_BROW.stop
    assert layout.LEFT_BROW.start < KEY_POINTS["left_brow"] < layout.LEFT_BROW.stop
    for side, lids in (("right", layout.RIGHT_EYE_LIDS), ("left", layout.LEFT_EYE_LIDS)):
        assert {KEY_POINTS[f"{side}_eye_inner"], KEY_POINTS[f"{side}_eye_outer"]} == {
            lids.start,
            lids.start + 3,
        }
    mouth = [KEY_POINTS[n] for n in KEY_POINTS if n.startswith(("mouth", "lip"))]
    assert all(layout.MOUTH.start <= index < layout.MOUTH.stop for index in mouth)
    assert layout.NAMES[KEY_POINTS["left_thumb_tip"]] == "left_hand_thumb_4"
    assert layout.NAMES[KEY_POINTS["right_little_tip"]] == "right_hand_little_4"


def test_soft_argmax_is_the_centre_of_the_hot_cell_and_moves_linearly_between_cells():
    heat = torch.full((1, 2, 8, 16), -1e4)
    heat[0, 0, 3, 5] = 0.0
    heat[0, 1, 3, 5] = heat[0, 1, 3, 6] = 0.0
    points = soft_argmax(heat)
    torch.testing.assert_close(points[0, 0], torch.tensor([5.5 / 16, 3.5 / 8]))
    torch.testing.assert_close(points[0, 1], torch.tensor([6.0 / 16, 3.5 / 8]))


def test_patches_hold_the_face_however_it_is_turned_shifted_or_scaled():
    """A smooth picture, and the same picture under a similarity: patches at matching points are the same."""
    size = 128
    axis = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(axis, axis, indexing="ij")

    def picture(x, y):
        return torch.stack([torch.sin(9 * x + 4 * y), torch.cos(7 * y - 3 * x), torch.sin(8 * x * y)])[None]

    points = torch.zeros(1, len(KEY_POINTS), 2)
    for name, place in (
        ("left_eye", (0.58, 0.4)),
        ("right_eye", (0.42, 0.4)),
        ("chin", (0.5, 0.65)),
        ("mouth_left", (0.56, 0.56)),
        ("mouth_right", (0.44, 0.56)),
    ):
        points[0, PLACE[name]] = torch.tensor(place)
    # p' = scale R (p - 0.5) + 0.5 + shift
    angle, scale, shift = torch.tensor(0.3), 0.8, torch.tensor([0.05, -0.03])
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    moved_points = scale * (points - 0.5) @ turn.T + 0.5 + shift
    source = (torch.stack([x, y], -1) - 0.5 - shift) @ turn / scale + 0.5
    still = face_patches(picture(x, y), points)
    moved = face_patches(picture(source[..., 0], source[..., 1]), moved_points)
    for a, b in zip(still, moved, strict=True):
        assert (a - b).abs().max() < 0.01
        assert a.std() > 0.05  # and they are not both empty


def test_frames_of_any_size_and_the_shape_of_an_observation():
    observer = PortraitObserver(width=4)
    for size in ((128, 128), (96, 160)):
        seen = observer(torch.rand(2, 3, *size) * 2 - 1)
        assert seen.points_01.shape == (2, len(KEY_POINTS), 2)
        assert seen.visibility_logits.shape == (2, len(KEY_POINTS))
        assert all(getattr(seen, name).shape == (2,) for name in STATES)
    with pytest.raises(ShapeError, match=r"\[B, 3, H, W\]"):
        observer(torch.zeros(3, 128, 128))


def test_cost_stays_within_the_budget():
    from torch.utils.flop_counter import FlopCounterMode

    observer = PortraitObserver()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        observer(torch.zeros(1, 3, 128, 128))
    assert counter.get_total_flops() < 0.3e9
    assert sum(p.numel() for p in observer.parameters()) < 2e6


def test_a_larger_observer_sees_larger_frames_and_finer_heat_maps():
    torch.manual_seed(0)
    observer = PortraitObserver(width=4, mouth_patch_px=(48, 48), eyes_patch_px=(32, 64), frame_px=256).eval()
    frames = torch.rand(1, 3, 256, 256) * 2 - 1
    with torch.no_grad():
        seen, smaller = observer(frames), observer(frames[:, :, ::2, ::2])
    assert seen.heat_logits.shape[2:] == smaller.heat_logits.shape[2:] == (64, 64)
    assert not torch.equal(seen.points_01, smaller.points_01)
    with pytest.raises(ShapeError, match="frame_px is 200"):
        PortraitObserver(frame_px=200)


def test_loss_is_zero_error_at_the_truth_and_ignores_points_that_are_not_visible():
    targets = _targets(3)
    perfect = Observation(
        points_01=targets["points_01"],
        visibility_logits=torch.full((3, len(KEY_POINTS)), 30.0),
        heat_logits=torch.zeros(3, len(KEY_POINTS), 32, 32),
        **{name: targets[name] for name in STATES},
    )
    loss, metrics = observer_loss(perfect, targets)
    # What remains is the cross-entropy of a flat heat map: log of its number of cells.
    torch.testing.assert_close(loss, 0.1 * torch.tensor(32.0 * 32).log())
    assert all(value == 0 for name, value in metrics.items() if name.endswith(("mae", "fraction")))

    targets["visible"][:, 5] = 0
    wild = perfect.points_01.clone()
    wild[:, 5] = 7.0
    hidden = Observation(**{**vars(perfect), "points_01": wild})
    assert observer_loss(hidden, targets)[1]["point_error_fraction"] == 0


def test_a_few_steps_teach_it_a_bright_spot_and_a_mouth():
    """One frame in which every key point sits on a bright spot: the coordinate error falls to a fraction."""
    torch.manual_seed(0)
    observer = PortraitObserver(width=8)
    frames = torch.full((4, 3, 128, 128), -0.8)
    targets = _targets(4)
    for i, place in enumerate(((30, 40), (90, 40), (40, 100), (80, 80))):
        frames[i, :, place[1] - 4 : place[1] + 4, place[0] - 4 : place[0] + 4] = 0.9
        targets["points_01"][i] = torch.tensor(place) / 128
    optimizer = torch.optim.Adam(observer.parameters(), 3e-3)
    history = []
    for _ in range(40):
        loss, metrics = observer_loss(observer(frames), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(metrics)
    assert history[-1]["point_error_fraction"] < 0.2 * history[0]["point_error_fraction"]
    assert history[-1]["mouth_open_mae"] < 0.5 * history[0]["mouth_open_mae"]


def test_saved_in_bf16_it_says_nearly_the_same(tmp_path):
    torch.manual_seed(0)
    observer = PortraitObserver(width=4).eval()
    PortraitObserver.from_config(observer.config)  # a config alone rebuilds it
    observer.to(torch.bfloat16).save_pretrained(tmp_path)
    again = PortraitObserver.from_pretrained(tmp_path).float()
    frames = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        expected = observer.float()(frames)
        torch.testing.assert_close(again(frames).points_01, expected.points_01, atol=1e-6, rtol=0)
