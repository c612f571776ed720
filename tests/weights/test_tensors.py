"""One reader and one report: what fits, what does not, in which words."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hallo4.errors import CheckpointError, InputError
from hallo4.weights.tensors import fill, misfits, read_tensors, refuse_non_finite, shapes_of


def test_what_does_not_fit_is_counted_and_named():
    expected = {"a": (2, 3), "b": (4,), "c": (), "d": (1,)}
    assert misfits(expected, dict(expected)) == ""
    found = {"a": [2, 3], "b": [5], "x": [1], "d": [1]}
    assert misfits(expected, found) == "1 missing (c); 1 unexpected (x); 1 mis-shaped (b [5] instead of [4])"
    assert misfits({}, {str(n): () for n in range(5)}) == "5 unexpected (0, 1, 2, ...)"


def test_filling_is_exact_or_refused():
    module = nn.Linear(2, 3)
    good = {"weight": torch.ones(3, 2), "bias": torch.ones(3)}
    assert fill(module, good, "f.pth", "Copy it.") is module
    assert torch.equal(module(torch.ones(2)), torch.full((3,), 3.0))
    for change, words in (
        ({"bias": None}, r"f\.pth does not fit Linear: tensors 1 missing \(bias\)\. Copy it\."),
        ({"extra": torch.ones(1)}, r"1 unexpected \(extra\)"),
        ({"bias": torch.ones(1)}, r"1 mis-shaped \(bias \[1\] instead of \[3\]\)"),
        ({"bias": torch.full((3,), torch.inf)}, r"f\.pth: tensor bias holds NaN or infinite"),
    ):
        bad = {name: value for name, value in (good | change).items() if value is not None}
        before = module.weight.detach().clone()
        with pytest.raises(CheckpointError, match=words):
            fill(module, bad, "f.pth", "Copy it.")
        assert torch.equal(module.weight, before)


def test_only_the_named_ending_may_be_missing():
    norm = nn.BatchNorm1d(2)
    state = {name: value for name, value in norm.state_dict().items() if name != "num_batches_tracked"}
    fill(norm, state, "f", "", may_lack="num_batches_tracked")
    with pytest.raises(CheckpointError, match=r"1 missing \(num_batches_tracked\)"):
        fill(norm, state, "f", "")
    del state["bias"]
    with pytest.raises(CheckpointError, match=r"1 missing \(bias\)"):
        fill(norm, state, "f", "", may_lack="num_batches_tracked")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_one_value_that_is_not_a_number_is_found_in_every_format(dtype):
    values = torch.ones(3)
    refuse_non_finite([("n", torch.ones(1, dtype=torch.int64)), ("x", values.to(dtype))], "f.pth")
    values[1] = torch.nan
    with pytest.raises(CheckpointError, match=r"f\.pth: tensor x holds NaN"):
        refuse_non_finite([("x", values.to(dtype))], "f.pth")


@pytest.mark.parametrize("wrapper", [None, "state_dict", "params_ema", "params"])
@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_the_same_tensors_from_every_form(tmp_path, kind, wrapper):
    tensors = {"a": torch.arange(3.0), "b": torch.ones(2, 2, dtype=torch.bfloat16)}
    path = tmp_path / "weights"  # the content counts, not the suffix
    if kind == "safetensors":
        save_file(tensors, path)
    else:
        content = tensors if wrapper is None else {wrapper: tensors, "epoch": 3}
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    read = read_tensors(path, "weights")
    assert shapes_of(read) == {"a": (3,), "b": (2, 2)}
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


class RunsCode:
    def __reduce__(self):
        return (print, ("this must never be printed",))


def test_files_that_are_refused(tmp_path, capsys):
    path = tmp_path / "f.pth"
    with pytest.raises(InputError, match="found nothing, not a checkpoint file: give the path of the toy"):
        read_tensors(path, "toy")
    for content, words in (
        ({"a": RunsCode()}, "could run code"),
        ({"a": 3}, "no state dict"),
        (torch.ones(2), "no state dict"),
    ):
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=words):
            read_tensors(path, "toy")
    for content in (b"", b"GGUF....", path.read_bytes()[:40]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="damaged or no checkpoint"):
            read_tensors(path, "toy")
    assert capsys.readouterr().out == ""
