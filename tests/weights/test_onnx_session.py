"""Opening ONNX networks: devices and threads reach onnxruntime, and nothing else is asked of it."""

import sys
from types import SimpleNamespace

import pytest

from hallo4.errors import InputError
from hallo4.weights.onnx_session import open_onnx


@pytest.fixture
def runtime(monkeypatch):
    """A pretended onnxruntime; `opened` holds what its last session was given."""
    opened = {}

    def session(path, options, providers):
        opened.update(path=path, providers=providers, threads=getattr(options, "intra_op_num_threads", None))

    fake = SimpleNamespace(
        SessionOptions=SimpleNamespace,
        InferenceSession=session,
        get_available_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
        opened=opened,
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    return fake


@pytest.mark.parametrize(
    ("device", "providers"),
    [
        ("cpu", ["CPUExecutionProvider"]),
        ("cuda", ["CUDAExecutionProvider", "CPUExecutionProvider"]),
        ("auto", ["CUDAExecutionProvider", "CPUExecutionProvider"]),
    ],
)
def test_cuda_comes_first_where_it_may(runtime, tmp_path, device, providers):
    (tmp_path / "a.onnx").touch()
    open_onnx(tmp_path / "a.onnx", "A test runs", "pose", device, threads=3)
    assert runtime.opened == {"path": tmp_path / "a.onnx", "providers": providers, "threads": 3}


def test_without_cuda_auto_is_the_processor_and_cuda_is_refused(runtime, tmp_path):
    runtime.get_available_providers = lambda: ["CPUExecutionProvider"]
    (tmp_path / "a.onnx").touch()
    open_onnx(tmp_path / "a.onnx", "A test runs", "pose", "auto")
    assert runtime.opened["providers"] == ["CPUExecutionProvider"]
    with pytest.raises(InputError, match="has no CUDA; install onnxruntime-gpu"):
        open_onnx(tmp_path / "a.onnx", "A test runs", "pose", "cuda")
