"""Tensor by tensor or all at once, the file is the same."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from hallo4.pipelines import safetensors_stream
from hallo4.pipelines.safetensors_stream import StoredTensor, write_tensors


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    random = {"b": (3, 5), "a.weight": (7,), "half": (3, 3), "empty": (0, 4), "one": ()}
    made = {name: torch.randn(shape, generator=generator) for name, shape in random.items()}
    return made | {"a.bias": made["b"].bfloat16(), "half": made["half"].half()}


def stored(tensors):
    return {name: StoredTensor(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


@pytest.mark.parametrize("piece_values", [1, 4, 1000])
def test_the_bytes_are_those_of_the_library(tensors, tmp_path, monkeypatch, piece_values):
    monkeypatch.setattr(safetensors_stream, "PIECE_VALUES", piece_values)
    counted = []
    write_tensors(tmp_path / "ours", stored(tensors), tensors.get, counted.append)
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert sum(counted) == sum(tensor.nbytes for tensor in tensors.values())
    assert max(counted) <= 4 * piece_values


def test_values_are_converted_as_torch_does(tmp_path):
    tensor = torch.randn(5, 4).t()  # not contiguous
    write_tensors(tmp_path / "f", {"t": StoredTensor((4, 5), torch.bfloat16)}, lambda name: tensor)
    assert torch.equal(load_file(tmp_path / "f")["t"], tensor.bfloat16())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e39])
def test_what_is_not_finite_is_named(tmp_path, value):
    tensor = torch.tensor([0.0, value, 1.0], dtype=torch.float64).float()
    with pytest.raises(ValueError, match=r"^t$"):
        write_tensors(tmp_path / "f", {"t": StoredTensor((3,), torch.float32)}, lambda name: tensor)


def test_large_finite_values_are_kept(tmp_path):
    tensor = torch.full((3,), 60000.0).half()  # two of them add up to infinity
    write_tensors(tmp_path / "f", {"t": StoredTensor((3,), torch.float16)}, lambda name: tensor)
    assert torch.equal(load_file(tmp_path / "f")["t"], tensor)


def test_what_overflows_in_the_stored_type_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"^t$"):
        write_tensors(
            tmp_path / "f", {"t": StoredTensor((1,), torch.float16)}, lambda name: torch.full((1,), 1e5)
        )
