"""Tables that are computed once: the same ones again, but never of tensors of another kind."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from hallo4.diffusion.discrete import step_sigma
from hallo4.models.dit_block import picture_rotations, video_rotations
from hallo4.tables import cached_table
from hallo4.types import StepSchedule

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "make",
    [
        lambda: video_rotations((2, 3, 4), 16, CPU),
        lambda: picture_rotations((3, 4), 16, CPU),
        lambda: step_sigma(torch.tensor([0, 500, 999]), StepSchedule("linear", beta_end=0.013)),
    ],
    ids=["video_rotations", "picture_rotations", "step_sigma"],
)
@pytest.mark.parametrize("fake_first", [True, False])
def test_tensors_without_values_and_real_ones_do_not_meet(make, fake_first):
    video_rotations.cache_clear()
    picture_rotations.cache_clear()
    real = None if fake_first else make()
    with FakeTensorMode():
        fake = make()
        assert isinstance(fake, FakeTensor)
        fake * 2
    again = make()
    assert type(again) is torch.Tensor
    assert again.shape == fake.shape
    assert real is None or torch.equal(real, again)


def test_a_table_is_made_once_and_serves_training_after_inference():
    made = []

    @cached_table
    def ramp(length):
        made.append(length)
        return torch.arange(float(length))

    with torch.inference_mode():
        first = ramp(3)
    assert ramp(3) is first
    assert made == [3]
    weight = torch.ones(3, requires_grad=True)
    (weight * first).sum().backward()
    assert weight.grad.tolist() == [0.0, 1.0, 2.0]
    ramp.cache_clear()
    ramp(3)
    assert made == [3, 3]
