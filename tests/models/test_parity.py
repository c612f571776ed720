"""The DiT equals the released architecture on the golden cases (`benchmarks/parity.py`)."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUNDLED = ROOT / "tests/golden/dit_square"
BESIDE = ROOT.parent / "shared/golden"
LIMITS = {
    "pose_tokens": 1e-5,
    "audio_tokens": 1e-5,
    "velocity": 1e-5,
    "scheduler_sigmas": 1e-6,
    "denoised": 1e-4,
}


def run_parity(folder):
    """Exit code of the command, run in this process: starting another one costs seconds."""
    spec = importlib.util.spec_from_file_location("parity", ROOT / "benchmarks/parity.py")
    parity = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(parity)
    return parity.main([str(folder)])


@pytest.mark.parametrize(
    "case",
    [
        BUNDLED,
        pytest.param(
            BESIDE / "dit_wide_long",
            marks=pytest.mark.skipif(
                not BESIDE.is_dir(), reason="only the smallest golden case is in the project"
            ),
        ),
    ],
    ids=lambda path: path.name,
)
def test_golden_case(case, capsys):
    code = run_parity(case)
    out, err = capsys.readouterr()
    assert code == 0, err
    assert out.count("\n") == 1
    errors = json.loads(out)
    assert list(errors) == list(LIMITS)
    assert all(errors[name] <= limit for name, limit in LIMITS.items()), errors


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("outputs.safetensors", None),
        ("weights.safetensors", None),
        ("config.json", None),
        ("config.json", b"{}"),
        ("config.json", b"no json"),
        ("inputs.safetensors", b"no tensors"),
        ("inputs.safetensors", (BUNDLED / "outputs.safetensors").read_bytes()),
    ],
)
def test_unusable_folders_give_one_line_and_exit_code_2(tmp_path, capsys, file, content):
    case = tmp_path / "case"
    shutil.copytree(BUNDLED, case)
    (case / file).unlink()
    if content is not None:
        (case / file).write_bytes(content)
    assert run_parity(case) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert file in err
    assert err.count("\n") == 1
