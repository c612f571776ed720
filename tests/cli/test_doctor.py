"""`hallo4 doctor` and the options of `hallo4 animate` about devices, from the command line."""

import pytest
from PIL import Image

from hallo4.cli import main
from hallo4.media import save_wav
from hallo4.pipelines import expected


@pytest.fixture
def words(portrait_u8, hum, tiny_model_folder, tmp_path, monkeypatch):
    """In an own folder: what asks for a short video of the tiny model."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(portrait_u8).save("p.png")
    save_wav("a.wav", hum(0.2))
    return ["animate", "p.png", "a.wav", "-o", "v.mp4", "--model", str(tiny_model_folder)]


def test_the_doctor_says_a_line_of_each_thing(tiny_model_folder, capsys, monkeypatch):
    monkeypatch.setattr(expected, "measured_flops_per_s", lambda device, dtype: 1e9)
    assert main(["doctor", "--model", str(tiny_model_folder), "--seconds", "2", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    names = [line.split()[0] for line in out.splitlines()]
    assert names == ["hallo4", "device", "extras", "models", "weights", "model", "placement", "job"]
    assert err == ""
    (weights,) = [line for line in out.splitlines() if line.startswith("weights")]
    assert "hallo4 weights fetch NAME" in weights
    assert "pose-dwpose" in weights


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "nobody"], "'nobody' is no model"),
        (["--memory", "plenty"], "memory is 'plenty'"),
        (["--memory", "0.01"], "offers 0.0 GB"),
        (["--dtype", "int4"], "dtype is 'int4'"),
        (["--device", "abacus"], "'abacus' cannot be used"),
        (["--seconds", "-1"], "seconds is -1"),
    ],
)
def test_the_doctor_complains_in_one_line(options, said, capsys):
    assert main(["doctor", *options]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert said in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--memory", "-1"], "memory is '-1'"),
        (["--dtype", "fp4"], "dtype is 'fp4'"),
        (["--attention", "none"], "attention 'none' is unknown"),
        (["--prompt", "a person"], "takes no text"),
        (["--negative-prompt", "blurry"], "takes no text"),
    ],
)
def test_options_that_cannot_be_used_are_one_line(words, options, said, capsys):
    assert main([*words, "--quiet", *options]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert said in err


def test_memory_dtype_and_attention_are_taken(words, capsys):
    options = ["--memory", "8", "--dtype", "bf16", "--attention", "native", "--quiet"]
    assert main([*words, *options]) == 0
    assert capsys.readouterr() == ("v.mp4\n", "")
