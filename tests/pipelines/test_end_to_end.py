"""Our pipeline, run on the released files of a golden case, makes the released program's video."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASE = ROOT.parent / "shared/golden/end_to_end"
LIMITS = {
    "text_embedding": 2e-6,
    "audio_features": 2e-6,
    "reference_canvas": 1e-6,
    "skeleton_canvas": 1e-6,
    "reference_latent": 1e-5,
    "skeleton_latents": 1e-5,
    "vace_context": 3e-5,
    "velocity": 3e-5,
    "denoised": 1e-4,
    "frames_max_difference": 1,
    "frames_differing": 1e-3,
}
LEAST_PSNR_DB = 80.0

needs_case = pytest.mark.skipif(not CASE.is_dir(), reason="the end-to-end case is not part of the project")


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("end_to_end", ROOT / "benchmarks/end_to_end.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "end_to_end", module)  # its dataclasses look themselves up there
        patch.setenv("XDG_CACHE_HOME", "")  # the script sets it; what was there before comes back
        spec.loader.exec_module(module)
        yield module


@needs_case
@pytest.mark.slow
def test_every_stage_and_the_frames_equal_the_released_ones(benchmark, capsys):
    assert benchmark.main([str(CASE), "--case", "main"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    errors = json.loads(out)
    assert list(errors) == [*LIMITS, "psnr_db"]
    assert all(errors[name] <= limit for name, limit in LIMITS.items()), errors
    assert errors["psnr_db"] >= LEAST_PSNR_DB


@needs_case
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda case: (case / "settings.json").unlink(), "settings.json"),
        (lambda case: shutil.rmtree(case / "main"), "conditions.safetensors"),
        (lambda case: shutil.rmtree(case / "pretrained_models/wav2vec"), "wav2vec"),
    ],
)
def test_a_folder_that_is_no_case_is_refused_in_one_line(benchmark, tmp_path, capsys, damage, words):
    case = shutil.copytree(CASE, tmp_path / "case", copy_function=shutil.copy)
    for path in [case, *case.rglob("*")]:
        path.chmod(0o755)
    damage(case)
    assert benchmark.main([str(case)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert words in err


@needs_case
def test_an_unknown_case_is_named_beside_those_that_exist(benchmark, capsys):
    assert benchmark.main([str(CASE), "--case", "other"]) == 2
    assert "main" in capsys.readouterr().err
