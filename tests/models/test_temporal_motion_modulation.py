"""The frame rule and the redistribution of conditions."""

import pytest
import torch

from hallo4.errors import ShapeError
from hallo4.models.temporal_motion_modulation import (
    group_frames,
    kept_slots,
    latent_frame_count,
    redistribute,
    ungroup_frames,
)


def slow_groups(frames, rho):
    """Which frame stands in sub-slot s of group g, written out from the rule."""
    padded = [0] * (rho - 1) + list(range(frames))
    return [padded[start : start + rho] for start in range(0, len(padded), rho)]


@pytest.mark.parametrize(("rho", "k"), [(4, 0), (4, 1), (4, 20), (2, 3), (3, 5), (8, 2), (1, 6)])
def test_groups_follow_the_rule(rho, k):
    frames = rho * k + 1
    numbers = torch.arange(frames).float().view(1, frames, 1)
    assert group_frames(numbers, rho)[0, :, :, 0].tolist() == slow_groups(frames, rho)
    assert latent_frame_count(frames, rho) == k + 1


@pytest.mark.parametrize("dim", [1, 2, -2])
def test_ungroup_inverts_group_on_any_axis(dim):
    frames = torch.randn(2, 9, 9, 5)
    dim_of_groups = dim % frames.ndim
    assert torch.equal(ungroup_frames(group_frames(frames, 4, dim), dim_of_groups), frames)


@pytest.mark.parametrize(("rho", "k"), [(4, 2), (2, 5), (3, 1)])
def test_unfolding_channels_or_tokens_returns_the_input(rho, k):
    conditions = torch.randn(2, rho * k + 1, 3, 5)
    folded = redistribute(conditions, rho, "channel")
    assert folded.shape == (2, k + 1, 3, rho * 5)
    groups = folded.unflatten(3, (rho, 5)).transpose(2, 3)
    assert torch.equal(ungroup_frames(groups), conditions)
    longer = redistribute(conditions, rho, "token")
    assert longer.shape == (2, k + 1, rho * 3, 5)
    assert torch.equal(ungroup_frames(longer.unflatten(2, (rho, 3))), conditions)


@pytest.mark.parametrize("axis", ["channel", "token"])
@pytest.mark.parametrize(("rho", "k"), [(4, 3), (2, 4), (5, 2)])
def test_an_impulse_in_one_frame_reaches_its_group_and_sub_slot_only(axis, rho, k):
    tokens, width = 3, 2
    for frame in range(rho * k + 1):
        conditions = torch.zeros(1, rho * k + 1, tokens, width)
        conditions[:, frame] = 1
        out = redistribute(conditions, rho, axis)
        slots = (
            out.unflatten(3, (rho, width)).transpose(2, 3)
            if axis == "channel"
            else out.unflatten(2, (rho, -1))
        )
        touched = slots.abs().sum((0, 3, 4)).nonzero().tolist()
        group = -(-frame // rho)  # ceil
        if frame == 0:
            assert touched == [[0, slot] for slot in range(rho)]
        else:
            assert touched == [[group, (frame - 1) % rho]]


def test_no_padding_where_time_is_not_compressed():
    conditions = torch.randn(1, 8, 3, 4)
    assert torch.equal(redistribute(conditions, 1), conditions)
    assert torch.equal(redistribute(conditions, 1, "token"), conditions)
    halves = redistribute(conditions, 2, "channel", causal=False)
    assert torch.equal(halves[:, 1], torch.cat([conditions[:, 2], conditions[:, 3]], dim=-1))
    assert torch.equal(ungroup_frames(group_frames(conditions, 2, causal=False), causal=False), conditions)


@pytest.mark.parametrize(
    ("rho", "expansion", "slots"), [(4, 1, [3]), (4, 2, [1, 3]), (4, 3, [0, 1, 3]), (3, None, [0, 1, 2])]
)
def test_expansion_keeps_evenly_spread_slots_and_the_last(rho, expansion, slots):
    assert kept_slots(rho, expansion) == slots


@pytest.mark.parametrize("expansion", [1, 2, 3])
def test_narrow_expansion_is_the_full_one_without_the_dropped_slots(expansion):
    conditions = torch.randn(2, 9, 3, 5)
    full = redistribute(conditions, 4, "token").unflatten(2, (4, 3))
    kept = redistribute(conditions, 4, "token", expansion)
    assert kept.shape == (2, 3, expansion * 3, 5)
    assert torch.equal(kept.unflatten(2, (expansion, 3)), full[:, :, kept_slots(4, expansion)])
    assert redistribute(conditions, 4, "channel", expansion).shape == (2, 3, 3, expansion * 5)


@pytest.mark.parametrize(
    ("frames", "causal", "advice"),
    [(0, True, "1"), (2, True, "1 or 5"), (8, True, "5 or 9"), (3, False, "4"), (9, False, "8 or 12")],
)
def test_wrong_lengths_say_which_lengths_fit(frames, causal, advice):
    with pytest.raises(ShapeError, match=f"^{frames} frames .* to {advice}$"):
        group_frames(torch.zeros(1, frames, 2), 4, causal=causal)


def test_wrong_axis_and_expansion_are_refused():
    with pytest.raises(ShapeError, match=r"'time'.*'channel' or 'token'"):
        redistribute(torch.zeros(1, 5, 1, 1), 4, "time")
    for expansion in (0, 5):
        with pytest.raises(ShapeError, match="choose 1 to 4"):
            redistribute(torch.zeros(1, 5, 1, 1), 4, "token", expansion)
