"""DiT and UNet equal the released architectures on the golden cases (`benchmarks/parity.py`)."""

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
UNET_LIMITS = {
    "face_tokens": 1e-5,
    "audio_tokens": 1e-5,
    "locator_features": 1e-5,
    "velocity_uncond_cond": 1e-4,
    "scheduler_timesteps": 1e-6,
    "denoised": 1e-3,
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


@pytest.mark.skipif(not BESIDE.is_dir(), reason="the golden cases of the UNet are not in the project")
@pytest.mark.parametrize("case", ["unet_square", "unet_long"])
def test_golden_case_of_the_unet(case, capsys):
    code = run_parity(BESIDE / case)
    out, err = capsys.readouterr()
    assert code == 0, err
    assert out.count("\n") == 1
    errors = json.loads(out)
    assert list(errors) == list(UNET_LIMITS)
    assert all(errors[name] <= limit for name, limit in UNET_LIMITS.items()), errors


@pytest.mark.skipif(not BESIDE.is_dir(), reason="the golden cases of the UNet are not in the project")
@pytest.mark.parametrize("file", ["outputs.safetensors", "inputs.safetensors", "weights.safetensors"])
def test_unet_folders_that_lack_a_file_give_one_line(tmp_path, capsys, file):
    for path in (BESIDE / "unet_long").iterdir():
        if path.name != file:
            (tmp_path / path.name).symlink_to(path)
    assert run_parity(tmp_path) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert file in err
    assert err.count("\n") == 1


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
