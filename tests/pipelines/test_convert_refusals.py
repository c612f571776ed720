"""Files that cannot be converted, and second jobs: one line that says why, exit code 2, nothing left."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_releases import AUDIO, AUTOENCODER, CONFIG, DIT, TEXT, TOKENIZER, make_release, write_tokenizer

from hallo4.cli import main
from hallo4.errors import Cancelled, OutputError
from hallo4.pipelines import convert_release


@pytest.fixture(scope="session")
def release(tmp_path_factory):
    return make_release(tmp_path_factory.mktemp("releases") / "pretrained_models")


@pytest.fixture
def own(release, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(release, tmp_path / "p")


def refused(capsys, *words, extra=()):
    assert main(["weights", "convert", "p", "-o", "m", *extra]) == 2
    stdout, stderr = capsys.readouterr()
    lines = [line for line in stderr.splitlines() if not line.startswith(("note:", "converting"))]
    assert stdout == ""
    assert len(lines) == 1, stderr
    assert lines[0].startswith("hallo4: error: ")
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in stderr
    assert os.listdir(".") == ["p"]


def edit(path, change):
    """Change the tensors of a torch file."""
    tensors = torch.load(path, weights_only=True)
    torch.save(change(tensors) or tensors, path)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (DIT, ["hallo4/model_weight.safetensors: is missing", "fudan-generative-ai/hallo4"]),
        (AUTOENCODER, ["Wan2.1_VAE.pth: is missing (in Wan2.1_Encoders/ lie config.json", "Wan-AI/Wan2.1"]),
        (TEXT, ["models_t5_umt5-xxl-enc-bf16.pth: is missing", "Wan-AI/Wan2.1-T2V-1.3B"]),
        (TOKENIZER, ["google/umt5-xxl/tokenizer.json: is missing", "under google/umt5-xxl"]),
        (CONFIG, ["Wan2.1_Encoders/config.json: is not there", "(24, not the released 1536)", "Wan-AI"]),
        (
            f"{AUDIO}/model.safetensors",
            ["wav2vec2-base-960h/model.safetensors: is missing", "facebook/wav2vec2"],
        ),
        (f"{AUDIO}/config.json", ["wav2vec2-base-960h/config.json: is not there", "facebook/wav2vec2"]),
        (
            f"{AUDIO}/preprocessor_config.json",
            ["preprocessor_config.json: is not there", "facebook/wav2vec2"],
        ),
    ],
)
def test_a_missing_file_is_explained(own, capsys, place, words):
    (own / place).unlink()
    refused(capsys, *words)


def test_a_renamed_file_is_seen(own, capsys):
    (own / DIT).rename(own / "hallo4/weights_of_hallo4.ckpt")
    refused(capsys, "model_weight.safetensors: is missing", "lie weights_of_hallo4.ckpt", "model_weight.ckpt")


@pytest.mark.parametrize("place", [DIT, AUTOENCODER, TEXT, f"{AUDIO}/model.safetensors"])
@pytest.mark.parametrize("keep", [0.0, 0.6])
def test_a_truncated_file_is_named(own, capsys, place, keep):
    os.truncate(own / place, int(os.path.getsize(own / place) * keep))
    refused(capsys, os.path.basename(place), "damaged or no checkpoint")


@pytest.mark.parametrize(
    ("place", "holds", "instead"),
    [
        (
            AUTOENCODER,
            TEXT,
            ["Wan2.1_VAE.pth: holds umT5, the text encoder", "autoencoder weights belong there"],
        ),
        (TEXT, AUTOENCODER, ["models_t5", "holds Wan's autoencoder", "text encoder weights belong there"]),
        (DIT, TEXT, ["model_weight.ckpt: holds umT5", "the DiT weights belong there"]),
        (TEXT, DIT, ["models_t5", "holds Hallo4's DiT"]),
    ],
)
def test_a_swapped_file_is_recognised(own, capsys, place, holds, instead):
    shutil.copy(own / holds, own / place)
    refused(capsys, *instead)


def test_wav2vec2_in_the_place_of_the_dit_and_strangers(own, capsys):
    (own / DIT).unlink()
    shutil.copy(own / AUDIO / "model.safetensors", own / "hallo4/model_weight.safetensors")
    refused(capsys, "model_weight.safetensors: holds wav2vec2")
    save_file({"conv_in.weight": torch.zeros(2)}, own / "hallo4/model_weight.safetensors")
    refused(capsys, "is of an unknown kind (first tensor: conv_in.weight)")
    save_file({}, own / "hallo4/model_weight.safetensors")
    refused(capsys, "holds no tensors")


HALLO4_LAYERS = ("audio_cross", "condition_cross", "audio_proj", "pose_proj")


@pytest.mark.parametrize("vace", [True, False])
def test_wan_without_the_layers_of_hallo4_is_named(own, capsys, vace):
    left_out = (*HALLO4_LAYERS, *(() if vace else ("vace_",)))
    edit(own / DIT, lambda tensors: {n: t for n, t in tensors.items() if not any(w in n for w in left_out)})
    model = "Wan2.1-VACE" if vace else "Wan2.1"
    layers = "audio_cross_attn, condition_cross_attn, audio_proj, pose_proj"
    refused(
        capsys, f"holds the DiT of {model} without Hallo4's layers ({layers})", "fudan-generative-ai/hallo4"
    )


def test_some_missing_layers_are_counted(own, capsys):
    edit(own / DIT, lambda tensors: {n: t for n, t in tensors.items() if "pose_proj" not in n})
    refused(capsys, "4 missing (pose_proj.proj.weight, pose_proj.proj.bias, pose_proj.norm.weight, ...)")


def test_a_14b_model_is_named(own, capsys):
    edit(own / DIT, lambda t: t.update({"patch_embedding.weight": torch.zeros(5120, 16, 1, 2, 2)}))
    refused(capsys, "is a 14B model (width 5120)", "width 1536")


@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        (torch.float8_e4m3fn, "is stored as float8_e4m3fn (an fp8 file); fp32, bf16 and fp16 are read"),
        (torch.int8, "is stored as int8; fp32"),
    ],
)
def test_quantised_numbers_are_refused(own, capsys, dtype, words):
    name = "blocks.0.ffn.0.weight"
    edit(own / DIT, lambda tensors: tensors.update({name: tensors[name].to(dtype)}))
    refused(capsys, f"tensor {name}", words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"GGUF\x03\x00\x00\x00 and so on", "is a GGUF file of quantised weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "is a pointer of Git LFS"),
        (b"<!DOCTYPE html><title>404</title>", "damaged or no checkpoint"),
    ],
)
def test_other_formats_are_named(own, capsys, content, words):
    (own / DIT).write_bytes(content)
    refused(capsys, "model_weight.ckpt", words)


class RunsCode:
    def __reduce__(self):
        return (os.mkdir, ("code_was_run",))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_refused_and_not_run(own, capsys, zipped):
    torch.save({"head.head.bias": RunsCode()}, own / DIT, _use_new_zipfile_serialization=zipped)
    refused(capsys, "model_weight.ckpt holds more than tensors", "was not loaded")


def test_a_tensor_too_many_and_a_wrong_shape_are_named(own, capsys):
    def change(tensors):
        tensors["blocks.0.norm9.weight"] = torch.zeros(2)
        tensors["head.head.bias"] = torch.zeros(3)

    edit(own / DIT, change)
    refused(
        capsys, "1 unexpected (blocks.0.norm9.weight)", "1 mis-shaped (head.head.bias [3] instead of [64])"
    )


def test_the_same_tensor_under_two_names_is_unexpected(own, capsys):
    edit(own / DIT, lambda tensors: tensors.update({"model.head.head.bias": torch.zeros(64)}))
    refused(capsys, "1 unexpected (model.head.head.bias)")


@pytest.mark.parametrize("place", [AUTOENCODER, TEXT])
def test_encoders_that_lack_a_tensor_are_refused(own, capsys, place):
    name = {AUTOENCODER: "decoder.head.2.bias", TEXT: "blocks.1.attn.q.weight"}[place]
    edit(own / place, lambda tensors: {n: t for n, t in tensors.items() if n != name})
    refused(capsys, os.path.basename(place), "1 missing")


def test_an_autoencoder_of_another_latent_size_is_refused(own, capsys):
    edit(own / AUTOENCODER, lambda t: t.update({"conv2.weight": torch.zeros(48, 48, 1, 1, 1)}))
    refused(
        capsys, "Wan2.1_VAE.pth", "mis-shaped (conv2.weight [48, 48, 1, 1, 1] instead of [16, 16, 1, 1, 1])"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("place", "name"), [(DIT, "blocks.1.ffn.2.weight"), (TEXT, "token_embedding.weight")]
)
def test_numbers_that_are_not_finite_are_refused(own, capsys, place, name, value):
    edit(own / place, lambda tensors: tensors[name].view(-1)[-1].fill_(value) and None)
    refused(capsys, os.path.basename(place), f"tensor {name} holds NaN or infinite values")


# ---------------------------------------------------------------------- configs and the tokenizer


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_layers": 3}, "missing (blocks.2."),
        ({"num_heads": 5}, "dim 24 with 5 heads"),
        ({"num_heads": "two"}, "num_heads is 'two'"),
        ({"vace_layers": [1]}, "vace_layers [1]"),
        ({"vace_layers": ["a"]}, "vace_layers ['a']"),
        ({"vace_layers": 3}, "'int' object is not iterable"),
        ({"eps": "small"}, "'small'"),
        ({"patch_size": [1]}, "no model has these sizes"),
    ],
)
def test_a_config_of_another_model_is_refused(own, capsys, change, words):
    config = json.loads((own / CONFIG).read_text())
    (own / CONFIG).write_text(json.dumps(config | change))
    refused(capsys, CONFIG if "blocks" not in words else DIT, words)


@pytest.mark.parametrize("place", [CONFIG, f"{AUDIO}/config.json"])
@pytest.mark.parametrize("content", ["{", "[]", "\x00"])
def test_a_config_that_is_no_json_object_is_named(own, capsys, place, content):
    (own / place).write_text(content)
    refused(capsys, place, "JSON")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"hidden_size": 32, "num_attention_heads": 2},
            "takes 160 inputs, which are no windows of wav2vec2's 2 layers of 32 channels",
        ),
        ({"model_type": "hubert"}, "is no config of wav2vec2 (model_type 'hubert'"),
        ({"num_hidden_layers": "two"}, "is no config of wav2vec2"),
    ],
)
def test_a_wav2vec2_of_another_size_is_refused(own, capsys, change, words):
    config = json.loads((own / AUDIO / "config.json").read_text())
    (own / AUDIO / "config.json").write_text(json.dumps(config | change))
    refused(capsys, words)


def test_a_wav2vec2_that_lacks_a_tensor_is_refused(own, capsys):
    path = own / AUDIO / "model.safetensors"
    tensors = load_file(path)
    del tensors["wav2vec2.feature_projection.layer_norm.bias"]
    save_file(tensors, path)
    refused(capsys, "model.safetensors", "1 missing (feature_projection.layer_norm.bias)")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: write_tokenizer(path, 70), "its largest id is 69, and the text encoder knows 64"),
        (lambda path: write_tokenizer(path, 12), "it has 12 pieces, and the text encoder knows 64"),
        (
            lambda path: write_tokenizer(path, 40, ("</s>", "<pad>")),
            "<pad> is 1 and </s> 0 instead of 0 and 1",
        ),
        (lambda path: path.write_text("{}"), "cannot be read as a tokenizer"),
        (lambda path: path.write_bytes(b"\xff\x00"), "cannot be read as a tokenizer"),
    ],
)
def test_a_tokenizer_of_another_vocabulary_is_refused(own, capsys, write, words):
    write(own / TOKENIZER)
    refused(capsys, "tokenizer.json", words)


# ---------------------------------------------------------------------- the command


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--canvas", "480"], "--canvas '480'"),
        (["--canvas", "480x830"], "canvas 480x830: height and width must be multiples of 16"),
        (["--canvas", "0x0"], "canvas 0x0"),
        (["--window-frames", "80"], "windows of 80 frames"),
        (["--window-frames", "1"], "windows of 1 frames"),
    ],
)
def test_sizes_that_cannot_be_are_refused(own, capsys, extra, words):
    refused(capsys, words, extra=extra)


@pytest.mark.parametrize("found", ["file", "nothing", "empty", "inside"])
def test_what_is_no_release_is_refused(own, capsys, found):
    if found == "inside":
        (own / "hallo4").rename("inner")
    shutil.rmtree(own)
    if found == "file":
        own.write_text("")
    elif found == "empty":
        own.mkdir()
    elif found == "inside":
        os.rename("inner", own)
    if found == "nothing":
        assert main(["weights", "convert", "p", "-o", "m"]) == 2
        assert "p: is not there; give the folder of the released files" in capsys.readouterr().err
        assert os.listdir(".") == []
    else:
        refused(capsys, "p: is a file" if found == "file" else "(hallo4/ is missing)")


def test_a_second_conversion_to_one_folder_is_refused(release, tmp_path):
    older = convert_release(release, tmp_path / "m").folder
    before = {path: path.read_bytes() for path in older.rglob("*") if path.is_file()}
    refused = []

    def convert_again(progress):
        with pytest.raises(OutputError, match="is working on it"):
            convert_release(release, older)
        refused.append(progress)
        raise KeyboardInterrupt

    with pytest.raises(Cancelled):
        convert_release(release, older, on_progress=convert_again)
    assert len(refused) == 1
    assert {path: path.read_bytes() for path in older.rglob("*") if path.is_file()} == before


def test_a_kill_before_the_folder_moves_costs_no_part(release, tmp_path, monkeypatch):
    def killed(*_):
        raise SystemExit(1)

    with monkeypatch.context() as patch:
        patch.setattr("hallo4.pipelines.convert.place_folder", killed)
        with pytest.raises(SystemExit):
            convert_release(release, tmp_path / "m")
    notes = []
    convert_release(release, tmp_path / "m", on_progress=lambda progress: notes.extend(progress.notes))
    kept = {note.split("/")[0] for note in notes if "is kept from the interrupted run" in note}
    assert kept >= {"dit", "autoencoder", "text", "audio"}
