"""ONNX networks of others, opened by onnxruntime with errors in one line."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from hallo4.errors import CheckpointError, InputError, MissingExtraError
from hallo4.input_file import check_regular


def require_onnxruntime(what: str, extra: str) -> ModuleType:
    """onnxruntime; MissingExtraError without it. `what` begins the line: "CSIM runs ArcFace"."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError(
            f"{what} with onnxruntime, which is not installed: pip install 'hallo4[{extra}]'."
        ) from None
    return onnxruntime


def open_onnx(path: Path, what: str, extra: str, device: str = "cpu", threads: int | None = None) -> Any:
    """An `InferenceSession` of a file, on `cpu`, `cuda`, or `auto`: CUDA where onnxruntime offers it.

    MissingExtraError as `require_onnxruntime`. InputError: the device is not offered. CheckpointError: the
    file is no network, or damaged.
    """
    onnxruntime = require_onnxruntime(what, extra)
    providers = ["CPUExecutionProvider"]
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device is {ascii(device)[:40]}; use auto, cpu or cuda.")
    if device != "cpu" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, "CUDAExecutionProvider")
    elif device == "cuda":
        raise InputError(
            "this onnxruntime has no CUDA; install onnxruntime-gpu in its place, or use --device cpu."
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its warnings are about graphs, not about this machine
    if threads is not None:
        options.intra_op_num_threads = threads
    check_regular(path, "an ONNX network", CheckpointError)
    try:
        return onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # onnxruntime's own classes share no base
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(
            f"{path}: onnxruntime cannot open it ({reason}). It is damaged or no ONNX network; get it again."
        ) from error
