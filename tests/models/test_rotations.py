"""Rotary positions: the complex form of the CPU and the real form of other devices are one rotation."""

import pytest
import torch

from hallo4.models import dit_block
from hallo4.models.dit_block import picture_rotations, rotate, rotate_without_complex, video_rotations

CPU = torch.device("cpu")


@pytest.mark.parametrize("head_dim", [32, 48, 128])
@pytest.mark.parametrize("where", ["video", "picture"])
def test_the_complex_and_the_real_form_agree(head_dim, where, monkeypatch):
    if where == "video":
        table, length = video_rotations((3, 4, 5), head_dim, CPU), 60
    else:
        table, length = picture_rotations((6, 7), head_dim, CPU), 42
    heads = torch.randn(2, length, 3, head_dim, generator=torch.Generator().manual_seed(0))
    turned = rotate(heads, table)
    torch.testing.assert_close(rotate_without_complex(heads, table), turned, rtol=0, atol=1e-6)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(dit_block.torch, "view_as_complex", None)  # what a compiler cannot fuse is not used
    torch.testing.assert_close(rotate(heads, table), turned, rtol=0, atol=1e-6)


def test_a_rotation_keeps_lengths_and_turns_pairs_by_their_angle():
    heads = torch.randn(5, 1, 4, generator=torch.Generator().manual_seed(1))
    angles = torch.linspace(0, 3, 10).view(5, 1, 2)
    for form in (rotate, rotate_without_complex):
        turned = form(heads, torch.polar(torch.ones_like(angles), angles))
        for place in range(5):
            for pair in range(2):
                angle = float(angles[place, 0, pair])
                turn = torch.tensor([[torch.tensor(angle).cos(), -torch.tensor(angle).sin()],
                                     [torch.tensor(angle).sin(), torch.tensor(angle).cos()]])  # fmt: skip
                expected = turn @ heads[place, 0, 2 * pair : 2 * pair + 2]
                found = turned[place, 0, 2 * pair : 2 * pair + 2]
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
